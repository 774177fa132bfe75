"""What would be written, as values that can be kept: the exact writes of one pair, and what about them may surprise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from crmsync.core.decide import Agreed, Decision, Side, Step
from crmsync.model import Value


class Action(StrEnum):
    """What happens to the pair's record in the CRM."""

    CREATE = "create"
    ADOPT = "adopt"  # a record that others made is linked
    UPDATE = "update"  # of either side
    CHOOSE = "choose"  # nothing, until a person says which record it is


class Surprise(StrEnum):
    """What of a write cannot be taken back by looking at it."""

    CREATE = "create"  # a record more
    OVERWRITE = "overwrite"  # a value is replaced by another one
    CLEAR = "clear"  # a value is emptied
    REMOVAL = "removal"  # members of a set are taken away


def surprise(step: Step) -> Surprise | None:
    """What is surprising about one write; filling an empty field is not."""
    if step.to is None or _empty(step.old):
        return None
    if _empty(step.value):
        return Surprise.CLEAR
    if isinstance(step.old, tuple) and isinstance(step.value, tuple):
        return Surprise.REMOVAL if set(step.old) - set(step.value) else None
    return Surprise.OVERWRITE


def _empty(value: Value) -> bool:
    return value in (None, "", ())


def fingerprint(kirim_id: str, crm_id: str | None, decision: Decision, base: Mapping[str, Agreed]) -> str:
    """The same as long as the same would be written for the same reasons: to whom, what, and from which agreement."""
    asked = [
        kirim_id,
        crm_id,
        [
            [step.rule.kirim, step.rule.crm, step.to, step.why, step.value, step.kirim, step.crm]
            for step in decision.steps
            if step.to is not None
        ],
        sorted((name, agreed.kirim, agreed.crm) for name, agreed in base.items()),
    ]
    return hashlib.sha256(orjson.dumps(asked)).hexdigest()


def document(action: Action, decision: Decision) -> dict[str, Any]:
    """The writes of one pair for a file: field by field, with what is there now and why it changes."""
    return {
        "action": action.value,
        "writes": [
            {
                "to": step.to,
                "field": step.rule.kirim if step.to is Side.KIRIM else step.rule.crm,
                "now": step.old,
                "then": step.value,
                "why": step.why.value,
                "surprise": surprise(step),
            }
            for step in decision.steps
            if step.to is not None
        ],
    }


@dataclass(frozen=True, slots=True)
class Counts:
    """A plan in numbers. `fields` has the writes per side and field, `surprises` how many of each kind."""

    records: Mapping[str, int]
    fields: Mapping[str, int]
    surprises: Mapping[str, int]

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> Counts:
        """What was counted so far."""
        return cls(*(dict(counts.get(name, {})) for name in ("records", "fields", "surprises")))

    def plus(self, item: Mapping[str, Any]) -> Counts:
        """With one more pair."""
        records, fields, surprises = (dict(each) for each in (self.records, self.fields, self.surprises))
        _add(records, item["action"])
        if item["action"] == Action.CREATE:
            _add(surprises, Surprise.CREATE)
        for write in item["writes"]:
            _add(fields, f"{write['to']}.{write['field']}")
            if write["surprise"]:
                _add(surprises, write["surprise"])
        return Counts(records, fields, surprises)

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return {"records": self.records, "fields": self.fields, "surprises": self.surprises}


def _add(counts: dict[str, int], name: str) -> None:
    counts[str(name)] = counts.get(str(name), 0) + 1
