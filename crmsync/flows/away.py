"""Pairs that are on their way. Two lanes write the pairs of a connection, what is live and what runs found, and a pair
that is in the hands of one is not taken by the other.

Kept in memory: one process at a time works on a connection, and one that died has nothing on its way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from crmsync.store.pairs import Claim, Taken


class Away:
    """Of one connection. Who takes holds `taking` until the taken are entered."""

    def __init__(self) -> None:
        self.taking = threading.Lock()
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], object] = {}

    def ids(self) -> list[tuple[str, str]]:
        """Everything that is on its way."""
        with self._lock:
            return list(self._held)

    def enter(self, pairs: Iterable[Claim], turn: object) -> None:
        """These are in the hands of a turn."""
        with self._lock:
            self._held.update({(pair.kind, pair.kirim_id): turn for pair in pairs})

    def leave(self, pairs: Iterable[Claim | Taken], turn: object) -> None:
        """They no longer are; what another turn has taken since stays with that."""
        with self._lock:
            for pair in pairs:
                key = (pair.kind, pair.kirim_id)
                if self._held.get(key) is turn:
                    del self._held[key]
