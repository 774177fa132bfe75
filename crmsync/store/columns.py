"""Types of columns that mean the same on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import BigInteger, Integer, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

EPOCH = datetime.fromtimestamp(0, UTC)


class Instant(TypeDecorator[datetime]):
    """A moment as whole microseconds since 1970 in UTC: the same number, order and precision on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Microseconds; refuses a time without zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone cannot be stored")
        return microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """An aware time in UTC."""
        return None if value is None else moment(value)


def microseconds(value: datetime) -> int:
    """Whole microseconds since 1970, of an aware time."""
    since = value - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(microseconds: int) -> datetime:
    """An aware time in UTC, of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


class Document(TypeDecorator[Any]):
    """A JSON document kept as text: no database gets to respell it, and `\\u0000` is as good as any character."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """The text of a value; None stays NULL."""
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The value of a text."""
        return None if value is None else orjson.loads(value)


CLUSTERED = {"sqlite_with_rowid": False}
"""On SQLite a small row is kept with its key: one tree to go down instead of two."""
BigId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself only for INTEGER
