"""The whole relationship between two platforms, as a toy box: real flows on a real store, and all that may befall them.

Contacts and conversations, every owner, sets and labels; people who edit on both sides at any time, merge, delete,
restore and decide conflicts; deliveries in any order, more than once; lost answers, outages, and a process that dies
between any two of its steps. `finish` lets it all come to an end, and says what is not as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from support.household import Crm, Household, KirimPlatform

from crmsync import crash
from crmsync.core.canonical import canonical
from crmsync.core.decide import Side, Why
from crmsync.core.lens import Chosen, Lens, Listed, Plain, Unknown, Without
from crmsync.core.mapping import FieldRule, OnCrmDelete, OnDrift, Owner, Rules
from crmsync.flows import conflicts
from crmsync.flows.conflicts import Act, Order
from crmsync.model import CONTACT_LINK, FieldInfo, Fields, FieldType, Kind, Record, Value
from crmsync.store import records
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.records import KIRIM
from crmsync.testing.fake import Trouble
from crmsync.testing.memory import Respelling

OURS = {
    Kind.CONTACT: (
        FieldInfo("phone", FieldType.PHONE),
        FieldInfo("name", FieldType.TEXT),
        FieldInfo("email", FieldType.EMAIL),
        FieldInfo("company", FieldType.TEXT),
        FieldInfo("tags", FieldType.SET),
        FieldInfo("labels", FieldType.SET),
        FieldInfo("score", FieldType.NUMBER),
        FieldInfo("tier", FieldType.CHOICE),
        FieldInfo("created_at", FieldType.DATETIME, writable=False),
    ),
    Kind.CONVERSATION: (
        FieldInfo("status", FieldType.CHOICE, options=("open", "pending", "resolved")),
        FieldInfo("assignee", FieldType.TEXT),
        FieldInfo("contact", FieldType.TEXT),
        FieldInfo("created_at", FieldType.DATETIME, writable=False),
    ),
}
THEIRS = {
    Kind.CONTACT: (
        FieldInfo("phone", FieldType.PHONE),
        FieldInfo("name", FieldType.TEXT),
        FieldInfo("mail", FieldType.EMAIL),
        FieldInfo("company", FieldType.TEXT),
        FieldInfo("keywords", FieldType.SET),
        FieldInfo("whatsapp_labels", FieldType.SET),
        FieldInfo("label_text", FieldType.TEXT),
        FieldInfo("points", FieldType.NUMBER),
        FieldInfo("stage", FieldType.CHOICE, options=("lead", "customer", "lost")),
        FieldInfo("created_at", FieldType.DATETIME, writable=False),
    ),
    Kind.CONVERSATION: (
        FieldInfo("stage", FieldType.CHOICE, options=("1", "2", "3", "4")),
        FieldInfo("handler", FieldType.TEXT),
        FieldInfo(CONTACT_LINK, FieldType.SET),
        FieldInfo("created_at", FieldType.DATETIME, writable=False),
    ),
}
MANAGED = "VIP"
LABELS = Without(Plain("labels"), frozenset({MANAGED}))
CONTACTS = Rules(
    Kind.CONTACT,
    (
        FieldRule("phone", "phone", Owner.KIRIM, FieldType.PHONE, kirim_writable=False),
        FieldRule("name", "name", Owner.CRM),
        FieldRule("email", "mail", Owner.LATEST, FieldType.EMAIL),
        FieldRule("company", "company", Owner.KIRIM),
        FieldRule("tags", "keywords", Owner.UNION, FieldType.SET),
        FieldRule("labels", "whatsapp_labels", Owner.KIRIM, FieldType.SET, kirim_lens=LABELS),
        FieldRule(
            "labels",
            "label_text",
            Owner.KIRIM,
            FieldType.SET,
            kirim_writable=False,
            kirim_lens=LABELS,
            crm_lens=Listed(Plain("label_text"), ";"),
            key="labels as text",
        ),
        FieldRule("score", "points", Owner.CRM, FieldType.NUMBER, OnDrift.REPORT),
        FieldRule(
            "tier",
            "stage",
            Owner.CRM,
            FieldType.CHOICE,
            crm_lens=Chosen(Plain("stage"), {"gold": ("customer",), "silver": ("lead",)}),
        ),
    ),
    region="ID",
)
STAGE = Chosen(Plain("stage"), {"open": ("1", "2"), "pending": ("3",), "resolved": ("4",)})
CONVERSATIONS = Rules(
    Kind.CONVERSATION,
    (
        FieldRule("status", "stage", Owner.KIRIM, FieldType.CHOICE, crm_lens=STAGE),
        FieldRule("assignee", "handler", Owner.LATEST),
        FieldRule(CONTACT_LINK, CONTACT_LINK, Owner.UNION, FieldType.SET, kirim_writable=False),
    ),
)
POOLS: Mapping[tuple[Kind, Side], Mapping[str, Sequence[Value]]] = {
    (Kind.CONTACT, Side.KIRIM): {
        "phone": ["+62 851-1760-0829", "085117600829", "+6281212345678"],
        "name": ["Ana", " Ana Lee ", None, "Zoë 👩‍👩‍👧"],
        "email": ["Ana@Example.com", "ana@example.com", "b@c.de", None],
        "company": ["Acme", "bad", "ACME ", None, "a company that is too long to be kept"],
        "tags": [("a",), ("b", "a"), ("c",), ()],
        "labels": [("new",), (MANAGED, "new"), (MANAGED,), ()],
        "score": [1, "1.0", 2.5, None],
        "tier": ["gold", "silver", "wood", None],
    },
    (Kind.CONTACT, Side.CRM): {
        "phone": ["+6281212345678", "0851 1760 0829", None],
        "name": ["Ani", "Ana", None, "a name that is too long to be kept"],
        "mail": ["c@d.ef", "b@c.de", None],
        "company": ["Globex", "Acme", None],
        "keywords": [("a", "x"), ("x",), ("b",), None],
        "whatsapp_labels": [("by hand",), None],
        "label_text": ["by hand", None],
        "points": [3, "1", None],
        "stage": ["lead", "customer", "lost", None],
    },
    (Kind.CONVERSATION, Side.KIRIM): {"status": ["open", "pending", "resolved"], "assignee": ["u1", "u2", None]},
    (Kind.CONVERSATION, Side.CRM): {"stage": ["1", "2", "3", "4"], "handler": ["u1", "u3", None]},
}
FAULTS: Sequence[Any] = [429, 500, 503, 401, Trouble.RESET, Trouble.LOST, Trouble.CUT, Trouble.TIMEOUT, Trouble.HTML]
LIVE = [Work.OBSERVE, Work.REREAD, Work.SYNC, Work.SYNC, Work.OBSERVE]


class Died(BaseException):
    """The process, at one of its named points."""


class Fuse:
    """Stands where `crash.point` does: ends the turn at the point it is set to."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, name: str, told: bytes = b"") -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Died(name)


