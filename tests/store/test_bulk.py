"""One statement for many rows does to each what it would do alone, on every kind of database."""

from __future__ import annotations

import pytest
from sqlalchemy import and_, bindparam, delete, select, update

from crmsync.store import tables
from crmsync.store.bulk import Bulk
from crmsync.store.database import Database

_alias = tables.Alias.__table__  # type: ignore[attr-defined]
_HERE = and_(_alias.c.tenant == bindparam("of_tenant"), _alias.c.id == bindparam("of_id"))
ADD = Bulk(lambda insert: insert(_alias), [column.name for column in _alias.c])
CHANGE = Bulk(lambda insert: update(_alias).where(_HERE).values(survivor=bindparam("to_survivor")))
TAKE_AWAY = Bulk(lambda insert: delete(_alias).where(_HERE, _alias.c.survivor == bindparam("of_survivor")))


def rows(database: Database) -> dict[str, str]:
    found = database.read(lambda tx: tx.execute(select(_alias.c.id, _alias.c.survivor)).all())
    return {id: survivor for id, survivor in found}


def fill(database: Database, count: int) -> None:
    common = {"tenant": "acme", "endpoint": "crm", "kind": "contact"}
    database.write(lambda tx: ADD.run(tx, [{**common, "id": f"{n}", "survivor": "s"} for n in range(count)]))
    database.write(lambda tx: ADD.run(tx, [{**common, "tenant": "other", "id": "o", "survivor": "s"}]))


@pytest.mark.parametrize("count", [0, 1, 7, 100, 133])
def test_every_row_is_changed_and_no_other(database: Database, count: int) -> None:
    fill(database, 140)
    changes = [{"of_tenant": "acme", "of_id": f"{n}", "to_survivor": f"now {n}"} for n in range(count)]
    assert database.write(lambda tx: CHANGE.run(tx, changes)) == count

    expected = {f"{n}": f"now {n}" if n < count else "s" for n in range(140)}
    assert rows(database) == {**expected, "o": "s"}


@pytest.mark.parametrize("count", [0, 1, 7, 100, 133])
def test_every_row_that_is_as_it_is_said_to_be_goes_and_no_other(database: Database, count: int) -> None:
    fill(database, 140)
    named = [{"of_tenant": "acme", "of_id": f"{n}", "of_survivor": "s" if n % 2 else "x"} for n in range(count)]
    assert database.write(lambda tx: TAKE_AWAY.run(tx, named)) == count // 2

    left = {f"{n}" for n in range(140) if n >= count or n % 2 == 0}
    assert rows(database).keys() == {*left, "o"}


@pytest.mark.parametrize("same", [(), ("survivor",), ("kind", "survivor"), ("tenant", "endpoint", "kind", "survivor")])
def test_what_rows_share_is_in_each_of_them(database: Database, same: tuple[str, ...]) -> None:
    columns = [column.name for column in _alias.c]
    given = [tuple(name if name in same else f"{name} {n}" for name in columns) for n in range(107)]
    database.write(lambda tx: ADD.run_ordered(tx, given))

    assert set(database.read(lambda tx: [tuple(row) for row in tx.execute(select(_alias))])) == set(given)
