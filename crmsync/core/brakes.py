"""How far one mistake can reach: limits for the kinds of writes that cannot be taken back by looking at them.

Pure: who asks brings what was written lately, and what is paused. A kind whose limit is reached is withheld from there
on, whole: everything else goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from crmsync.core.decide import Decision, Side, Step
from crmsync.core.plan import Surprise, surprise

SMALL = 20
"""Labels of fewer contacts may lose any share of them."""
FEW = 100
"""Connections with fewer linked records may have any share of them changed."""
ALL = "all"
"""Stands for everything a connection does, where something is paused."""


class Brake(StrEnum):
    """A kind of write that is limited, and can be paused."""

    CREATE = "create"  # a record more in the CRM
    OVERWRITE = "overwrite"  # a value is replaced by another one
    CLEAR = "clear"  # a value is emptied
    LABEL_REMOVAL = "label_removal"  # members of a set are taken away


_OF: Mapping[Surprise, Brake] = {
    Surprise.CREATE: Brake.CREATE,
    Surprise.OVERWRITE: Brake.OVERWRITE,
    Surprise.CLEAR: Brake.CLEAR,
    Surprise.REMOVAL: Brake.LABEL_REMOVAL,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """How many records one kind of write may touch: those that one run found, and of all others those in a window.

    `share` bounds both by how many records the connection has linked. None is no limit.
    """

    in_run: int | None
    in_window: int | None
    share: float | None = None

    def room(self, used: int, linked: int, *, run: bool) -> int | None:
        """How many more records may be touched; None is any number."""
        most = self.in_run if run else self.in_window
        if self.share is not None and linked >= FEW:
            most = min(most if most is not None else linked, int(linked * self.share))
        return None if most is None else max(0, most - used)


DEFAULTS: Mapping[Brake, Limit] = MappingProxyType(
    {
        Brake.CREATE: Limit(1_000_000, 100_000),
        Brake.OVERWRITE: Limit(100_000, 100_000),
        Brake.CLEAR: Limit(1_000, 1_000, 0.5),
        Brake.LABEL_REMOVAL: Limit(1_000, 1_000, 0.5),
    }
)
"""A first backfill may make a million records. What empties and takes away is kept short."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one connection; `window` is the stretch of time that counts for what no run found."""

    window: timedelta = timedelta(hours=1)
    of: Mapping[Brake, Limit] = field(default_factory=lambda: DEFAULTS)


def too_much(count: int, of: int, most: int, share: float) -> bool:
    """Whether that many of so many are more than may be in one go; any share of a few may."""
    return count > most or (of >= SMALL and count > of * share)


def kinds(decision: Decision, *, creates: bool) -> frozenset[Brake]:
    """The kinds of write that a decision asks for on one pair; `creates` where it has no record in the CRM yet."""
    return frozenset(brake for step in decision.steps if (brake := _kind(step, creates=creates)) is not None)


def _kind(step: Step, *, creates: bool) -> Brake | None:
    if creates and step.to is Side.CRM:
        return Brake.CREATE
    surprising = surprise(step)
    return None if surprising is None else _OF[surprising]


def without(decision: Decision, withheld: Collection[Brake], *, creates: bool) -> Decision:
    """The decision without what is withheld. A field that both sides follow is written on both, or on neither."""
    if not withheld:
        return decision
    fields = {step.rule.name for step in decision.steps if _kind(step, creates=creates) in withheld}
    kept = tuple(step for step in decision.steps if step.to is None or step.rule.name not in fields)
    return replace(decision, steps=kept)


@dataclass(frozen=True, slots=True)
class Judgement:
    """For each pair what of it is withheld, and which limits were reached by that."""

    withheld: Sequence[frozenset[Brake]]
    reached: frozenset[tuple[str, Brake]]


Scope = str
"""What found the pairs: a run's cause, or empty for everything else."""


def judge(
    asked: Sequence[tuple[Scope, frozenset[Brake]]],
    room: Mapping[tuple[Scope, Brake], int | None],
    paused: Collection[Brake] = (),
) -> Judgement:
    """Lets pairs through in order, as far as there is room. A kind that has none left is withheld from then on."""
    left = dict(room)
    stopped = set(paused)
    reached: set[tuple[Scope, Brake]] = set()
    withheld = []
    for scope, wanted in asked:
        held = set(wanted & stopped)
        for brake in wanted - stopped:
            more = left.get((scope, brake))
            if more is None:
                continue
            if more > 0:
                left[scope, brake] = more - 1
            else:
                held.add(brake)
                stopped.add(brake)
                reached.add((scope, brake))
        withheld.append(frozenset(held))
    return Judgement(withheld, frozenset(reached))


def admitted(
    asked: Sequence[tuple[Scope, frozenset[Brake]]], withheld: Sequence[frozenset[Brake]]
) -> Iterator[tuple[Scope, Brake]]:
    """What goes through, once for each pair and kind."""
    for (scope, wanted), held in zip(asked, withheld, strict=True):
        for brake in sorted(wanted - held):
            yield scope, brake
