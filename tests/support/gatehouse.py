"""One tenant's way in, real but for the clock: an emulated Kirim, our hook path on a socket, a store, a secrets file.

Behind it is a CRM in memory, with whatever rules a test wants; `settle` brings what came in there.

The daemon's turns (taking deliveries in, watch, sweep) are made by the test, one at a time. The file of secrets is read
for each request, as if the daemon noticed a change at once; `frozen` secrets stand for one that does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from support.household import Inline
from web_server import Running

from crmsync.connector import Surroundings
from crmsync.core.lens import Chosen, Plain
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.flows import settling, sweep, watch
from crmsync.flows.intake import Intake, Source
from crmsync.flows.kept import Kept, keep
from crmsync.flows.observe import observe
from crmsync.flows.poll import poll
from crmsync.flows.reread import reread
from crmsync.flows.rotation import Rotation
from crmsync.flows.sync import sync
from crmsync.flows.tenant import Connection, Tenant
from crmsync.http import Unlimited
from crmsync.kirim.endpoint import Kirim
from crmsync.kirim.secrets import FileSecret, read_secrets_file, write_secrets_file
from crmsync.kirim.settings import KirimSettings
from crmsync.kirim.signature import HEADER, Secret, verify
from crmsync.kirim.subscription import of_url
from crmsync.model import CONTACT_LINK, FieldType, Kind, WebhookRequest
from crmsync.outbound import Reach
from crmsync.sandbox.kirim import Behaviour, KirimEmulator, Subscription
from crmsync.store import chores, lanes, tables
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.lanes import Work
from crmsync.store.pen import Pen
from crmsync.testing.clock import ManualClock
from crmsync.testing.memory import MemoryCrm
from crmsync.web.app import Site

KEY = "kdv_test_" + "k" * 24
NUMBER = "106540352242922"
FAST = 1e-6
SECOND = timedelta(seconds=1)
STATUS = Chosen(Plain("status"), {"open": ("open",), "resolved": ("closed",)})
CONVERSATIONS = Rules(
    Kind.CONVERSATION,
    (
        FieldRule("status", "status", Owner.KIRIM, FieldType.CHOICE, crm_lens=STATUS),
        FieldRule("assignee", "assignee", Owner.KIRIM),
        FieldRule(CONTACT_LINK, CONTACT_LINK, Owner.UNION, FieldType.SET, kirim_writable=False),
    ),
)
RULES = {Kind.CONTACT: Rules(Kind.CONTACT, (FieldRule("name", "name", Owner.KIRIM),))}
WITH_CONVERSATIONS = {**RULES, Kind.CONVERSATION: CONVERSATIONS}


def unfenced(tx: Any) -> None:
    """Nobody else is there."""


class Gatehouse:
    """A context manager. `open_gate` and `close_gate` start and stop our side; Kirim is always there."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        behaviour: Behaviour | None = None,
        clock: Any | None = None,
        rules: Mapping[Kind, Rules] = RULES,
    ) -> None:
        self.clock: Any = clock or ManualClock()
        self.database = database
        self.secrets_file = folder / "kirim-secrets"
        self.alerts: list[tuple[str, str, str]] = []
        self.frozen: Sequence[FileSecret] | None = None
        self.kirim = KirimEmulator(
            key=KEY, clock=self.clock, behaviour=behaviour or Behaviour(time_scale=FAST), numbers=((NUMBER, "+62 811"),)
        )
        self.crm = MemoryCrm(self.clock)
        self.rules = rules
        self._numbers = itertools.count(1)
        self._gate: Running | None = None
        self._listen = "127.0.0.1:0"

    def __enter__(self) -> Gatehouse:
        self.kirim.start()
        self.open_gate()
        settings = KirimSettings.model_validate(
            {
                "api_key": KEY,
                "webhook_secrets_file": str(self.secrets_file),
                "phone_number_ids": [NUMBER],
                "base_url": f"{self.kirim.url}/v1",
                "timeout_seconds": 5,
            }
        )
        reach = Reach(allowed=frozenset({self.kirim.url.removeprefix("http://")}))
        wanted = {kind: frozenset(rule.kirim for rule in rules.fields) for kind, rules in self.rules.items()}
        around = Surroundings("acme", "kirim", self.url, Unlimited(), wanted, self.clock, reach)
        crm = Connection("crm", self.crm.connect(connection="crm"), self.rules, True)
        self.tenant = Tenant("acme", Kirim(settings, around), {"crm": crm})
        found = keep(self.tenant)
        assert found is not None
        self.kept: Kept = replace(found, held=self.held)
        return self

    def __exit__(self, *exception: object) -> None:
        self.kirim.stop()
        self.close_gate()
        self.tenant.kirim.close()
        self.crm.close()

    # -- our side

    @property
    def url(self) -> str:
        """The address that Kirim posts to."""
        return f"http://{self._listen}/hooks/acme/kirim"

    def open_gate(self) -> None:
        intake = Intake(Inbox(self.database), [Source("acme", "kirim", self._verify)], Pen(self.database, self.clock))
        self._gate = Running(Site(intake, self.database, self.clock), self._listen)
        self._gate.__enter__()
        self._listen = f"127.0.0.1:{self._gate.address[1]}"

    def close_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.__exit__()

    def held(self) -> Sequence[FileSecret]:
        """The secrets that the daemon verifies with just now."""
        return read_secrets_file(self.secrets_file) if self.frozen is None else self.frozen

    def _verify(self, request: WebhookRequest) -> str:
        secrets = [Secret.of(one.key) for one in self.held()]
        return verify(request.header(HEADER), request.body, secrets, request.received_at)

    def observe(self) -> None:
        """One turn of taking in what was delivered."""
        observe(self.database, self.tenant, "kirim", unfenced, self.clock)

    def settle(self) -> None:
        """Everything that is due soon is done: deliveries, readings, polls of Kirim, and writes into the CRM."""
        around = settling.Surroundings(
            self.database, self.tenant, self.tenant.connections["crm"], unfenced, self.clock, lambda: 0.5
        )
        turns = {
            Work.OBSERVE: lambda name: observe(self.database, self.tenant, name, unfenced, self.clock),
            Work.REREAD: lambda name: reread(self.database, self.tenant, name, unfenced, self.clock),
            Work.POLL: lambda name: poll(self.database, self.tenant, name, unfenced, self.clock),
            Work.SYNC: lambda name: sync(around, Inline()),
        }
        for _ in range(20):
            self.clock.advance(SECOND)
            waiting = self.database.read(lambda tx: lanes.waiting(tx, self.clock()))
            due = [one.lane for one in waiting if one.lane.work in turns]
            if not due:
                return
            for lane in due:
                turns[lane.work](lane.endpoint)
        raise AssertionError("it never comes to rest")

    def watch(self) -> None:
        """One turn of the watch."""
        self.database.write(lambda tx: chores.ring(tx, "acme", Work.WATCH, self.clock()))
        watch.watch(self.database, self.kept, unfenced, self.clock, self.alert)

    def sweep(self, *, afresh: bool = False) -> sweep.Swept:
        """One sweep as the daemon does it, and what it notes of it."""
        self.database.write(lambda tx: chores.ring(tx, "acme", Work.SWEEP, self.clock(), afresh=afresh))
        sweep.chore(self.database, self.kept, unfenced, self.clock, self.alert)
        told = self.chore(Work.SWEEP).state["swept"]
        return sweep.Swept(told["dead"], told["replayed"], told["calls"], told["given_up"], None, told["stopped"])

    def chore(self, work: Work) -> chores.Chore:
        return self.database.read(lambda tx: chores.read(tx, "acme", work))

    def alert(self, kind: str, tenant: str, text: str) -> None:
        self.alerts.append((kind, tenant, text))

    def told(self, kind: str) -> list[str]:
        """The texts of the alerts of a kind."""
        return [text for found, _, text in self.alerts if found == kind]

    def rotation(self, **options: Any) -> Rotation:
        """As a process begun just now would see it."""
        return Rotation(self.kept, self.secrets_file, self.database, self.clock, self.new_key, **options)

    def new_key(self) -> str:
        return f"key-{next(self._numbers):04}"

    def received(self) -> list[tuple[bytes, str]]:
        """What was stored, with the secret that verified it."""
        table = tables.Delivery.__table__  # type: ignore[attr-defined]
        rows = self.database.read(lambda tx: tx.execute(select(table.c.body, table.c.secret)).all())
        return [(bytes(row.body), row.secret) for row in rows]

    # -- Kirim's side

    def subscribe(self) -> Subscription:
        """A subscription whose secret is in our file."""
        made = self.kirim.subscribe(self.url)
        self.hold(made)
        return made

    def hold(self, made: Subscription) -> None:
        write_secrets_file(self.secrets_file, [FileSecret(one.text, one.id) for one in made.secrets])

    def events(self, count: int) -> list[str]:
        """So many things happen in Kirim; returns when each was delivered or given up."""
        made = [self.kirim.create_contact(f"+62811{next(self._numbers):08}") for _ in range(count)]
        assert self.kirim.wait_idle()
        return made

    def signing(self) -> list[str]:
        """The ids of the secrets that Kirim signs with."""
        (one,) = of_url(self.kept.client, self.url)
        assert one.secrets is not None
        return [secret.id for secret in one.secrets]
