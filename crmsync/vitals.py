"""What a running process knows of itself and the store does not: for the status, and for the metrics. Counts only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from crmsync import logs
from crmsync.daemon.alerts import Alerts
from crmsync.daemon.budgets import TokenBudget
from crmsync.daemon.health import Health
from crmsync.daemon.worker import Worker
from crmsync.flows.intake import Intake
from crmsync.store.database import Database
from crmsync.store.pen import Pen


def process(database: Database, worker: Worker, health: Health, alerts: Alerts, *, draining: bool) -> dict[str, Any]:
    """The process itself in numbers."""
    last = database.last_commit
    return {
        "commits_total": database.commits,
        "last_commit_age_seconds": round(time.monotonic() - last, 3) if last else None,
        "event_loop_lag_seconds": round(health.loop_lag, 4),
        "tick_seconds": round(worker.tick_seconds, 4),
        "ticks_total": worker.ticks,
        "disk_free_bytes": health.free,
        "log_lines_dropped_total": logs.dropped(),
        "draining": int(draining),
        "alerts": dict(alerts.counts),
        "alarms": [{"kind": kind, "tenant": tenant, "about": about} for kind, tenant, about in alerts.active()],
    }


def live(
    node: str,
    intake: Intake,
    budgets: Mapping[tuple[str, str], TokenBudget],
    pen: Pen,
    configuration: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What the process knows and the store does not: answers given, alarms, and what is left of the budgets."""
    return {
        "running": node,
        "alarms": intake.alarm.active(),
        "configuration": configuration,
        "odd_headers": [
            {"tenant": tenant, "source": source, "what": word, "count": count}
            for (tenant, source, word), count in sorted(intake.odd.items())
        ],
        "quarantine_fates": [
            {"tenant": tenant, "source": source, "fate": fate, "count": count}
            for (tenant, source, fate), count in sorted(pen.counts.items())
        ],
        "answers": [
            {"tenant": tenant, "source": source, "answer": word, "count": count}
            for (tenant, source, word), count in sorted(intake.counts.items())
        ],
        "budgets": [
            {"tenant": tenant, "endpoint": endpoint, "left": round(budget.ample(), 3), "requests": budget.taken}
            for (tenant, endpoint), budget in sorted(budgets.items())
        ],
    }
