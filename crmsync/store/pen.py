"""The way into the quarantine: a short queue of its own, so that no flood of forged requests slows the intake.

Nobody waits for it: whoever is kept is answered 503 and comes again. One transaction at a time, small, with a pause
after it; what comes faster than that is not kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime

from crmsync.errors import StoreError
from crmsync.store import quarantine
from crmsync.store.database import Database
from crmsync.store.quarantine import Fate, Limits, Suspect

LARGEST_GROUP = 64
GROUP_BYTES = 1024 * 1024
DEFAULT_LIMITS = Limits()
FULL_FOR = 10.0
"""Seconds for which a ring that was full is taken to be full, without asking."""


class Pen:
    """Keeps suspects. Belongs to one event loop; the commits happen in a thread.

    `counts` has (tenant, source, fate) → requests.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        *,
        limits: Limits = DEFAULT_LIMITS,
        most_rows: int = 512,
        most_bytes: int = 32 * 1024 * 1024,
        share: float = 0.5,
        pause: float = 0.05,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self._database = database
        self._clock = clock
        self._limits = limits
        self._most_rows, self._most_bytes, self._share = most_rows, most_bytes, share
        self._pause = pause
        self._monotonic = monotonic
        self._waiting: deque[Suspect] = deque()
        self._rows: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._full_until: dict[tuple[str, bool], float] = {}
        self._draining: asyncio.Task[None] | None = None

    def offer(self, suspect: Suspect) -> None:
        """Keeps a request if there is room. Never waits, never fails."""
        if self._full_until.get((suspect.tenant, suspect.proved), 0.0) > self._monotonic():
            self._count(suspect, Fate.FULL)
        elif not self._fits(suspect):
            self._count(suspect, Fate.BUSY)
        else:
            self._waiting.append(suspect)
            self._rows[suspect.tenant] += 1
            self._bytes[suspect.tenant] += suspect.size
            if self._draining is None or self._draining.done():
                self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def settled(self) -> None:
        """Returns once everything that was offered has met its fate."""
        while self._draining is not None and not self._draining.done():
            await asyncio.wait([self._draining])

    def _fits(self, suspect: Suspect) -> bool:
        """Room in the queue, of which no tenant may take more than its share; a single request always may."""
        rows, size = self._rows[suspect.tenant], self._bytes[suspect.tenant]
        if rows and (rows >= self._most_rows * self._share or size + suspect.size > self._most_bytes * self._share):
            return False
        return self._rows.total() < self._most_rows and self._bytes.total() + suspect.size <= self._most_bytes

    async def _drain(self) -> None:
        while self._waiting:
            group = self._next()
            try:
                fates = await asyncio.to_thread(self._keep, group)
            except StoreError:
                fates = [Fate.FAILED] * len(group)
            finally:
                for suspect in group:
                    self._rows[suspect.tenant] -= 1
                    self._bytes[suspect.tenant] -= suspect.size
            for suspect, fate in zip(group, fates, strict=True):
                self._count(suspect, fate)
                if fate is Fate.FULL:
                    self._full_until[suspect.tenant, suspect.proved] = self._monotonic() + FULL_FOR
            await asyncio.sleep(self._pause)

    def _next(self) -> list[Suspect]:
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and len(group) < LARGEST_GROUP and size + self._waiting[0].size <= GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1].size
        return group

    def _keep(self, group: Sequence[Suspect]) -> list[Fate]:
        return self._database.write(lambda tx: quarantine.keep(tx, group, self._limits, self._clock()))

    def _count(self, suspect: Suspect, fate: Fate) -> None:
        self.counts[suspect.tenant, suspect.source, fate.value] += 1
