"""The story of the demonstration: contacts arrive, people edit both sides, events come twice and late, the CRM fails.

Everything is done to the platforms, nothing to the daemon. The story ends when both platforms have been quiet for a
moment, and then watches for a while that they stay so.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from random import Random

from crmsync.sandbox.crm import CRMS
from crmsync.sandbox.emulator import wall_clock
from crmsync.sandbox.people import CrmPeople, Deed, KirimPeople, Pen, People
from crmsync.sandbox.stage import Stage
from crmsync.sandbox.verdict import Circumstances, Verdict, judge
from crmsync.sandbox.watch import Watch

QUIET = 1.0
"""Seconds without any effect, with nothing apart and nothing on its way, that count as quiet."""
TICK = 0.1


class Phase(StrEnum):
    """The chapters, in order."""

    ARRIVE = "Contacts arrive by signed webhooks"
    EDIT = "People edit both sides at the same time"
    DISORDER = "Events come twice, late and out of order"
    OUTAGE = "The CRM is down, work goes on"
    QUIET = "Recovery, then nothing left to do"


SHARES = {Phase.ARRIVE: 0.2, Phase.EDIT: 0.35, Phase.DISORDER: 0.2, Phase.OUTAGE: 0.25}
OUTAGE_SHARE = 0.8
"""The part of its chapter for which the CRM is down."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many contacts arrive, how long people work, and which of all possible stories this is."""

    contacts: int = 200
    seconds: float = 15.0
    seed: int = 1
    crm: str = "hubspot"

    @property
    def title(self) -> str:
        """The CRM's name for people."""
        return CRMS[self.crm].title

    @property
    def strangers(self) -> int:
        """Contacts that people make in the CRM by hand, and that have nothing to do with Kirim."""
        return max(1, self.contacts // 50)

    @property
    def edits_per_second(self) -> float:
        """How fast the people of one side work."""
        return min(80.0, max(5.0, 1.5 * self.contacts / self.seconds))

    @property
    def patience(self) -> float:
        """Seconds after which quiet is no longer waited for."""
        return 60.0 + self.contacts / 10


class Story:
    """Plays a plan on a stage. `play` blocks; the attributes may be read from other threads meanwhile."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.plan = plan
        self.watch = Watch(stage, wall_clock)
        self.phase = Phase.ARRIVE
        self.began: dict[Phase, datetime] = {}
        self.outage: tuple[datetime, datetime] | None = None
        self.down = False
        self.settled = False
        self.ended = False
        self.quiet_at: datetime | None = None
        self.late_events = 0
        self.crm = stage.crm
        self.kirim_people = KirimPeople(stage.kirim, stage.crm, Pen(plan.seed, 0))
        self.crm_people = CrmPeople(stage.kirim, stage.crm, Pen(plan.seed, 1))
        self._stage = stage
        self._random = Random(plan.seed)
        self._contacts: list[str] = []
        self._ended = threading.Event()

    @property
    def newcomers(self) -> int:
        """Contacts that arrived."""
        return len(self._contacts)

    @property
    def edits(self) -> int:
        """What people of both sides did to contacts that were there."""
        return sum(map(self.deeds, Deed))

    def deeds(self, deed: Deed) -> int:
        """How often people of either side did this."""
        return self.kirim_people.deeds[deed] + self.crm_people.deeds[deed]

    def give_up(self) -> None:
        """Ends the story as soon as possible."""
        self._ended.set()

    def play(self) -> None:
        """From the first contact to the last look. Raises `StageFailed` if the daemon ended."""
        chapters: Sequence[tuple[Phase, Callable[[float], None]]] = (
            (Phase.ARRIVE, self._arrive),
            (Phase.EDIT, self._edit),
            (Phase.DISORDER, self._disorder),
            (Phase.OUTAGE, self._fail),
        )
        for phase, chapter in chapters:
            self._begin(phase)
            chapter(SHARES[phase] * self.plan.seconds)
            self._stage.check()
        self._begin(Phase.QUIET)
        self._settle()

    def verdict(self) -> Verdict:
        """What came of it; to be asked after the end."""
        respelled = self.deeds(Deed.RESPELLED)
        around = Circumstances(self.outage, self.quiet_at, self.settled, respelled, self.watch.peak)
        return judge(self._stage.kirim, self.crm, around)

    def busiest(self) -> str:
        """The contact that people in Kirim worked on most: the one whose history is worth reading."""
        edits = Counter(effect.record_id for effect in self._stage.kirim.human)
        return edits.most_common(1)[0][0]

    # -- chapters

    def _arrive(self, seconds: float) -> None:
        for _ in range(self.plan.strangers):
            self.crm_people.add()
        self._add(self.plan.contacts - self.plan.contacts // 10, seconds)

    def _edit(self, seconds: float) -> None:
        self._work(seconds)

    def _disorder(self, seconds: float) -> None:
        """Both platforms repeat events and hold some back; some of yesterday's come once more at the end."""
        kirim = self._stage.kirim.behaviour
        kirim.duplicates, kirim.disorder, kirim.disorder_seconds = 0.5, 0.4, 0.4
        self.crm.disorder(0.5)
        self._work(seconds * 0.8)
        self._repeat_old_events()
        self._work(seconds * 0.2)
        kirim.duplicates = kirim.disorder = 0.0
        self.crm.disorder(0.0)

    def _fail(self, seconds: float) -> None:
        """The CRM answers nobody and tells nothing: what is edited there meanwhile can only be found by asking."""
        faults = self.crm.emulator.faults
        began = wall_clock()
        faults.outage("503")
        address = self.crm.listen(None)
        self.down = True
        with ThreadPoolExecutor(1, "newcomers") as pool:
            newcomers = pool.submit(self._add, self.plan.contacts // 10, seconds * OUTAGE_SHARE)
            self._work(seconds * OUTAGE_SHARE)
            newcomers.result()
        self.crm.listen(address)
        faults.recover()
        self.down = False
        self.outage = (began, wall_clock())
        self._ended.wait(seconds * (1 - OUTAGE_SHARE))

    def _settle(self) -> None:
        """Waits for quiet, and then for anything that would break it."""
        until = time.monotonic() + self.plan.patience
        before, since = self._effects(), time.monotonic()
        while not self._ended.wait(TICK) and time.monotonic() < until:
            self._stage.check()
            now = self._effects()
            if now != before or not self._idle() or self.watch.look().apart:
                before, since = now, time.monotonic()
            elif time.monotonic() - since >= QUIET:
                self.settled = True
                break
        self.quiet_at = wall_clock()
        self._ended.wait(2 * self._stage.setting.poll_seconds)
        self._stage.check()
        self.ended = True

    # -- inside

    def _begin(self, phase: Phase) -> None:
        self.phase = phase
        self.began[phase] = wall_clock()

    def _add(self, count: int, seconds: float) -> None:
        for _ in self._paced(count, seconds):
            self._contacts.append(self.kirim_people.add())

    def _work(self, seconds: float) -> None:
        """People of both sides edit, each at their own pace, at the same time."""
        with ThreadPoolExecutor(1, "people") as pool:
            colleagues = pool.submit(self._edit_some, self.crm_people, seconds)
            self._edit_some(self.kirim_people, seconds)
            colleagues.result()

    def _edit_some(self, people: People, seconds: float) -> None:
        contacts, random = list(self._contacts), Random(f"{self.plan.seed}{type(people).__name__}{self.phase}")
        for _ in self._paced(round(seconds * self.plan.edits_per_second), seconds):
            people.edit(random.choice(contacts))

    def _paced(self, count: int, seconds: float) -> _Pace:
        return _Pace(count, seconds, self._ended)

    def _repeat_old_events(self) -> None:
        """Events that were taken long ago are delivered once more, as a platform's operator may ask for."""
        old = self._stage.kirim.acknowledged
        chosen = self._random.sample(old, min(len(old), max(10, len(old) // 20)))
        with self._stage.kirim.lock:
            for one in chosen:
                self._stage.kirim.subscriptions.publish(one.event_type, one.event_id, "kirim", one.body)
        self.late_events += len(chosen)

    def _effects(self) -> tuple[int, int]:
        return len(self._stage.kirim.ledger), len(self.crm.emulator.ledger)

    def _idle(self) -> bool:
        return self._stage.kirim.idle() and self.crm.pending == 0


class _Pace:
    """Iterates `count` times, evenly over `seconds`; ends early when `ended` is set."""

    def __init__(self, count: int, seconds: float, ended: threading.Event) -> None:
        self._left = self._count = count
        self._seconds = seconds
        self._ended = ended
        self._began = time.monotonic()

    def __iter__(self) -> _Pace:
        return self

    def __next__(self) -> None:
        if self._left <= 0:
            raise StopIteration
        due = self._began + self._seconds * (self._count - self._left) / self._count
        self._left -= 1
        if self._ended.wait(max(0.0, due - time.monotonic())):
            raise StopIteration
