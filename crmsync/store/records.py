"""What endpoints hold: views, what observations make of them, and which pairs become due by that.

Every way of learning something (event, poll, reading, the answer to a write) ends in `observe`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    Connection,
    Text,
    and_,
    bindparam,
    case,
    literal_column,
    or_,
    select,
    text,
    true,
    type_coerce,
    update,
)

from crmsync.core.canonical import storable
from crmsync.core.values import value
from crmsync.core.views import NO_TIMES, Source, Times, Verdict, View
from crmsync.core.views import observe as judge
from crmsync.model import Fields, Kind, Record
from crmsync.store import aliases, echoes, losses, tables
from crmsync.store.bulk import Bulk, Lookup, given, keyed
from crmsync.store.dialect import insert as insert

KIRIM = "kirim"
REVIVED = ("first_at", "not_before", "attempts", "failures", "error", "reason")
HELD = datetime.fromisoformat("9998-01-01T00:00:00+00:00")
"""When a pair is due of which something is paused: once somebody resumes that, or one of its records changes."""
CHUNK = 500
"""Ids in one IN list: below every database's limit of parameters."""


class Rank(IntEnum):
    """What goes first among the pairs that are due."""

    LIVE = 0
    RUN = 1  # what a walk over many records found


@value
class Observation:
    """One record as it was seen, how, and by what (a delivery's item, a poll, a reading, our own write).

    `basis` is the view that a reading or a write set out from.
    """

    record: Record
    source: Source
    cause: str
    partial: bool = False
    basis: View | None = None


_view = tables.View.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
_due = tables.Due.__table__  # type: ignore[attr-defined]
_stale = tables.Stale.__table__  # type: ignore[attr-defined]


