"""How fast a credential may be used: the documented rate, tightened by what the platform says while running.

What is left is kept in a ledger: in memory, or in the store, where every process that uses the credential draws from
the same. A process draws for a fraction of a second at most, and what it does not use of that lapses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Protocol

from crmsync.core.budget import Allowance, Priority, full, paused, refilled, seen, taken, wait
from crmsync.errors import StoreError, Throttled
from crmsync.model import Rate
from crmsync.store import budgets
from crmsync.store.budgets import Change, Limit
from crmsync.store.database import Database

PATIENCE = 2.0
"""Seconds a caller may be made to wait for its turn; who would wait longer is told when to come again."""
SHORTEST = 0.001
"""Seconds between two looks at a ledger that others draw from, too."""
WIDEST_WINDOW = timedelta(seconds=2)
AMPLE = 0.5
"""The share of the budget above which nothing is held back for company."""
DAY = "day"
"""The name under which a connector passes on how many requests a day has. It slows nothing down but retries."""
DAY_SECONDS = 86_400.0
RETRIES = 0.04
"""The share of a day's requests that may be spent on trying again what failed. The promise is 5 %, but what has begun
may go on."""
LEASE = 0.25
"""Seconds for which requests are drawn at once from a ledger that is shared, once they are used up that fast."""
LAPSE = 1.0
"""Seconds after which requests that were drawn and not used are lost."""

_class: ContextVar[Priority] = ContextVar("class of work", default=Priority.LIVE)


@contextmanager
def asking(who: Priority) -> Iterator[None]:
    """What is sent meanwhile belongs to a class of work; without it it is live."""
    token = _class.set(who)
    try:
        yield
    finally:
        _class.reset(token)


class Ledger(Protocol):
    """Where it is kept how much is left of a credential's limits."""

    shared: bool

    def draw(
        self, bucket: str, rate: Rate, who: Priority, most: int, now: float, changes: Sequence[Change]
    ) -> tuple[Allowance, int]:
        """As many requests as a class may send now. Raises `StoreError` where nobody knows."""


class Own:
    """A ledger in memory: nobody else uses the credential."""

    shared = False

    def __init__(self) -> None:
        self._held: dict[str, Allowance] = {}

    def draw(
        self, bucket: str, rate: Rate, who: Priority, most: int, now: float, changes: Sequence[Change]
    ) -> tuple[Allowance, int]:
        """See `Ledger`."""
        held = self._held.get(bucket) or full(rate, now)
        for change in changes:
            held = change(held)
        self._held[bucket], count = taken(refilled(held, now), who, most)
        return self._held[bucket], count


class Shared:
    """A ledger in the store. `users` are the endpoints that use the credential, with the records of one call."""

    shared = True

    def __init__(self, database: Database, credential: str) -> None:
        self._database = database
        self._credential = credential
        self.users: dict[str, int] = {}

    def draw(
        self, bucket: str, rate: Rate, who: Priority, most: int, now: float, changes: Sequence[Change]
    ) -> tuple[Allowance, int]:
        """See `Ledger`."""
        limit = Limit(self._credential, bucket, rate, dict(self.users))
        return self._database.write(lambda tx: budgets.draw(tx, limit, who, most, now, changes))


class Bucket:
    """One limit as this process knows it. Not safe for threads by itself."""

    __slots__ = ("changes", "held", "leases", "portions", "rate", "refused")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self.held = full(rate, now)
        self.changes: list[Change] = []
        self.leases: dict[Priority, tuple[int, float]] = {}
        self.portions: dict[Priority, tuple[int, float]] = {}
        self.refused: dict[Priority, tuple[float, float]] = {}

    def change(self, change: Change) -> None:
        """Something was learned: it counts here at once, and for everybody with the next draw."""
        self.changes.append(change)
        self.held = change(self.held)

    def refusal(self, who: Priority, now: float) -> float:
        """Seconds for which a class need not ask again: it was told so. A clock that was put back ends it."""
        since, until = self.refused.get(who, (0.0, 0.0))
        return until - now if since <= now < until else 0.0

    def portion(self, who: Priority, now: float) -> int:
        """How many requests to draw at once: twice the last portion if that was used up fast, else one."""
        before, at = self.portions.get(who, (0, 0.0))
        room = min(self.held.per_second * LEASE, self.held.size / 4)
        size = max(1, min(int(room), 2 * before)) if now - at < LEASE else 1
        self.portions[who] = size, now
        return size


