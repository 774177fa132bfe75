"""The alarm clock of a node. A planned moment is claimed by one insert, so that exactly one node acts on it.

APScheduler keeps the time, in memory; what a moment makes due is a row, so that it survives whoever claimed it. A
moment that nobody was there for is made up for once, however many there were.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from sqlalchemy import Connection

from crmsync import crash
from crmsync.core.cron import Cron
from crmsync.core.schedules import POLL, RECONCILE, RETENTION, SEGMENTS, SWEEP, Schedules
from crmsync.errors import ConnectorError, StoreError
from crmsync.flows import reconcile
from crmsync.flows.poll import CHANGES
from crmsync.flows.schedules import RUN
from crmsync.flows.tenant import Tenant
from crmsync.model import Kind
from crmsync.store import brakes, chores, cursors, deliveries, fires, quarantine, segments, sightings
from crmsync.store.database import Database
from crmsync.store.fires import BEGUN, Fire
from crmsync.store.lanes import Work

KEEP_KEYS = timedelta(days=45)
"""How long identities are remembered: a sender can repeat what it sent for 30 days, plus 31 hours of retries."""
KEEP_REPLAYS = timedelta(days=31)
"""Kirim itself forgets a delivery after 30."""
KEEP_TALLIES = timedelta(days=31)
"""Longer than any run goes on."""
KEEP_MOMENTS = timedelta(days=2)
HOUSEKEEPING = timedelta(hours=1)
WATCH = timedelta(seconds=30)
"""What went wrong is noticed within a minute, although a moment may be missed where two fall into one slot."""
NOBODY = ""
"""Whose a schedule is that concerns no tenant."""

Act = Callable[[Connection], str]
"""Makes due what a moment is for; says in a few words what came of it, if that is worth keeping."""
Feeds = Mapping[tuple[str, str, Kind], timedelta]
"""The feeds of changes of every connection, with how often each is asked."""
NO_TENANTS: Mapping[str, Tenant] = MappingProxyType({})
NO_SCHEDULES: Mapping[str, Schedules] = MappingProxyType({})

log = structlog.get_logger(__name__)


class _Moments(BaseTrigger):  # type: ignore[misc]
    """An expression as APScheduler wants it."""

    def __init__(self, cron: Cron) -> None:
        self._cron = cron

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The next moment; those that were missed are no concern of the timer's."""
        return self._cron.after(max(previous_fire_time or now, now))


