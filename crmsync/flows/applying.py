"""Writes what a person approved of, on a connection that writes nothing by itself; and only what is still the same."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection as Transaction

from crmsync import crash
from crmsync.core.retry import ATTEMPTS, wait
from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.flows.plan import examine, mark, shown
from crmsync.flows.settling import reflect, store
from crmsync.flows.sync import act
from crmsync.flows.work import Surroundings, Work
from crmsync.store import plans
from crmsync.store.plans import Approved, EndedItem, State

SPENT = f"given up after {ATTEMPTS} starts that did not come to an end"
MOVED = "something changed since the plan was made: make it anew"


def apply(around: Surroundings) -> int:
    """Works off approved items of one connection; says how many were taken.

    Raises the error that stopped the connection, after everything that did end was stored.
    """
    tenant, name, size = around.tenant.id, around.connection.name, around.connection.connector.batch_size
    taken = around.database.write(lambda tx: plans.take(tx, tenant, name, size, around.clock()))
    crash.point("apply.counted")
    stopped: ConnectorError | None = None
    for kind in {item.kind for item in taken}:
        items = {item.kirim_id: item for item in taken if item.kind is kind}
        spent = [item for item in items.values() if item.attempts > ATTEMPTS]
        works = examine(around, kind, [id for id, item in items.items() if item not in spent])
        same = [work for work in works if _is(work, items[work.pair.kirim_id])]
        stopped = act(around, same) or stopped
        reflect(around, same)
        ended = [_ended(around, items[work.pair.kirim_id], work) for work in same]
        going = {item.item.kirim_id for item in ended}
        ended += [EndedItem(item, State.FAILED, SPENT) for item in spent]
        going |= {item.kirim_id for item in spent}
        ended += [EndedItem(item, State.MOVED, MOVED) for id, item in items.items() if id not in going]
        around.database.write(lambda tx, same=same, ended=ended: _store(tx, around, same, ended))  # type: ignore[misc]
    if stopped is not None:
        raise stopped
    return len(taken)


def _is(work: Work, item: Approved) -> bool:
    """Whether it would be the same write; or none any more, since both sides hold what was planned."""
    if shown(work) is None:
        return work.crm is not None and work.crm.exists and work.decision.quiet
    return mark(work) == item.fingerprint


def _store(tx: Transaction, around: Surroundings, works: Sequence[Work], ended: Sequence[EndedItem]) -> None:
    store(tx, around, works, counted=True)
    plans.end(tx, around.tenant.id, around.connection.name, ended)


def _ended(around: Surroundings, item: Approved, work: Work) -> EndedItem:
    """What passes is tried again; what was refused is for people."""
    passing = [each for each in work.outcomes.values() if isinstance(each, (Retry, Suspend))]
    if passing:
        again = around.clock() + wait(passing[0], item.attempts, around.chance())
        return EndedItem(item, State.WAITING, str(passing[0]), again)
    refused = [each for each in work.outcomes.values() if isinstance(each, Reject)]
    return EndedItem(item, State.FAILED, str(refused[0])) if refused else EndedItem(item, State.DONE)
