"""Long lists in parts: asked page after page, or sent portion by portion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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


def packed(values: Iterable[str], most: int, room: int, size: Callable[[str], int]) -> Iterator[Sequence[str]]:
    """Values in parts of at most so many, and of no more than there is room for: one that is too long goes alone."""
    part: list[str] = []
    taken = 0
    for value in values:
        wants = size(value)
        if part and (len(part) == most or taken + wants > room):
            yield part
            part, taken = [], 0
        part.append(value)
        taken += wants
    if part:
        yield part


def portions(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Parts of at most that size, in order; none of nothing."""
    return (whole[start : start + size] for start in range(0, len(whole), size))
