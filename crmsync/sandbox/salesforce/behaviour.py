"""The ways in which a Salesforce org may behave, as switches that a test turns before or while the emulator runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Trigger = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""What an org's own code makes of values that are about to be stored: the object's name and the values."""


class DuplicateRule(StrEnum):
    """What an org does about a contact whose e-mail address another one has."""

    NONE = "none"
    ALERT = "alert"  # refused, unless the request says that duplicates may be saved
    BLOCK = "block"


@dataclass(slots=True)
class Behaviour:
    """Every switch, at its default. Limits of None are off; times are in seconds of the emulator's clock."""

    session_seconds: float | None = None
    """How long a session lasts; an org may set it between 15 minutes and a day."""
    daily_limit: int = 100_000
    too_many_at_once: bool = False
    """Every request is refused because too many long ones run."""
    commit_lag: float = 0.0
    """How long what people do stays invisible to others: a transaction with an early time stamp that ends late."""
    duplicate_rule: DuplicateRule = DuplicateRule.NONE
    restricted_picklists: bool = True
    campaigns: bool = True
    """Whether the integration user may see campaigns."""
    bulk_looks: int = 1
    """How often a closed bulk job is still in progress when its state is asked for."""
    trigger: Trigger | None = None
