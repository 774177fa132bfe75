"""An endpoint that cannot be used stands still as a whole, and comes back by itself: probe, trial, recovery.

One cheap call a minute, or when the platform said it makes sense, finds out whether the cause is gone. Then work goes
on, one batch at a time for a while; only after that people are told that it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from crmsync.core.retry import rest
from crmsync.daemon.alerts import Alert
from crmsync.errors import ConnectorError, Suspend
from crmsync.flows.tenant import Tenant
from crmsync.model import Kind
from crmsync.store import suspensions
from crmsync.store.database import Database
from crmsync.store.lanes import NEEDS_ENDPOINT, Fence, Lane
from crmsync.store.suspensions import Suspension

TRIAL = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class Suspensions:
    """What this node knows of suspended endpoints. The table knows better: other nodes probe as well."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], chance: Callable[[], float], alert: Alert
    ) -> None:
        self._database = database
        self._clock = clock
        self._chance = chance
        self._alert = alert
        self._known: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Learns what was suspended before this process began, and tells it again."""
        for one in self._database.read(suspensions.every):
            self._known.add((one.tenant, one.endpoint))
            self._alert("connection_suspended", one.tenant, _told(one.endpoint, one.reason), one.endpoint)

    def begin(self, tenant: str, endpoint: str, error: Suspend) -> None:
        """The endpoint cannot be used. Its lanes rest from the commit on."""

        def store(tx: Connection) -> tuple[bool, datetime]:
            now = self._clock()
            new = suspensions.read(tx, tenant, endpoint) is None
            look_at = now + rest(error, 1, self._chance())
            suspensions.suspend(tx, tenant, endpoint, str(error), look_at, now)
            return new, look_at

        new, look_at = self._database.write(store)
        self._known.add((tenant, endpoint))
        if new:
            until = look_at.isoformat(timespec="seconds")
            log.warning("connection_suspended", tenant=tenant, endpoint=endpoint, reason=str(error), probe_at=until)
        self._alert("connection_suspended", tenant, _told(endpoint, str(error)), endpoint)

    def of(self, tenant: str, endpoint: str) -> Suspension | None:
        """The suspension of an endpoint, on trial or not. Costs nothing where there was none."""
        if (tenant, endpoint) not in self._known:
            return None
        found = self._database.read(lambda tx: suspensions.read(tx, tenant, endpoint))
        if found is None:
            self._known.discard((tenant, endpoint))
        return found

    def keeps_back(self, lane: Lane) -> bool:
        """Whether a lane has to rest by now: a tick may have looked before."""
        found = self.of(lane.tenant, lane.endpoint) if lane.work in NEEDS_ENDPOINT else None
        return found is not None and not found.trial

    def probe(self, tenant: Tenant, endpoint: str, fence: Fence) -> None:
        """A turn in the probe's lane."""
        self._known.add((tenant.id, endpoint))
        found = self.of(tenant.id, endpoint)
        if found is None or found.look_at > self._clock():
            return
        if found.trial:
            self._recovered(found, fence)
            return
        try:
            tenant.endpoint(endpoint).fields(Kind.CONTACT)
        except ConnectorError as error:
            self._probed(found, fence, self._clock() + rest(error, found.probes + 1, self._chance()), trial=False)
            reason = str(error) if isinstance(error, Suspend) else found.reason
            self._alert("connection_suspended", tenant.id, _told(endpoint, reason), endpoint)
        else:
            self._probed(found, fence, self._clock() + TRIAL, trial=True)
            log.info("connection_on_trial", tenant=tenant.id, endpoint=endpoint)

    def _probed(self, found: Suspension, fence: Fence, look_at: datetime, *, trial: bool) -> None:
        def store(tx: Connection) -> None:
            fence(tx)
            suspensions.probed(tx, found, look_at, trial=trial)

        self._database.write(store)

    def _recovered(self, found: Suspension, fence: Fence) -> None:
        def store(tx: Connection) -> bool:
            fence(tx)
            return suspensions.end(tx, found)

        if self._database.write(store):
            self._known.discard((found.tenant, found.endpoint))
            seconds = round((self._clock() - found.since).total_seconds())
            log.info("connection_recovered", tenant=found.tenant, endpoint=found.endpoint, seconds=seconds)
            text = f"{found.endpoint} works again, after {timedelta(seconds=seconds)}"
            self._alert("connection_recovered", found.tenant, text, found.endpoint)


def _told(endpoint: str, reason: str) -> str:
    return f"{endpoint} cannot be used: {reason}. Deliveries are taken in; what is for it waits and goes on by itself"
