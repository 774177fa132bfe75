"""Looks after what tenants have: turns of the watch, the sweep and the retention, and the self-test at the start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic

import structlog

from crmsync.flows import retention, sweep, watch
from crmsync.flows.kept import Alert, keep
from crmsync.flows.selftest import self_test
from crmsync.flows.tenant import Tenant
from crmsync.store.database import Database
from crmsync.store.lanes import Fence, Work

PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds before each attempt of the self-test: a proxy may take a while to see that we are there."""

TURN = 1.0
"""Seconds of forgetting after which a turn ends."""

log = structlog.get_logger(__name__)


class Tending:
    """`alert` is called from any thread."""

    def __init__(self, database: Database, clock: Callable[[], datetime], alert: Alert) -> None:
        self._database = database
        self._clock = clock
        self._alert = alert

    def turn(self, tenant: Tenant, work: Work, fence: Fence) -> None:
        """One turn of `Work.WATCH`, `SWEEP` or `RETENTION`."""
        if work is Work.RETENTION:
            until = monotonic() + TURN
            retention.chore(
                self._database, tenant.id, tenant.retention, fence, self._clock, lambda: monotonic() < until
            )
            return
        kept = keep(tenant)
        if kept is None:
            return
        if work is Work.WATCH:
            watch.watch(self._database, kept, fence, self._clock, self._alert)
        else:
            sweep.chore(self._database, kept, fence, self._clock, self._alert)


class SelfTest:
    """Posts through the public address once the daemon listens, in a thread of its own that nothing waits for."""

    def __init__(
        self,
        tenants: Mapping[str, Tenant],
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        alert: Alert,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        self._tenants = tenants
        self._clock = clock
        self._new_id = new_id
        self._alert = alert
        self._pauses = pauses
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="self-test", daemon=True)

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Tries no more."""
        self._stopping.set()

    def _run(self) -> None:
        troubles = dict.fromkeys(self._tenants, "")
        for pause in self._pauses:
            if self._stopping.wait(pause):
                return
            troubles = {id: self._trouble(self._tenants[id]) for id in troubles if id in self._tenants}
            for id in [id for id, trouble in troubles.items() if not trouble]:
                del troubles[id]
                self._alert("self_test_passed", id, "deliveries arrive through the public address")
                log.info("self_test_passed", tenant=id)
            if not troubles:
                return
        for id, trouble in troubles.items():
            if not self._stopping.is_set():
                self._alert("self_test_failed", id, trouble)

    def _trouble(self, tenant: Tenant) -> str:
        """What is wrong with a tenant's way in; empty if nothing is, or if it has no secret to test with."""
        kept = keep(tenant)
        if kept is None:
            return ""
        tested = self_test(kept.hook_url, kept.held(), self._clock, self._new_id)
        failed = [f"with secret {one.name} {one.trouble}" for one in tested if one.trouble]
        return f"a delivery of our own to {kept.hook_url} did not arrive: {'; '.join(failed)}" if failed else ""
