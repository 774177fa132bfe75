"""The tables of what bounds writing: pauses, what brakes have counted, and what is left of each credential's budget."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column
from sqlmodel import Field, SQLModel

from crmsync.store.columns import Document, Instant


class Pause(SQLModel, table=True):
    """A kind of write that is paused on a connection, by a person or because a limit was reached."""

    __tablename__ = "pause"

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    what: str = Field(primary_key=True)  # core.brakes.Brake, or all
    since: datetime = Field(sa_column=Column(Instant, nullable=False))
    by: str
    reason: str = ""


class Tally(SQLModel, table=True):
    """How many records a kind of write touched in a short stretch of time, for the brakes.

    `scope` is the cause of a run, and empty for whatever no run found.
    """

    __tablename__ = "tally"

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    what: str = Field(primary_key=True)
    slot: datetime = Field(sa_column=Column(Instant, primary_key=True))
    count: int


class Budget(SQLModel, table=True):
    """What is left of one limit of a credential, which tenants and processes may share: see `core.budget.Allowance`.

    `credential` is a digest; `users` are the endpoints that draw from it.
    """

    __tablename__ = "budget"

    credential: str = Field(primary_key=True)
    bucket: str = Field(primary_key=True)
    documented: Any = Field(sa_column=Column(Document, nullable=False))
    users: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    state: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
