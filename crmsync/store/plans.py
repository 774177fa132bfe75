"""Plans: what would be written for each pair, and of what was approved, what is still to be done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, select, update

from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.cursors import NEVER
from crmsync.store.records import insert

_planned = tables.Planned.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]
PORTION = 500


class State(StrEnum):
    """How far an item of a plan came."""

    SHOWN = "shown"  # nobody approved of it
    WAITING = "waiting"  # approved, and to be written
    DONE = "done"
    MOVED = "moved"  # something changed since: it would be another write now
    FAILED = "failed"  # it was refused


@dataclass(frozen=True, slots=True)
class Approved:
    """An item to be written, if it is still the same."""

    run: int
    kind: Kind
    kirim_id: str
    fingerprint: str
    attempts: int


@dataclass(frozen=True, slots=True)
class EndedItem:
    """What became of an approved item; `again_at` keeps it waiting."""

    item: Approved
    state: State
    error: str = ""
    again_at: datetime | None = None


def note(
    connection: Connection, tenant: str, name: str, run: int, items: Iterable[tuple[Kind, str, str, Mapping[str, Any]]]
) -> None:
    """Items that a plan found: kind, Kirim id, fingerprint, and the writes as they are shown."""
    _insert(connection, [_row(tenant, name, run, *item, State.SHOWN, NEVER) for item in items])


def approve(
    connection: Connection, tenant: str, name: str, run: int, items: Iterable[tuple[Kind, str, str]], now: datetime
) -> None:
    """A person wants these written, by kind, Kirim id and fingerprint."""
    _insert(connection, [_row(tenant, name, run, *item, None, State.WAITING, now) for item in items])


def _row(
    tenant: str,
    name: str,
    run: int,
    kind: Kind,
    kirim_id: str,
    fingerprint: str,
    item: Mapping[str, Any] | None,
    state: State,
    due: datetime,
) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "connection": name,
        "kind": kind,
        "kirim_id": kirim_id,
        "run": run,
        "fingerprint": fingerprint,
        "state": state,
        "item": item,
        "not_before": due,
        "attempts": 0,
        "error": "",
    }


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(connection, _planned).on_conflict_do_nothing(), rows)


def take(connection: Connection, tenant: str, name: str, limit: int, now: datetime) -> list[Approved]:
    """Approved items that are to be written now. The attempt is counted here, before anything is sent."""
    rows = connection.execute(
        select(_planned)
        .where(_planned.c.tenant == tenant, _planned.c.connection == name, _planned.c.not_before <= now)
        .order_by(_planned.c.not_before, _planned.c.kirim_id, _planned.c.run)
        .limit(limit)
    ).all()
    taken = [Approved(row.run, Kind(row.kind), row.kirim_id, row.fingerprint, row.attempts + 1) for row in rows]
    _change(connection, tenant, name, [(item, {"attempts": item.attempts}) for item in taken])
    return taken


def end(connection: Connection, tenant: str, name: str, ended: Sequence[EndedItem]) -> None:
    """Stores what became of items."""
    _change(
        connection,
        tenant,
        name,
        [
            (each.item, {"state": each.state, "error": each.error, "not_before": each.again_at or NEVER})
            for each in ended
        ],
    )


def _change(
    connection: Connection, tenant: str, name: str, changes: Sequence[tuple[Approved, Mapping[str, Any]]]
) -> None:
    if changes:
        columns: dict[str, Any] = {column: bindparam(f"to_{column}") for column in changes[0][1]}
        connection.execute(
            update(_planned)
            .where(
                _planned.c.tenant == tenant,
                _planned.c.connection == name,
                _planned.c.kind == bindparam("of_kind"),
                _planned.c.kirim_id == bindparam("of_id"),
                _planned.c.run == bindparam("of_run"),
            )
            .values(columns),
            [
                {
                    "of_kind": item.kind,
                    "of_id": item.kirim_id,
                    "of_run": item.run,
                    **{f"to_{column}": value for column, value in change.items()},
                }
                for item, change in changes
            ],
        )


def states(connection: Connection, run: int) -> dict[str, int]:
    """How many items of a run are in each state."""
    rows = connection.execute(
        select(_planned.c.state, func.count()).where(_planned.c.run == run).group_by(_planned.c.state)
    )
    return {str(state): int(number) for state, number in rows}


def troubles(connection: Connection, run: int, limit: int) -> list[Any]:
    """Items of a run that were not written, with the reason."""
    bad = and_(_planned.c.run == run, _planned.c.state.in_([State.MOVED, State.FAILED]))
    return list(connection.execute(select(_planned).where(bad).order_by(_planned.c.kirim_id).limit(limit)))


def items(connection: Connection, run: int) -> Iterator[dict[str, Any]]:
    """Every item of a plan, in order of kind and id, a portion in memory at a time."""
    last = ("", "")
    while True:
        beyond = (_planned.c.kind > last[0]) | ((_planned.c.kind == last[0]) & (_planned.c.kirim_id > last[1]))
        rows = connection.execute(
            select(_planned)
            .where(_planned.c.run == run, beyond)
            .order_by(_planned.c.kind, _planned.c.kirim_id)
            .limit(PORTION)
        ).all()
        for row in rows:
            yield {
                "connection": row.connection,
                "kind": row.kind,
                "kirim_id": row.kirim_id,
                "fingerprint": row.fingerprint,
                **(row.item or {}),
            }
        if len(rows) < PORTION:
            return
        last = (rows[-1].kind, rows[-1].kirim_id)


def ids_after(connection: Connection, tenant: str, name: str, kind: Kind, after: str, limit: int) -> list[str]:
    """The Kirim ids of a connection's pairs behind one, in order."""
    rows = connection.execute(
        select(_pair.c.kirim_id)
        .where(_pair.c.tenant == tenant, _pair.c.connection == name, _pair.c.kind == kind, _pair.c.kirim_id > after)
        .order_by(_pair.c.kirim_id)
        .limit(limit)
    )
    return [row.kirim_id for row in rows]


def forget(connection: Connection, tenant: str, name: str, before: int) -> None:
    """Plans of a connection that came before a run are of no use any more, unless something of them is waiting."""
    old = and_(_planned.c.tenant == tenant, _planned.c.connection == name, _planned.c.run < before)
    connection.execute(delete(_planned).where(old, _planned.c.state != State.WAITING))
