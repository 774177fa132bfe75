"""The ledgers of both platforms as one trail per field: who moved it, when, to what, and what called for it.

A ledger lists what was sent; here it is played back, so that a write which changed nothing shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from itertools import pairwise
from typing import Any

from crmsync.sandbox.crm import Crm
from crmsync.sandbox.fields import FIELDS, METADATA, Field, Side, kirim_values
from crmsync.sandbox.kirim import KirimEmulator
from crmsync.sandbox.ledger import Effect

Key = tuple[str, str]
"""A Kirim contact id and a Kirim field name."""
NO_METADATA = {one.kirim.removeprefix(METADATA): None for one in FIELDS if one.kirim.startswith(METADATA)}


@dataclass(frozen=True, slots=True)
class Move:
    """A field that took another value, spelling aside. `born`: by the creation of the record."""

    at: datetime
    side: Side
    human: bool
    value: str | None
    born: bool


@dataclass(frozen=True, slots=True)
class Crossing:
    """An edit on the owning side, and when the other side first took its value or a later one."""

    to: Side
    made: datetime
    applied: datetime


@dataclass(slots=True)
class Trail:
    """Every move of one field of one contact, on both sides, oldest first."""

    rule: Field
    moves: list[Move] = field(default_factory=list)

    def __str__(self) -> str:
        told = (f"{move.at:%T.%f} {move.side}{' by hand' if move.human else ''} {move.value!r}" for move in self.moves)
        return f"{self.rule.kirim} [{', '.join(told)}]"

    def decided(self) -> list[Move]:
        """What the owning side came to hold by people's doing, or by the creation of its record."""
        return [move for move in self.moves if move.side is self.rule.owner and (move.human or move.born)]

    def expected(self) -> str | None:
        """What both sides should hold."""
        decided = self.decided()
        return decided[-1].value if decided else None

    def restored(self) -> int:
        """How often people's changes on the side that does not own the field were undone."""
        there = [move for move in self.moves if move.side is not self.rule.owner]
        return sum(before.human and not after.human for before, after in pairwise(there) if not after.born)

    def uncalled(self) -> int:
        """Writes of the daemon to the side that owns the field, or of a value that is not the owner's (any more)."""
        wrong, reached = 0, -1
        for move in self.moves:
            if move.human:
                continue
            if move.side is self.rule.owner:
                wrong += not self._seeded(move)
                continue
            place = self._place(move)
            wrong += place is None or place < reached
            reached = max(reached, -1 if place is None else place)
        return wrong

    def crossings(self) -> Iterator[Crossing]:
        """The edits that had to cross, and did. Creations count for the number only: once for each contact."""
        decided = self.decided()
        arrived = [(self._place(move), move.at) for move in self.moves if not move.human and not self._owners(move)]
        for place, edit in enumerate(decided):
            if not edit.human or (edit.born and self.rule.kirim != FIELDS[0].kirim):
                continue
            reached = [at for there, at in arrived if there is not None and there >= place and at >= edit.at]
            if reached:
                yield Crossing(self.rule.owner.other, edit.at, reached[0])

    def _owners(self, move: Move) -> bool:
        return move.side is self.rule.owner

    def _place(self, move: Move) -> int | None:
        """Which of the owner's values a write carried: the latest of that value by then."""
        known = (place for place, one in enumerate(self.decided()) if one.at <= move.at and one.value == move.value)
        return max(known, default=None)

    def _seeded(self, move: Move) -> bool:
        """Whether a record was created with what the other side held."""
        held = [one.value for one in self.moves if one.side is not move.side and one.human and one.at <= move.at]
        return move.born and move.value in held


@dataclass(slots=True)
class Timeline:
    """The trail of every field. `idle` are writes of the daemon that moved nothing, each with the field (by Kirim's
    name, empty for the whole write); `strange` its writes to records that no Kirim contact stands behind."""

    trails: dict[Key, Trail] = field(default_factory=dict)
    idle: list[tuple[Effect, str]] = field(default_factory=list)
    strange: list[Effect] = field(default_factory=list)
    _held: dict[tuple[Side, str, str], str | None] = field(default_factory=dict)

    @classmethod
    def read(cls, kirim: KirimEmulator, crm: Crm) -> Timeline:
        """Plays back both platforms' ledgers."""
        line = cls()
        ids = {record: id for id, records in crm.held().items() if id for record in records}
        for effect, human in _in_order(kirim.human, kirim.ledger):
            line._play_kirim(effect, human)
        for effect, human in _in_order(crm.human, crm.emulator.ledger):
            line._play_crm(effect, human, ids, crm.by_name)
        for trail in line.trails.values():
            trail.moves.sort(key=lambda move: move.at)
        return line

    def _play_kirim(self, effect: Effect, human: bool) -> None:
        """The API takes metadata only as a whole: the other keys come along in every write, and are no news."""
        fields = dict(effect.fields)
        if human and "metadata" in fields:  # a person's form replaces it as a whole
            fields["metadata"] = {**NO_METADATA, **(fields["metadata"] or {})}
        values = dict(kirim_values(fields))
        moved = {
            one for one, value in values.items() if self._move(effect, Side.KIRIM, effect.record_id, one, value, human)
        }
        if not human:
            single = [one for one in values if not one.kirim.startswith(METADATA)]
            beside = values.keys() - single
            self.idle += [(effect, one.kirim) for one in single if one not in moved]
            if not values or (beside and not beside & moved):
                self.idle.append((effect, ""))

    def _play_crm(self, effect: Effect, human: bool, ids: Mapping[str, str], by_name: Mapping[str, Field]) -> None:
        id = ids.get(effect.record_id)
        if id is None:
            self.strange += [] if human else [effect]
            return
        values = {by_name[name]: value for name, value in effect.fields.items() if name in by_name}
        moved = {one for one, value in values.items() if self._move(effect, Side.CRM, id, one, value, human)}
        if not human:
            self.idle += [(effect, one.kirim) for one in values if one not in moved]
            self.idle += [] if values else [(effect, "")]

    def _move(self, effect: Effect, side: Side, id: str, one: Field, value: Any, human: bool) -> bool:
        """Notes the move, if it is one."""
        new, place = one.form(value), (side, id, one.kirim)
        if self._held.get(place) == new:
            return False
        self._held[place] = new
        trail = self.trails.setdefault((id, one.kirim), Trail(one))
        trail.moves.append(Move(effect.at, side, human, new, effect.verb == "create"))
        return True


def _in_order(human: Iterable[Effect], sync: Iterable[Effect]) -> Iterator[tuple[Effect, bool]]:
    """Two ledgers of one platform as one, by time."""
    return merge(((one, True) for one in human), ((one, False) for one in sync), key=lambda pair: pair[0].at)
