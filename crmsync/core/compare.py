"""How the two sides of a pair stand, field by field, by the same decision that the sync writes from."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from crmsync.core.decide import PairView, Side, Step, Why, decide
from crmsync.core.lens import Unknown
from crmsync.core.mapping import FieldRule, Rules


class Standing(StrEnum):
    """What can be said of one field of a pair."""

    AGREE = "agree"
    KIRIM_RIGHT = "kirim_right"  # they differ, and Kirim's value is to stand
    CRM_RIGHT = "crm_right"
    REFUSED = "refused"  # they differ, and the side that is to change does not take the value
    LEFT = "left"  # they differ, and the rules leave it so
    UNKNOWN = "unknown"  # a side was never seen to say


DRIFT = frozenset({Standing.KIRIM_RIGHT, Standing.CRM_RIGHT, Standing.REFUSED})
"""What is not as the rules want it."""


def standings(rules: Rules, pair: PairView) -> Mapping[str, Standing]:
    """Every mapped field of a pair that exists on both sides, by the name it is remembered by.

    Of a set that is merged on both sides it is told that the side that lacks something is wrong.
    """
    steps: dict[str, Step] = {}
    for step in decide(rules, pair).steps:
        steps.setdefault(step.rule.name, step)
    return {rule.name: _standing(rule, steps.get(rule.name), pair) for rule in rules.fields}


def _standing(rule: FieldRule, step: Step | None, pair: PairView) -> Standing:
    if step is not None:
        if step.to is not None:
            return Standing.CRM_RIGHT if step.to is Side.KIRIM else Standing.KIRIM_RIGHT
        return Standing.AGREE if step.why is Why.EQUAL else Standing.LEFT
    if note := pair.noted.get(rule.name):
        return Standing.REFUSED if note.why is Why.REFUSED else Standing.LEFT
    return Standing.AGREE if rule.name in pair.base or _known(rule, pair) else Standing.UNKNOWN


def _known(rule: FieldRule, pair: PairView) -> bool:
    """Whether both sides were seen to say something."""
    read = (rule.left.read(pair.kirim), rule.right.read(pair.crm or {}))
    return not any(isinstance(value, Unknown) for value in read)
