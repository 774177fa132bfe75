"""What schedules did and will do, for people: the next moment of each, the last one, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from crmsync.core.schedules import POLL, RECONCILE, RETENTION, SEGMENTS, Schedules
from crmsync.store import chores, cursors, fires, runs, segments
from crmsync.store.fires import Fire
from crmsync.store.lanes import Work

DONE, UNDER_WAY, TROUBLE = "done", "under way", "trouble"
RUN = "run:"
"""What the note of a moment begins with that began a run."""


def overview(tx: Connection, schedules: Mapping[str, Schedules], now: datetime) -> list[dict[str, Any]]:
    """Every schedule of every tenant. Times are ISO 8601, in the tenant's own zone."""
    told = []
    for tenant, chosen in sorted(schedules.items()):
        for name, cron in chosen.crons.items():
            fire = fires.last(tx, tenant, name)
            done = fire if fire is not None and fire.note != fires.BEGUN else None
            outcome, detail = _outcome(tx, done) if done else ("", "")
            following = cron.after(now)
            told.append(
                {
                    "tenant": tenant,
                    "schedule": name,
                    "cron": cron.text,
                    "next": following and _local(following, cron.zone),
                    "last": done and _local(done.slot, cron.zone),
                    "began": done and _local(done.at, cron.zone),
                    "node": done and done.node,
                    "outcome": outcome,
                    "detail": detail,
                }
            )
    return told


def _outcome(tx: Connection, fire: Fire) -> tuple[str, str]:
    """A word, and perhaps a sentence."""
    if fire.name == RECONCILE:
        return _of_run(tx, fire)
    if fire.name == SEGMENTS:
        return _of_segments(tx, fire)
    if fire.name == POLL:
        feeds, read = cursors.read_since(tx, fire.tenant, fire.at)
        return (DONE, "") if read == feeds else (UNDER_WAY, f"{read} of {feeds} feeds read")
    chore = chores.read(tx, fire.tenant, Work.RETENTION if fire.name == RETENTION else Work.SWEEP)
    finished = chore.done_at is not None and chore.done_at >= fire.at
    return (DONE, _forgotten(chore.state)) if finished else (UNDER_WAY, "")


def _of_run(tx: Connection, fire: Fire) -> tuple[str, str]:
    if not fire.note.startswith(RUN):
        return TROUBLE, fire.note
    run = runs.find(tx, int(fire.note.removeprefix(RUN)))
    if run is None:
        return DONE, ""
    if run.ended_at is None:
        return UNDER_WAY, f"run {run.id}"
    drift = int(run.counts.get("drift", 0))
    found = f"run {run.id}: " + (f"{drift} records differed" if drift else "agreed")
    return (TROUBLE, f"run {run.id}: {run.error}") if run.error else (DONE, found)


def _of_segments(tx: Connection, fire: Fire) -> tuple[str, str]:
    rows = segments.overview(tx, fire.tenant)
    walked = [row for row in rows if row.done_at is not None and row.done_at >= fire.at]
    if len(walked) < len(rows):
        return UNDER_WAY, f"{len(walked)} of {len(rows)} labels"
    troubled = [row.label for row in rows if row.error]
    return (TROUBLE, "see crmsync segments show: " + ", ".join(troubled)) if troubled else (DONE, "")


def _forgotten(state: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{number:,} of {what}" for what, number in (state.get("forgotten") or {}).items())
    return f"forgotten: {counts}" if counts else ""


def _local(moment: datetime, zone: Any) -> str:
    return moment.astimezone(zone).isoformat(timespec="seconds")
