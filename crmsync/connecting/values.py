"""Values as they come out of JSON that others wrote: lists that may be none, times that may be anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from crmsync.model import Record, Value

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def listed(value: object) -> Sequence[Any]:
    """The value if it is a list, else nothing."""
    return value if isinstance(value, list) else ()


def shaped(pattern: re.Pattern[str], value: object) -> str:
    """The value if it looks like what it should be, else "": error bodies repeat what was sent."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def alike(
    values: Iterable[str], found: Iterable[tuple[object, Record]], fold: Callable[[str], str]
) -> Mapping[str, Sequence[Record]]:
    """What was found for each value, as `Connector.find` tells it, on a platform to which the space around a text is
    nothing, nor is what `fold` takes away. `found` has what each record holds in the field that was searched."""
    by_value: dict[str, list[Record]] = {}
    for held, record in found:
        by_value.setdefault(fold(str(held or "").strip()), []).append(record)
    return {value: by_value.get(fold(value.strip()), []) for value in values}


def members_of(value: Value) -> tuple[str, ...]:
    """The members of a set; a text is the only one."""
    return (value,) if isinstance(value, str) and value else value if isinstance(value, tuple) else ()


def moment_of(text: object) -> datetime | None:
    """A time in UTC, None where there is none. One without a zone is taken for UTC."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def milliseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)
