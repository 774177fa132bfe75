"""Asks a platform what changed, page by page. The rows and the cursor are stored in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from crmsync import crash
from crmsync.core.views import Source
from crmsync.flows.tenant import Tenant
from crmsync.model import Page
from crmsync.store import cursors, records
from crmsync.store.cursors import Feed
from crmsync.store.database import Database
from crmsync.store.lanes import Fence
from crmsync.store.records import Observation

CHANGES = "changes"
"""The name of the feed of changed records."""


def poll(database: Database, tenant: Tenant, endpoint: str, fence: Fence, clock: Callable[[], datetime]) -> int:
    """Reads one page of every feed that is due; says how many records they had. A feed with more stays due.

    The first reading begins when the feed did: what was there before is looked up when its pair is.
    """
    connector = tenant.endpoint(endpoint)
    seen = 0
    for feed in database.read(lambda tx: cursors.due(tx, tenant.id, endpoint, clock())):
        page = connector.changed(feed.kind, feed.position, feed.began_at)
        crash.point("poll.answered")
        _store(database, tenant, endpoint, feed, page, fence, clock())
        crash.point("poll.stored")
        seen += len(page.records)
    return seen


def _store(
    database: Database, tenant: Tenant, endpoint: str, feed: Feed, page: Page, fence: Fence, now: datetime
) -> None:
    def store(tx: Connection) -> None:
        fence(tx)
        observations = [Observation(record, Source.TOLD, f"poll:{endpoint}") for record in page.records]
        followers = tenant.followers(feed.kind)
        records.observe(tx, tenant.id, endpoint, observations, now=now, followers=followers)
        crash.point("poll.storing")
        cursors.save(tx, tenant.id, endpoint, feed, page.cursor, more=page.more, now=now)

    database.write(store)
