"""What a tenant's schedules are: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from crmsync.core.cron import Cron

POLL, RECONCILE, SEGMENTS, SWEEP, RETENTION = "poll", "reconcile", "segments", "sweep", "retention"


@dataclass(frozen=True, slots=True)
class Schedules:
    """When each thing is done; what is missing is not done by the clock.

    A tenant without a schedule for its polls has each connection asked at its own pace. `heal` and `threshold` are the
    scheduled reconciliation's.
    """

    crons: Mapping[str, Cron] = field(default_factory=lambda: MappingProxyType({}))
    heal: bool = False
    threshold: int | None = None