class TokenBudget:
    """The budget of one credential, shared by the threads of this process, and by others through its ledger.

    `limits` has the main bucket under the empty name. Others (HubSpot's search, Kirim's reads and writes) are limits
    of their own; a name that is not listed draws on the main bucket. `fixed` are those that an operator set: the
    platform's headers may not widen them. `DAY` is no bucket: a small share of it is what retries may cost. `clock`
    tells seconds, the same for all who share the ledger.
    """

    def __init__(
        self,
        limits: Mapping[str, Rate],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        fixed: frozenset[str] = frozenset(),
        ledger: Ledger | None = None,
    ) -> None:
        now = clock()
        self._ledger = ledger or Own()
        self._buckets = {name: Bucket(rate, now) for name, rate in limits.items() if name != DAY}
        self._retries: Allowance | None = None
        self._fixed = fixed
        self._clock = clock
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
                    self.taken += 1
                    self._count_retry()
                    return
            if pause > PATIENCE:
                raise Throttled("the request budget is used up for now", timedelta(seconds=pause))
            self._sleep(pause)

    def hold(self, until: timedelta, bucket: str = "") -> None:
        """Sends nothing for that long: the platform named a time. A named bucket is held alone.

        Others who share the ledger are told at once.
        """
        name = bucket if bucket in self._buckets else ""
        with self._lock:
            moment = self._clock() + until.total_seconds()
            for each in (name,) if name else tuple(self._buckets):
                self._buckets[each].change(partial(paused, until=moment))
                self._buckets[each].leases.clear()
                if self._ledger.shared:
                    self._tell(each)

    def observe(self, remaining: int, limit: int, bucket: str = "") -> None:
        """Believes the platform where it leaves us less than we thought, or has another limit than documented."""
        if bucket == DAY:
            with self._lock:
                self._set_aside(limit)
            return
        name = bucket if bucket in self._buckets else ""
        with self._lock:
            kept, now = self._buckets[name], self._clock()
            kept.held = refilled(kept.held, now)

            def change(held: Allowance) -> Allowance:
                return seen(refilled(held, now), remaining, limit, fixed=name in self._fixed)

            if change(kept.held) != kept.held:
                kept.change(change)
                kept.leases = {who: (min(count, remaining), until) for who, (count, until) in kept.leases.items()}

    def retry_wait(self) -> timedelta:
        """How long to wait until a request may be spent on trying again; nothing if it may be now."""
        with self._lock:
            if self._retries is None:
                return timedelta(0)
            self._retries = refilled(self._retries, self._clock())
            return timedelta(seconds=max(0.0, (1.0 - self._retries.tokens) / self._retries.per_second))

    def retrying(self) -> AbstractContextManager[object]:
        """What is sent meanwhile is counted as retries. It is not held up: who begins asks `retry_wait`."""
        return asking(Priority.RETRY)

    def pace(self, bucket: str = "") -> float:
        """Requests a second that go in the long run."""
        with self._lock:
            return self._bucket(bucket).held.per_second

    def ample(self) -> float:
        """The share of the main bucket that is left, between 0 and 1; 0 while the platform keeps us waiting."""
        with self._lock:
            now = self._clock()
            main = self._buckets[""]
            main.held = refilled(main.held, now)
            return 0.0 if now < main.held.held_until else max(0.0, main.held.tokens / main.held.size)

    def window(self) -> timedelta:
        """How long a change may wait for company: not at all while the budget is ample, longer as it tightens."""
        return WIDEST_WINDOW * max(0.0, (AMPLE - self.ample()) / AMPLE)

    def _pause(self, name: str) -> float:
        """Takes leave to send one request, if there is any: else how many seconds to wait for it."""
        now, kept = self._clock(), self._bucket(name)
        who = _class.get()
        count, until = kept.leases.get(who, (0, 0.0))
        if count and now < until:
            kept.leases[who] = count - 1, until
            return 0.0
        if (pause := kept.refusal(who, now)) > 0:
            return pause
        most = kept.portion(who, now) if self._ledger.shared else 1
        count = self._draw(name if name in self._buckets else "", who, most, now)
        if count:
            kept.leases[who] = count - 1, now + LAPSE
            return 0.0
        pause = max(SHORTEST, wait(kept.held, who))
        kept.refused[who] = now, now + pause
        return pause

    def _draw(self, name: str, who: Priority, most: int, now: float) -> int:
        kept = self._buckets[name]
        try:
            kept.held, count = self._ledger.draw(name, kept.rate, who, most, now, kept.changes)
        except StoreError as error:
            raise Throttled("the store cannot say what is left of the request budget", timedelta(seconds=1)) from error
        kept.changes = []
        return count

    def _tell(self, name: str) -> None:
        """Others learn what was learned here. A store that is away is told with the next draw."""
        kept = self._buckets[name]
        try:
            kept.held, _ = self._ledger.draw(name, kept.rate, _class.get(), 0, self._clock(), kept.changes)
        except StoreError:
            return
        kept.changes = []

    def _set_aside(self, limit: int) -> None:
        """A day has so many requests: the share for retries is a rolling limit, so that no 24 hours see more."""
        share, now = Rate(max(1, int(limit * RETRIES)), DAY_SECONDS, rolling=True), self._clock()
        if self._retries is None:
            self._retries = full(share, now)
        elif limit > 0 and self._retries.rate.requests != share.requests:
            before = refilled(self._retries, now)
            after = replace(before, rate=share)
            self._retries = replace(after, tokens=max(0.0, before.tokens + after.size - before.size))

    def _count_retry(self) -> None:
        if _class.get() is Priority.RETRY:
            self.retried += 1
            if self._retries is not None:
                self._retries = replace(self._retries, tokens=self._retries.tokens - 1.0)

    def _bucket(self, name: str) -> Bucket:
        return self._buckets.get(name, self._buckets[""])


class Thrift:
    """What a turn may still spend on every credential that it uses, and for which class of work."""

    def __init__(self, budgets: Sequence[TokenBudget]) -> None:
        self._budgets = budgets

    def wait(self) -> timedelta:
        """Until each of them has something to spend on retries."""
        return max((budget.retry_wait() for budget in self._budgets), default=timedelta(0))

    def spending(self) -> AbstractContextManager[object]:
        """What this thread sends meanwhile is counted as retries, with each of them."""
        return asking(Priority.RETRY)

    def asking(self, who: Priority) -> AbstractContextManager[object]:
        """What this thread sends meanwhile belongs to a class of work."""
        return asking(who)
