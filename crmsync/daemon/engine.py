"""Who works in which lane, and when: the seam behind which an engine may run on one node or on many.

The truth is in the tables. An engine only makes sure that at most one worker is in a lane; correctness does not
rest on it, since every transaction of effects is fenced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from sqlalchemy import Connection

from crmsync.daemon.fair import FairPool
from crmsync.errors import Fenced
from crmsync.store.hold import Hold, Unneeded
from crmsync.store.lanes import Fence, Lane, Work

NEAR = frozenset({Work.OBSERVE})
"""Work that asks nobody outside: it never waits behind calls to platforms, and is too hungry for many threads."""
NEAR_WORKERS = 4
SHARE = 4
"""Threads are so many times what one tenant may have of them: that many platforms may hang before anybody waits."""

Handler = Callable[[Lane, Fence], None]
"""Works in a lane until nothing is due there. Must not raise."""


class Engine(Protocol):
    """Submitting is idempotent: a lane that is already worked in, or waits its turn, is not submitted twice."""

    def run(self, handler: Handler) -> None:
        """Begins to hand lanes to the handler. Returns at once."""

    def submit(self, lanes: Iterable[Lane]) -> None:
        """These lanes have work."""

    def stop(self, timeout: float) -> bool:
        """Hands out no more lanes and waits for the workers; says whether all came to an end in time."""


class LocalEngine:
    """One process: a set of lanes that are busy, and two pools of threads that the tenants share fairly.

    `workers` are those whose work may wait for a platform. `hold` is the claim to be the one node that works; without
    it no lane is handed out.
    """

    def __init__(self, workers: int, hold: Hold | None = None) -> None:
        self._hold = hold or Unneeded()
        self._near = FairPool(NEAR_WORKERS, max(1, NEAR_WORKERS // 2), "near")
        self._far = FairPool(workers, max(2, workers // SHARE), "lane")
        self._busy: dict[Lane, object] = {}  # with a token of its own for every turn
        self._changed = threading.Condition()
        self._handler: Handler | None = None
        self._stopping = False

    def run(self, handler: Handler) -> None:
        """Begins to hand lanes to the handler. Returns at once."""
        self._handler = handler

    def submit(self, lanes: Iterable[Lane]) -> None:
        """These lanes have work."""
        if not self._hold.ensure():
            return
        for lane in lanes:
            with self._changed:
                if self._stopping or self._handler is None or lane in self._busy:
                    continue
                turn = self._busy[lane] = object()
            pool = self._near if lane.work in NEAR else self._far
            waiting = pool.submit(lane.tenant, partial(self._work, lane, turn, self._handler))
            waiting.add_done_callback(partial(self._given_up, lane))

    def busy(self) -> frozenset[Lane]:
        """The lanes that are worked in, or wait for a thread."""
        with self._changed:
            return frozenset(self._busy)

    def stop(self, timeout: float) -> bool:
        """Hands out no more lanes and waits for the workers; says whether all came to an end in time."""
        with self._changed:
            self._stopping = True
        for pool in (self._near, self._far):
            pool.close()  # lanes that wait for a thread are left at once
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._busy, timeout)
        for pool in (self._near, self._far):
            pool.shutdown(wait=ended)
        return ended

    def _work(self, lane: Lane, turn: object, handler: Handler) -> None:
        try:
            if not self._stopping:
                handler(lane, self._fence(lane, turn))
        finally:
            with self._changed:
                del self._busy[lane]
                self._changed.notify_all()

    def _given_up(self, lane: Lane, waiting: Future[None]) -> None:
        """The lane never came to its turn."""
        if waiting.cancelled():
            with self._changed:
                del self._busy[lane]
                self._changed.notify_all()

    def _fence(self, lane: Lane, turn: object) -> Fence:
        """One process cannot lose a lane to another; it can only have left it, and another turn may be in it by now."""

        def fence(connection: Connection) -> None:
            if self._busy.get(lane) is not turn:
                raise Fenced(f"lane {lane} was left")
            self._hold.fence(connection)

        return fence
