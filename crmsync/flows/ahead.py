"""Reads the next page of a walk while the last one is being stored: neither the platform nor the disk waits for the
other. Stores nothing; what was read and not used is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self

from crmsync.model import Page


class Ahead:
    """A context manager: at its end nothing is on its way any more."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._asked: tuple[Hashable, Future[Page]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    @property
    def waits(self) -> bool:
        """Whether a page was asked for and not fetched yet."""
        return self._asked is not None

    def ask(self, place: Hashable, read: Callable[[], Page]) -> None:
        """Begins to read the page at a place, for the same class of work as the caller's."""
        self._asked = place, self._thread.submit(copy_context().run, read)

    def page(self, place: Hashable, read: Callable[[], Page]) -> Page:
        """The page at a place, or what went wrong with it: the one that was asked for, else one that is read now."""
        asked, self._asked = self._asked, None
        return asked[1].result() if asked is not None and asked[0] == place else read()