class Account(Crm):
    """A CRM whose conversations keep the contacts they were given."""

    def _update(self, record: Record, fields: Fields, *, by_api: bool, external_id: str | None = None) -> Record:
        if CONTACT_LINK in fields:
            both = {*_members(record.fields.get(CONTACT_LINK)), *_members(fields[CONTACT_LINK])}
            fields = {**fields, CONTACT_LINK: tuple(sorted(both))}
        return super()._update(record, fields, by_api=by_api, external_id=external_id)


def _members(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


@dataclass(frozen=True)
class Nature:
    """What a relationship is like from the beginning."""

    recreates: bool = False
    hooks_say_values: bool = True
    partial_rows: bool = True
    respells: bool = True
    faults: bool = True


class Relationship:
    """Numbers choose: what there is to choose from changes as it goes."""

    def __init__(self, database: Database, nature: Nature) -> None:
        spelling = Respelling(trim=True, lower_email=True, cut_at=20, spaced_phone=True) if nature.respells else None
        crm = Account(schema=THEIRS, partial_rows=nature.partial_rows, **({"spelling": spelling} if spelling else {}))
        crm.hooks_say_values = nature.hooks_say_values
        crm.refuse("company", "bad")
        policy = OnCrmDelete.RECREATE if nature.recreates else OnCrmDelete.UNLINK
        self.nature = nature
        self.rules = {Kind.CONTACT: replace(CONTACTS, on_crm_delete=policy)}
        self.rules[Kind.CONVERSATION] = replace(CONVERSATIONS, on_crm_delete=policy)
        self.home = Household(
            database,
            crms={"crm": crm},
            rules=self.rules[Kind.CONTACT],
            kirim=KirimPlatform(schema=OURS),
            conversations=self.rules[Kind.CONVERSATION],
        )
        self.fuse = Fuse()
        self.bin: list[Record] = []
        self.points = crash.point
        crash.point = self.fuse

    def close(self) -> None:
        """The points are only points again."""
        crash.point = self.points

    # what people do

    def begin_contact(self, choice: int) -> None:
        """A contact begins to write; some have a record from an earlier installation."""
        if len(self.home.kirim.records()) < 4:
            fields = {name: pool[choice % len(pool)] for name, pool in POOLS[Kind.CONTACT, Side.KIRIM].items()}
            id = self.home.kirim.add(None, fields)
            if choice % 3 == 2:
                self.home.crm.add(id, {"name": "from before", "keywords": ("old",), "label_text": "old"})

    def begin_conversation(self, choice: int) -> None:
        contacts = self.home.kirim.records()
        if contacts and len(self.home.kirim.records(Kind.CONVERSATION)) < 3:
            contact = contacts[choice % len(contacts)].id
            self.home.kirim.add(None, {"status": "open", "contact": contact}, Kind.CONVERSATION)

    def edit(self, side: Side, which: int, field: int, choice: int) -> None:
        """A person changes one field of one record."""
        platform = self.home.kirim if side is Side.KIRIM else self.home.crm
        held = [record for kind in Kind for record in platform.records(kind)]
        if held:
            record = held[which % len(held)]
            pools = POOLS[record.kind, side]
            name = list(pools)[field % len(pools)]
            platform.edit(record.id, {name: pools[name][choice % len(pools[name])]})

    def merge(self, one: int, other: int) -> None:
        held = self.home.crm.records()
        if len(held) > 1 and one % len(held) != other % len(held):
            self.home.crm.merge(held[one % len(held)].id, held[other % len(held)].id)

    def delete(self, which: int) -> None:
        held = [record for kind in Kind for record in self.home.crm.records(kind)]
        if held:
            record = held[which % len(held)]
            self.home.crm.delete(record.id)
            self.bin.append(record)

    def restore(self) -> None:
        """Out of the bin, unless another has its id by now."""
        if self.bin:
            record = self.bin.pop()
            taken = {held.external_id for kind in Kind for held in self.home.crm.records(kind)}
            if record.external_id is None or record.external_id not in taken:
                self.home.crm.restore(record.id)

    def leave(self, which: int) -> None:
        """A contact without conversations is deleted in Kirim."""
        busy = {record.fields["contact"] for record in self.home.kirim.records(Kind.CONVERSATION)}
        idle = [record.id for record in self.home.kirim.records() if record.id not in busy]
        if idle:
            self.home.kirim.delete(idle[which % len(idle)])

    def decide(self, which: int, side: Side) -> None:
        """An operator looks at a conflict, and says whose value it is to be."""
        rows = [row for row in self.listed() if row["kind"] == Kind.CONTACT]
        if rows:
            row = rows[which % len(rows)]
            self._order(row, Act.KEEP, side)

    # what happens to deliveries and to the process

    def deliver(self, which: int, *, again: bool) -> None:
        self.home.collect()
        if self.home.wire:
            source, body = self.home.wire.pop(which % len(self.home.wire))
            self.home.arrive(source, body)
            if again:
                self.home.wire.append((source, body + b" "))

    def trouble(self, side: Side, which: int) -> None:
        if self.nature.faults:
            platform = self.home.kirim if side is Side.KIRIM else self.home.crm
            platform.fail_next(FAULTS[which % len(FAULTS)], skip=which % 2)

    def turn(self, which: int, side: Side, dies_after: int | None, meanwhile: Callable[[], object] | None) -> None:
        """One turn of one lane, perhaps with somebody acting while a write is away, perhaps ended by a power cut."""
        work = LIVE[which % len(LIVE)]
        endpoint = "crm" if work is Work.SYNC or side is Side.CRM else KIRIM
        for platform in (self.home.kirim, self.home.crm):
            platform.meanwhile = [meanwhile] if meanwhile else []
        self.fuse.left = dies_after if self.nature.faults else None
        try:
            self.home.turn(work, endpoint)
        except Died:
            self.home.failures.clear()
        finally:
            self.fuse.left = None

    def work(self, turns: int) -> None:
        """What was rung arrives, and every lane has so many turns."""
        self.home.arrive_all()
        for _ in range(turns):
            for work in (Work.OBSERVE, Work.REREAD, Work.SYNC):
                for side in Side:
                    self.turn(LIVE.index(work), side, None, None)
            self.home.arrive_all()

    def pass_time(self, milliseconds: int) -> None:
        self.home.clock.advance(timedelta(milliseconds=milliseconds))

    # the end, and what must hold then

    def finish(self) -> None:
        """Everything that was wrong is well again, frozen fields are thawed, and all is worked off."""
        for platform in self.home.sources.values():
            platform.heal()
            platform.meanwhile = []
        self.home.clock.advance(timedelta(hours=1))
        self.home.settle()
        for row in self.listed():
            if row["state"] == "frozen":
                self._order(row, Act.THAW, None)
        self.home.settle()

    def check(self) -> None:
        """No divergence, no duplicate, nothing left to do, no further write however often it is looked at."""
        home = self.home
        left = [home.due(), home.stale("crm"), home.stale(KIRIM)]
        assert left == [{}, {}, {}], left
        problems = [*self.divergences(), *self.trespasses()]
        assert not problems, "\n".join(problems)
        before = home.writes()
        for kind in Kind:
            for platform, endpoint in ((home.kirim, KIRIM), (home.crm, "crm")):
                ids = {record.id: "operator:resync" for record in platform.records(kind)}
                home.database.write(
                    lambda tx, kind=kind, endpoint=endpoint, ids=ids: records.mark_stale(  # type: ignore[misc]
                        tx, "acme", endpoint, kind, ids, home.clock()
                    )
                )
                if endpoint == KIRIM:
                    home.database.write(
                        lambda tx, kind=kind, ids=ids: records.make_due(  # type: ignore[misc]
                            tx, "acme", "crm", kind, ids, home.clock(), create=False
                        )
                    )
        home.settle()
        assert home.writes() == before, "it wrote although nothing had changed"

    def divergences(self) -> Iterator[str]:
        for kind in Kind:
            carried = [held.external_id for held in self.home.crm.records(kind) if held.external_id]
            if len(carried) != len(set(carried)):
                yield f"duplicates: {carried}"
            for record in self.home.kirim.records(kind):
                yield from self._apart(record)

    def _apart(self, record: Record) -> Iterator[str]:
        """What differs between a record and its partner, and is not explained."""
        row = self.row(record)
        partners = [held for held in self.home.crm.records(record.kind) if held.external_id == record.id]
        if row is None:
            yield f"{record.id} has no pair"
            return
        if not partners:
            merged = row.reason == "shared"
            deleted = row.reason == "deleted" and (not self.nature.recreates or record.kind is Kind.CONVERSATION)
            if not merged and not deleted:
                yield f"{record.id} has no record, and nobody deleted it: {row.error}"
            return
        (partner,) = partners
        if row.crm_id != partner.id:
            yield f"{record.id} is linked to {row.crm_id}, and {partner.id} carries its id"
            return
        for rule in self.rules[record.kind].fields:
            if not self._explained(rule, record, partner, row):
                held = rule.left.read(record.fields), rule.right.read(partner.fields)
                yield f"{record.id} {rule}: {held}, {row.base.get(rule.name)}, {row.noted.get(rule.name)}"

    def _explained(self, rule: FieldRule, record: Record, partner: Record, row: Any) -> bool:
        if rule.crm == CONTACT_LINK:
            return self._belongs(record, partner)
        ours, theirs = rule.left.read(record.fields), rule.right.read(partner.fields)
        if isinstance(ours, Unknown) or isinstance(theirs, Unknown):
            return True  # a word that the map does not know decides nothing
        form = self._form
        if form(rule, ours) == form(rule, theirs):
            return True
        there = self._kept(self.home.crm, rule, rule.right, record.kind, ours, partner.fields)
        here = self._kept(self.home.kirim, rule, rule.left, record.kind, theirs, record.fields)
        if form(rule, theirs) == form(rule, there) or form(rule, ours) == form(rule, here):
            return True
        note = row.noted.get(rule.name)
        if note is None:
            return False
        why = Why(note[0])
        if why is Why.REFUSED:
            return ours == "bad"
        if why is Why.NOT_WRITABLE:
            return not rule.kirim_writable or not rule.crm_writable
        if why is Why.UNMAPPED:
            return "wood" in (ours, theirs)
        return why is Why.DRIFT and rule.on_drift is OnDrift.REPORT

    def _belongs(self, conversation: Record, partner: Record) -> bool:
        """Where the contact has a record, the conversation's belongs to it, by whatever id it had."""
        linked = [held for held in self.home.crm.records() if held.external_id == conversation.fields["contact"]]
        ids = {id for held in linked for id in (held.id, *held.aliases)}
        return not linked or bool(ids & set(_members(partner.fields[CONTACT_LINK])))

    def _kept(self, platform: Crm, rule: FieldRule, lens: Lens, kind: Kind, value: Value, held: Fields) -> Value:
        """What the platform makes of a value that it is sent."""
        raw = lens.write(value, held)
        if raw is None:
            return value
        read = lens.read({**held, **platform._spelt(kind, raw)})
        return value if isinstance(read, Unknown) else read

    def _form(self, rule: FieldRule, value: Value) -> object:
        return canonical(rule.type, value, "ID")

    def trespasses(self) -> Iterator[str]:
        """Writes to the side that owns a field, other than to fill it or because a person said so."""
        for kind in Kind:
            for record in self.home.kirim.records(kind):
                owners = {rule.name: rule.owner for rule in self.rules[kind].fields}
                for entry in self.home.history(record.id):
                    own = entry.outcome == "written" and owners.get(entry.field) == Owner(entry.side)
                    if own and entry.rule not in (Why.SEEDED, Why.CREATED, Why.OPERATOR):
                        yield f"{record.id} {entry.field}: {entry.rule} wrote to its owner"

    def row(self, record: Record) -> Any:
        """The raw row of a record's pair."""
        from crmsync.store import pairs

        linked = self.home.database.read(lambda tx: pairs.linked_to(tx, "acme", record.kind, record.id))
        return linked[0] if linked else None

    def listed(self) -> list[dict[str, Any]]:
        rules = {name: each.rules for name, each in self.home.tenant.connections.items()}
        return self.home.database.read(lambda tx: conflicts.overview(tx, "acme", rules, unmask=True))

    def _order(self, row: Mapping[str, Any], act: Act, side: Side | None) -> None:
        rules = {"crm": self.rules}
        if row["kind"] == Kind.CONVERSATION:  # here its id does not tell what it is
            rules = {"crm": {Kind.CONTACT: self.rules[Kind.CONVERSATION]}}
        order = Order(row["connection"], row["kirim_id"], row["field"], act, side)
        conflicts.carry_out(self.home.database, "acme", rules, order, self.home.clock)
