"""Reads records whose view cannot be trusted: after a hint, or where two statements of one version disagreed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from crmsync import crash
from crmsync.connector import Connector
from crmsync.core.retry import ALONE_FROM, ATTEMPTS, FAILURES, MIDDLE, wait
from crmsync.core.trouble import Reason
from crmsync.core.views import Source, Verdict, View
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.flows.sparing import Lavish, Sparing, urgency
from crmsync.flows.tenant import Tenant
from crmsync.model import Kind, Record, Ref
from crmsync.store import records, stale
from crmsync.store.database import Database
from crmsync.store.lanes import Fence
from crmsync.store.records import Observation
from crmsync.store.stale import StaleRecord

PATIENCE = 3
"""Records that are read alone and fail one after the other before it must be the platform that fails."""
SUSPECTS = 8
"""Records that are read alone in one turn: the others are not to wait for long."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Whose records are read, and how what they hold is stored."""

    database: Database
    tenant: Tenant
    endpoint: str
    fence: Fence
    clock: Callable[[], datetime]
    sparing: Sparing

    @property
    def connector(self) -> Connector[Any]:
        """The endpoint itself."""
        return self.tenant.endpoint(self.endpoint)


def reread(
    database: Database,
    tenant: Tenant,
    endpoint: str,
    fence: Fence,
    clock: Callable[[], datetime],
    sparing: Sparing | None = None,
) -> int:
    """Reads one batch of an endpoint's stale records and observes what they hold; says how many were taken.

    Raises `Retry` or `Suspend` where the platform cannot be read; the records stay stale then. A record whose
    reading failed several times, or ended the process, is read alone and less and less often, and in the end no
    more; the others are read all the same.
    """
    reading = Reading(database, tenant, endpoint, fence, clock, sparing or Lavish())
    limit = reading.connector.batch_size
    taken = database.write(
        lambda tx: stale.take(tx, tenant.id, endpoint, limit, clock(), together=ALONE_FROM, alone=SUSPECTS)
    )
    crash.point("reread.counted")
    spent = [record for record in taken if record.attempts > ATTEMPTS]
    _give_up(reading, spent, Reason.EXHAUSTED, f"given up after {ATTEMPTS} starts that did not come to an end")
    calm = [record for record in taken if not _alone(record)]
    for kind in {record.kind for record in calm}:
        _read_together(reading, [record for record in calm if record.kind is kind])
    _read_alone(reading, [record for record in taken if _alone(record) and record not in spent])
    return len(taken)


def _alone(record: StaleRecord) -> bool:
    return record.attempts > ALONE_FROM or record.failures >= ALONE_FROM


def _read_together(reading: Reading, batch: Sequence[StaleRecord]) -> None:
    """A batch; if it fails as a whole, that is remembered of each."""
    try:
        with reading.sparing.asking(urgency(record.cause for record in batch)):
            _read(reading, batch)
    except ConnectorError as error:
        own = not isinstance(error, (Suspend, Throttled))
        now = reading.clock()
        _put_off(reading, [(record, now, record.failures + own) for record in batch])
        raise


def _read_alone(reading: Reading, suspects: Sequence[StaleRecord]) -> None:
    """Each by itself, least suspect first; its next try is put off before this one begins, however this one ends."""
    streak = 0
    for suspect in sorted(suspects, key=lambda record: (record.attempts, record.failures)):
        pause = reading.sparing.wait()
        if pause and suspect.failures:
            _put_off(reading, [(suspect, reading.clock() + pause, suspect.failures)])
            continue
        until = _later(reading, max(suspect.attempts - ALONE_FROM, suspect.failures))
        _start(reading, suspect, until)
        try:
            with reading.sparing.spending():
                _read(reading, [suspect])
        except (Suspend, Throttled):
            _put_off(reading, [(suspect, reading.clock(), suspect.failures)])
            raise
        except ConnectorError as error:
            streak += 1
            _failed(reading, suspect, until, error)
            if streak >= PATIENCE:
                raise
        else:
            streak = 0


def _failed(reading: Reading, record: StaleRecord, until: datetime, error: ConnectorError) -> None:
    """The platform fails for this record while it may be well otherwise: after about a day it is given up."""
    if record.failures >= FAILURES:
        _give_up(reading, [record], Reason.UNANSWERED, f"given up after {FAILURES} failures, the last: {error}")
    else:
        _put_off(reading, [(record, until, record.failures + 1)])


def _later(reading: Reading, tries: int) -> datetime:
    return reading.clock() + wait(Retry("read again later"), tries, MIDDLE)


def _start(reading: Reading, record: StaleRecord, until: datetime) -> None:
    reading.database.write(lambda tx: stale.start(tx, reading.tenant.id, reading.endpoint, record, until))


def _put_off(reading: Reading, until: Sequence[tuple[StaleRecord, datetime, int]]) -> None:
    reading.database.write(lambda tx: stale.put_off(tx, reading.tenant.id, reading.endpoint, until))


def _give_up(reading: Reading, given_up: Sequence[StaleRecord], reason: Reason, error: str) -> None:
    def store(tx: Connection) -> None:
        reading.fence(tx)
        stale.give_up(tx, reading.tenant.id, reading.endpoint, given_up, reason, error)

    if given_up:
        reading.database.write(store)


def _read(reading: Reading, batch: Sequence[StaleRecord]) -> None:
    """Records of one kind: read, then stored."""
    kind, ids = batch[0].kind, {record.id for record in batch}
    known = reading.database.read(lambda tx: records.views(tx, reading.tenant.id, reading.endpoint, kind, ids))
    crash.point("reread.fetch", " ".join(sorted(ids)).encode())
    held = _fetch(reading.connector, kind, batch)
    crash.point("reread.answered")
    now = reading.clock()
    reading.database.write(lambda tx: _observe(tx, reading, batch, held, known, now))
    crash.point("reread.stored")


def _fetch(connector: Connector[Any], kind: Kind, batch: Sequence[StaleRecord]) -> Sequence[Record | None]:
    """The records as they are; an id that the platform refuses to read counts as none, alone."""
    try:
        return connector.fetch(kind, [Ref(id=record.id) for record in batch])
    except Reject:
        if len(batch) == 1:
            return [None]
        middle = len(batch) // 2
        return [*_fetch(connector, kind, batch[:middle]), *_fetch(connector, kind, batch[middle:])]


def _observe(
    tx: Connection,
    reading: Reading,
    batch: Sequence[StaleRecord],
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
        for asked, record in zip(batch, held, strict=True)
    ]
    followers = tenant.followers(batch[0].kind)
    verdicts = records.observe(tx, tenant.id, endpoint, observations, now=now, followers=followers)
    lagging = [
        asked
        for asked, verdict in zip(batch, verdicts, strict=True)
        if verdict is Verdict.OLD and asked.failures < ALONE_FROM
    ]
    again = [(asked, _later(reading, asked.failures + 1), asked.failures + 1) for asked in lagging]
    stale.put_off(tx, tenant.id, endpoint, again)
    stale.drop(tx, tenant.id, endpoint, [asked for asked in batch if asked not in lagging])
