"""What can be seen from outside while the daemon works: counters of both platforms, and how far apart they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from crmsync.sandbox.fields import FIELDS, Held, Side, in_kirim
from crmsync.sandbox.stage import Stage


@dataclass(frozen=True, slots=True)
class SideCounts:
    """One platform: what people did there, what its webhooks delivered, what the daemon did there."""

    records: int
    edits: int
    acknowledged: int
    pending: int
    writes: int
    calls: int


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at both platforms. `apart` are fields (or whole contacts) that differ; `lag` is how long the oldest
    of them has, in seconds."""

    kirim: SideCounts
    crm: SideCounts
    apart: int
    lag: float

    def of(self, side: Side) -> SideCounts:
        """The counters of a side."""
        return self.kirim if side is Side.KIRIM else self.crm


class Watch:
    """Looks at the emulators only, from any thread. `peak` is the longest lag seen, `history` how many fields were
    apart at each look."""

    def __init__(self, stage: Stage, clock: Callable[[], datetime]) -> None:
        self.peak = 0.0
        self.history: list[int] = []
        self._stage = stage
        self._clock = clock
        self._since: dict[tuple[str, str], datetime] = {}
        self._lock = threading.Lock()

    def look(self) -> Glance:
        """Counts and compares."""
        with self._lock:
            return self._look(self._clock())

    def _look(self, now: datetime) -> Glance:
        held = self._stage.crm.held()
        apart = set(self._apart(held))
        self._since = {key: self._since.get(key, now) for key in apart}
        lag = (now - min(self._since.values(), default=now)).total_seconds()
        self.peak = max(self.peak, lag)
        self.history.append(len(apart))
        return Glance(self._kirim(), self._crm(sum(map(len, held.values()))), len(apart), lag)

    def _apart(self, crm: Mapping[str, Mapping[str, Held]]) -> list[tuple[str, str]]:
        kirim = in_kirim(self._stage.kirim)
        found = []
        for id, held in kirim.items():
            records = crm.get(id)
            if not records:
                found.append((id, ""))
                continue
            there = next(iter(records.values()))
            found += [(id, field.kirim) for field in FIELDS if held[field.kirim] != there[field.kirim]]
        return found

    def _kirim(self) -> SideCounts:
        kirim = self._stage.kirim
        return SideCounts(
            len(kirim.workspace.contacts.by_id),
            len(kirim.human),
            len(kirim.sender.acknowledged),
            kirim.outbox.pending,
            len(kirim.ledger),
            kirim.calls.total(),
        )

    def _crm(self, records: int) -> SideCounts:
        crm = self._stage.crm
        return SideCounts(
            records,
            len(crm.human),
            len(crm.told()),
            crm.pending,
            len(crm.emulator.ledger),
            crm.emulator.calls.total(),
        )
