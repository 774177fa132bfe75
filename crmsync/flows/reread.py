"""Reads records whose view cannot be trusted: after a hint, or where two statements of one version disagreed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from crmsync.connector import Connector
from crmsync.core.retry import ALONE_FROM, wait
from crmsync.core.views import Source, Verdict, View
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.flows.tenant import Tenant
from crmsync.model import Kind, Record, Ref
from crmsync.store import records
from crmsync.store.database import Database
from crmsync.store.lanes import Fence
from crmsync.store.records import Observation, StaleRecord

PATIENCE = 3
"""Records that are read alone and fail one after the other before it must be the platform that fails."""
MIDDLE = 0.5
"""No spread: the tries of one record need not avoid each other."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Whose records are read, and how what they hold is stored."""

    database: Database
    tenant: Tenant
    endpoint: str
    fence: Fence
    clock: Callable[[], datetime]

    @property
    def connector(self) -> Connector[Any]:
        """The endpoint itself."""
        return self.tenant.endpoint(self.endpoint)


def reread(database: Database, tenant: Tenant, endpoint: str, fence: Fence, clock: Callable[[], datetime]) -> int:
    """Reads one batch of an endpoint's stale records and observes what they hold; says how many.

    Raises `Retry` or `Suspend` where the platform cannot be read; the records stay stale then. A record whose
    reading failed several times is read alone and less and less often, so that the others are read all the same.
    """
    reading = Reading(database, tenant, endpoint, fence, clock)
    limit = reading.connector.batch_size
    stale = database.write(lambda tx: records.take_stale(tx, tenant.id, endpoint, limit, clock()))
    calm = [record for record in stale if record.attempts <= ALONE_FROM]
    for kind in {record.kind for record in calm}:
        _read(reading, [record for record in calm if record.kind is kind])
    _read_alone(reading, [record for record in stale if record.attempts > ALONE_FROM])
    return len(stale)


def _read_alone(reading: Reading, suspects: Sequence[StaleRecord]) -> None:
    """Each by itself; its next try is put off before this one begins, however this one ends."""
    failed: list[ConnectorError] = []
    for suspect in sorted(suspects, key=lambda record: record.attempts):
        _put_off(reading, suspect)
        try:
            _read(reading, [suspect])
        except (Suspend, Throttled):
            raise
        except ConnectorError as error:
            failed.append(error)
            if len(failed) >= min(PATIENCE, len(suspects)):
                raise
        else:
            failed.clear()


def _put_off(reading: Reading, record: StaleRecord) -> None:
    until = reading.clock() + wait(Retry("read again later"), record.attempts, MIDDLE)
    reading.database.write(lambda tx: records.put_off_stale(tx, reading.tenant.id, reading.endpoint, record, until))


def _read(reading: Reading, stale: Sequence[StaleRecord]) -> None:
    """Records of one kind: read, then stored."""
    kind, ids = stale[0].kind, {record.id for record in stale}
    known = reading.database.read(lambda tx: records.views(tx, reading.tenant.id, reading.endpoint, kind, ids))
    held = _fetch(reading.connector, kind, stale)
    now = reading.clock()
    reading.database.write(lambda tx: _observe(tx, reading, stale, held, known, now))


def _fetch(connector: Connector[Any], kind: Kind, stale: Sequence[StaleRecord]) -> Sequence[Record | None]:
    """The records as they are; an id that the platform refuses to read counts as none, alone."""
    try:
        return connector.fetch(kind, [Ref(id=record.id) for record in stale])
    except Reject:
        if len(stale) == 1:
            return [None]
        middle = len(stale) // 2
        return [*_fetch(connector, kind, stale[:middle]), *_fetch(connector, kind, stale[middle:])]


def _observe(
    tx: Connection,
    reading: Reading,
    stale: Sequence[StaleRecord],
    held: Sequence[Record | None],
    known: Mapping[str, View],
    now: datetime,
) -> None:
    """Takes in what was read. What is older than what is known came from a place that lags: it is read again later."""
    reading.fence(tx)
    tenant, endpoint = reading.tenant, reading.endpoint
    observations = [
        Observation(
            record or Record(asked.kind, asked.id, archived=True),
            Source.READ,
            asked.cause,
            basis=known.get(record.id if record else asked.id),
        )
        for asked, record in zip(stale, held, strict=True)
    ]
    followers = tenant.followers(stale[0].kind)
    verdicts = records.observe(tx, tenant.id, endpoint, observations, now=now, followers=followers)
    lagging = [
        asked
        for asked, verdict in zip(stale, verdicts, strict=True)
        if verdict is Verdict.OLD and asked.attempts <= ALONE_FROM
    ]
    for asked in lagging:
        until = now + wait(Retry("read again later"), asked.attempts, MIDDLE)
        records.put_off_stale(tx, tenant.id, endpoint, asked, until)
    records.drop_stale(tx, tenant.id, endpoint, [asked for asked in stale if asked not in lagging])
