"""What is left of each credential's limits: one row for a limit, whoever uses it, tenant and process alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, select, update

from crmsync.core.budget import Allowance, Priority, full, refilled, taken
from crmsync.model import Rate
from crmsync.store import tables
from crmsync.store.bulk import Bulk, Query, given, keyed
from crmsync.store.records import insert

_budget = tables.Budget.__table__  # type: ignore[attr-defined]

Change = Callable[[Allowance], Allowance]
"""What was learned of a limit since it was looked at last."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of one credential. `users` are the endpoints (`tenant/name`) with the records of one of their calls."""

    credential: str
    bucket: str
    rate: Rate
    users: Mapping[str, int]


def draw(
    connection: Connection, limit: Limit, who: Priority, most: int, now: float, changes: Sequence[Change]
) -> tuple[Allowance, int]:
    """Takes as many requests as a class may send now; says how many, and how the limit stands after that."""
    held = _locked(connection, limit, now)
    for change in changes:
        held = change(held)
    held, count = taken(refilled(held, now), who, most)
    to = {"to_state": held.document(), "to_users": dict(limit.users), "to_documented": _documented(limit.rate)}
    _KEEP.run(connection, [{**_named(limit), **to}])
    return held, count


def every(connection: Connection) -> list[tuple[Limit, Allowance]]:
    """Every limit, as it stood when somebody last looked."""
    rows = connection.execute(select(_budget).order_by(_budget.c.credential, _budget.c.bucket))
    return [(Limit(r.credential, r.bucket, Rate(*r.documented), r.users), Allowance.of(r.state)) for r in rows]


def _locked(connection: Connection, limit: Limit, now: float) -> Allowance:
    """The limit as it stands, kept from others until the transaction ends. Another documented one begins anew."""
    fresh = full(limit.rate, now)
    found = _LOOK.rows(connection, **_named(limit))
    if not found:
        row = {
            "credential": limit.credential,
            "bucket": limit.bucket,
            "documented": _documented(limit.rate),
            "users": dict(limit.users),
            "state": fresh.document(),
        }
        connection.execute(insert(connection, _budget).on_conflict_do_nothing(), row)
        found = _LOOK.rows(connection, **_named(limit))
    [(state, documented)] = found
    held = Allowance.of(orjson.loads(state))
    if orjson.loads(documented) == _documented(limit.rate):
        return held
    return Allowance(
        limit.rate, min(held.tokens, fresh.tokens), held.at, fresh.credits, spent=held.spent, held_until=held.held_until
    )


def _documented(rate: Rate) -> list[Any]:
    return [rate.requests, rate.seconds, rate.rolling]


def _named(limit: Limit) -> dict[str, str]:
    return {"of_credential": limit.credential, "of_bucket": limit.bucket}


_HERE = keyed(_budget, "credential", "bucket")
_LOOK = Query(lambda dialect: select(_budget.c.state, _budget.c.documented).where(_HERE).with_for_update())
_KEEP = Bulk(lambda insert: update(_budget).where(_HERE).values(given("state", "users", "documented")))
