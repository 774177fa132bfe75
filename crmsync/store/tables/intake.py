"""What came in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from crmsync.store.columns import BigId, Document, Instant


class Delivery(SQLModel, table=True):
    """What came in, byte for byte. `key` is derived from the body: the same body is the same delivery."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index("delivery_key", "tenant", "source", "key", unique=True),
        Index(
            "delivery_pending",
            "tenant",
            "source",
            "id",
            "not_before",
            sqlite_where=text("state = 0"),
            postgresql_where=text("state = 0"),
        ),
        Index("delivery_done", "received_at", sqlite_where=text("state = 1"), postgresql_where=text("state = 1")),
        Index("delivery_dead", "received_at", sqlite_where=text("state > 1"), postgresql_where=text("state > 1")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    source: str
    key: bytes = Field(sa_column=Column(LargeBinary(32), nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    secret: str = ""  # which secret verified it
    state: int = 0  # DeliveryState
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    reason: str = Field(default="", sa_column_kwargs={"server_default": ""})
    not_before: datetime | None = Field(default=None, sa_column=Column(Instant))  # for what killed the process
    forced: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # 1: its items count as new, though known


class Quarantined(SQLModel, table=True):
    """A request that claimed to be a delivery and did not prove it, byte for byte, with what a second look needs."""

    __tablename__ = "quarantine"
    __table_args__ = (
        Index("quarantine_key", "tenant", "source", "key", unique=True),
        Index("quarantine_ring", "tenant", "received_at", "size"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    source: str
    key: bytes = Field(sa_column=Column(LargeBinary(32), nullable=False))
    reason: str
    path: str
    headers: Any = Field(sa_column=Column(Document, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    received_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class SeenItem(SQLModel, table=True):
    """One thing a delivery said, and how it ended. Its key is remembered longer than any sender can repeat it."""

    __tablename__ = "item"
    __table_args__ = (
        Index("item_delivery", "delivery_id"),
        Index("item_at", "at"),
        Index("item_dead", "at", sqlite_where=text("outcome = 'dead'"), postgresql_where=text("outcome = 'dead'")),
    )

    tenant: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    type: str
    delivery_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    outcome: str
    reason: str = ""
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
