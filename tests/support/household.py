"""A tenant with Kirim and CRMs in memory, on a real store: what the flows are tested in.

`Household` runs the flows one turn at a time in the calling thread, as the daemon would, and nothing moves unless it
is told to: time, deliveries, turns. `settle` lets everything come to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar

import orjson
from sqlalchemy import Connection as Transaction
from sqlalchemy import select

from crmsync.connector import Connector, Outcome
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.core.messages import Log, Logging
from crmsync.daemon.running import FLOWS
from crmsync.errors import ConnectorError, Fenced, Retry, Suspend
from crmsync.flows.away import Away
from crmsync.flows.messages import log
from crmsync.flows.observe import observe
from crmsync.flows.poll import CHANGES, poll
from crmsync.flows.reread import reread
from crmsync.flows.resync import resync
from crmsync.flows.steps import Stride
from crmsync.flows.sync import sync
from crmsync.flows.tenant import NO_LOG, Connection, Tenant
from crmsync.flows.work import Surroundings
from crmsync.model import Can, Direction, Fields, FieldType, Item, Kind, Message, MessageStatus, Record, Write
from crmsync.store import cursors, history, lanes, pairs, records, runs, tables
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.pairs import Taken
from crmsync.store.records import KIRIM, Rank, insert
from crmsync.testing.clock import ManualClock
from crmsync.testing.memory import MemoryConnector, MemoryCrm, UpdateOnlyMemoryConnector

RULES = Rules(
    Kind.CONTACT,
    (
        FieldRule("phone", "phone", Owner.KIRIM, FieldType.PHONE, kirim_writable=False),
        FieldRule("name", "name", Owner.CRM),
        FieldRule("email", "email", Owner.CRM, FieldType.EMAIL),
        FieldRule("company", "company", Owner.KIRIM),
        FieldRule("tags", "tags", Owner.KIRIM, FieldType.SET),
        FieldRule("score", "score", Owner.CRM, FieldType.NUMBER),
    ),
    region="ID",
)


class Inline(Executor):
    """Does the work at once, in the thread that hands it in."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)
        return future


class Watched:
    """A connector that lets the test act while a write is on its way, and counts the calls."""

    batch_size: ClassVar[int] = 20

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        self.crm.calls.append(tuple(writes))
        outcomes = super().upsert(kind, writes)  # type: ignore[misc]
        while self.crm.meanwhile:
            self.crm.meanwhile.pop(0)()
        return outcomes


class CrmConnector(Watched, MemoryConnector):
    """The CRM's."""


class KirimConnector(Watched, UpdateOnlyMemoryConnector):
    """Kirim's: it makes no contacts, and has neither segments nor timelines nor a count."""

    can = frozenset({Can.WEBHOOKS, Can.CHANGES, Can.FIND, Can.NATIVE_UPSERT})
    prepare, people, log, load = Connector.prepare, Connector.people, Connector.log, Connector.load
    segments, members, count = Connector.segments, Connector.members, Connector.count

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """The rules here call it `phone`, and Kirim `phone_number`."""
        return super().find(kind, "phone" if field == "phone_number" else field, values)

    def parse(self, body: bytes) -> Sequence[Item]:
        """Besides records, deliveries tell of messages."""
        told = orjson.loads(body).get("messages", ()) if body.startswith(b'{"messages"') else None
        if told is None:
            return super().parse(body)
        return [Item(f"m:{digest(one)}", "message", message=message_of(one)) for one in told]


def digest(told: Mapping[str, Any]) -> str:
    """What tells one thing that was said of a message from another."""
    return sha256(orjson.dumps(told)).hexdigest()[:12]


def message_of(told: Mapping[str, Any]) -> Message:
    """What a delivery says of a message."""
    words: dict[str, Any] = dict(told)
    for name, read in (("direction", Direction), ("status", MessageStatus), ("at", datetime.fromisoformat)):
        if words.get(name) is not None:
            words[name] = read(words[name])
    return Message(**words)


class Crm(MemoryCrm):
    """A platform in memory whose deliveries state the fields that changed, and say that this is not all."""

    connector = CrmConnector
    partial = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.calls: list[tuple[Write, ...]] = []
        self.meanwhile: list[Callable[[], object]] = []

    def take_hooks(self) -> Sequence[bytes]:
        """What was rung, in the words of this platform."""
        return [self._reworded(orjson.loads(body)) for body in super().take_hooks()]

    def _reworded(self, body: dict[str, Any]) -> bytes:
        for entry in body["changes"]:
            if "fields" in entry and self.partial:
                entry["partial"] = True
            elif "fields" in entry:
                entry["fields"] = dict(self.ledger[int(entry["key"].split("-")[1])].after.fields)
        return orjson.dumps(body)


