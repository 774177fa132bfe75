"""What retries may cost: a small share of a day's requests, where the platform says how many there are."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Protocol


class Sparing(Protocol):
    """The requests of a day that are set aside for trying again."""

    def wait(self) -> timedelta:
        """How long to wait until something may be tried again; nothing if it may be now."""

    def spending(self) -> AbstractContextManager[object]:
        """What this thread sends meanwhile is counted as retries."""


class Lavish:
    """Nobody says that requests are scarce."""

    def wait(self) -> timedelta:
        """Never."""
        return timedelta(0)

    def spending(self) -> AbstractContextManager[object]:
        """Nothing is counted."""
        return nullcontext()
