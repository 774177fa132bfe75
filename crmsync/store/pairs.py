"""Pairs and the work on them: taking what is due, storing how it ended, parking what cannot go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    Connection,
    Integer,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    not_,
    select,
    true,
    update,
)

from crmsync.core.breaker import Stroke
from crmsync.core.decide import Agreed, Noted, Why
from crmsync.core.retry import ALONE_FROM
from crmsync.core.trouble import NONE, Reason, Trouble
from crmsync.core.values import value
from crmsync.core.views import View
from crmsync.model import Fields, Kind, Value
from crmsync.store import tables
from crmsync.store.bulk import Bulk, Lookup, Query, among, given, keyed, listed
from crmsync.store.columns import microseconds, moment
from crmsync.store.conflicts import NO_RULINGS, Rulings, rulings
from crmsync.store.records import HELD, KIRIM, PAIR, Rank, chunks, fields_of, views

SUSPECTS = 16
"""Pairs that are taken for being worked on alone, in one turn."""

Recent = Mapping[str, tuple[Stroke, ...]]
"""The writes of the last minutes, by field."""

_pair = tables.Pair.__table__  # type: ignore[attr-defined]
_due = tables.Due.__table__  # type: ignore[attr-defined]


@value
class Taken:
    """A due pair with all that deciding needs, at the revision it was taken.

    `attempts` counts the starts without an end, this one included; `failures` the ends in passing trouble. `kirim`
    and `crm` are None where the record was never seen.
    """

    kind: Kind
    kirim_id: str
    crm_id: str | None
    looked_up: bool
    revision: int
    attempts: int
    failures: int
    cause: str
    first_at: datetime
    base: Mapping[str, Agreed]
    noted: Mapping[str, Noted]
    trouble: Trouble
    kirim: View | None
    crm: View | None
    recent: Recent = field(default_factory=dict)
    rulings: Rulings = NO_RULINGS
    unlinked: bool = False


@value
class Ended:
    """How the work on one pair ended, to be stored in the transaction of its effects.

    `again_at` keeps the pair due, not before then. `error` non-empty with no `again_at` parks it, for a `reason`, until
    one of its views changes; unless it is `unlinked`, which nobody has to do anything about.
    """

    kind: Kind
    kirim_id: str
    revision: int
    crm_id: str | None
    looked_up: bool
    base: Mapping[str, Agreed]
    noted: Mapping[str, Noted]
    error: str = ""
    reason: Reason | str = ""
    trouble: Trouble = NONE
    again_at: datetime | None = None
    attempts: int = 0
    failures: int = 0
    recent: Recent = field(default_factory=dict)
    unlinked: bool = False


class Claim(NamedTuple):
    """A due pair whose turn it is, as it is stored."""

    kind: str
    kirim_id: str
    revision: int
    cause: str
    first_at: datetime
    crm_id: str | None
    looked_up: bool
    attempts: int
    failures: int
    base: Mapping[str, Any]
    noted: Mapping[str, Any]
    trouble: Any
    recent: Any
    reason: str


def claim(
    connection: Connection,
    tenant: str,
    endpoint: str,
    limit: int,
    now: datetime,
    *,
    together: int = ALONE_FROM,
    alone: int = SUSPECTS,
    rank: Rank | None = None,
    without: Collection[tuple[str, str]] = (),
) -> list[Claim]:
    """The pairs whose turn it is: at most `limit`, and `alone` of those suspected. Live ones first, then the oldest.

    The attempt is counted here, before any work on them begins. Suspected are those past `together` attempts or
    failures. They are not worked on in company: `start` counts their attempts, one by one, so that none is charged
    with the harm that another does. `rank` restricts them to those of one; `without` are those that somebody works on
    already.
    """
    asked: dict[str, Any] = {"tenant": tenant, "endpoint": endpoint, "now": microseconds(now), "together": together}
    asked |= {"without": listed(connection, [id for _, id in without])} | ({} if rank is None else {"rank": int(rank)})
    calm, suspects = _TAKE[rank is not None]
    counted = [_claim(row) for row in calm.rows(connection, most=limit, **asked)]
    suspected = [_claim(row) for row in suspects.rows(connection, most=alone, **asked)] if alone else []
    where = _where(tenant, endpoint)
    _COUNT.run(connection, [{**where, "of_kind": claim.kind, "of_kirim_id": claim.kirim_id} for claim in counted])
    return counted + suspected


def _claim(row: Sequence[Any]) -> Claim:
    """A row as the driver gives it."""
    kind, id, revision, cause, first_at, crm_id, looked_up, attempts, failures, *texts, reason = row
    documents = [text and orjson.loads(text) for text in texts]
    counts = (bool(looked_up), attempts, failures)
    return Claim._make((kind, id, revision, cause, moment(first_at), crm_id, *counts, *documents, reason))


def load(connection: Connection, tenant: str, endpoint: str, claims: Sequence[Claim]) -> list[Taken]:
    """What deciding about them needs. Where a view moved since they were claimed, the revision did as well."""
    kinds = {claim.kind for claim in claims}
    return [pair for kind in sorted(kinds) for pair in _with_views(connection, tenant, endpoint, kind, claims)]


def take(connection: Connection, tenant: str, endpoint: str, limit: int, now: datetime) -> list[Taken]:
    """What is due, claimed and loaded at one moment."""
    return load(connection, tenant, endpoint, claim(connection, tenant, endpoint, limit, now))


def start(connection: Connection, tenant: str, endpoint: str, pair: Taken, until: datetime) -> None:
    """Work on a pair that is worked on alone begins. If the process ends by it, it rests until then."""
    give_back(connection, tenant, endpoint, [replace(pair, attempts=pair.attempts + 1)])
    put_off(connection, tenant, endpoint, {(pair.kind, pair.kirim_id): until})


def pairs(connection: Connection, tenant: str, endpoint: str, kind: Kind, kirim_ids: Collection[str]) -> list[Taken]:
    """Pairs as they stand, due or not: for looking, not for working."""
    rows = connection.execute(
        select(
            _pair, func.coalesce(_due.c.revision, 0).label("revision"), func.coalesce(_due.c.cause, "").label("cause")
        )
        .outerjoin(_due, _same_pair())
        .where(
            _pair.c.tenant == tenant,
            _pair.c.connection == endpoint,
            _pair.c.kind == kind,
            _pair.c.kirim_id.in_(list(kirim_ids)),
        )
        .add_columns(_due.c.first_at)
    ).all()
    return _with_views(connection, tenant, endpoint, kind, rows)


def standing(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, kirim_ids: Collection[str]
) -> dict[str, tuple[str | None, int]]:
    """The CRM record that each pair is linked to by now, and its revision; 0 for one that is not due."""
    where = {"tenant": tenant, "connection": endpoint, "kind": kind.value}
    rows = _STANDING.of(connection, kirim_ids, **where)
    return {kirim_id: (crm_id, revision) for kirim_id, crm_id, revision in rows}


def end(connection: Connection, tenant: str, endpoint: str, ended: Sequence[Ended], now: datetime) -> None:
    """Stores how pairs ended. A pair that was observed again meanwhile keeps its newer revision, and stays due."""
    if not ended:
        return
    where = _where(tenant, endpoint)
    _END.run(
        connection,
        [
            {
                **where,
                "of_kind": pair.kind.value,
                "of_kirim_id": pair.kirim_id,
                "to_synced_at": now,
                "to_crm_id": pair.crm_id,
                "to_looked_up": pair.looked_up,
                "to_base": {name: [agreed.kirim, agreed.crm] for name, agreed in pair.base.items()},
                "to_noted": {name: [note.why.value, note.kirim, note.crm] for name, note in pair.noted.items()},
                "to_attempts": pair.attempts,
                "to_failures": pair.failures,
                "to_parked": bool(pair.error) and pair.again_at is None and not pair.unlinked,
                "to_error": pair.error,
                "to_reason": str(pair.reason) if pair.error and pair.again_at is None else "",
                "to_trouble": pair.trouble.document() if pair.trouble != NONE else None,
                "to_recent": _stored(pair.recent),
            }
            for pair in ended
        ],
    )
    _leave_due(connection, tenant, endpoint, [pair for pair in ended if pair.again_at is None])
    again = {(p.kind, p.kirim_id): p.again_at for p in ended if p.again_at is not None and p.again_at != HELD}
    put_off(connection, tenant, endpoint, again)
    _hold(connection, tenant, endpoint, [pair for pair in ended if pair.again_at == HELD])


def _hold(connection: Connection, tenant: str, endpoint: str, held: Sequence[Ended]) -> None:
    """Something of these is paused. One that was observed again meanwhile is looked at again."""
    where = _where(tenant, endpoint)
    rows = [{**where, "of_kind": p.kind.value, "of_kirim_id": p.kirim_id, "at_revision": p.revision} for p in held]
    if rows:
        connection.execute(update(_due).where(_ITS_TURN).values(not_before=HELD), rows)


def give_back(connection: Connection, tenant: str, endpoint: str, pairs: Sequence[Taken]) -> None:
    """Nothing was tried on these after all (the whole connection was down): the attempt does not count."""
    if pairs:
        connection.execute(
            _one_pair(tenant, endpoint).values(attempts=bindparam("to_attempts")),
            [{"of_kind": p.kind, "of_id": p.kirim_id, "to_attempts": p.attempts - 1} for p in pairs],
        )


def put_off(connection: Connection, tenant: str, endpoint: str, until: Mapping[tuple[Kind, str], datetime]) -> None:
    """These stay due, but not before the time given."""
    if until:
        connection.execute(
            update(_due)
            .where(
                _due.c.tenant == tenant,
                _due.c.connection == endpoint,
                _due.c.kind == bindparam("of_kind"),
                _due.c.kirim_id == bindparam("of_id"),
            )
            .values(not_before=bindparam("to_time")),
            [{"of_kind": kind, "of_id": id, "to_time": moment} for (kind, id), moment in until.items()],
        )


def owners(connection: Connection, tenant: str, endpoint: str, kind: Kind, crm_ids: Collection[str]) -> dict[str, str]:
    """The Kirim ids that CRM records are linked to, by record id; a record that is free is missing."""
    where = {"tenant": tenant, "connection": endpoint, "kind": kind.value}
    return {crm_id: kirim_id for crm_id, kirim_id in _OWNERS.of(connection, crm_ids, **where)}


def crm_ids(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, kirim_ids: Collection[str]
) -> dict[str, str]:
    """The CRM records that Kirim records are linked to; those without one, or whose was deleted, are missing."""
    found: dict[str, str] = {}
    for some in chunks(kirim_ids):
        rows = connection.execute(
            select(_pair.c.kirim_id, _pair.c.crm_id).where(
                _pair.c.tenant == tenant,
                _pair.c.connection == endpoint,
                _pair.c.kind == kind,
                _pair.c.kirim_id.in_(some),
                _pair.c.crm_id.is_not(None),
                _pair.c.reason != Reason.DELETED,
            )
        )
        found.update({row.kirim_id: row.crm_id for row in rows})
    return found


def unlinked(
    connection: Connection, tenant: str, endpoint: str, kind: Kind, kirim_ids: Collection[str]
) -> frozenset[str]:
    """Those of these whose CRM record was deleted."""
    here = and_(_pair.c.tenant == tenant, _pair.c.connection == endpoint, _pair.c.kind == kind)
    asked = select(_pair.c.kirim_id).where(
        here, _pair.c.reason == Reason.DELETED, _pair.c.kirim_id.in_(list(kirim_ids))
    )
    return frozenset(connection.execute(asked).scalars()) if kirim_ids else frozenset()


def linked_to(connection: Connection, tenant: str, kind: Kind, kirim_id: str) -> list[Any]:
    """Every pair of one Kirim record, over all connections."""
    return list(
        connection.execute(
            select(_pair)
            .where(_pair.c.tenant == tenant, _pair.c.kind == kind, _pair.c.kirim_id == kirim_id)
            .order_by(_pair.c.connection)
        )
    )


def _same_pair() -> Any:
    return and_(
        _pair.c.tenant == _due.c.tenant,
        _pair.c.connection == _due.c.connection,
        _pair.c.kind == _due.c.kind,
        _pair.c.kirim_id == _due.c.kirim_id,
    )


def _one_pair(tenant: str, endpoint: str) -> Any:
    return update(_pair).where(
        _pair.c.tenant == tenant,
        _pair.c.connection == endpoint,
        _pair.c.kind == bindparam("of_kind"),
        _pair.c.kirim_id == bindparam("of_id"),
    )


def _leave_due(connection: Connection, tenant: str, endpoint: str, ended: Sequence[Ended]) -> None:
    where = _where(tenant, endpoint)
    rows = [{**where, "of_kind": p.kind.value, "of_kirim_id": p.kirim_id, "at_revision": p.revision} for p in ended]
    _LEAVE.run(connection, rows)


_DUE = (
    select(
        _due.c.kind,
        _due.c.kirim_id,
        _due.c.revision,
        _due.c.cause,
        _due.c.first_at,
        _pair.c.crm_id,
        _pair.c.looked_up,
        _pair.c.attempts,
        _pair.c.failures,
        _pair.c.base,
        _pair.c.noted,
        _pair.c.trouble,
        _pair.c.recent,
        _pair.c.reason,
    )
    .join_from(_due, _pair, _same_pair())
    .where(
        _due.c.tenant == bindparam("tenant"),
        _due.c.connection == bindparam("endpoint"),
        _due.c.not_before <= bindparam("now"),
    )
    .order_by(_due.c.rank, _due.c.first_at)
    .limit(bindparam("most", type_=Integer))
)
_NEW = and_(_pair.c.attempts < bindparam("together"), _pair.c.failures < bindparam("together"))
_RANKED = {False: true(), True: _due.c.rank == bindparam("rank", type_=Integer)}


def _free(*which: Any) -> Query:
    """The due pairs that are such, and in nobody's hands."""
    return Query(lambda dialect: _DUE.where(not_(among(dialect, _due.c.kirim_id, "without")), *which))


