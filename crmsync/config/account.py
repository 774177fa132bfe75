"""A mapping against the fields that the CRM's account really has. Pure: the fields are handed in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import MappingProxyType

from crmsync.config.words import did_you_mean
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.model import FieldInfo, FieldType

HOLDS = MappingProxyType(
    {
        FieldType.TEXT: {FieldType.TEXT, FieldType.EMAIL, FieldType.PHONE, FieldType.CHOICE},
        FieldType.EMAIL: {FieldType.EMAIL, FieldType.TEXT},
        FieldType.PHONE: {FieldType.PHONE, FieldType.TEXT},
        FieldType.NUMBER: {FieldType.NUMBER, FieldType.TEXT},
        FieldType.BOOLEAN: {FieldType.BOOLEAN, FieldType.TEXT, FieldType.CHOICE},
        FieldType.DATETIME: {FieldType.DATETIME, FieldType.TEXT},
        FieldType.CHOICE: {FieldType.CHOICE, FieldType.TEXT},
        FieldType.SET: {FieldType.SET},
    }
)
"""Which types of a CRM's field can hold the values of a rule's type."""


def mapping_problems(rules: Rules, fields: Sequence[FieldInfo]) -> list[str]:
    """What the account cannot do of what the mapping asks, one sentence for each field."""
    have = {field.name: field for field in fields}
    found = [_problem(rule, name, have.get(name), have.keys()) for rule in rules.fields for name in rule.right.names]
    return [message for message in found if message]


def _problem(rule: FieldRule, name: str, field: FieldInfo | None, names: Collection[str]) -> str | None:
    if field is None:
        return f"{rule}: the CRM has no field {name}{did_you_mean(name, names)}"
    if rule.owner is Owner.KIRIM and not field.writable:
        return f"{rule}: Kirim owns it, but the CRM's field is read-only; let the CRM own it, or map another field"
    if field.type not in HOLDS[rule.type]:
        return f"{rule}: compared as {rule.type}, but the CRM's field holds {field.type}"
    return None
