"""What would be written, to the last field: the run that finds it out, and the run that has it written.

A plan decides as the sync does, on the same values, and writes nothing. What is approved is written only if the very
same would be written still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from crmsync.core.decide import decide
from crmsync.core.plan import Action, Counts, document, fingerprint
from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.flows.gathering import gather, known_in_kirim
from crmsync.flows.steps import LOOK_AGAIN, Stride, counted
from crmsync.flows.tenant import Tenant
from crmsync.flows.work import Surroundings, Work
from crmsync.model import Kind
from crmsync.store import pairs, plans, runs
from crmsync.store.plans import State as Item
from crmsync.store.runs import Run, State, Step

PLAN, APPLY = "plan", "apply"


@dataclass(frozen=True, slots=True)
class Options:
    """Whose writes are planned."""

    connection: str

    def document(self) -> dict[str, Any]:
        """As a run keeps it."""
        return {"connection": self.connection}


def begin(tx: Connection, tenant: Tenant, options: Options, now: datetime) -> Run:
    """A plan is always made anew. Raises `Reject` for a connection that is not configured."""
    connection = tenant.connections.get(options.connection)
    if connection is None:
        raise Reject(f"there is no connection {options.connection}: {', '.join(sorted(tenant.connections))}")
    before = runs.unfinished(tx, tenant.id, PLAN)
    if before is not None:
        runs.give_up(tx, before.id, "another was begun in its place", now)
    run = runs.begin(tx, tenant.id, PLAN, connection.name, options.document(), {"at": 0, "after": ""}, now)
    plans.forget(tx, tenant.id, connection.name, run.id)
    return run


def turn(stride: Stride, run: Run) -> None:
    """Goes on with a plan, batch by batch."""
    while stride.going() and run.state is State.RUNNING:
        try:
            run = _plan(stride, run)
        except (Retry, Suspend):
            raise
        except ConnectorError as error:
            run = stride.fail(run, str(error))


def _plan(stride: Stride, run: Run) -> Run:
    connection = stride.tenant.connections.get(str(run.options["connection"]))
    if connection is None:
        return stride.fail(run, "the connection is no longer configured")
    kinds = sorted(connection.rules)
    at = int(run.place["at"])
    if at >= len(kinds):
        return stride.save(run, lambda tx: Step(run.endpoint, run.place, run.counts, stride.clock(), State.DONE))
    kind, name = kinds[at], connection.name
    size = connection.connector.batch_size
    after = str(run.place["after"])
    ids = stride.database.read(lambda tx: plans.ids_after(tx, run.tenant, name, kind, after, size))
    around = Surroundings(stride.database, stride.tenant, connection, stride.fence, stride.clock, lambda: 0.5)
    found = [(work, item) for work in examine(around, kind, ids) if (item := shown(work)) is not None]
    counts = Counts.of(run.counts)
    for _, item in found:
        counts = counts.plus(item)

    def store(tx: Connection) -> Step:
        plans.note(tx, run.tenant, name, run.id, [(kind, work.pair.kirim_id, mark(work), item) for work, item in found])
        told = counted({**run.counts, **counts.document()}, read=len(ids))
        place = {"at": at, "after": ids[-1]} if len(ids) == size else {"at": at + 1, "after": ""}
        return Step(run.endpoint, place, told, stride.clock())

    return stride.save(run, store)


def examine(around: Surroundings, kind: Kind, ids: Sequence[str]) -> list[Work]:
    """Pairs with what would be done about them."""
    tenant, name = around.tenant.id, around.connection.name
    works = gather(around, around.database.read(lambda tx: pairs.pairs(tx, tenant, name, kind, ids)))
    for work in works:
        work.decision = decide(work.rules, work.view)
    return works


def shown(work: Work) -> dict[str, Any] | None:
    """What a plan says about a pair; None where nothing is to be done."""
    if work.undecided:
        return document(Action.CHOOSE, work.decision) | {"crm_id": None, "writes": []}
    if work.held or not known_in_kirim(work.pair) or (work.crm is not None and not work.crm.exists):
        return None
    if work.crm is None:
        creates = work.rules.creates and not work.decision.quiet
        return document(Action.CREATE, work.decision) | {"crm_id": None} if creates else None
    if work.adopted:
        return document(Action.ADOPT, work.decision) | {"crm_id": work.crm_id}
    return None if work.decision.quiet else document(Action.UPDATE, work.decision) | {"crm_id": work.crm_id}


def mark(work: Work) -> str:
    """The fingerprint of what would be done about a pair."""
    return fingerprint(work.pair.kirim_id, work.crm_id, work.decision, work.pair.base)


# -- having a plan written


def begin_apply(tx: Connection, tenant: Tenant, asked: Mapping[str, Any], now: datetime) -> Run:
    """Approves of the items of a plan: `connection`, and `items` as kind, Kirim id and fingerprint.

    Raises `Reject` where nothing would come of it.
    """
    connection = tenant.connections.get(str(asked["connection"]))
    if connection is None:
        raise Reject(f"the plan is for {asked['connection']}, which is not configured")
    if connection.live:
        raise Reject(f"{connection.name} is live: what differs is written by itself, there is nothing to apply")
    run = runs.begin(tx, tenant.id, APPLY, connection.name, {"connection": connection.name}, {"phase": "writing"}, now)
    items = [(Kind(kind), str(id), str(digest)) for kind, id, digest in asked["items"]]
    plans.approve(tx, tenant.id, connection.name, run.id, items, now)
    return run


def turn_apply(stride: Stride, run: Run) -> None:
    """Watches the items being written, until none waits."""
    while stride.going() and run.state is State.RUNNING:
        run = stride.save(run, partial(_look, stride, run))
        if run.state is State.RUNNING:
            stride.pause(LOOK_AGAIN)


def _look(stride: Stride, run: Run, tx: Connection) -> Step:
    states = plans.states(tx, run.id)
    after = State.RUNNING if states.get(Item.WAITING) else State.DONE
    return Step(run.endpoint, run.place, states, stride.clock(), after)
