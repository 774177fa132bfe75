"""Runs, as the worker works on them: one turn of the run that waits in a lane. What a run does is up to its flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import Connection

from crmsync.core.budget import Priority
from crmsync.daemon.alerts import Alert, nobody
from crmsync.daemon.budgets import asking
from crmsync.errors import Fenced
from crmsync.flows import backfill, plan, reconcile
from crmsync.flows.steps import Stride
from crmsync.flows.tenant import Tenant
from crmsync.store import runs
from crmsync.store.database import Database
from crmsync.store.lanes import Fence
from crmsync.store.runs import Run, State

TURN = 1.0
"""Seconds after which a turn comes to an end, so that other runs have theirs, and a daemon can stop."""

Flow = Callable[[Stride, Run], None]

FLOWS: Mapping[str, Flow] = {
    backfill.BACKFILL: backfill.turn,
    reconcile.RECONCILE: reconcile.turn,
    plan.PLAN: plan.turn,
    plan.APPLY: plan.turn_apply,
}
"""What a turn of each kind of run does."""
CLASSES: Mapping[str, Priority] = {reconcile.RECONCILE: Priority.RECONCILE, plan.PLAN: Priority.RECONCILE}
"""The class of what each kind of run sends; of all others a backfill's."""


def _begin_backfill(tx: Connection, tenant: Tenant, asked: Mapping[str, Any], now: datetime) -> Run:
    return backfill.begin(tx, tenant, backfill.Options.of(asked), now, anew=bool(asked.get("anew")))


def _begin_reconcile(tx: Connection, tenant: Tenant, asked: Mapping[str, Any], now: datetime) -> Run:
    return reconcile.begin(tx, tenant, reconcile.Options.of(asked), now, anew=bool(asked.get("anew")))


def _begin_plan(tx: Connection, tenant: Tenant, asked: Mapping[str, Any], now: datetime) -> Run:
    return plan.begin(tx, tenant, plan.Options(str(asked["connection"])), now)


BEGINS: Mapping[str, Callable[[Connection, Tenant, Mapping[str, Any], datetime], Run]] = {
    backfill.BACKFILL: _begin_backfill,
    reconcile.RECONCILE: _begin_reconcile,
    plan.PLAN: _begin_plan,
    plan.APPLY: plan.begin_apply,
}
"""How a run of each kind is begun, from what was asked for."""


log = structlog.get_logger(__name__)


class Running:
    """Every kind of run."""

    def __init__(self, database: Database, clock: Callable[[], datetime], alert: Alert = nobody) -> None:
        self._database = database
        self._clock = clock
        self._alert = alert

    def turn(self, tenant: Tenant, endpoint: str, fence: Fence, pause: Callable[[float], bool]) -> None:
        """One turn in the lane of an endpoint. A run that a person stopped meanwhile is left where it is."""
        due = self._database.read(lambda tx: runs.due(tx, tenant.id, endpoint, self._clock()))
        until = monotonic() + TURN

        def going() -> bool:
            return monotonic() < until and not pause(0)

        for run in due:
            flow = FLOWS.get(run.kind)
            if flow is None:
                continue
            try:
                with asking(CLASSES.get(run.kind, Priority.BACKFILL)):
                    flow(Stride(self._database, tenant, fence, self._clock, going, pause), run)
            except Fenced:
                now = self._found(run)
                if now is not None and now.state is State.RUNNING:
                    raise
            self._tell(self._found(run))
            return

    def _found(self, run: Run) -> Run | None:
        return self._database.read(lambda tx: runs.find(tx, run.id))

    def _tell(self, run: Run | None) -> None:
        """What did not come to a good end is told to people."""
        if run is None or run.ended_at is None:
            return
        log.info("run_ended", tenant=run.tenant, run=run.id, kind=run.kind, state=run.state.value, reason=run.error)
        if run.error:
            self._alert("run_halted", run.tenant, f"{run.kind}, run {run.id}: {run.error}", str(run.id))
