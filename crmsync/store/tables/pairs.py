"""What is known of records, what is due, and what was written down about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel

from crmsync.store.columns import CLUSTERED, BigId, Document, Instant


class View(SQLModel, table=True):
    """What an endpoint was last seen to hold of one record, in its own spelling. Kept once per record."""

    __tablename__ = "view"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    external_id: str | None = None
    fields: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    version: datetime | None = Field(default=None, sa_column=Column(Instant))
    seen_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    cause: str = ""
    exists: bool = True
    times: Any = Field(default=None, sa_column=Column(Document))  # core.views.View.times


class Alias(SQLModel, table=True):
    """The id of a record that was merged away, and the record that holds its content now."""

    __tablename__ = "alias"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    survivor: str


class Pair(SQLModel, table=True):
    """A Kirim record and its record in one CRM: the link, what both last agreed on, and how the work goes."""

    __tablename__ = "pair"
    __table_args__ = (
        Index("pair_crm", "tenant", "connection", "kind", "crm_id", unique=True),
        Index(
            "pair_parked",
            "tenant",
            "connection",
            sqlite_where=text("parked"),
            postgresql_where=text("parked"),
        ),
    )

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    crm_id: str | None = None
    looked_up: bool = False
    base: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    noted: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    attempts: int = 0  # starts without an end: what killed the process counts too
    failures: int = 0  # ends that were passing trouble, in a row
    parked: bool = False
    error: str = ""
    reason: str = ""  # core.trouble.Reason: why it is parked, in one word
    trouble: Any = Field(default=None, sa_column=Column(Document))  # what was sent and answered, without values
    recent: Any = Field(default=None, sa_column=Column(Document))  # core.breaker: writes of the last minutes, by field
    synced_at: datetime | None = Field(default=None, sa_column=Column(Instant))


class Due(SQLModel, table=True):
    """A pair to be looked at. `revision` moves with every observation; a flush removes only the revision it took."""

    __tablename__ = "change"
    __table_args__ = (Index("change_due", "tenant", "connection", "rank", "first_at", "not_before"), CLUSTERED)

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    cause: str = ""
    rank: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # records.Rank: what goes first


class Stale(SQLModel, table=True):
    """A record that must be read again before its view can be trusted."""

    __tablename__ = "stale"
    __table_args__ = (Index("stale_due", "tenant", "endpoint", "not_before", "first_at"),)

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    attempts: int = 0  # starts without an end: what killed the process counts too
    failures: int = 0  # ends that were passing trouble, in a row
    reason: str = ""  # core.trouble.Reason: why it is read no more
    error: str = ""
    cause: str = ""


class History(SQLModel, table=True):
    """Why fields hold their values: one row for all that was decided about a pair at once, field by field."""

    __tablename__ = "history"
    __table_args__ = (
        Index("history_pair", "tenant", "kirim_id", "id"),
        Index("history_at", "at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
    tenant: str
    connection: str
    kind: str
    kirim_id: str
    cause: str
    steps: str  # JSON: a list for every field, see store.history
    kirim_written: int = 0  # fields that were written, by side
    crm_written: int = 0


class Candidate(SQLModel, table=True):
    """A CRM record that a contact without one may be: a person decides, and a refusal is remembered."""

    __tablename__ = "candidate"

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    crm_id: str = Field(primary_key=True)
    choice: str  # store.matches.Choice
    found_by: str
    shown: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    at: datetime = Field(sa_column=Column(Instant, nullable=False))


class ConflictRow(SQLModel, table=True):
    """A field that both sides changed, or that went back and forth, as it was then: see `store.conflicts`.

    `decree` is the value that a person chose, in a list of one, until both sides hold it.
    """

    __tablename__ = "conflict"
    __table_args__ = (Index("conflict_at", "at"),)

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    field: str = Field(primary_key=True)
    state: str  # store.conflicts.State
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
    kirim: Any = Field(default=None, sa_column=Column(Document))
    crm: Any = Field(default=None, sa_column=Column(Document))
    won: str = ""  # the side whose value stood; empty for a frozen field
    owner: str
    times: int
    cause: str
    sequence: Any = Field(default=None, sa_column=Column(Document))
    decree: Any = Field(default=None, sa_column=Column(Document))
    decreed_at: datetime | None = Field(default=None, sa_column=Column(Instant))
