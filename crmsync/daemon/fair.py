"""Threads that tenants share: each gets its turn in order, and none gets more than its share of them.

A tenant whose platform hangs fills its own share and then waits for itself; the others never wait for it. Within a
tenant it is first come, first served.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Task:
    """What was handed in, and who is told how it ended."""

    future: Future[Any]
    work: Callable[[], Any]


class FairPool:
    """`threads` at most, `share` of them at most for one tenant. Threads are made when they are needed."""

    def __init__(self, threads: int, share: int, name: str) -> None:
        self._share = share
        self._free = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._waiting: OrderedDict[str, deque[_Task]] = OrderedDict()  # the tenant whose turn it is comes first
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, tenant: str, work: Callable[[], T]) -> Future[T]:
        """Does the work when the tenant's turn comes. A closed pool hands back a future that is cancelled."""
        future: Future[T] = Future()
        with self._lock:
            closed = self._closed
            if not closed:
                self._waiting.setdefault(tenant, deque()).append(_Task(future, work))
        if closed:
            future.cancel()
        else:
            self._hand_out()
        return future

    def of(self, tenant: str) -> Executor:
        """The pool as one tenant sees it."""
        return _Share(self, tenant)

    def close(self) -> None:
        """Begins nothing more: what waits is cancelled, what is on its way goes on."""
        with self._lock:
            self._closed = True
            left = [task for tasks in self._waiting.values() for task in tasks]
            self._waiting.clear()
        for task in left:
            task.future.cancel()

    def shutdown(self, *, wait: bool) -> None:
        """Closes, and waits for what is on its way, if asked to."""
        self.close()
        self._threads.shutdown(wait=wait)

    def _hand_out(self) -> None:
        while (chosen := self._next()) is not None:
            tenant, task = chosen
            if task.future.set_running_or_notify_cancel():
                self._threads.submit(task.work).add_done_callback(partial(self._ended, tenant, task.future))
            else:
                self._leave(tenant)

    def _next(self) -> tuple[str, _Task] | None:
        """The next task of the first in line that has not all of its share; who is served goes to the end."""
        with self._lock:
            able = (tenant for tenant in self._waiting if self._running[tenant] < self._share)
            tenant = next(able, None) if self._free and not self._closed else None
            if tenant is None:
                return None
            tasks = self._waiting.pop(tenant)
            task = tasks.popleft()
            if tasks:
                self._waiting[tenant] = tasks
            self._running[tenant] += 1
            self._free -= 1
            return tenant, task

    def _leave(self, tenant: str) -> None:
        with self._lock:
            self._free += 1
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]

    def _ended(self, tenant: str, future: Future[Any], done: Future[Any]) -> None:
        """In the thread that did the work. Room is made before anybody is told, so that who waits finds it."""
        self._leave(tenant)
        self._hand_out()
        error = done.exception()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(done.result())


class _Share(Executor):
    """One tenant's way into the pool."""

    def __init__(self, pool: FairPool, tenant: str) -> None:
        self._pool = pool
        self._tenant = tenant

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        """See `Executor.submit`."""
        return self._pool.submit(self._tenant, partial(work, *arguments, **named))
