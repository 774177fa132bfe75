"""Messages and timelines, segments and labels, users."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from crmsync.store.columns import BigId, Document, Instant


class MessageRow(SQLModel, table=True):
    """What is known of one message. `said` has what is not needed to find it: its words, its status, its file."""

    __tablename__ = "message"
    __table_args__ = (
        Index("message_wamid", "tenant", "wamid", unique=True),
        Index("message_kirim_id", "tenant", "kirim_id", unique=True),
        Index("message_thread", "tenant", "conversation_id", "at"),
        Index("message_phone", "tenant", "phone", "at"),
        Index("message_first_at", "first_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    wamid: str | None = None
    kirim_id: str | None = None
    conversation_id: str | None = None
    contact_id: str | None = None
    phone: str | None = None
    number_id: str | None = None
    at: datetime | None = Field(default=None, sa_column=Column(Instant))
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    said: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))


class TimelineEntry(SQLModel, table=True):
    """An entry on a CRM's timeline: a message, or what was said in a thread on a day. It is due when `not_before` says.

    `sent` is the digest of the text that stands there; `attempts` counts the sendings that came to no end.
    """

    __tablename__ = "timeline"
    __table_args__ = (
        Index("timeline_due", "tenant", "connection", "not_before"),
        Index("timeline_message", "tenant", "message_id"),
    )

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    message_id: int | None = Field(default=None, sa_column=Column(BigInteger))
    thread: str = ""
    day: str = ""
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    crm_id: str | None = None
    sent: str = ""
    attempts: int = 0
    failures: int = 0
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    reason: str = ""
    error: str = ""
    cause: str = ""


class SegmentState(SQLModel, table=True):
    """A label that a segment manages: when it is due, and how the last walk went.

    `generation` moves with every chunk that Kirim accepted: the same chunk later is another request.
    """

    __tablename__ = "segment"
    __table_args__ = (Index("segment_due", "tenant", "connection", "due_at"),)

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    generation: int = Field(sa_column=Column(BigInteger, nullable=False))
    permitted: bool = False  # a person allowed the next walk to take the label from however many
    done_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    told: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    error: str = ""


class SegmentMember(SQLModel, table=True):
    """A contact that has a segment's label from us, or is about to get or lose it."""

    __tablename__ = "segment_member"

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    standing: str  # core.segments.Standing
    since: datetime = Field(sa_column=Column(Instant, nullable=False))


class PersonRow(SQLModel, table=True):
    """A user that records belong to, as an endpoint names them."""

    __tablename__ = "person"
    __table_args__ = (Index("person_email", "tenant", "endpoint", "email"),)

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    email: str | None = None
    name: str | None = None
    active: bool = True
    seen_at: datetime = Field(sa_column=Column(Instant, nullable=False))
