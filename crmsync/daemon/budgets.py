"""How fast a credential may be used: the documented rate, tightened by what the platform says while running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta

from crmsync.errors import Throttled
from crmsync.model import Rate

BURST = 0.1
"""The share of a rolling limit that may be used at once. The rest comes back evenly over the limit's time, so that both
together never exceed it."""
PATIENCE = 2.0
"""Seconds a caller may be made to wait for its turn; who would wait longer is told when to come again."""
WIDEST_WINDOW = timedelta(seconds=2)
AMPLE = 0.5
"""The share of the budget above which nothing is held back for company."""


class Bucket:
    """One limit: tokens that come back evenly. Not safe for threads by itself."""

    __slots__ = ("at", "limit", "per_second", "rolling", "seconds", "size", "tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rolling = rate.rolling
        self.seconds = rate.seconds
        self._allow(rate.requests)
        self.tokens = self.size
        self.at = now

    def resize(self, limit: int) -> None:
        """The platform allows another number of requests in the same time."""
        before = self.size
        self._allow(limit)
        self.tokens = max(0.0, self.tokens + self.size - before)

    def _allow(self, limit: int) -> None:
        self.limit = limit
        self.size = max(1.0, limit * BURST) if self.rolling else float(limit)
        self.per_second = max(1.0, limit - self.size if self.rolling else limit) / self.seconds

    def refill(self, now: float) -> None:
        """Gives back what time has earned."""
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.per_second)
        self.at = now


class TokenBudget:
    """The budget of one credential, shared by the threads of this process.

    `limits` has the main bucket under the empty name. Others (HubSpot's search, Kirim's reads and writes) are limits
    of their own; a name that is not listed draws on the main bucket. `fixed` are those that an operator set: the
    platform's headers may not widen them.
    """

    def __init__(
        self,
        limits: Mapping[str, Rate],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        now = monotonic()
        self._buckets = {name: Bucket(rate, now) for name, rate in limits.items()}
        self._fixed = fixed
        self._held_until: dict[str, float] = {}
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self.taken = 0

    def take(self, bucket: str = "") -> None:
        """Waits for leave to send one request; raises `Throttled` rather than wait longer than `PATIENCE`."""
        while True:
            with self._lock:
                pause = self._pause(bucket)
                if pause <= 0:
                    self._bucket(bucket).tokens -= 1
                    self.taken += 1
                    return
            if pause > PATIENCE:
                raise Throttled("the request budget is used up for now", timedelta(seconds=pause))
            self._sleep(pause)

    def hold(self, until: timedelta, bucket: str = "") -> None:
        """Sends nothing for that long: the platform named a time. A named bucket is held alone."""
        name = bucket if bucket in self._buckets else ""
        with self._lock:
            self._held_until[name] = max(self._held(name), self._monotonic() + until.total_seconds())

    def observe(self, remaining: int, limit: int, bucket: str = "") -> None:
        """Believes the platform where it leaves us less than we thought, or has another limit than documented."""
        name = bucket if bucket in self._buckets else ""
        with self._lock:
            kept = self._buckets[name]
            kept.refill(self._monotonic())
            if 0 < limit < kept.limit or (limit > kept.limit and name not in self._fixed):
                kept.resize(limit)
            kept.tokens = min(kept.tokens, float(remaining))

    def ample(self) -> float:
        """The share of the main bucket that is left, between 0 and 1; 0 while the platform keeps us waiting."""
        with self._lock:
            now = self._monotonic()
            if now < self._held(""):
                return 0.0
            main = self._buckets[""]
            main.refill(now)
            return max(0.0, main.tokens / main.size)

    def window(self) -> timedelta:
        """How long a change may wait for company: not at all while the budget is ample, longer as it tightens."""
        return WIDEST_WINDOW * max(0.0, (AMPLE - self.ample()) / AMPLE)

    def _bucket(self, name: str) -> Bucket:
        return self._buckets.get(name, self._buckets[""])

    def _pause(self, name: str) -> float:
        now = self._monotonic()
        bucket = self._bucket(name)
        bucket.refill(now)
        missing = (1.0 - bucket.tokens) / bucket.per_second
        return max(missing, self._held("") - now, self._held(name) - now)

    def _held(self, name: str) -> float:
        return self._held_until.get(name, 0.0)
