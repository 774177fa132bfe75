"""Steps that every kind of run has: to wait for what it made due, to end, to fail."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from crmsync.flows.tenant import Tenant
from crmsync.store import runs
from crmsync.store.database import Database
from crmsync.store.lanes import Fence
from crmsync.store.runs import Run, State, Step

SOON = timedelta(seconds=90)
"""What is put off for longer than this is not waited for."""
LOOK_AGAIN = 0.2
"""Seconds between two looks at whether others are done with what they have."""


@dataclass(frozen=True, slots=True)
class Stride:
    """What a turn of a run is given. `going` says whether to go on, `pause` waits some seconds."""

    database: Database
    tenant: Tenant
    fence: Fence
    clock: Callable[[], datetime]
    going: Callable[[], bool]
    pause: Callable[[float], object]

    def save(self, run: Run, step: Callable[[Connection], Step]) -> Run:
        """One step of the run: what `step` stores, and where it leads, in one transaction."""

        def work(tx: Connection) -> Run:
            self.fence(tx)
            return runs.save(tx, run, step(tx), self.clock())

        return self.database.write(work)

    def settle(
        self, run: Run, connections: Collection[str], then: Callable[[Mapping[str, Any]], Step] | None = None
    ) -> Run:
        """Once nothing of what the run made due is left to be done soon it ends, or goes on with `then`."""

        def work(tx: Connection) -> Step:
            now = self.clock()
            near, far = runs.left(tx, run, connections, now + SOON)
            parked = runs.parked(tx, run.tenant, connections, run.began_at)
            counts = {**run.counts, "postponed": far, "parked": parked}
            if near:
                return Step(run.endpoint, run.place, counts, now)
            return then(counts) if then else Step(run.endpoint, run.place, counts, now, State.DONE)

        after = self.save(run, work)
        if after.place == run.place and after.state is State.RUNNING:
            self.pause(LOOK_AGAIN)
        return after

    def fail(self, run: Run, reason: str) -> Run:
        """The run cannot go on."""
        return self.save(run, lambda tx: Step(run.endpoint, run.place, run.counts, self.clock(), State.FAILED, reason))


def counted(counts: Mapping[str, Any], **more: int) -> dict[str, Any]:
    """The counts, with something added."""
    return {**counts, **{name: int(counts.get(name, 0)) + number for name, number in more.items()}}
