"""What a flush has to say about conflicts: fields that both sides changed, that go back and forth, that people decided.

Only looks at how works ended, and writes down what follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection as Transaction

from crmsync.core.breaker import Stroke, oscillates, pruned
from crmsync.core.decide import Why
from crmsync.errors import Retry
from crmsync.model import Kind
from crmsync.store import conflicts
from crmsync.store.conflicts import Conflict, Rulings
from crmsync.store.pairs import Recent

if TYPE_CHECKING:
    from crmsync.flows.work import Work

FILLING = frozenset({Why.CREATED, Why.SEEDED, Why.OWNER_AT_FIRST_SIGHT, Why.OPERATOR})
"""Writes that fight nobody."""


def strokes(work: Work, now: datetime) -> Recent:
    """The writes of the last minutes, with those of this flush; fields that go back and forth by now are frozen.

    What fills a record that is new, or what a person chose, is nobody's stroke.
    """
    strokes: dict[str, tuple[Stroke, ...]] = pruned(work.pair.recent, now)
    for step in work.decision.steps:
        name = step.rule.name
        if step.to is None or step.why in FILLING or name in work.pair.rulings.decreed:
            continue
        if work.ended(step) == "written":
            strokes[name] = (*strokes.get(name, ()), Stroke(now, step.to.value, step.old, step.value))
            if oscillates(step.rule, strokes[name], work.rules.region):
                work.frozen[name] = strokes[name]
    work.followed = {name: decree for name, decree in work.pair.rulings.decreed.items() if _followed(work, name)}
    return {name: of for name, of in strokes.items() if name not in work.frozen and name not in work.followed}


def _followed(work: Work, name: str) -> bool:
    """Whether a decree came to its end: each side took the value, or would not have it."""
    steps = [step for step in work.decision.steps if step.rule.name == name]
    ended = (step.to in work.remembered or bool(work.ended(step)) for step in steps)
    answered = all(not isinstance(work.outcomes.get(step.to), Retry) for step in steps if step.to is not None)
    return bool(steps) and answered and all(ended)


def after(work: Work) -> Rulings:
    """What stands once the flush is stored: with what was frozen by it, without the decrees that were carried out."""
    before = work.pair.rulings
    decreed = {name: decree for name, decree in before.decreed.items() if name not in work.followed}
    return replace(before, frozen=before.frozen | work.frozen.keys(), decreed=decreed)


def write_down(tx: Transaction, tenant: str, name: str, kind: Kind, works: Sequence[Work], now: datetime) -> None:
    """What these flushes have to say about conflicts: new ones, frozen ones, and those that are over."""
    found = [conflict for work in works for conflict in _conflicts(work)]
    conflicts.write_down(tx, tenant, name, kind, found, now)
    over = {work.pair.kirim_id: _over(work) for work in works if work.pair.rulings.open}
    conflicts.settle(tx, tenant, name, kind, over)
    followed = {work.pair.kirim_id: work.followed for work in works if work.followed}
    conflicts.carried_out(tx, tenant, name, kind, followed)


def _conflicts(work: Work) -> Iterable[Conflict]:
    for step in work.decision.steps:
        if step.why is not Why.CONFLICT and not work.frozen:
            continue
        name, id = step.rule.name, work.pair.kirim_id
        if name in work.frozen and step.to is not None:
            sequence, owner = work.frozen[name], step.rule.owner.value
            yield Conflict(id, name, step.kirim, step.crm, owner, work.pair.cause, sequence=sequence)
        elif step.why is Why.CONFLICT and step.to is not None and work.ended(step):
            owner, winner = step.rule.owner.value, step.to.other.value
            yield Conflict(id, name, step.kirim, step.crm, owner, work.pair.cause, winner)


def _over(work: Work) -> set[str]:
    """Open conflicts whose field was changed again since, this time by one side only."""
    moved = (step for step in work.decision.steps if step.why is not Why.CONFLICT and work.ended(step))
    return {step.rule.name for step in moved} & work.pair.rulings.open