class Schedule:
    """The schedules of every tenant, polls that go by a number of seconds, what is looked after for the `kept`
    tenants, and housekeeping. `tenants` are asked for anew at each moment.
    """

    def __init__(
        self,
        database: Database,
        feeds: Feeds,
        node: str,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        kept: Collection[str] = (),
        *,
        tenants: Mapping[str, Tenant] = NO_TENANTS,
        schedules: Mapping[str, Schedules] = NO_SCHEDULES,
        watch: timedelta = WATCH,
    ) -> None:
        self._database = database
        self._feeds = feeds
        self._node = node
        self._clock = clock
        self._wake = wake
        self._kept = kept
        self._tenants = tenants
        self._schedules = schedules
        self._scheduler = BackgroundScheduler(timezone=UTC)
        for (tenant, endpoint, kind), every in feeds.items():
            if POLL not in self._crons(tenant):
                self._every(tenant, f"poll/{endpoint}/{kind}", every, self._poll(tenant, endpoint, kind))
        for tenant in kept:
            self._every(tenant, "watch", watch, self._chore(tenant, Work.WATCH))
        self._every(NOBODY, "housekeeping", HOUSEKEEPING, self._tidy)
        for tenant in schedules:
            for name in self._crons(tenant):
                self._add(f"{tenant}/{name}", _Moments(self._crons(tenant)[name]), self._on_cron(tenant, name))

    def start(self) -> None:
        """Begins. What goes by seconds is due once at the start, and so is what was missed of the rest.

        What is looked after is due at every start, also when another process claimed the present moment.
        """
        try:
            self._database.write(self._ring_all)
        except StoreError as error:
            log.warning("store_unavailable", schedule="start", reason=str(error))
        for tenant in self._schedules:
            for name in self._crons(tenant):
                self._on_cron(tenant, name)()
        self._scheduler.start()

    def stop(self) -> None:
        """Rings no more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def _crons(self, tenant: str) -> Mapping[str, Cron]:
        chosen = self._schedules.get(tenant)
        return chosen.crons if chosen else {}

    def _add(self, name: str, trigger: BaseTrigger | str, fire: Callable[[], None], **more: object) -> None:
        self._scheduler.add_job(fire, trigger, id=name, coalesce=True, max_instances=1, misfire_grace_time=None, **more)

    def _every(self, tenant: str, name: str, every: timedelta, act: Act) -> None:
        """What goes by a number of seconds: every node computes the same slots, whenever it was started."""
        seconds = every.total_seconds()

        def fire() -> None:
            slot = datetime.fromtimestamp(self._clock().timestamp() // seconds * seconds, UTC)
            self._claim(tenant, name, lambda tx: slot, act)

        self._add(f"{tenant}/{name}", "interval", fire, seconds=seconds, next_run_time=self._clock())

    def _on_cron(self, tenant: str, name: str) -> Callable[[], None]:
        cron, act = self._crons(tenant)[name], self._acts(tenant)[name]
        return lambda: self._claim(tenant, name, lambda tx: self._latest(tx, tenant, name, cron), act)

    def _latest(self, tx: Connection, tenant: str, name: str, cron: Cron) -> datetime | None:
        """The latest moment that nobody acted on yet. A schedule that is new has missed nothing."""
        now = self._clock()
        last = fires.last(tx, tenant, name)
        if last is None:
            fires.claim(tx, Fire(tenant, name, now, self._node, now, BEGUN))
            return None
        return cron.latest(last.slot, now)

    def _claim(self, tenant: str, name: str, choose: Callable[[Connection], datetime | None], act: Act) -> None:
        """Acts if this node is the first to claim the moment."""

        def work(tx: Connection) -> bool:
            slot = choose(tx)
            if slot is None:
                return False
            fire = Fire(tenant, name, slot, self._node, self._clock(), "")
            if not fires.claim(tx, fire):
                return False
            crash.point("schedule.claimed")
            if note := act(tx):
                fires.note(tx, fire, note)
            return True

        try:
            claimed = self._database.write(work)
        except StoreError as error:
            log.warning("store_unavailable", schedule=f"{tenant}/{name}", reason=str(error))
            return
        if claimed:
            self._wake()

    def _acts(self, tenant: str) -> Mapping[str, Act]:
        return {
            POLL: lambda tx: self._poll_all(tx, tenant),
            RECONCILE: lambda tx: self._reconcile(tx, tenant),
            SEGMENTS: lambda tx: self._walk_segments(tx, tenant),
            SWEEP: self._chore(tenant, Work.SWEEP),
            RETENTION: self._chore(tenant, Work.RETENTION),
        }

    def _poll(self, tenant: str, endpoint: str, kind: Kind) -> Act:
        def ring(tx: Connection) -> str:
            cursors.ring(tx, tenant, endpoint, kind, CHANGES, self._clock())
            return ""

        return ring

    def _poll_all(self, tx: Connection, tenant: str) -> str:
        for owner, endpoint, kind in self._feeds:
            if owner == tenant:
                cursors.ring(tx, tenant, endpoint, kind, CHANGES, self._clock())
        return ""

    def _reconcile(self, tx: Connection, tenant: str) -> str:
        """Begins the run, or notes why there is none."""
        chosen = self._schedules[tenant]
        options = reconcile.Options(chosen.heal, chosen.threshold)
        try:
            return f"{RUN}{reconcile.begin(tx, self._tenants[tenant], options, self._clock()).id}"
        except ConnectorError as error:
            log.warning("schedule_refused", tenant=tenant, schedule=RECONCILE, reason=str(error))
            return str(error)

    def _walk_segments(self, tx: Connection, tenant: str) -> str:
        segments.ring(tx, tenant, self._clock())
        return ""

    def _chore(self, tenant: str, work: Work) -> Act:
        def ring(tx: Connection) -> str:
            chores.ring(tx, tenant, work, self._clock())
            return ""

        return ring

    def _ring_all(self, tx: Connection) -> None:
        for tenant in self._kept:
            for work in (Work.WATCH, Work.SWEEP):
                chores.ring(tx, tenant, work, self._clock())

    def _tidy(self, tx: Connection) -> str:
        """What belongs to no tenant's retention."""
        now = self._clock()
        deliveries.purge(tx, now - KEEP_KEYS)
        chores.purge(tx, now - KEEP_REPLAYS)
        quarantine.purge(tx, now - quarantine.Limits().age)
        fires.purge(tx, now - KEEP_MOMENTS)
        sightings.purge(tx)
        brakes.purge(tx, now - KEEP_TALLIES)
        return ""
