"""Who works in which lane, and when: the seam behind which an engine may run on one node or on many.

The truth is in the tables. An engine only makes sure that at most one worker is in a lane; correctness does not
rest on it, since every transaction of effects is fenced.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from sqlalchemy import Connection

from crmsync.errors import Fenced
from crmsync.store.hold import Hold, Unneeded
from crmsync.store.lanes import Fence, Lane

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
    """One process: a set of lanes that are busy, and a pool of threads.

    `hold` is the claim to be the one node that works; without it no lane is handed out.
    """

    def __init__(self, workers: int, hold: Hold | None = None) -> None:
        self._hold = hold or Unneeded()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="lane")
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
            self._pool.submit(self._work, lane, turn, self._handler)

    def busy(self) -> frozenset[Lane]:
        """The lanes that are worked in, or wait for a thread."""
        with self._changed:
            return frozenset(self._busy)

    def stop(self, timeout: float) -> bool:
        """Hands out no more lanes and waits for the workers; says whether all came to an end in time."""
        with self._changed:
            self._stopping = True
            ended = self._changed.wait_for(lambda: not self._busy, timeout)
        self._pool.shutdown(wait=ended)  # lanes that wait for a thread are left at once
        return ended

    def _work(self, lane: Lane, turn: object, handler: Handler) -> None:
        try:
            if not self._stopping:
                handler(lane, self._fence(lane, turn))
        finally:
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
