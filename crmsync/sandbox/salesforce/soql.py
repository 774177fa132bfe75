"""The part of SOQL that the emulator answers: one object, conditions, an order, a limit, and fields of parents.

Refuses, as Salesforce does, what it does not know, AND beside OR without parentheses, and long texts in conditions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from crmsync.sandbox.salesforce.objects import Field

Look = Callable[[Any, str], Any]
"""The value of a field of a row, by its dotted name."""
Condition = Callable[[Any], bool]
_TOKENS = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*')
    |(?P<moment>\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))?)
    |(?P<number>-?\d+(?:\.\d+)?)
    |(?P<word>[A-Za-z_][\w.]*)
    |(?P<sign><=|>=|!=|<>|[=<>(),]))""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_ORDERED = {"<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (1, 0)}


class Complaint(Exception):
    """A query that is refused: Salesforce's code, and what it says."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked. Without columns it is the number of rows."""

    columns: tuple[str, ...]
    of: str
    condition: Condition | None
    order: tuple[tuple[str, bool], ...]
    limit: int | None


def parse(text: str, find: Callable[[str, str], Field | None], look: Look) -> Query:
    """Understands a query. `find` knows the fields of an object. Raises `Complaint`."""
    return _Parser(text, find, look).query()


class _Parser:
    def __init__(self, text: str, find: Callable[[str, str], Field | None], look: Look) -> None:
        self._tokens = list(_split(text))
        self._find = find
        self._look = look
        self._of = ""

    def query(self) -> Query:
        self._expect("SELECT")
        columns = self._columns()
        self._expect("FROM")
        self._of = self._word()
        for name in columns:
            self._field(name)
        condition = self._any() if self._took("WHERE") else None
        order = self._order() if self._took("ORDER") else ()
        limit = int(self._next("number")) if self._took("LIMIT") else None
        if self._tokens:
            raise self._malformed()
        return Query(columns, self._of, condition, order, limit)

    def _columns(self) -> tuple[str, ...]:
        if self._took("COUNT"):
            self._expect("(")
            self._expect(")")
            return ()
        names = [self._word()]
        while self._took(","):
            names.append(self._word())
        return tuple(names)

    def _order(self) -> tuple[tuple[str, bool], ...]:
        self._expect("BY")
        order = []
        while True:
            name = self._word()
            self._field(name)
            descending = self._took("DESC") or (self._took("ASC") and False)
            if self._took("NULLS"):
                self._word()
            order.append((name, descending))
            if not self._took(","):
                return tuple(order)

    # -- conditions

    def _any(self) -> Condition:
        """Conditions joined by OR or by AND, never by both."""
        parts, joins = [self._one()], set()
        while (join := self._peek()) in ("AND", "OR"):
            self._tokens.pop(0)
            joins.add(join)
            parts.append(self._one())
        if len(joins) > 1:
            raise self._malformed()
        return (
            (lambda row: any(part(row) for part in parts))
            if "OR" in joins
            else (lambda row: all(part(row) for part in parts))
        )

    def _one(self) -> Condition:
        if self._took("NOT"):
            inner = self._one()
            return lambda row: not inner(row)
        if self._took("("):
            inner = self._any()
            self._expect(")")
            return inner
        name = self._word()
        field = self._field(name)
        if not field.filterable:
            raise Complaint("INVALID_FIELD", f"field '{name}' can not be filtered in a query call")

        def held(row: Any) -> Any:
            return _folded(self._look(row, name), field.type)

        if self._took("NOT"):
            self._expect("IN")
            unwanted = self._values(field)
            return lambda row: held(row) not in unwanted
        if self._took("IN"):
            values = self._values(field)
            return lambda row: held(row) in values
        return self._compared(held, field, self._next("sign", "word"))

    def _compared(self, held: Callable[[Any], Any], field: Field, sign: str) -> Condition:
        value = self._literal(field)
        if sign in ("=", "!=", "<>"):
            return lambda row: (held(row) == value) is (sign == "=")
        if sign.upper() == "LIKE":
            pattern = re.compile(re.escape(str(value)).replace("%", ".*").replace("_", "."), re.DOTALL)
            return lambda row: bool(pattern.fullmatch(str(held(row) or "")))
        if sign not in _ORDERED or value is None:
            raise self._malformed()
        return lambda row: _sign(held(row), value) in _ORDERED[sign]

    def _values(self, field: Field) -> set[Any]:
        self._expect("(")
        values = {self._literal(field)}
        while self._took(","):
            values.add(self._literal(field))
        self._expect(")")
        return values

    def _literal(self, field: Field) -> Any:
        kind, text = self._tokens.pop(0) if self._tokens else ("", "")
        if kind == "word" and text.upper() in ("TRUE", "FALSE", "NULL"):
            return {"TRUE": True, "FALSE": False, "NULL": None}[text.upper()]
        if kind == "number" and field.type in ("int", "double", "currency", "percent"):
            return float(text)
        if kind == "moment" and field.type in ("datetime", "date"):
            return _moment(text) if field.type == "datetime" else date.fromisoformat(text)
        if kind == "text" and field.type not in ("datetime", "date", "boolean", "int", "double"):
            inner = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1], flags=re.DOTALL)
            return _folded(inner, field.type)
        said = f"value of filter criterion for field '{field.name}' must be of type {field.type}"
        raise Complaint("INVALID_FIELD", said)

    # -- words

    def _field(self, name: str) -> Field:
        if (found := self._find(self._of, name)) is None:
            raise Complaint("INVALID_FIELD", f"No such column '{name}' on entity '{self._of}'.")
        return found

    def _peek(self) -> str:
        return self._tokens[0][1].upper() if self._tokens and self._tokens[0][0] != "text" else ""

    def _took(self, word: str) -> bool:
        if self._peek() == word:
            self._tokens.pop(0)
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._took(word):
            raise self._malformed()

    def _word(self) -> str:
        return self._next("word")

    def _next(self, *kinds: str) -> str:
        if not self._tokens or self._tokens[0][0] not in kinds:
            raise self._malformed()
        return self._tokens.pop(0)[1]

    def _malformed(self) -> Complaint:
        return Complaint("MALFORMED_QUERY", f"unexpected token: {self._tokens[0][1] if self._tokens else '<EOF>'}")


def _split(text: str) -> Iterator[tuple[str, str]]:
    place, text = 0, text.rstrip()
    while place < len(text):
        found = _TOKENS.match(text, place)
        if found is None or found.lastgroup is None:
            raise Complaint("MALFORMED_QUERY", f"line 1:{place} no viable alternative")
        place = found.end()
        yield found.lastgroup, found[found.lastgroup]


def _moment(text: str) -> datetime:
    """Comparisons ignore milliseconds."""
    return datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)


def _folded(value: Any, type: str = "") -> Any:
    """A value as it is compared: texts without regard to case, ids by their first 15 characters with it."""
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    if isinstance(value, str):
        return value[:15] if type in ("id", "reference") else value.casefold()
    return value


def _sign(held: Any, value: Any) -> int | None:
    if held is None:
        return None
    return int(held > value) - int(held < value)
