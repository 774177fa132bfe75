"""Walks through everything that one side holds, page by page. It only observes: what differs is written by the sync.

The rows of a page and the place behind it are stored in one transaction, so a run that was killed goes on without a
gap. What people change meanwhile is newer than a page, or comes with an event of its own, and wins by its version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from crmsync import crash
from crmsync.core.views import Source, Verdict
from crmsync.core.views import observe as judge
from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.flows.ahead import Ahead
from crmsync.flows.legs import Leg, concerned, legs
from crmsync.flows.steps import Stride, counted
from crmsync.flows.tenant import Tenant
from crmsync.model import Page
from crmsync.store import records, runs
from crmsync.store.database import Database
from crmsync.store.records import KIRIM, Observation, Rank
from crmsync.store.runs import Run, State, Step

BACKFILL = "backfill"
BACKLOG = 10
"""Batches of a connection that may be due before the walk waits for them: what is live goes first, but not all at once
is to be lost to a change of mind. Where new records go by the job, as many may be due as one job takes."""
LOOK_EVERY = 8
"""Pages after which it is looked whether they are crowded; none is read ahead that might have to wait for that."""
PAUSE = 0.03
"""Seconds between two looks at whether they are."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is walked: Kirim, every CRM, or one by name; what changed since a moment; so many records at most."""

    source: str = KIRIM
    since: datetime | None = None
    limit: int | None = None

    def document(self) -> dict[str, Any]:
        """As a run keeps it."""
        return {"source": self.source, "since": self.since.isoformat() if self.since else None, "limit": self.limit}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Options:
        """What a run kept."""
        since = document.get("since")
        return cls(document["source"], datetime.fromisoformat(since) if since else None, document.get("limit"))


def begin(tx: Connection, tenant: Tenant, options: Options, now: datetime, *, anew: bool = False) -> Run:
    """The run that does this: one that was stopped goes on, another is begun. Raises `Reject` where it cannot be.

    `anew` gives up a run that has not ended, whatever it was to do.
    """
    walked = legs(tenant, options.source)
    if not walked:
        raise Reject(
            f"{options.source} has nothing that can be walked: no kind of it is mapped, or it cannot be listed"
        )
    before = runs.unfinished(tx, tenant.id, BACKFILL)
    if before is not None and not anew:
        if before.options != options.document():
            raise Reject(f"run {before.id} has not ended, and was begun with other options: finish it, or begin --anew")
        runs.resume(tx, before.id, now)
        return runs.find(tx, before.id) or before
    if before is not None:
        runs.give_up(tx, before.id, "another was begun in its place", now)
    return runs.begin(tx, tenant.id, BACKFILL, walked[0].endpoint, options.document(), {"leg": 0, "cursor": None}, now)


def turn(stride: Stride, run: Run) -> None:
    """Reads page after page, and no faster than what it finds is worked off; then waits for the rest."""
    with Ahead() as ahead:
        while (ahead.waits or stride.going()) and run.state is State.RUNNING:
            if run.place.get("settling"):
                run = stride.settle(run, concerned(stride.tenant, run.options["source"]))
            elif int(run.counts.get("pages", 0)) % LOOK_EVERY == 0 and _crowded(stride, run):
                stride.pause(PAUSE)
            else:
                run = _page(stride, run, ahead)


def _page(stride: Stride, run: Run, ahead: Ahead) -> Run:
    options, walked = Options.of(run.options), legs(stride.tenant, run.options["source"])
    number = int(run.place["leg"])
    if number >= len(walked) or walked[number].endpoint != run.endpoint:
        return stride.fail(run, "the configuration changed: what was walked is not mapped any more")
    leg = walked[number]

    def read(cursor: str | None) -> Page:
        return stride.tenant.endpoint(leg.endpoint).walk(leg.kind, cursor, options.since)

    try:
        page = ahead.page((number, run.place["cursor"]), partial(read, run.place["cursor"]))
    except (Retry, Suspend):
        raise
    except ConnectorError as error:
        return stride.fail(run, str(error))
    crash.point("backfill.answered")
    if options.limit is not None:
        left = options.limit - int(run.counts.get("read", 0))
        page = replace(page, records=page.records[:left], more=page.more and left > len(page.records))
    endpoint, place = _behind(run, walked, page)
    if page.more and stride.going() and (int(run.counts.get("pages", 0)) + 1) % LOOK_EVERY:
        ahead.ask((number, page.cursor), partial(read, page.cursor))

    def store(tx: Connection) -> Step:
        now = stride.clock()
        counts = _observe(tx, stride.tenant, run, leg, page, now)
        crash.point("backfill.storing")
        return Step(endpoint, place, counts, now)

    after = stride.save(run, store)
    crash.point("backfill.stored")
    return after


