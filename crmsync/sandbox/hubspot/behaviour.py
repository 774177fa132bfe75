"""The ways in which HubSpot may behave, as switches that a test turns before or while the emulator runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from crmsync.sandbox.hubspot.records import Respelling


class Partial(StrEnum):
    """What becomes of a batch in which some rows are refused. All three were seen in the wild."""

    MULTI_STATUS = "multi_status"  # 207, good rows written, errors name the trace ids
    EMPTY = "empty"  # 207, nothing written, no results, errors without trace ids
    WHOLE_BATCH = "whole_batch"  # the batch is refused with the first bad row's status


@dataclass(slots=True)
class Behaviour:
    """Every switch, at its default.

    Limits of None are off. Times are in seconds of the emulator's clock; probabilities lie between 0 and 1.
    """

    partial: Partial = Partial.MULTI_STATUS
    read_missing_status: int = 207
    missing_scopes: bool = False
    rate_limit: int | None = None
    """Requests in ten seconds; 190 on Professional."""
    daily_limit: int | None = None
    search_rate: int | None = None
    """Searches in one second; 5 in reality."""
    index_lag: float = 0.0
    """How long a write stays invisible to search."""
    merge_keeps_primary: bool = False
    archived_keeps_unique: bool = False
    upsert_fills_key: bool = True
    """Whether a record created by upsert gets the key property from `id` when `properties` lacks it."""
    touch_on_noop: bool = True
    """Whether a write that changes nothing moves lastmodifieddate."""
    shuffle_results: bool = True
    """Batch results come in any order: HubSpot promises none."""
    respelling: Respelling = field(default_factory=Respelling)
    associations_follow_merges: bool = True
    """Whether an association may be made with the old id of a merged record."""
    association_page: int = 500
    """How many associations of one record an answer holds."""
    webhook_generic: bool = False
    """Events of the generic family: `object.creation` rather than `contact.creation`."""
    webhook_version_1: bool = False
    """Signed as for a legacy private app: version 1, without a time."""
    webhook_duplicates: float = 0.0
    webhook_disorder: float = 0.0
    webhook_delay: float = 0.02
    """Real seconds in which events are gathered into one request."""
    webhook_retry: float = 1.0
    """Real seconds before the first repetition; later ones wait longer."""