_TAKE = {ranked: (_free(only, _NEW), _free(only, not_(_NEW))) for ranked, only in _RANKED.items()}
_LINKED = (
    _pair.c.tenant == bindparam("tenant"),
    _pair.c.connection == bindparam("connection"),
    _pair.c.kind == bindparam("kind"),
)
_STANDING = Lookup(
    select(_pair.c.kirim_id, _pair.c.crm_id, func.coalesce(_due.c.revision, literal_column("0")))
    .outerjoin(_due, _same_pair())
    .where(*_LINKED),
    _pair.c.kirim_id,
)
_OWNERS = Lookup(select(_pair.c.crm_id, _pair.c.kirim_id).where(*_LINKED), _pair.c.crm_id)


def _where(tenant: str, endpoint: str) -> dict[str, Any]:
    return {"of_tenant": tenant, "of_connection": endpoint}


_TO = (
    "crm_id",
    "looked_up",
    "base",
    "noted",
    "attempts",
    "failures",
    "parked",
    "error",
    "reason",
    "trouble",
    "recent",
    "synced_at",
)
_THIS, _ITS_TURN = keyed(_pair, *PAIR), and_(keyed(_due, *PAIR), _due.c.revision == bindparam("at_revision"))
_END = Bulk(lambda insert: update(_pair).where(_THIS).values(given(*_TO)))
_COUNT = Bulk(lambda insert: update(_pair).where(_THIS).values(attempts=_pair.c.attempts + literal_column("1")))
_LEAVE = Bulk(lambda insert: delete(_due).where(_ITS_TURN))


