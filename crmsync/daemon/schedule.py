"""The alarm clock of a node. A planned moment is claimed by one insert, so that exactly one node acts on it.

APScheduler keeps the time, in memory; what a moment makes due is a row, so that it survives whoever claimed it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Connection

from crmsync import crash
from crmsync.errors import StoreError
from crmsync.flows.poll import CHANGES
from crmsync.model import Kind
from crmsync.store import chores, cursors, deliveries, history, quarantine, runs, sightings
from crmsync.store.database import Database
from crmsync.store.lanes import Work

KEEP_KEYS = timedelta(days=45)
"""How long identities are remembered: a sender can repeat what it sent for 30 days, plus 31 hours of retries."""
KEEP_HISTORY = timedelta(days=90)
KEEP_REPLAYS = timedelta(days=31)
"""Kirim itself forgets a delivery after 30."""
HOUSEKEEPING = timedelta(hours=1)
WATCH = timedelta(seconds=30)
"""What went wrong is noticed within a minute, although a moment may be missed where two fall into one slot."""
SWEEP = timedelta(hours=1)

log = structlog.get_logger(__name__)


class Schedule:
    """Polls of every connection, what is looked after for the `kept` tenants, and housekeeping."""

    def __init__(
        self,
        database: Database,
        polls: Mapping[tuple[str, str, Kind], timedelta],
        node: str,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
        kept: Collection[str] = (),
        *,
        watch: timedelta = WATCH,
        sweep: timedelta = SWEEP,
    ) -> None:
        self._database = database
        self._node = node
        self._clock = clock
        self._wake = wake
        self._kept = kept
        self._scheduler = BackgroundScheduler(timezone=UTC)
        for (tenant, endpoint, kind), every in polls.items():
            self._add(f"poll/{tenant}/{endpoint}/{kind}", every, self._poll(tenant, endpoint, kind))
        for tenant in kept:
            self._add(f"watch/{tenant}", watch, self._chore(tenant, Work.WATCH))
            self._add(f"sweep/{tenant}", sweep, self._chore(tenant, Work.SWEEP))
        self._add("housekeeping", HOUSEKEEPING, self._tidy)

    def start(self) -> None:
        """Begins; everything is due once at the start, in case its moment was missed.

        What is looked after is due at every start, also when another process claimed the present moment.
        """
        try:
            self._database.write(self._ring_all)
        except StoreError as error:
            log.warning("store_unavailable", schedule="start", reason=str(error))
        self._scheduler.start()

    def stop(self) -> None:
        """Rings no more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def _add(self, name: str, every: timedelta, act: Callable[[Connection], None]) -> None:
        def fire() -> None:
            try:
                claimed = self._database.write(lambda tx: self._claimed(tx, name, every, act))
            except StoreError as error:
                log.warning("store_unavailable", schedule=name, reason=str(error))
                return
            if claimed:
                self._wake()

        self._scheduler.add_job(
            fire,
            "interval",
            seconds=every.total_seconds(),
            next_run_time=self._clock(),
            id=name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def _claimed(self, tx: Connection, name: str, every: timedelta, act: Callable[[Connection], None]) -> bool:
        """Acts if this node is the first to claim the present slot; every node computes the same slots."""
        now = self._clock()
        slot = datetime.fromtimestamp(now.timestamp() // every.total_seconds() * every.total_seconds(), UTC)
        if not cursors.claim(tx, name, slot, self._node, now):
            return False
        crash.point("schedule.claimed")
        act(tx)
        return True

    def _poll(self, tenant: str, endpoint: str, kind: Kind) -> Callable[[Connection], None]:
        def ring(tx: Connection) -> None:
            cursors.ring(tx, tenant, endpoint, kind, CHANGES, self._clock())

        return ring

    def _chore(self, tenant: str, work: Work) -> Callable[[Connection], None]:
        return lambda tx: chores.ring(tx, tenant, work, self._clock())

    def _ring_all(self, tx: Connection) -> None:
        for tenant in self._kept:
            for work in (Work.WATCH, Work.SWEEP):
                chores.ring(tx, tenant, work, self._clock())

    def _tidy(self, tx: Connection) -> None:
        now = self._clock()
        deliveries.purge(tx, now - KEEP_KEYS)
        history.purge(tx, now - KEEP_HISTORY)
        chores.purge(tx, now - KEEP_REPLAYS)
        quarantine.purge(tx, now - quarantine.Limits().age)
        cursors.purge_claims(tx, now - timedelta(days=2))
        runs.purge(tx, now - KEEP_HISTORY)
        sightings.purge(tx)
