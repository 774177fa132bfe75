"""What an emulator really did, kept apart from what it answered.

An effect is written when it is applied, also if the reply is cut afterwards. Nothing is ever changed or removed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Effect:
    """One write that took place.

    `fields` are the fields as they were sent, `changed` the names of those that differed from what was held.
    `idempotency` is what identifies a repeated attempt: a trace id or a key of the request.
    """

    at: datetime
    verb: str
    kind: str
    record_id: str
    external_id: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    idempotency: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The effect in JSON's types."""
        return {**asdict(self), "at": self.at.isoformat(), "changed": list(self.changed)}


class Ledger:
    """An append-only list of effects, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._effects: list[Effect] = []

    def append(self, effect: Effect) -> None:
        """Adds what was just applied."""
        with self._lock:
            self._effects.append(effect)

    def __len__(self) -> int:
        return len(self._effects)

    def __iter__(self) -> Iterator[Effect]:
        with self._lock:
            return iter(list(self._effects))

    def effects(
        self,
        verb: str | None = None,
        kind: str | None = None,
        *,
        record_id: str | None = None,
        external_id: str | None = None,
    ) -> list[Effect]:
        """The effects that match everything given, oldest first."""
        return [
            effect
            for effect in self
            if (verb is None or effect.verb == verb)
            and (kind is None or effect.kind == kind)
            and (record_id is None or effect.record_id == record_id)
            and (external_id is None or effect.external_id == external_id)
        ]

    def to_json(self) -> list[dict[str, Any]]:
        """Every effect in JSON's types, oldest first."""
        return [effect.to_json() for effect in self]
