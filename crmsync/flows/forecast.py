"""What a walk is going to cost, before it begins: records, requests on each side, and the time they take at least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from sqlalchemy import Connection

from crmsync.flows.backfill import Options
from crmsync.flows.legs import Leg, concerned, legs
from crmsync.flows.tenant import Tenant
from crmsync.store import census
from crmsync.store.database import Database
from crmsync.store.records import KIRIM

PAGE = 100
"""Records on a page of most platforms."""
Pace = Callable[[str, str], float]
"""Requests a second that an endpoint may be sent in the long run, by bucket."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one endpoint is asked for. `share` is the part of its quota that this takes while it lasts."""

    endpoint: str
    reads: int
    writes: int
    seconds: float
    share: float = 0.0

    @property
    def calls(self) -> int:
        """Requests altogether."""
        return self.reads + self.writes


@dataclass(frozen=True, slots=True)
class Forecast:
    """`records` is a lower bound unless it is `exact`; writes are those that there are if every record differs."""

    records: int
    exact: bool
    shares: tuple[Share, ...]

    @property
    def lasts(self) -> timedelta:
        """As long as the slowest endpoint needs at its limit."""
        return timedelta(seconds=max((share.seconds for share in self.shares), default=0.0))


def forecast(database: Database | None, tenant: Tenant, options: Options, pace: Pace) -> Forecast:
    """Asks each endpoint that is walked how many records it has, or takes the first page and what we know already.

    `database` is None where there is none yet. Raises what the endpoints raise.
    """
    counted = [_count(database, tenant, leg, options) for leg in legs(tenant, options.source)]
    total, exact = sum(number for number, _ in counted), all(sure for _, sure in counted)
    if options.limit is not None and (exact or total >= options.limit):
        total, exact = min(total, options.limit), True
    shares = _shares(tenant, options, total, pace)
    lasts = max((share.seconds for share in shares), default=0.0)
    told = (Share(s.endpoint, s.reads, s.writes, s.seconds, s.seconds / lasts if lasts else 0.0) for s in shares)
    return Forecast(total, exact, tuple(told))


def _count(database: Database | None, tenant: Tenant, leg: Leg, options: Options) -> tuple[int, bool]:
    """How many records a leg has, and whether that is sure."""
    connector = tenant.endpoint(leg.endpoint)
    told = connector.count(leg.kind)
    if told is not None:
        return told, options.since is None
    first = connector.walk(leg.kind, None, options.since)
    if not first.more:
        return len(first.records), True

    def known(tx: Connection) -> int:
        return census.records(tx, tenant.id, leg.endpoint, leg.kind)

    return max(len(first.records), 0 if database is None or options.since else database.read(known)), False


def _shares(tenant: Tenant, options: Options, total: int, pace: Pace) -> Sequence[Share]:
    """Reading goes page by page. A CRM is asked for each batch, and sent it; Kirim is sent each record by itself."""
    pages = ceil(total / PAGE)
    if options.source == KIRIM:
        shares = [_share(KIRIM, pages, 0, pace)]
        for name in concerned(tenant, KIRIM):
            batches = ceil(total / tenant.connections[name].connector.batch_size)
            shares.append(_share(name, batches, batches, pace))
        return shares
    walked = dict.fromkeys(leg.endpoint for leg in legs(tenant, options.source))
    return [*(_share(name, pages, 0, pace) for name in walked), _share(KIRIM, total, total, pace)]


def _share(endpoint: str, reads: int, writes: int, pace: Pace) -> Share:
    """Kirim counts reads and writes apart, others together."""
    reading, writing = pace(endpoint, "read"), pace(endpoint, "write")
    apart = endpoint == KIRIM
    seconds = max(reads / reading, writes / writing) if apart else (reads + writes) / reading
    return Share(endpoint, reads, writes, seconds)
