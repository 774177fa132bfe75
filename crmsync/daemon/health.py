"""What goes wrong slowly: a disk that fills up, dead letters that gather, a loop that is late. Looked at now and then.

Alerts, and answers whether there is room; decides nothing else.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import structlog

from crmsync.daemon.alerts import Alert
from crmsync.errors import StoreError

EVERY = 15.0
GROWING = 10
"""Dead letters that are new within the stretch below before people are told."""
STRETCH = timedelta(minutes=15)
BEAT = 0.25
BEATS = 40

log = structlog.get_logger(__name__)


class Health:
    """One node's. `dead` counts dead letters; `folder` is where a SQLite file lives, None for a database elsewhere."""

    def __init__(
        self, folder: Path | None, floor_mb: int, dead: Callable[[], int], alert: Alert, every: float = EVERY
    ) -> None:
        self.free: int | None = None
        self._folder = folder
        self._floor = floor_mb * 1024 * 1024
        self._dead = dead
        self._alert = alert
        self._every = every
        self._counts: deque[int] = deque(maxlen=max(2, round(STRETCH.total_seconds() / every)))
        self._late: deque[float] = deque(maxlen=BEATS)

    @property
    def has_room(self) -> bool:
        """Whether the disk has room above its floor, as of the latest look."""
        return self.free is None or self.free >= self._floor

    @property
    def loop_lag(self) -> float:
        """By how many seconds the event loop was late at most, lately."""
        return max(self._late, default=0.0)

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks until told to stop."""
        await asyncio.gather(self._watch(stopping), self._beat(stopping))

    def look(self) -> None:
        """One look at the disk and at the dead letters."""
        had_room = self.has_room
        if self._folder is not None:
            try:
                self.free = shutil.disk_usage(self._folder).free
            except OSError as error:
                log.warning("disk_not_looked_at", reason=error.strerror)
        if not self.has_room:
            text = f"{(self.free or 0) >> 20} MiB are free where the database is, less than {self._floor >> 20}"
            self._alert("disk_low", "", f"{text}: not ready for deliveries; make room")
        elif not had_room:
            self._alert("disk_recovered", "", "the disk of the database has room again")
        try:
            self._judge_dead(self._dead())
        except StoreError as error:
            log.debug("dead_letters_not_counted", reason=str(error))

    def _judge_dead(self, dead: int) -> None:
        new = dead - min(self._counts, default=dead)
        self._counts.append(dead)
        if new >= GROWING:
            self._alert("dead_letters_growing", "", f"{new} dead letters more than a while ago, {dead} in all")
        elif new <= 0:
            self._alert("dead_letters_stopped", "", f"no new dead letters; {dead} in all")

    async def _watch(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await asyncio.to_thread(self.look)
            await _pause(stopping, self._every)

    async def _beat(self, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while not stopping.is_set():
            due = loop.time() + BEAT
            await _pause(stopping, BEAT)
            if not stopping.is_set():
                self._late.append(max(0.0, loop.time() - due))


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    waiting = asyncio.ensure_future(stopping.wait())
    await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()
