"""Work that an emulator does after it answered: the posting of webhooks, at due times and a few at once.

Jobs are handed in from any thread, before or after the server started. `wait_idle` tells when none is left.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable

from crmsync.sandbox.poster import Poster

Work = Callable[[Poster], Awaitable[None]]


class Outbox:
    """Runs jobs on the server's loop, at most `width` at a time. `serve` is a background job of a `Server`."""

    def __init__(self, *, width: int = 10) -> None:
        self._width = width
        self._condition = threading.Condition()
        self._pending = 0
        self._waiting: list[tuple[float, Work]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poster = Poster()
        self._slots = asyncio.Semaphore(width)
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: dict[int, tuple[asyncio.TimerHandle, Work]] = {}
        self._numbers = itertools.count()

    @property
    def pending(self) -> int:
        """Jobs that have not ended: waiting for their time, for a place, or under way."""
        return self._pending

    def submit(self, work: Work, delay: float = 0.0) -> None:
        """Has `work` done after `delay` seconds."""
        with self._condition:
            self._pending += 1
            if self._loop is None:
                self._waiting.append((delay, work))
            else:
                self._loop.call_soon_threadsafe(self._schedule, delay, work)

    def wait_idle(self, timeout: float) -> bool:
        """Waits until nothing is pending; False if `timeout` seconds were not enough."""
        with self._condition:
            return self._condition.wait_for(lambda: self._pending == 0, timeout)

    async def serve(self) -> None:
        """Does the jobs until it is cancelled."""
        self._begin()
        try:
            await asyncio.Event().wait()
        finally:
            await self._end()

    def _begin(self) -> None:
        with self._condition:
            self._loop = asyncio.get_running_loop()
            self._slots = asyncio.Semaphore(self._width)
            waiting, self._waiting = self._waiting, []
        for delay, work in waiting:
            self._schedule(delay, work)

    async def _end(self) -> None:
        """Stops. What was not done yet is kept for another start."""
        with self._condition:
            self._loop = None
            self._waiting += [(0.0, work) for _, work in self._later.values()]
        for handle, _ in self._later.values():
            handle.cancel()
        self._later.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._poster.close()

    def _schedule(self, delay: float, work: Work) -> None:
        if self._loop is None:
            self._waiting.append((delay, work))
        elif delay > 0:
            number = next(self._numbers)
            self._later[number] = (self._loop.call_later(delay, self._due, number), work)
        else:
            self._launch(work)

    def _due(self, number: int) -> None:
        self._launch(self._later.pop(number)[1])

    def _launch(self, work: Work) -> None:
        task = asyncio.get_running_loop().create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Work) -> None:
        try:
            async with self._slots:
                await work(self._poster)
        except asyncio.CancelledError:
            with self._condition:
                self._waiting.append((0.0, work))
            raise
        except BaseException:
            self._done()
            raise
        self._done()

    def _done(self) -> None:
        with self._condition:
            self._pending -= 1
            if self._pending == 0:
                self._condition.notify_all()
