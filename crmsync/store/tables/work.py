"""Lanes, schedules, chores and runs: who works on what, and how far it came."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

from crmsync.store.columns import CLUSTERED, BigId, Document, Instant


class LaneState(SQLModel, table=True):
    """A lane that rests because its endpoint failed: until when, how often in a row, and why if it is suspended."""

    __tablename__ = "lane"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    work: str = Field(primary_key=True)
    not_before: datetime | None = Field(default=None, sa_column=Column(Instant))
    suspended: str = ""
    attempts: int = 0


class Suspension(SQLModel, table=True):
    """An endpoint whose credential or account is the trouble, or was until lately: see `store.suspensions`."""

    __tablename__ = "suspension"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    since: datetime = Field(sa_column=Column(Instant, nullable=False))
    reason: str
    look_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    probes: int = 0
    trial: bool = False


class Cursor(SQLModel, table=True):
    """How far a feed was read. Moves only in the transaction that stores the rows it covers."""

    __tablename__ = "cursor"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    feed: str = Field(primary_key=True)
    position: str | None = None
    began_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    more: bool = False
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    read_at: datetime | None = Field(default=None, sa_column=Column(Instant))


class Fire(SQLModel, table=True):
    """A planned moment of a schedule, claimed by the one node that acts on it. `note` says what came of that."""

    __tablename__ = "fire"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    slot: datetime = Field(sa_column=Column(Instant, primary_key=True))
    node: str
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
    note: str = ""


class Chore(SQLModel, table=True):
    """What is looked after now and then for a tenant: when it is due, when it was done, and what came of it."""

    __tablename__ = "chore"

    tenant: str = Field(primary_key=True)
    work: str = Field(primary_key=True)  # store.lanes.Work
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    done_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    state: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))


class Replay(SQLModel, table=True):
    """A dead delivery of Kirim's that it was asked to send again, and how often that was done for its event."""

    __tablename__ = "replay"
    __table_args__ = (Index("replay_event", "tenant", "event"), Index("replay_at", "at"))

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)  # Kirim's id of the delivery
    event: str = ""
    times: int
    at: datetime = Field(sa_column=Column(Instant, nullable=False))


class Run(SQLModel, table=True):
    """A piece of work that goes through many records, page by page, and where it stands: see `store.runs`."""

    __tablename__ = "run"
    __table_args__ = (
        Index(
            "run_due",
            "due_at",
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    kind: str
    endpoint: str  # whose lane it is worked in just now
    state: str
    options: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    place: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    counts: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    steps: int = 0  # moves with every step: whoever holds an older number is late
    began_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    moved_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    error: str = ""


class Sighting(SQLModel, table=True):
    """A record that a run saw; `held` is what it held, where that is not what its view says."""

    __tablename__ = "sighting"
    __table_args__ = (CLUSTERED,)

    tenant: str = Field(primary_key=True)
    run: int = Field(sa_column=Column(BigInteger, primary_key=True))
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    held: Any = Field(default=None, sa_column=Column(Document))


class Planned(SQLModel, table=True):
    """What a plan would write for one pair; and once a person approved of it, how far that came.

    `fingerprint` tells whether what would be written now is still what was planned.
    """

    __tablename__ = "planned"
    __table_args__ = (
        Index("planned_due", "tenant", "connection", "not_before"),
        Index("planned_run", "run", "kind", "kirim_id"),
    )

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    run: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    fingerprint: str
    state: str  # store.plans.State
    item: Any = Field(default=None, sa_column=Column(Document))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    attempts: int = 0
    error: str = ""
