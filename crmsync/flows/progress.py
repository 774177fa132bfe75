"""How it goes with a run, in counts and words: what commands, the admin socket and the status page show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from crmsync.flows.pausing import words
from crmsync.flows.tenant import Tenant
from crmsync.store import lanes, runs, suspensions
from crmsync.store.runs import Run

SHOWN = 10


def progress(tx: Connection, tenant: Tenant | None, run: Run, now: datetime) -> dict[str, Any]:
    """A run with what is still to be done for it, and what keeps it up. Times are ISO 8601."""
    live = [one.name for one in tenant.connections.values() if one.live] if tenant else []
    near, far = runs.left(tx, run, live, now + timedelta(days=3650)) if run.ended_at is None else (0, 0)
    return {**told(run), "left": near + far, "trouble": trouble(tx, run.tenant)}


def told(run: Run) -> dict[str, Any]:
    """What the run's own row says."""
    return {
        "id": run.id,
        "tenant": run.tenant,
        "kind": run.kind,
        "state": run.state.value,
        "phase": phase(run.place),
        "endpoint": run.endpoint,
        "options": dict(run.options),
        "counts": dict(run.counts),
        "began_at": _moment(run.began_at),
        "moved_at": _moment(run.moved_at),
        "ended_at": _moment(run.ended_at),
        "error": run.error,
    }


def phase(place: Mapping[str, Any]) -> str:
    """What a run is at."""
    return "settling" if place.get("settling") else str(place.get("phase", "walking"))


def latest(tx: Connection) -> list[dict[str, Any]]:
    """The latest runs, newest first."""
    return [told(run) for run in runs.latest(tx, SHOWN)]


def trouble(tx: Connection, tenant: str) -> list[str]:
    """Why a tenant's work does not go on, one sentence each."""
    suspended = [
        f"{one.endpoint} is suspended: {one.reason}"
        for one in suspensions.every(tx)
        if one.tenant == tenant and not one.trial
    ]
    resting = [
        f"{row.endpoint} rests after {row.attempts} failures ({row.work})"
        for row in lanes.states(tx)
        if row.tenant == tenant and row.attempts > 1
    ]
    return [*suspended, *resting, *words(tx, tenant)]


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
