"""The sender: what happens all the time in an emulated Kirim, each event posted until it gets a 2xx.

It keeps what the daemon promised, and no more: the newest version of each contact for which a 2xx came back, and what
was said in messages. Unlike Kirim it never gives up, so that at the end everything was promised.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import Behaviour, KirimEmulator
from crmsync.sandbox.kirim.deliveries import Sender
from crmsync.sandbox.kirim.subscriptions import SUCCEEDED, Delivery
from crmsync.sandbox.kirim.workspace import Workspace
from crmsync.sandbox.poster import NoAnswer, Poster

ANSWER_SECONDS = 10.0
"""How long an answer is waited for; Kirim waits as long."""
AGAIN = (0.15, 0.35)
"""Seconds until a delivery is posted again: nobody's schedule, but hours of Kirim's would go by otherwise."""
REPEATED = 0.05
"""The share of promised deliveries that are posted once more."""
SPOKEN, STRANGE = 0.04, 0.002
"""The share of events that are messages, and how many more are from strangers."""
FIRST_STRANGER = 50_000_000
WIDTH = 64
WINDOW = 200
"""Deliveries on their way, beyond which nobody changes anything: while the daemon is down the world waits."""
BURST = 10
REFUSED, CUT, SILENT = "refused", "cut", "silent"
"""What may come instead of a status: no connection; one that ended without an answer; none in time."""

Word = int | str


@dataclass(slots=True)
class Promises:
    """What the daemon answered. `versions` has the newest promised version of each contact, by its Kirim id, `said` the
    texts of promised messages.
    """

    events: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    answers: Counter[Word] = field(default_factory=Counter)
    slowest: dict[Word, float] = field(default_factory=dict)
    down_since: float | None = None
    recovered: list[float] = field(default_factory=list)
    """Seconds from each death of the daemon to the next promise."""

    def note(self, word: Word, seconds: float) -> None:
        """An answer, or what came instead, and how long it took."""
        self.answers[word] += 1
        self.slowest[word] = max(seconds, self.slowest.get(word, 0.0))

    def keep(self, delivery: Delivery) -> None:
        """A 2xx."""
        if self.down_since is not None:
            self.recovered.append(time.monotonic() - self.down_since)
            self.down_since = None
        if delivery.status == SUCCEEDED:
            return
        self.events += 1
        try:
            told = orjson.loads(delivery.body)
        except orjson.JSONDecodeError:
            self.unreadable.add(delivery.event_id)
            return
        if delivery.event_type == "message.received":
            self.said.add(told["entry"][0]["changes"][0]["value"]["messages"][0]["text"]["body"])
            return
        contact = told["data"]["contact"]
        version = version_of(contact["metadata"]["version"])
        self.versions[contact["id"]] = max(version, self.versions.get(contact["id"], 0))


def version_of(text: str) -> int:
    """The number in `v17`; 0 for nothing."""
    return int(text.removeprefix("v") or 0)


class Courier(Sender):
    """Posts deliveries until they are taken, and lets go of what was."""

    def __init__(self, *arguments: Any, forget: Callable[[str], object]) -> None:
        super().__init__(*arguments)
        self.promises = Promises()
        self.answer_seconds = ANSWER_SECONDS
        self._forget = forget

    async def _attempt(self, poster: Poster, delivery: Delivery) -> None:
        with self._lock:
            delivery.attempts += 1
            headers = self._headers(delivery)
        word = await self._posted(poster, delivery, headers)
        with self._lock:
            if isinstance(word, int) and 200 <= word < 300:
                self.promises.keep(delivery)
                again = delivery.status != SUCCEEDED and self._random.random() < REPEATED
                delivery.status = SUCCEEDED
                self._forget(delivery.id)
            else:
                again = delivery.status != SUCCEEDED
        if again:
            self._outbox.submit(lambda poster: self._attempt(poster, delivery), self._random.uniform(*AGAIN))

    async def _posted(self, poster: Poster, delivery: Delivery, headers: dict[str, str]) -> Word:
        began = time.monotonic()
        word: Word
        try:
            word = (await poster.post(delivery.subscription.url, headers, delivery.body, self.answer_seconds)).status
        except NoAnswer as error:
            word = CUT
            if isinstance(error.__cause__, TimeoutError):
                word = SILENT
            elif isinstance(error.__cause__, ConnectionRefusedError):
                word = REFUSED
        self.promises.note(word, time.monotonic() - began)
        return word


def kirim(key: str, seed: int) -> tuple[KirimEmulator, Courier]:
    """An emulated Kirim with this sender in the place of its own."""
    emulator = KirimEmulator(key=key, seed=seed, behaviour=Behaviour(disable_after=None), width=WIDTH)
    deliveries = emulator.subscriptions.deliveries
    courier = Courier(
        emulator.outbox,
        emulator.behaviour,
        Random(seed),
        emulator.clock,
        emulator.lock,
        forget=lambda id: deliveries.pop(id, None),
    )
    emulator.sender = courier
    return emulator, courier


class People:
    """Changes contacts in Kirim, and now and then one in the CRM, as often as it is allowed to, in a thread of its own.

    Every change of a contact in Kirim is one event and raises the contact's version, which all its fields tell. Some of
    the events are messages; of strangers Kirim told nothing before they write. Every message says something else.
    """

    def __init__(
        self, kirim: KirimEmulator, hubspot: HubSpotEmulator, *, contacts: int, rate: float, seed: int
    ) -> None:
        self.versions: dict[str, int] = {}
        self.said: set[str] = set()
        self.done = 0
        self._kirim = kirim
        self._hubspot = hubspot
        self._most = contacts
        self._pause = BURST / rate
        self._random = Random(seed)
        self._ids: list[str] = []
        self._strangers: list[str] = []
        self._allowed = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="people", daemon=True)

    def settle(self, strangers: int) -> None:
        """Before anybody is told of anything, some live here already."""
        with self._kirim.lock:
            for number in range(FIRST_STRANGER, FIRST_STRANGER + strangers):
                self._strangers.append(self._made(number))

    def start(self) -> None:
        """Begins, with nothing allowed yet."""
        self._thread.start()

    def allow(self, events: int) -> None:
        """So many more."""
        with self._changed:
            self._allowed += events
            self._changed.notify_all()

    @property
    def busy(self) -> bool:
        """Whether something that was allowed is not done yet."""
        return self._allowed > 0

    def stop(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def blot(self) -> None:
        """Kirim sends something that nobody can read."""
        name = f"evt_unreadable{self._random.getrandbits(64):016x}"
        with self._kirim.lock:
            self._kirim.subscriptions.publish("contact.updated", name, "kirim", f'{{"id": "{name}", '.encode())

    def stranger_writes(self) -> None:
        """Somebody writes of whom the daemon cannot know; if there are none left, nobody does."""
        with self._kirim.lock:
            if self._strangers:
                contact = self._strangers.pop()
                self.versions[contact] = 1
                self._write(contact)

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._allowed or self._stopping)
                batch = min(BURST, self._allowed)
            while self._kirim.outbox.pending > WINDOW and not self._stopping:
                time.sleep(0.005)
            for _ in range(batch):
                self._change()
            if self.done % 40 < BURST:
                self._visit()
            with self._changed:
                self._allowed -= batch
                self._changed.notify_all()
            time.sleep(self._pause)

    def _change(self) -> None:
        """One event: a new contact, another version of one, or a message."""
        self.done += 1
        workspace: Workspace = self._kirim.workspace
        if self._random.random() < STRANGE:
            self.stranger_writes()
        with self._kirim.lock:
            if not self._ids or (len(self._ids) < self._most and self._random.random() < 0.2):
                made = self._made(len(self._ids))
                self._ids.append(made)
                self.versions[made] = 1
                return
            if self._random.random() < SPOKEN:
                self._write(self._random.choice(self._ids))
                return
            number = self._random.randrange(len(self._ids))
            contact = self._ids[number]
            version = self.versions[contact] = self.versions[contact] + 1
            workspace.change_contact(workspace.contacts.by_id[contact], _fields(number, version))

    def _made(self, number: int) -> str:
        workspace: Workspace = self._kirim.workspace
        account = next(iter(workspace.accounts.values()))
        return workspace.create_contact(
            account, f"+62812{number:08d}", name=f"Contact {number}", **_fields(number, 1)
        ).id

    def _write(self, contact: str) -> None:
        workspace: Workspace = self._kirim.workspace
        known, text = workspace.contacts.by_id[contact], f"message-{len(self.said)}."
        workspace.receive(known.account, known.phone_number or "", None, {"type": "text", "text": {"body": text}})
        self.said.add(text)

    def _visit(self) -> None:
        """Somebody changes a name in the CRM, whose field it is."""
        with self._hubspot.lock:
            count = len(self._hubspot.contacts.by_id)
            if count:
                record = self._random.choice(list(self._hubspot.contacts.by_id))
                self._hubspot.edit(str(record), firstname=f"Name {self._random.getrandbits(32):08x}")


def _fields(number: int, version: int) -> dict[str, Any]:
    return {"email": f"p{number}.v{version}@example.com", "metadata": {"version": f"v{version}"}}
