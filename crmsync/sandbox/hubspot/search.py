"""The search of an emulated HubSpot account: a view of the records that lags behind, with the real limits."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from crmsync.sandbox.hubspot.properties import Properties
from crmsync.sandbox.hubspot.records import Problem, Record

MOST_HITS = 10_000
LARGEST_PAGE = 200
_GROUPS, _FILTERS, _FILTERS_IN_ALL = 5, 6, 18

Row = Mapping[str, str]
Size = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Found:
    """One page of hits (record ids with the properties as indexed), their number, where the next page begins."""

    rows: tuple[tuple[int, Row], ...]
    total: int
    after: int | None


class Index:
    """What search sees: for each record its properties as they were `lag` seconds ago."""

    def __init__(self, properties: Properties, now: Callable[[], datetime]) -> None:
        self._properties = properties
        self._now = now
        self._rows: dict[int, Row] = {}
        self._late: deque[tuple[datetime, int, Row]] = deque()

    def update(self, record: Record, lag: float) -> None:
        """Takes note of a record's present state, visible after `lag` seconds."""
        self._late.append((self._now() + timedelta(seconds=lag), record.id, dict(record.properties)))

    def remove(self, number: int) -> None:
        """A record that is archived or gone is never found again, not even by what is still to be indexed."""
        self._rows.pop(number, None)
        self._late = deque(item for item in self._late if item[1] != number)

    def search(self, query: Mapping[str, Any]) -> Found:
        """Runs a search request. Raises `Problem` for what HubSpot refuses."""
        self._catch_up()
        groups = _checked_groups(query.get("filterGroups") or [])
        for rule in (rule for group in groups for rule in group):
            self._type_of(rule.get("propertyName"))
        limit, offset = _paging(query)
        hits = [
            (number, row)
            for number, row in self._rows.items()
            if not groups or any(all(self._matches(row, rule) for rule in group) for group in groups)
        ]
        name, descending = _sort(query.get("sorts") or [])
        hits.sort(key=lambda hit: (self._sortable(name, hit[1].get(name, "")), hit[0]), reverse=descending)
        page = hits[offset : offset + limit]
        after = offset + limit
        return Found(tuple(page), len(hits), after if after < len(hits) else None)

    def _catch_up(self) -> None:
        now = self._now()
        late: deque[tuple[datetime, int, Row]] = deque()
        for item in self._late:
            if item[0] <= now:
                self._rows[item[1]] = item[2]
            else:
                late.append(item)
        self._late = late

    def _matches(self, row: Row, rule: Mapping[str, Any]) -> bool:
        name, operator = rule["propertyName"], rule["operator"]
        held = row.get(name, "")
        if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
            return (held != "") is (operator == "HAS_PROPERTY")
        if operator == "IN":  # IN compares with lower-case values only
            return held != "" and held.casefold() in list(rule["values"])
        if not held:
            return str(operator) == "NEQ"
        left, right = self._sortable(name, held), self._sortable(name, rule.get("value", ""))
        if operator == "BETWEEN":
            return right <= left <= self._sortable(name, rule.get("highValue", ""))
        return _COMPARE[operator](left, right)

    def _sortable(self, name: str, text: str) -> Size:
        """A value as it compares: numbers and times by size, texts without regard to case."""
        type_name = self._type_of(name)
        if not text or type_name not in ("number", "date", "datetime"):
            return 0.0, text.casefold()
        return _size(text, type_name), ""

    def _type_of(self, name: Any) -> str:
        known = self._properties.get(str(name))
        if known is None:
            raise Problem(400, "VALIDATION_ERROR", f"There was a problem with the request: no property {name}")
        return known.type


_COMPARE: Mapping[str, Callable[[Size, Size], bool]] = {
    "EQ": lambda left, right: left == right,
    "NEQ": lambda left, right: left != right,
    "LT": lambda left, right: left < right,
    "LTE": lambda left, right: left <= right,
    "GT": lambda left, right: left > right,
    "GTE": lambda left, right: left >= right,
}
_OPERATORS = frozenset({*_COMPARE, "IN", "BETWEEN", "HAS_PROPERTY", "NOT_HAS_PROPERTY"})


@lru_cache(maxsize=100_000)
def _size(text: str, type_name: str) -> float:
    try:
        if type_name == "number" or re.fullmatch(r"-?\d+", text):
            return float(text)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
    except ValueError:
        raise Problem(400, "VALIDATION_ERROR", f"Invalid filter value for {type_name}") from None


def _checked_groups(groups: Sequence[Mapping[str, Any]]) -> list[Sequence[Mapping[str, Any]]]:
    filters = [group.get("filters") or [] for group in groups]
    if len(filters) > _GROUPS or any(len(group) > _FILTERS for group in filters):
        raise Problem(400, "VALIDATION_ERROR", f"At most {_GROUPS} groups of {_FILTERS} filters each")
    if sum(map(len, filters)) > _FILTERS_IN_ALL:
        raise Problem(400, "VALIDATION_ERROR", f"At most {_FILTERS_IN_ALL} filters in all")
    for rule in (rule for group in filters for rule in group):
        if rule.get("operator") not in _OPERATORS:
            raise Problem(400, "VALIDATION_ERROR", "This operator is not supported")
        if rule["operator"] == "IN" and not rule.get("values"):
            raise Problem(400, "VALIDATION_ERROR", "IN needs values")
    return filters


def _paging(query: Mapping[str, Any]) -> tuple[int, int]:
    limit = query.get("limit", 10)
    after = str(query.get("after") or 0)
    if not isinstance(limit, int) or not 0 < limit <= LARGEST_PAGE:
        raise Problem(400, "VALIDATION_ERROR", f"limit must be between 1 and {LARGEST_PAGE}")
    if not after.isdecimal():
        raise Problem(400, "VALIDATION_ERROR", "after must be an integer")
    if int(after) + limit > MOST_HITS:
        raise Problem(400, "VALIDATION_ERROR", f"Paging ends after {MOST_HITS} results")
    return limit, int(after)


def _sort(sorts: Sequence[Any]) -> tuple[str, bool]:
    """The property and whether it descends. HubSpot takes a name, a name after a minus, or an object."""
    if len(sorts) > 1:
        raise Problem(400, "VALIDATION_ERROR", "Only one sort is allowed")
    if not sorts:
        return "hs_object_id", False
    if isinstance(sorts[0], str):
        return sorts[0].lstrip("-"), sorts[0].startswith("-")
    return sorts[0]["propertyName"], sorts[0].get("direction") == "DESCENDING"
