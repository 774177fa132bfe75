"""Segments of a CRM become labels in Kirim: the only place that labels in bulk.

A walk that does not reach its end changes nothing. What Kirim accepted is remembered chunk by chunk, so a process that
is killed in between repeats no more than one request, under the same key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast

from sqlalchemy import Connection as Transaction

from crmsync import crash
from crmsync.connector import Connector
from crmsync.core.brakes import Brake
from crmsync.core.segments import Difference, Rule, chunks, difference, key, too_many
from crmsync.errors import Reject
from crmsync.flows.kept import Alert
from crmsync.flows.tenant import Tenant
from crmsync.model import Segment
from crmsync.store import brakes, segments
from crmsync.store.cursors import NEVER
from crmsync.store.database import Database
from crmsync.store.lanes import Fence
from crmsync.store.segments import Due, Managed

SAMPLE = 20
"""Records named of those that Kirim does not know."""
PAGES = 20_000
"""Pages of one walk before it must be going in circles."""


class BulkLabelled(Protocol):
    """What Kirim says about one chunk. Whom it skipped it does not say."""

    applied: int
    skipped_cross_org: int
    skipped_team_mismatch: int


class Labels(Protocol):
    """What labelling needs of Kirim."""

    def label_id(self, name: str, *, create: bool = False) -> str | None:
        """The label's id; None where there is none and none is to be made."""

    def group_by_number(self, contact_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """The contacts by the WhatsApp number that they belong to."""

    def bulk_label(
        self, number: str, contact_ids: Sequence[str], label_id: str, *, attach: bool, key: str
    ) -> BulkLabelled:
        """Gives or takes a label; at most a thousand contacts."""


@dataclass(frozen=True, slots=True)
class Segmenting:
    """Whose segments are walked, and what is done about it. `dry` only tells."""

    database: Database
    tenant: Tenant
    name: str
    fence: Fence
    clock: Callable[[], datetime]
    alert: Alert
    dry: bool = False

    @property
    def labels(self) -> Labels:
        """Kirim, as far as labels go."""
        return cast(Labels, self.tenant.kirim)

    @property
    def connector(self) -> Connector[Any]:
        """The CRM."""
        return self.tenant.connections[self.name].connector


@dataclass(slots=True)
class Told:
    """What there is to say about one walk."""

    segment: str = ""
    members: int = 0
    unknown: int = 0
    unknown_sample: list[str] = field(default_factory=list)
    attach: int = 0
    detach: int = 0
    calls: int = 0
    applied: int = 0
    skipped_cross_org: int = 0
    skipped_team_mismatch: int = 0
    held_back: int = 0

    def document(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return {name: getattr(self, name) for name in self.__slots__}


def work_off(around: Segmenting, rules: Mapping[str, Rule]) -> dict[str, Told]:
    """Walks every segment that is due; says what there is to say of each label.

    Raises `Retry` or `Suspend` where a platform cannot be reached: what was accepted until then is remembered, and
    the label stays due.
    """
    waiting = [Due(label, 0, permitted=False) for label in sorted(rules)]
    if not around.dry:
        waiting = around.database.read(lambda tx: segments.due(tx, around.tenant.id, around.name, around.clock()))
    known = _by_name(around.connector.segments()) if any(each.label in rules for each in waiting) else {}
    told = {}
    for each in waiting:
        rule = rules.get(each.label)
        if rule is not None:
            told[each.label] = _walk(around, rule, each, known)
        elif not around.dry:  # no longer configured: the label stays with those who have it
            _end(around, each.label, Told(), "")
    return told


def _by_name(found: Sequence[Segment]) -> dict[str, list[Segment]]:
    """Segments by id, and by name without regard to case."""
    named: dict[str, list[Segment]] = {}
    for segment in found:
        named.setdefault(segment.name.strip().casefold(), []).append(segment)
    return named | {segment.id: [segment] for segment in found}


def choose(wanted: str, known: Mapping[str, Sequence[Segment]]) -> Segment:
    """The segment that a rule means. Raises `Reject` where there is none, or more than one of that name."""
    found = known.get(wanted) or known.get(wanted.strip().casefold()) or ()
    if len(found) == 1:
        return found[0]
    if found:
        raise Reject(f"{len(found)} segments are called {wanted}: name one by its id ({_ids(found)})")
    raise Reject(f"there is no segment {wanted}: see `crmsync segments list`")


def _ids(found: Sequence[Segment]) -> str:
    return ", ".join(segment.id for segment in found)


def _walk(around: Segmenting, rule: Rule, due: Due, known: Mapping[str, Sequence[Segment]]) -> Told:
    """One label: who is a member, who was, and what Kirim is told about it."""
    told = Told(segment=rule.segment)
    try:
        members = _members(around.connector, choose(rule.segment, known), told)
    except Reject as error:
        _fail(around, due.label, told, str(error))
        return told
    managed = Managed(around.tenant.id, around.name, rule.label)
    now = around.clock()
    kept = around.database.read(lambda tx: segments.kept(tx, managed))
    made = difference(kept, members, now, rule)
    told.attach, told.detach = len(made.attach), len(made.detach)
    held = _held(around, rule, due, len(made.detach), len(kept))
    if around.dry:
        told.held_back = len(made.detach) if held else 0
        return told
    around.database.write(lambda tx: _remember(tx, around, managed, made))
    label_id = around.labels.label_id(rule.label, create=rule.creates_label)
    if label_id is None:
        _fail(around, due.label, told, f"Kirim has no label {rule.label}: make it there, or say create_label: true")
        return told
    _label(around, managed, label_id, made.attach, told, attach=True)
    if held:
        told.held_back = len(made.detach)
        _fail(around, due.label, told, f"{held}: nothing was taken away")
        return told
    _label(around, managed, label_id, made.detach, told, attach=False)
    _end(around, due.label, told, "")
    return told


def _held(around: Segmenting, rule: Rule, due: Due, removals: int, applied: int) -> str:
    """Why nobody may lose the label now; empty if they may."""
    paused = around.database.read(lambda tx: brakes.paused(tx, around.tenant.id, around.name))
    if removals and Brake.LABEL_REMOVAL in paused:
        return f"the removal of labels is paused until crmsync resume {around.tenant.id} {around.name}"
    many = "" if due.permitted else too_many(removals, applied, rule)
    return f"{many}, unless --allow-removals is given" if many else ""


def _members(connector: Connector[Any], segment: Segment, told: Told) -> set[str]:
    """Every member that Kirim knows, from the first page to the last."""
    members: set[str] = set()
    strangers: set[str] = set()
    cursor: str | None = None
    for _ in range(PAGES):
        page = connector.members(segment.id, cursor)
        for member in page.members:
            if member.external_id:
                members.add(member.external_id)
            else:
                strangers.add(member.id)
        cursor = page.cursor
        if not page.more:
            told.members, told.unknown = len(members) + len(strangers), len(strangers)
            told.unknown_sample = sorted(strangers)[:SAMPLE]
            return members
    raise Reject(f"the segment {segment.name} has more than {PAGES} pages")


def _remember(tx: Transaction, around: Segmenting, managed: Managed, made: Difference) -> None:
    around.fence(tx)
    segments.remember(tx, managed, made.standing)


def _label(
    around: Segmenting, managed: Managed, label_id: str, contacts: Sequence[str], told: Told, *, attach: bool
) -> None:
    """Chunk by chunk; each is remembered as soon as Kirim accepted it."""
    for number, theirs in sorted(around.labels.group_by_number(contacts).items()):
        for chunk in chunks(sorted(theirs)):
            generation = around.database.read(lambda tx: segments.generation(tx, managed))
            word = "attach" if attach else "detach"
            once = key(managed.tenant, managed.connection, managed.label, generation, word, *chunk)
            crash.point("segment.sending")
            answer = around.labels.bulk_label(number, chunk, label_id, attach=attach, key=once)
            crash.point("segment.answered")
            told.calls += 1
            told.applied += answer.applied
            told.skipped_cross_org += answer.skipped_cross_org
            told.skipped_team_mismatch += answer.skipped_team_mismatch
            around.database.write(lambda tx, chunk=chunk: _accepted(tx, around, managed, chunk, attach=attach))  # type: ignore[misc]
            crash.point("segment.stored")


def _accepted(tx: Transaction, around: Segmenting, managed: Managed, chunk: Sequence[str], *, attach: bool) -> None:
    around.fence(tx)
    segments.accepted(tx, managed, chunk, around.clock(), attached=attach)


def _fail(around: Segmenting, label: str, told: Told, why: str) -> None:
    """What a person has to see to. The rest goes on, and it is tried again when it is due the next time."""
    if not around.dry:
        around.alert("segment", around.tenant.id, f"{around.name}/{label}: {why}")
    _end(around, label, told, why)


def _end(around: Segmenting, label: str, told: Told, error: str) -> None:
    if around.dry:
        return
    managed, now = Managed(around.tenant.id, around.name, label), around.clock()

    def store(tx: Transaction) -> None:
        around.fence(tx)
        segments.end(tx, managed, now, NEVER, told.document(), error)

    around.database.write(store)
