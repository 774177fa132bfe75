"""What requests may cost: a small share of a day's for trying again, and a class of work for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Protocol

from crmsync.core.budget import Priority


class Sparing(Protocol):
    """The requests of a day that are set aside for trying again."""

    def wait(self) -> timedelta:
        """How long to wait until something may be tried again; nothing if it may be now."""

    def spending(self) -> AbstractContextManager[object]:
        """What this thread sends meanwhile is counted as retries."""

    def asking(self, who: Priority) -> AbstractContextManager[object]:
        """What this thread sends meanwhile belongs to a class of work."""


def urgency(causes: Iterable[str]) -> Priority:
    """The class of work on records that are due for these reasons: a backfill's only if runs alone found them."""
    return Priority.BACKFILL if all(cause.startswith("run:") for cause in causes) else Priority.LIVE


class Lavish:
    """Nobody says that requests are scarce."""

    def wait(self) -> timedelta:
        """Never."""
        return timedelta(0)

    def spending(self) -> AbstractContextManager[object]:
        """Nothing is counted."""
        return nullcontext()

    def asking(self, who: Priority) -> AbstractContextManager[object]:
        """Nobody has to wait for anybody."""
        return nullcontext()
