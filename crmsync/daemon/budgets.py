"""How fast a credential may be used: the documented rate, tightened by what the platform says while running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta

from crmsync.errors import Throttled
from crmsync.model import Rate

BURST = 0.03
"""The share of a rolling limit that may be used at once. The rest comes back evenly over the limit's time, so that both
together never exceed it."""
PATIENCE = 2.0
"""Seconds a caller may be made to wait for its turn; who would wait longer is told when to come again."""
WIDEST_WINDOW = timedelta(seconds=2)
AMPLE = 0.5
"""The share of the budget above which nothing is held back for company."""
DAY = "day"
"""The name under which a connector passes on how many requests a day has. It slows nothing down but retries."""
DAY_SECONDS = 86_400.0
RETRIES = 0.04
"""The share of a day's requests that may be spent on trying again what failed. The promise is 5 %, but what has begun
may go on."""


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
    platform's headers may not widen them. `DAY` is no bucket: a small share of it is what retries may cost.
    """

    def __init__(
        self,
        limits: Mapping[str, Rate],
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        now = monotonic()
        self._buckets = {name: Bucket(rate, now) for name, rate in limits.items() if name != DAY}
        self._retries: Bucket | None = None
        self._retrying = threading.local()
        self._fixed = fixed
        self._held_until: dict[str, float] = {}
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self.taken = 0
        self.retried = 0
        if DAY in limits:
            self._set_aside(limits[DAY].requests)

    def take(self, bucket: str = "") -> None:
        """Waits for leave to send one request; raises `Throttled` rather than wait longer than `PATIENCE`."""
        while True:
            with self._lock:
                pause = self._pause(bucket)
                if pause <= 0:
                    self._bucket(bucket).tokens -= 1
                    self.taken += 1
                    self._count_retry()
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
        if bucket == DAY:
            with self._lock:
                self._set_aside(limit)
            return
        name = bucket if bucket in self._buckets else ""
        with self._lock:
            kept = self._buckets[name]
            kept.refill(self._monotonic())
            if 0 < limit < kept.limit or (limit > kept.limit and name not in self._fixed):
                kept.resize(limit)
            kept.tokens = min(kept.tokens, float(remaining))

    def retry_wait(self) -> timedelta:
        """How long to wait until a request may be spent on trying again; nothing if it may be now."""
        with self._lock:
            if self._retries is None:
                return timedelta(0)
            self._retries.refill(self._monotonic())
            return timedelta(seconds=max(0.0, (1.0 - self._retries.tokens) / self._retries.per_second))

    @contextmanager
    def retrying(self) -> Iterator[None]:
        """What this thread sends meanwhile is counted as retries. It is not held up: who begins asks `retry_wait`."""
        before = getattr(self._retrying, "on", False)
        self._retrying.on = True
        try:
            yield
        finally:
            self._retrying.on = before

    def pace(self, bucket: str = "") -> float:
        """Requests a second that go in the long run."""
        with self._lock:
            return self._bucket(bucket).per_second

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

    def _set_aside(self, limit: int) -> None:
        """A day has so many requests: the share for retries is a rolling limit, so that no 24 hours see more."""
        share = Rate(max(1, int(limit * RETRIES)), DAY_SECONDS, rolling=True)
        if self._retries is None:
            self._retries = Bucket(share, self._monotonic())
        elif limit > 0 and self._retries.limit != share.requests:
            self._retries.refill(self._monotonic())
            self._retries.resize(share.requests)

    def _count_retry(self) -> None:
        if getattr(self._retrying, "on", False):
            self.retried += 1
            if self._retries is not None:
                self._retries.tokens -= 1

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


class Thrift:
    """What retries may still cost on every credential that a turn uses."""

    def __init__(self, budgets: Sequence[TokenBudget]) -> None:
        self._budgets = budgets

    def wait(self) -> timedelta:
        """Until each of them has something to spend."""
        return max((budget.retry_wait() for budget in self._budgets), default=timedelta(0))

    def spending(self) -> AbstractContextManager[object]:
        """What this thread sends meanwhile is counted as retries, with each of them."""
        counting = ExitStack()
        for budget in self._budgets:
            counting.enter_context(budget.retrying())
        return counting
