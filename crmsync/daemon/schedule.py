"""The alarm clock of a node. A planned moment is claimed by one insert, so that exactly one node acts on it.

APScheduler keeps the time, in memory; what a moment makes due is a row, so that it survives whoever claimed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Connection

from crmsync.errors import StoreError
from crmsync.flows.poll import CHANGES
from crmsync.model import Kind
from crmsync.store import cursors, deliveries, history
from crmsync.store.database import Database

KEEP_KEYS = timedelta(days=45)
"""How long identities are remembered: a sender can repeat what it sent for 30 days, plus 31 hours of retries."""
KEEP_HISTORY = timedelta(days=90)
HOUSEKEEPING = timedelta(hours=1)

log = structlog.get_logger(__name__)


class Schedule:
    """Polls of every connection, and housekeeping."""

    def __init__(
        self,
        database: Database,
        polls: Mapping[tuple[str, str], timedelta],
        node: str,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._node = node
        self._clock = clock
        self._wake = wake
        self._scheduler = BackgroundScheduler(timezone=UTC)
        for (tenant, endpoint), every in polls.items():
            self._add(f"poll/{tenant}/{endpoint}", every, self._poll(tenant, endpoint))
        self._add("housekeeping", HOUSEKEEPING, self._tidy)

    def start(self) -> None:
        """Begins; everything is due once at the start, in case its moment was missed."""
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
        act(tx)
        return True

    def _poll(self, tenant: str, endpoint: str) -> Callable[[Connection], None]:
        def ring(tx: Connection) -> None:
            cursors.ring(tx, tenant, endpoint, Kind.CONTACT, CHANGES, self._clock())

        return ring

    def _tidy(self, tx: Connection) -> None:
        now = self._clock()
        deliveries.purge(tx, now - KEEP_KEYS)
        history.purge(tx, now - KEEP_HISTORY)
        cursors.purge_claims(tx, now - timedelta(days=2))
