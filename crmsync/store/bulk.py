"""One statement for many rows, compiled once: the hot paths of the store, at what the driver itself costs.

SQLAlchemy compiles and converts, as everywhere; only its work for every single row is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import orjson
from sqlalchemy import Connection, Text, and_, any_, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

Convert = Callable[[Any], Any]
TOGETHER = (100, 25, 5)
"""Rows that SQLite is given in one statement: with each statement the interpreter's lock is given away and won back."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The text for one dialect, its parameters in order, and how those are converted that have to be."""

    text: str
    names: tuple[str, ...]
    converters: tuple[tuple[int, Convert], ...]
    positional: bool
    several: Mapping[int, str]

    def execute(self, connection: Connection, rows: Iterable[list[Any]]) -> int:
        """Sends the rows, several in one statement where the driver would send each by itself. How many changed."""
        ready = self.converted(rows)
        if not self.positional:
            return connection.exec_driver_sql(self.text, ready).rowcount
        driver, place, changed = sqlite_driver(connection), 0, 0
        for size, text in self.several.items():
            while len(ready) - place >= size:
                changed += driver.execute(text, tuple(chain.from_iterable(ready[place : place + size]))).rowcount
                place += size
        if place < len(ready):
            changed += driver.executemany(self.text, ready[place:]).rowcount
        return changed

    def converted(self, rows: Iterable[list[Any]]) -> list[Any]:
        """Rows in the order of the names, as the driver takes them."""
        converters, names = self.converters, self.names
        last: dict[int, tuple[Any, Any]] = {}  # many rows share one moment: what was converted once is not again
        done: list[Any] = []
        for values in rows:
            for place, convert in converters:
                value = values[place]
                if value is not None:
                    before = last.get(place)
                    if before is None or before[0] is not value:
                        before = last[place] = (value, convert(value))
                    values[place] = before[1]
            done.append(tuple(values) if self.positional else dict(zip(names, values, strict=True)))
        return done


def sqlite_driver(connection: Connection) -> Any:
    """The driver's own connection, inside the transaction: SQLAlchemy has nothing to add to rows that are converted."""
    if not connection.in_transaction():
        connection.begin()
    return connection.connection.driver_connection