def lock(connection: Connection, tenant: str, endpoint: str) -> None:
    """Keeps two nodes from changing the views of one endpoint at once, until the transaction ends.

    Take Kirim's lock before a connection's: one order, no deadlock. SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"view/{tenant}/{endpoint}"}
        )


def chunks(ids: Collection[str]) -> Iterable[list[str]]:
    """The ids in lists that fit into one statement."""
    ordered = list(ids)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))


def fields_of(document: Mapping[str, Any]) -> Fields:
    """Fields as they were stored: JSON has no tuples, a set comes back as a list."""
    return {name: tuple(value) if type(value) is list else value for name, value in document.items()}


_VIEWS = Lookup(
    select(
        _view.c.id,
        _view.c.fields,
        _view.c.version,
        _view.c.external_id,
        _view.c.exists,
        _view.c.times,
        _view.c.cause,
    ).where(
        _view.c.tenant == bindparam("tenant"),
        _view.c.endpoint == bindparam("endpoint"),
        _view.c.kind == bindparam("kind"),
    ),
    _view.c.id,
)


def views(connection: Connection, tenant: str, endpoint: str, kind: Kind, ids: Collection[str]) -> dict[str, View]:
    """The views of several records, by id; unknown ones are missing."""
    found: dict[str, View] = {}
    rows = _VIEWS.of(connection, ids, tenant=tenant, endpoint=endpoint, kind=kind.value)
    for id, fields, version, external_id, present, times, cause in rows:
        moment = None if version is None else tables.moment(version)
        found[id] = View(
            id, fields_of(orjson.loads(fields)), moment, external_id, bool(present), _times_of(times), cause
        )
    return found


def _times_of(document: str | None) -> Times:
    if document is None:
        return NO_TIMES
    stored: dict[str, int | None] = orjson.loads(document)
    return {name: None if at is None else tables.moment(at) for name, at in stored.items()}


def _stored_times(times: Times) -> dict[str, int | None] | None:
    """As they are kept: microseconds, and nothing at all where the platform never told any."""
    if not any(times.values()):
        return None
    return {name: None if at is None else tables.microseconds(at) for name, at in times.items()}


def observe(
    connection: Connection,
    tenant: str,
    endpoint: str,
    observations: Sequence[Observation],
    *,
    now: datetime,
    followers: Sequence[str],
    settling: tuple[str, Collection[str]] = ("", ()),
    rank: Rank = Rank.LIVE,
    into: dict[str, View] | None = None,
) -> list[Verdict]:
    """Takes in what was seen, in order; marks due whatever pair that changes. One verdict per observation.

    `followers` are the connections that follow Kirim's records of this tenant. `settling` names a connection and
    Kirim ids whose pairs the caller settles in this same transaction: they are not made due by their own writes.
    `rank` says how soon the others are worked on. `into` is given the views as they are then, of one kind of record.
    """
    lock(connection, tenant, endpoint)
    verdicts: list[Verdict] = [Verdict.SAME] * len(observations)
    for kind in {observation.record.kind for observation in observations}:
        chosen = [index for index, observation in enumerate(observations) if observation.record.kind is kind]
        batch = [observations[index] for index in chosen]
        for index, verdict in zip(
            chosen,
            _observe(connection, tenant, endpoint, kind, batch, now, followers, settling, rank, into),
            strict=True,
        ):
            verdicts[index] = verdict
    return verdicts


def _observe(
    connection: Connection,
    tenant: str,
    endpoint: str,
    kind: Kind,
    batch: Sequence[Observation],
    now: datetime,
    followers: Sequence[str],
    settling: tuple[str, Collection[str]],
    rank: Rank,
    into: dict[str, View] | None,
) -> list[Verdict]:
    known = views(connection, tenant, endpoint, kind, {seen.record.id for seen in batch})
    verdicts, causes, unclear = [], {}, {}
    touched: set[str] = set()
    heard: dict[str, str] = {}
    for seen in batch:
        record = _clean(seen.record)
        before = known.get(record.id)
        view, verdict = judge(before, record, seen.source, seen.basis)
        verdicts.append(verdict)
        if view != before:
            known[record.id] = view
            touched.add(record.id)
        if verdict in (Verdict.NEW, Verdict.CHANGED) or (verdict is Verdict.UNCLEAR and view != before):
            causes[record.id] = seen.cause
            if record.fields != seen.record.fields:
                losses.note(connection, tenant, endpoint, seen.record, record, view, seen.cause, now)
            heard.pop(record.id, None)
        elif verdict is Verdict.SAME and echoes.is_echo(view, seen.cause):
            heard.setdefault(record.id, seen.cause)
        if verdict is Verdict.UNCLEAR or (seen.partial and view != before):  # also one that only became newer
            unclear[record.id] = seen.cause
    if into is not None:
        into.update(known)
    _store(connection, tenant, endpoint, kind, [known[id] for id in touched], causes, now)
    ours = endpoint == KIRIM
    echoes.note(connection, tenant, endpoint, kind, [(known[id], cause) for id, cause in heard.items()], now, ours=ours)
    mark_stale(connection, tenant, endpoint, kind, unclear, now)
    merged = aliases.follow(connection, tenant, endpoint, kind, [(seen.record, seen.cause) for seen in batch])
    moved = {id: known[id] for id in causes}
    if endpoint == KIRIM:
        for follower in followers:
            own = settling[1] if follower == settling[0] else ()
            due = {id: causes[id] for id in moved if id not in own}
            make_due(connection, tenant, follower, kind, due, now, create=True, rank=rank)
    else:
        linked = _link(connection, tenant, endpoint, kind, moved, causes, now, without=settling[1])
        due = merged | {kirim_id: causes[id] for id, kirim_id in linked.items()}
        due = {kirim_id: cause for kirim_id, cause in due.items() if kirim_id not in settling[1]}
        make_due(connection, tenant, endpoint, kind, due, now, create=False, rank=rank)
    return verdicts


def _clean(record: Record) -> Record:
    fit = storable(record.fields)
    if fit is record.fields and record.external_id != "":
        return record
    return Record(
        record.kind,
        record.id,
        fit,
        record.version,
        record.external_id or None,
        record.aliases,
        record.archived,
        record.told_only,
    )


class _Row(NamedTuple):
    tenant: str
    endpoint: str
    kind: str
    id: str
    external_id: str | None
    fields: Fields
    version: datetime | None
    seen_at: datetime
    cause: str
    exists: bool
    times: Mapping[str, int | None] | None


def _stored(*more: str) -> Bulk:
    """Keeps views, with these columns besides what every observation moves."""

    def build(insert: Callable[[Any], Any]) -> Any:
        new = insert(_view)
        updated = ("external_id", "fields", "version", "exists", *more)
        return new.on_conflict_do_update(
            index_elements=["tenant", "endpoint", "kind", "id"], set_={name: new.excluded[name] for name in updated}
        )

    return Bulk(build, _Row._fields)


_MOVED, _RENEWED = _stored("cause", "seen_at", "times"), _stored()


def _store(
    connection: Connection,
    tenant: str,
    endpoint: str,
    kind: Kind,
    changed: Sequence[View],
    causes: Mapping[str, str],
    now: datetime,
) -> None:
    """Writes the views; one that only became newer keeps the cause of its last real change."""
    where = (tenant, endpoint, kind.value)
    for moved in (True, False):
        rows = [
            _Row(
                *where,
                view.id,
                view.external_id,
                dict(view.fields),
                view.version,
                now,
                causes.get(view.id, ""),
                view.exists,
                _stored_times(view.times),
            )
            for view in sorted(changed, key=lambda view: view.id)
            if (view.id in causes) is moved
        ]
        (_MOVED if moved else _RENEWED).run_ordered(connection, rows)


_PAIRS = select(_pair.c.kirim_id, _pair.c.crm_id).where(
    _pair.c.tenant == bindparam("tenant"),
    _pair.c.connection == bindparam("connection"),
    _pair.c.kind == bindparam("kind"),
)
_BY_CRM_ID, _BY_KIRIM_ID = Lookup(_PAIRS, _pair.c.crm_id), Lookup(_PAIRS, _pair.c.kirim_id)


def _link(
    connection: Connection,
    tenant: str,
    endpoint: str,
    kind: Kind,
    moved: Mapping[str, View],
    causes: Mapping[str, str],
    now: datetime,
    *,
    without: Collection[str],
) -> Mapping[str, str]:
    """CRM records that changed: their Kirim ids, by the pair's record id, else by the Kirim id they carry.

    Those that carry an id `without` are linked by the caller.
    """
    linked: dict[str, str] = {}  # crm id -> kirim id
    carried = {view.external_id: id for id, view in moved.items() if view.external_id and view.exists}
    where = {"tenant": tenant, "connection": endpoint, "kind": kind.value}
    linked.update((crm_id, kirim_id) for kirim_id, crm_id in _BY_CRM_ID.of(connection, moved, **where))
    unlinked = {kirim_id: id for kirim_id, id in carried.items() if id not in linked and kirim_id not in without}
    for some in chunks(unlinked):
        paired: dict[str, str | None] = {
            kirim_id: crm_id for kirim_id, crm_id in _BY_KIRIM_ID.of(connection, some, **where)
        }
        gone = _gone(connection, tenant, endpoint, kind, {crm_id for crm_id in paired.values() if crm_id is not None})
        taken = {kirim_id for kirim_id, crm_id in paired.items() if crm_id is not None and crm_id not in gone}
        fresh = {kirim_id: unlinked[kirim_id] for kirim_id in some if kirim_id not in taken}
        if fresh:
            replaced = {id: causes[fresh[id]] for id, crm_id in paired.items() if crm_id in gone}
            call_for_conversations(connection, tenant, endpoint, kind, replaced, now)
            _make_links(connection, tenant, endpoint, kind, fresh, paired)
            linked.update({crm_id: kirim_id for kirim_id, crm_id in fresh.items()})
        strangers = {kirim_id: causes[fresh[kirim_id]] for kirim_id in fresh}
        known = views(connection, tenant, KIRIM, kind, strangers)
        mark_stale(
            connection, tenant, KIRIM, kind, {id: cause for id, cause in strangers.items() if id not in known}, now
        )
    return linked


def call_for_conversations(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, contacts: Mapping[str, str], now: datetime
) -> None:
    """Contacts, with the cause, that have another record now: their conversations belong to that. Looks through all
    conversations: for rare occasions.
    """
    if not contacts or kind is not Kind.CONTACT:
        return
    here = and_(_pair.c.tenant == tenant, _pair.c.connection == endpoint, _pair.c.kind == Kind.CONVERSATION)
    theirs = and_(_view.c.tenant == tenant, _view.c.endpoint == KIRIM, _view.c.kind == Kind.CONVERSATION)
    text_of = type_coerce(_view.c.fields, Text)
    named = or_(*(text_of.contains(f'"contact":"{id}"', autoescape=True) for id in contacts))
    asked = select(_pair.c.kirim_id).join_from(_pair, _view, _view.c.id == _pair.c.kirim_id).where(here, theirs, named)
    found = dict.fromkeys(connection.execute(asked).scalars(), next(iter(contacts.values())))
    make_due(connection, tenant, endpoint, Kind.CONVERSATION, found, now, create=False)


def _gone(connection: Connection, tenant: str, endpoint: str, kind: Kind, ids: Collection[str]) -> set[str]:
    """Records that were seen to exist no more: their links give way to another record that carries the same id."""
    return {id for id, view in views(connection, tenant, endpoint, kind, ids).items() if not view.exists}


def _make_links(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, links: Mapping[str, str], paired: Collection[str]
) -> None:
    """Links Kirim ids to CRM ids, which are compared anew; those that are `paired` have a pair already."""
    ordered = sorted(links.items())
    where: dict[str, Any] = {"of_tenant": tenant, "of_connection": endpoint, "of_kind": kind.value}
    where |= {"to_base": {}, "to_noted": {}}
    _LINK.run(connection, [{**where, "of_kirim_id": id, "to_crm_id": crm_id} for id, crm_id in ordered if id in paired])
    new = [
        _NewPair(tenant, endpoint, kind.value, id, crm_id, looked_up=True) for id, crm_id in ordered if id not in paired
    ]
    _PAIR.run_ordered(connection, new)


_EMPTY: Mapping[str, Any] = {}


class _NewPair(NamedTuple):
    tenant: str
    connection: str
    kind: str
    kirim_id: str
    crm_id: str | None = None
    looked_up: bool = False
    base: Mapping[str, Any] = _EMPTY
    noted: Mapping[str, Any] = _EMPTY
    attempts: int = 0
    failures: int = 0
    parked: bool = False
    error: str = ""
    reason: str = ""
    trouble: Mapping[str, Any] | None = None
    recent: Mapping[str, Any] | None = None


class _NewDue(NamedTuple):
    tenant: str
    connection: str
    kind: str
    kirim_id: str
    revision: int
    first_at: datetime
    not_before: datetime
    cause: str
    rank: int


PAIR = ("tenant", "connection", "kind", "kirim_id")
"""What a pair is known by, and the work on it."""
_HELD: Any = literal_column(str(int(HELD.timestamp()) * 1_000_000))


def _due_again(insert: Callable[[Any], Any]) -> Any:
    new = insert(_due)
    return new.on_conflict_do_update(
        index_elements=PAIR,
        set_={
            "revision": _due.c.revision + literal_column("1"),
            "cause": new.excluded.cause,
            "not_before": case((_due.c.not_before == _HELD, new.excluded.not_before), else_=_due.c.not_before),
            "rank": case((new.excluded.rank < _due.c.rank, new.excluded.rank), else_=_due.c.rank),
        },
    )


_DUE = Bulk(_due_again, _NewDue._fields)
_PAIR = Bulk(
    lambda insert: insert(_pair).on_conflict_do_nothing(index_elements=PAIR),
    _NewPair._fields,
)
_LINK = Bulk(
    lambda insert: (
        update(_pair).where(keyed(_pair, *PAIR)).values(given("crm_id", "base", "noted") | {"looked_up": true()})
    )
)


def make_due(
    connection: Connection,
    tenant: str,
    endpoint: str,
    kind: Kind,
    causes: Mapping[str, str],
    now: datetime,
    *,
    create: bool,
    rank: Rank = Rank.LIVE,
) -> None:
    """Pairs, by Kirim id, that are to be looked at; the cause of each. `create` makes pairs that are missing.

    One that is due already keeps its turn, or comes sooner.
    """
    if not causes:
        return
    if create:
        _PAIR.run_ordered(connection, [_NewPair(tenant, endpoint, kind.value, id) for id in sorted(causes)])
    where, when = (tenant, endpoint, kind.value), (_first_revision(now), now, now)
    rows = [_NewDue(*where, id, *when, cause, int(rank)) for id, cause in sorted(causes.items())]
    _DUE.run_ordered(connection, rows)


def _first_revision(now: datetime) -> int:
    """Later than any revision an earlier row of the same record can have had."""
    return int(now.timestamp() * 1_000_000)


def mark_stale(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, causes: Mapping[str, str], now: datetime
) -> None:
    """Records, by their endpoint's id, that have to be read again. One that was given up is tried anew."""
    if not causes:
        return
    new = insert(connection, _stale)
    dead = _stale.c.reason != ""
    connection.execute(
        new.on_conflict_do_update(
            index_elements=["tenant", "endpoint", "kind", "id"],
            set_={
                "revision": _stale.c.revision + 1,
                "cause": new.excluded.cause,
                **{name: case((dead, new.excluded[name]), else_=_stale.c[name]) for name in REVIVED},
            },
        ),
        [
            {
                "tenant": tenant,
                "endpoint": endpoint,
                "kind": kind,
                "id": id,
                "revision": _first_revision(now),
                "first_at": now,
                "not_before": now,
                "attempts": 0,
                "failures": 0,
                "reason": "",
                "error": "",
                "cause": cause,
            }
            for id, cause in sorted(causes.items())
        ],
    )