def _with_views(connection: Connection, tenant: str, endpoint: str, kind: str, rows: Sequence[Any]) -> list[Taken]:
    rows = [row for row in rows if row.kind == kind]
    kirim = views(connection, tenant, KIRIM, Kind(kind), {row.kirim_id for row in rows})
    crm = views(connection, tenant, endpoint, Kind(kind), {row.crm_id for row in rows if row.crm_id})
    ruled = rulings(connection, tenant, endpoint, kind, {row.kirim_id for row in rows})
    return [
        Taken(
            kind=Kind(kind),
            kirim_id=row.kirim_id,
            crm_id=row.crm_id,
            looked_up=row.looked_up,
            revision=row.revision,
            attempts=row.attempts + 1,
            failures=row.failures,
            cause=row.cause,
            first_at=row.first_at,
            base={name: Agreed(*_values(both)) for name, both in row.base.items()},
            noted={name: Noted(Why(note[0]), *_values(note[1:])) for name, note in row.noted.items()},
            trouble=Trouble.of(row.trouble),
            kirim=kirim.get(row.kirim_id),
            crm=crm.get(row.crm_id),
            recent=_recent(row.recent) if row.recent else {},
            rulings=ruled.get(row.kirim_id, NO_RULINGS),
            unlinked=row.reason == Reason.DELETED,
        )
        for row in rows
    ]


def _recent(stored: Mapping[str, Any]) -> Recent:
    return {
        name: tuple(Stroke(tables.moment(at), side, *_values((old, new))) for at, side, old, new in strokes)
        for name, strokes in stored.items()
    }


def _stored(recent: Recent) -> dict[str, Any] | None:
    return {
        name: [[tables.microseconds(at), side, old, new] for at, side, old, new in strokes]
        for name, strokes in recent.items()
    } or None


def _values(pair: Sequence[Any]) -> tuple[Value, Value]:
    held: Fields = fields_of({"kirim": pair[0], "crm": pair[1]})
    return held["kirim"], held["crm"]