class Bulk:
    """A statement whose parameters are all named. `build` is given the dialect's `insert`, and makes it.

    Rows that are updated or deleted have to be different ones.
    """

    def __init__(self, build: Callable[[Callable[[Any], Any]], Any], columns: Sequence[str] = ()) -> None:
        self._build = build
        self._columns = list(columns)
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Executes it for every row, and says how many changed. Nothing is done for none."""
        if not rows:
            return 0
        made = self._made(connection)
        names = made.names
        return made.execute(connection, ([row[name] for name in names] for row in rows))

    def run_ordered(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """The same with rows that have the columns in their order."""
        if rows:
            made = self._made(connection)
            order = [self._columns.index(name) for name in made.names]
            straight = order == list(range(len(order)))
            ordered = (list(row) if straight else [row[place] for place in order] for row in rows)
            made.execute(connection, ordered)

    def _made(self, connection: Connection) -> _Compiled:
        name = connection.dialect.name
        compiled = self._compiled.get(name)
        if compiled is None:
            compiled = self._compiled[name] = self._compile(connection)
        return compiled

    def _compile(self, connection: Connection) -> _Compiled:
        dialect = connection.dialect
        statement = self._build((sqlite if dialect.name == "sqlite" else postgresql).insert)
        made = statement.compile(dialect=dialect, column_keys=self._columns or None)
        names = tuple(made.positiontup) if made.positional else tuple(made.binds)
        converters = []
        for place, name in enumerate(names):
            convert = made.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
            if convert is not None:
                converters.append((place, convert))
        text = str(made)
        several = _several(text, len(names)) if made.positional else {}
        return _Compiled(text, names, tuple(converters), bool(made.positional), several)


def _several(text: str, width: int) -> Mapping[int, str]:
    """The same statement for several rows at once, by how many; none where this one is not of a kind that is known."""
    if text.count("?") != width:
        return {}
    return {size: made for size in TOGETHER if (made := _together(text, f"({', '.join('?' * width)})", size))}


def _together(text: str, row: str, size: int) -> str:
    """An insert of several rows; or an update or a delete of those that are named."""
    rows = f"VALUES {', '.join([row] * size)}"
    if text.startswith("INSERT") and text.count(f"VALUES {row}") == 1:
        return text.replace(f"VALUES {row}", rows)
    if text.startswith("UPDATE") and text.count(" WHERE ") == 1:
        numbers = count(1)
        named = re.sub(r"\?", lambda _: f"given.column{next(numbers)}", text)
        return named.replace(" WHERE ", f" FROM ({rows}) AS given WHERE ")
    head, _, asked = text.partition(" WHERE ")
    if head.startswith("DELETE") and re.fullmatch(r"(?:[\w.]+ = \?(?: AND )?)+", asked):
        return f"{head} WHERE {' OR '.join([f'({asked})'] * size)}"  # given a table SQLite would walk all of its own
    return ""


def keyed(table: Any, *columns: str) -> Any:
    """The rows in which these columns hold the parameters that are named after them: `of_tenant`, say."""
    return and_(*(table.c[name] == bindparam(f"of_{name}") for name in columns))


def given(*columns: str) -> dict[str, Any]:
    """What an update gives these columns: the parameters that are named after them, such as `to_state`."""
    return {name: bindparam(f"to_{name}") for name in columns}


class Query:
    """A select, compiled once. Parameters are given, and rows come, as the driver has them: nothing is converted.

    SQLite gives all rows as one JSON text: for each row of its own the interpreter's lock would change hands.
    """

    def __init__(self, build: Callable[[str], Any]) -> None:
        """`build` is given the name of the dialect, and makes the statement."""
        self._build = build
        self._compiled: dict[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {}

    def rows(self, connection: Connection, /, **parameters: Any) -> Sequence[Any]:
        """Those that there are; in the statement's order where that has a limit."""
        name = connection.dialect.name
        made = self._compiled.get(name)
        if made is None:
            made = self._compiled[name] = self._compile(connection)
        text, order, constants = made
        values = {**constants, **parameters}
        if not order:
            return connection.exec_driver_sql(text, values).all()
        (rows,) = sqlite_driver(connection).execute(text, [values[name] for name in order]).fetchone()
        found: Sequence[Any] = orjson.loads(rows)
        return found

    def _compile(self, connection: Connection) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
        dialect = connection.dialect
        statement = self._build(dialect.name)
        if dialect.name == "sqlite":
            found = statement.subquery()
            statement = select(func.json_group_array(func.json_array(*found.c)))
        made = statement.compile(dialect=dialect)
        constants = {name: value for name, value in made.params.items() if not made.binds[name].required}
        return str(made), tuple(made.positiontup or ()) if made.positional else (), constants


class Lookup(Query):
    """A select of rows by their ids; `column` is what those are looked for in."""

    def __init__(self, statement: Any, column: Any) -> None:
        super().__init__(lambda dialect: statement.where(among(dialect, column, "ids")))

    def of(self, connection: Connection, ids: Collection[str], /, **parameters: Any) -> Sequence[Any]:
        """Those that there are. Nothing is asked for none."""
        if not ids:
            return ()
        return self.rows(connection, ids=listed(connection, ids), **parameters)


def listed(connection: Connection, ids: Collection[str]) -> Any:
    """Ids as one parameter: a list in PostgreSQL, JSON in SQLite."""
    return orjson.dumps(list(ids)).decode() if connection.dialect.name == "sqlite" else list(ids)


def among(dialect: str, column: Any, name: str) -> Any:
    """Whether a column is one of the ids of such a parameter."""
    if dialect == "sqlite":
        each = func.json_each(bindparam(name, type_=Text)).table_valued("value")
        return column.in_(select(each.c.value))
    return column == any_(bindparam(name, type_=postgresql.ARRAY(Text)))
