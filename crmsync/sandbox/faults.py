"""What goes wrong, and when: a plan drawn from a seed, and faults ordered for the next requests.

A plan only decides. `crmsync.sandbox.emulator` carries the decision out, around any emulator.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Trouble(StrEnum):
    """The way in which a request goes wrong."""

    SLOW = "slow"  # answered, but late
    STATUS = "status"  # an error status instead of the answer
    RESET = "reset"  # the connection is cut
    HANG = "hang"  # no answer until the client gives up
    TRUNCATED = "truncated"  # half of the JSON
    HTML = "html"  # a page with status 200
    WRONG_TYPE = "wrong_type"  # the right body under the wrong content type


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one request.

    `applied` says whether the request takes effect all the same. `after` is the Retry-After header in seconds,
    None for no header; `after_as_date` writes it as an HTTP date. `body` replaces the platform's usual error body.
    """

    trouble: Trouble
    applied: bool = False
    seconds: float = 0.0
    status: int = 200
    after: float | None = None
    after_as_date: bool = False
    body: Mapping[str, Any] | None = None

    @staticmethod
    def slow(seconds: float, *, applied: bool = True) -> Fault:
        """A late answer; the write takes effect before the wait, or after it."""
        return Fault(Trouble.SLOW, applied, seconds)

    @staticmethod
    def error(
        status: int,
        *,
        after: float | None = None,
        after_as_date: bool = False,
        applied: bool = False,
        body: Mapping[str, Any] | None = None,
    ) -> Fault:
        """An error status."""
        return Fault(Trouble.STATUS, applied, 0.0, status, after, after_as_date, body)

    @staticmethod
    def reset(*, applied: bool) -> Fault:
        """A cut connection, before or after the request took effect."""
        return Fault(Trouble.RESET, applied)

    @staticmethod
    def hang(*, applied: bool) -> Fault:
        """No answer at all: the client's own time limit has to end it."""
        return Fault(Trouble.HANG, applied)


NAMED: Mapping[str, Fault] = MappingProxyType(
    {
        "slow": Fault.slow(0.2),
        "429": Fault.error(429, after=1),
        "429_date": Fault.error(429, after=1, after_as_date=True),
        "429_bare": Fault.error(429),
        "401": Fault.error(401),
        "403": Fault.error(403),
        "500": Fault.error(500),
        "502": Fault.error(502),
        "503": Fault.error(503),
        "504": Fault.error(504),
        "504_after": Fault.error(504, applied=True),
        "reset_before": Fault.reset(applied=False),
        "reset_after": Fault.reset(applied=True),
        "hang_before": Fault.hang(applied=False),
        "hang_after": Fault.hang(applied=True),
        "truncated": Fault(Trouble.TRUNCATED, applied=True),
        "html": Fault(Trouble.HTML),
        "wrong_type": Fault(Trouble.WRONG_TYPE, applied=True),
    }
)
"""The faults by name, as `Faults(rates=…)` and `fail_next` take them."""

UNAVAILABLE = NAMED["503"]


@dataclass(slots=True)
class _Ordered:
    fault: Fault
    left: int
    only: str
    method: str


class Faults:
    """Decides for each request whether it goes wrong.

    An outage outranks ordered faults, which outrank the random plan. `rates` maps names of `NAMED` to the share
    of requests that meet them; the shares add up to at most 1. `sparing` are path prefixes the plan leaves alone.
    """

    def __init__(
        self, seed: int = 0, rates: Mapping[str, float] | None = None, *, sparing: tuple[str, ...] = ()
    ) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._ordered: list[_Ordered] = []
        self._outage: Fault | None = None
        self._rates: list[tuple[Fault, float]] = []
        self._sparing = sparing
        self.met: Counter[str] = Counter()
        self.set_rates(rates or {})

    def set_rates(self, rates: Mapping[str, float], *, slow: float | None = None) -> None:
        """Replaces the random plan; `slow` sets how late a slow answer is, in seconds."""
        if unknown := set(rates) - set(NAMED):
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        if sum(rates.values()) > 1:
            raise ValueError("the rates of all faults together exceed 1")
        plan = {**NAMED, "slow": NAMED["slow"] if slow is None else replace(NAMED["slow"], seconds=slow)}
        with self._lock:
            self._rates = [(plan[name], rate) for name, rate in sorted(rates.items())]

    def fail_next(self, n: int, fault: Fault | str, only: str = "", *, method: str = "") -> None:
        """Orders `fault` for the next `n` requests, or for those whose path begins with `only`."""
        with self._lock:
            self._ordered.append(_Ordered(NAMED[fault] if isinstance(fault, str) else fault, n, only, method))

    def outage(self, fault: Fault | str = UNAVAILABLE) -> None:
        """Every request meets `fault` until `recover()`."""
        with self._lock:
            self._outage = NAMED[fault] if isinstance(fault, str) else fault

    def recover(self) -> None:
        """Ends an outage, the random plan and whatever was ordered."""
        with self._lock:
            self._outage = None
            self._ordered.clear()
            self._rates = []

    def draw(self, method: str, path: str) -> Fault | None:
        """What this request meets; None if it goes well."""
        with self._lock:
            fault = self._outage or self._next_ordered(method, path) or self._drawn(path)
            if fault is not None:
                self.met[fault.trouble.value] += 1
            return fault

    def _next_ordered(self, method: str, path: str) -> Fault | None:
        for order in self._ordered:
            if path.startswith(order.only) and order.method in ("", method):
                order.left -= 1
                if order.left <= 0:
                    self._ordered.remove(order)
                return order.fault
        return None

    def _drawn(self, path: str) -> Fault | None:
        if not self._rates or path.startswith(self._sparing or ("\0",)):
            return None
        point = self._random.random()
        for fault, rate in self._rates:
            point -= rate
            if point < 0:
                return fault
        return None