class KirimPlatform(Crm):
    """Contacts are their own external id; deliveries state all of a contact."""

    connector = KirimConnector
    partial = False

    def add(self, external_id: str | None, fields: Fields, kind: Kind = Kind.CONTACT) -> str:
        """A contact begins to write; its id is its external id."""
        made = sum(1 for effect in self.ledger if effect.operation == "create")
        return super().add(external_id or f"m{made + 1:06d}", fields, kind)


class Household:
    """One tenant, `acme`, with Kirim and one or more CRMs."""

    def __init__(
        self,
        database: Database,
        *,
        crms: Mapping[str, Crm] | None = None,
        rules: Rules | Mapping[str, Rules] = RULES,
        kirim: KirimPlatform | None = None,
        clock: ManualClock | None = None,
        messages: Logging = NO_LOG,
        conversations: Rules | None = None,
    ) -> None:
        self.database = database
        self.clock = clock or ManualClock()
        self.kirim = kirim or KirimPlatform()
        self.crms = dict(crms or {"crm": Crm()})
        self.sources: dict[str, Crm] = {KIRIM: self.kirim, **self.crms}
        for source, platform in self.sources.items():
            platform.clock = self.clock
            if source != KIRIM:
                platform.add(None, {"name": "unrelated"})  # so that no record has the id of its contact
                platform.take_hooks()
        of = rules if isinstance(rules, Mapping) else dict.fromkeys(self.crms, rules)
        also = {Kind.CONVERSATION: conversations} if conversations else {}
        connections = {
            name: Connection(name, crm.connect(connection=name), {Kind.CONTACT: of[name], **also}, True, messages)
            for name, crm in self.crms.items()
        }
        self.tenant = Tenant("acme", self.kirim.connect(connection=KIRIM), connections)
        self.wire: list[tuple[str, bytes]] = []
        self.fence_breaks = 0
        self.failures: dict[str, int] = {}
        self.away = {name: Away() for name in self.crms}
        self.executor = Inline()

    @property
    def crm(self) -> Crm:
        """The first CRM."""
        return next(iter(self.crms.values()))

    # deliveries

    def collect(self) -> None:
        """What platforms rang is on its way."""
        for source, platform in self.sources.items():
            self.wire += [(source, body) for body in platform.take_hooks()]

    def arrive(self, source: str, body: bytes) -> None:
        """A delivery is stored, once for each body."""
        row = {
            "tenant": "acme",
            "source": source,
            "key": sha256(body).digest(),
            "body": body,
            "received_at": self.clock(),
            "secret": "0",
            "state": 0,
        }
        table = tables.Delivery.__table__  # type: ignore[attr-defined]
        self.database.write(lambda tx: tx.execute(insert(tx, table).on_conflict_do_nothing(), [row]) and None)

    def arrive_all(self) -> None:
        """Everything that was rung arrives, in order."""
        self.collect()
        while self.wire:
            self.arrive(*self.wire.pop(0))

    # turns

    def fence(self, tx: Transaction) -> None:
        """Holds, unless a break was asked for."""
        if self.fence_breaks:
            self.fence_breaks -= 1
            raise Fenced("the lane was lost")

    def observe(self, source: str) -> int:
        """One turn of taking deliveries in."""
        return observe(self.database, self.tenant, source, self.fence, self.clock)

    def reread(self, endpoint: str) -> int:
        """One turn of reading what is stale."""
        return reread(self.database, self.tenant, endpoint, self.fence, self.clock)

    def poll(self, endpoint: str) -> int:
        """One turn of reading the feed, which becomes due."""
        self.database.write(lambda tx: cursors.ring(tx, "acme", endpoint, Kind.CONTACT, CHANGES, self.clock()))
        return poll(self.database, self.tenant, endpoint, self.fence, self.clock)

    def sync(self, name: str = "crm", rank: Rank | None = None) -> int:
        """One turn of writing, of what is due with this rank."""
        connection = self.tenant.connections[name]
        failures = self.failures.get(name, 0)
        around = Surroundings(
            self.database,
            self.tenant,
            connection,
            self.fence,
            self.clock,
            lambda: 0.5,
            failures,
            rank=rank,
            away=self.away[name],
        )
        try:
            done = sync(around, self.executor)
        except (Retry, Suspend):
            self.failures[name] = failures + 1
            raise
        if done:
            self.failures[name] = 0
        return done

    def log(self, name: str = "crm") -> int:
        """One turn of putting messages onto timelines."""
        connection = self.tenant.connections[name]
        around = Surroundings(self.database, self.tenant, connection, self.fence, self.clock, lambda: 0.5)
        return log(around, connection.messages)

    def say(self, *told: Mapping[str, Any]) -> None:
        """Kirim tells of messages, all in one delivery."""
        self.arrive(KIRIM, orjson.dumps({"messages": told}))

    def walk(self, endpoint: str, pages: int = 1000) -> None:
        """One turn of the run that waits in a lane: so many steps."""
        left = iter(range(pages))

        def going() -> bool:
            return next(left, None) is not None

        for run in self.database.read(lambda tx: runs.due(tx, "acme", endpoint, self.clock())):
            stride = Stride(self.database, self.tenant, self.fence, self.clock, going, lambda seconds: None)
            FLOWS[run.kind](stride, run)
            return

    def turn(self, work: Work, endpoint: str) -> ConnectorError | Fenced | None:
        """One turn of any kind; what ends it early is returned, as the daemon would let the lane rest."""
        turns = {Work.OBSERVE: self.observe, Work.REREAD: self.reread, Work.POLL: self.poll, Work.SYNC: self.sync}
        turns[Work.BULK] = lambda name: self.sync(name, Rank.RUN)
        logging = self.tenant.connections.get(endpoint)
        if work is Work.LOG and logging is not None and logging.messages.log is not Log.OFF:
            turns[work] = self.log
        if work is Work.RUN:
            turns[work] = lambda name: self.walk(name, 1) or 0
        if work not in turns:
            return None  # other people's lanes
        try:
            turns[work](endpoint)
        except (Retry, Suspend, Fenced) as error:
            return error
        return None

    def settle(self, rounds: int = 60) -> None:
        """Everything that is due is done, until nothing is. Time passes where something has to wait for it."""
        for _ in range(rounds):
            self.arrive_all()
            now = self.clock()
            waiting = self.database.read(lambda tx, now=now: lanes.waiting(tx, now))  # type: ignore[misc]
            for one in waiting:
                self.turn(one.lane.work, one.lane.endpoint)
            self.collect()
            if not waiting and not self.wire:
                if not self.resting():
                    return
                self.clock.advance(timedelta(minutes=16))
        raise AssertionError("it never comes to rest")

    def resting(self) -> bool:
        """Whether anything is due or stale at a later time."""
        later = self.clock() + timedelta(days=1)
        waiting = self.database.read(lambda tx: lanes.waiting(tx, later))
        return any(one.lane.work is not Work.POLL for one in waiting)

    def look_again(self) -> None:
        """Every contact is read and decided anew, as an operator may ask for."""
        for record in self.kirim.records():
            self.database.write(lambda tx, id=record.id: resync(tx, self.tenant, id, self.clock()))  # type: ignore[misc]

    # what is known

    def add(self, **fields: Any) -> str:
        """A contact in Kirim."""
        return self.kirim.add(None, fields)

    def pair(self, kirim_id: str, name: str = "crm") -> Taken:
        """A pair as it stands."""
        (found,) = self.database.read(lambda tx: pairs.pairs(tx, "acme", name, Kind.CONTACT, [kirim_id]))
        return found

    def row(self, kirim_id: str, name: str = "crm") -> Any:
        """The raw row of a pair."""
        linked = self.database.read(lambda tx: pairs.linked_to(tx, "acme", Kind.CONTACT, kirim_id))
        return next(row for row in linked if row.connection == name)

    def due(self, name: str = "crm") -> dict[str, Any]:
        """What is due, by Kirim id."""
        table = tables.Due.__table__  # type: ignore[attr-defined]
        rows = self.database.read(lambda tx: tx.execute(select(table).where(table.c.connection == name)).all())
        return {row.kirim_id: row for row in rows}

    def stale(self, endpoint: str) -> dict[str, Any]:
        """What is stale, by the endpoint's id."""
        table = tables.Stale.__table__  # type: ignore[attr-defined]
        rows = self.database.read(lambda tx: tx.execute(select(table).where(table.c.endpoint == endpoint)).all())
        return {row.id: row for row in rows}

    def view(self, endpoint: str, id: str) -> Any:
        """What an endpoint is known to hold of a record."""
        return self.database.read(lambda tx: records.views(tx, "acme", endpoint, Kind.CONTACT, [id])).get(id)

    def history(self, kirim_id: str, field: str | None = None) -> list[Any]:
        """What was written down about a contact, or one of its fields; echoes concern the whole of it."""
        told = self.database.read(lambda tx: history.of(tx, "acme", kirim_id, field))
        return [entry for entry in told if field is None or entry.outcome != history.ECHOED]

    def partner(self, kirim_id: str, name: str = "crm") -> Record:
        """The one CRM record of a contact."""
        (record,) = (record for record in self.crms[name].records() if record.external_id == kirim_id)
        return record

    def writes(self) -> int:
        """Write calls so far, on every platform."""
        return sum(len(platform.calls) for platform in self.sources.values())


def reowned(rules: Rules, **owners: Owner) -> Rules:
    """The same rules with other owners."""
    return replace(rules, fields=tuple(replace(f, owner=owners.get(f.kirim, f.owner)) for f in rules.fields))