def _behind(run: Run, walked: Sequence[Leg], page: Page) -> tuple[str, Mapping[str, Any]]:
    """Where the walk goes on behind a page, and in whose lane."""
    number, limit = int(run.place["leg"]), run.options["limit"]
    if page.more:
        return walked[number].endpoint, {"leg": number, "cursor": page.cursor}
    ended = limit is not None and int(run.counts.get("read", 0)) + len(page.records) >= limit
    if number + 1 < len(walked) and not ended:
        return walked[number + 1].endpoint, {"leg": number + 1, "cursor": None}
    return walked[number].endpoint, {"leg": number, "cursor": None, "settling": True}


def _observe(tx: Connection, tenant: Tenant, run: Run, leg: Leg, page: Page, now: datetime) -> dict[str, Any]:
    """Takes a page in; the run's counts after it."""
    seen = [Observation(record, Source.TOLD, run.cause) for record in page.records]
    followers = tenant.followers(leg.kind)
    verdicts = records.observe(tx, tenant.id, leg.endpoint, seen, now=now, followers=followers, rank=Rank.RUN)
    introduced = _introduce(tx, tenant, run, leg, page, verdicts, now) if leg.endpoint == KIRIM else 0
    return counted(
        run.counts,
        pages=1,
        read=len(page.records),
        new=verdicts.count(Verdict.NEW),
        changed=verdicts.count(Verdict.CHANGED),
        introduced=introduced,
    )


def _introduce(
    tx: Connection, tenant: Tenant, run: Run, leg: Leg, page: Page, verdicts: Sequence[Verdict], now: datetime
) -> int:
    """Records that were known already, and that a connection has no pair of: it was configured later."""
    known = {
        record.id
        for record, verdict in zip(page.records, verdicts, strict=True)
        if verdict not in (Verdict.NEW, Verdict.CHANGED) and not record.archived
    }
    made = 0
    for follower in tenant.followers(leg.kind) if known else ():
        alone = runs.without_pair(tx, tenant.id, follower, leg.kind, known)
        causes = dict.fromkeys(alone, run.cause)
        records.make_due(tx, tenant.id, follower, leg.kind, causes, now, create=True, rank=Rank.RUN)
        made += len(alone)
    return made


def _crowded(stride: Stride, run: Run) -> bool:
    """Whether more is due on a connection than it is worked off with in a while."""
    tenant = stride.tenant
    for name in concerned(tenant, run.options["source"]):
        connector = tenant.connections[name].connector
        most = max(int(BACKLOG * connector.batch_size), connector.loads.stop - 1)
        due = stride.database.read(lambda tx, name=name, most=most: runs.waiting(tx, tenant.id, name, most))  # type: ignore[misc]
        if due >= most:
            return True
    return False


def rehearse(
    database: Database | None, tenant: Tenant, options: Options, told: Callable[[Mapping[str, int]], object]
) -> Mapping[str, int]:
    """Walks and compares, and stores nothing; `told` hears the counts after every page."""
    counts = {"pages": 0, "read": 0, "new": 0, "changed": 0}
    for leg in legs(tenant, options.source):
        cursor: str | None = None
        more = True
        while more and (options.limit is None or counts["read"] < options.limit):
            page = tenant.endpoint(leg.endpoint).walk(leg.kind, cursor, options.since)
            rows = page.records[: None if options.limit is None else options.limit - counts["read"]]
            ids = {record.id for record in rows}
            known = (
                database.read(lambda tx, leg=leg, ids=ids: records.views(tx, tenant.id, leg.endpoint, leg.kind, ids))  # type: ignore[misc]
                if database
                else {}
            )
            verdicts = [judge(known.get(record.id), record, Source.TOLD)[1] for record in rows]
            counts["pages"] += 1
            counts["read"] += len(rows)
            counts["new"] += verdicts.count(Verdict.NEW)
            counts["changed"] += verdicts.count(Verdict.CHANGED) + verdicts.count(Verdict.UNCLEAR)
            told(counts)
            cursor, more = page.cursor, page.more
    return counts
