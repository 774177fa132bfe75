"""Long lists in parts: asked page after page, or sent portion by portion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from crmsync.errors import Retry

T = TypeVar("T")


def every(ask: Callable[[str | None], tuple[Sequence[T], str | None]]) -> Iterator[T]:
    """Everything on all pages. `ask` is given None, then the cursor it returned beside a page, until that is None.

    Raises `Retry` where a platform gives one cursor twice: half a list must not pass for a whole one.
    """
    cursor: str | None = None
    used: set[str] = set()
    while True:
        found, cursor = ask(cursor)
        yield from found
        if cursor is None:
            return
        if cursor in used:
            raise Retry("the platform's pages turn in circles")
        used.add(cursor)


def portions(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Parts of at most that size, in order; none of nothing."""
    return (whole[start : start + size] for start in range(0, len(whole), size))
