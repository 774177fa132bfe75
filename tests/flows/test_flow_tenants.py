"""Two tenants in one store, with the same ids everywhere: neither is seen, changed or held up by the other.

One tenant plays a story on an empty store. Its rows become a neighbour's, with other values and unfinished work, and
the tenant plays the same story again beside them: it has to end as if there were no neighbour.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, insert, select, text, update
from sqlmodel import SQLModel
from support.household import Crm, Household

from crmsync.model import Kind
from crmsync.store import cursors, tables
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.records import KIRIM
from crmsync.testing.clock import START

CANARY = "a value of the neighbour"
EARLIER = timedelta(hours=1) // timedelta(microseconds=1)
BEGINNING = int(START.timestamp() * 1_000_000)
"""The revision of what is seen first in each story."""
TIMES = frozenset({"first_at", "not_before", "due_at"})
ENDPOINTS = (KIRIM, "crm")


def of_tenants() -> list[Any]:
    """Every table that has rows of tenants."""
    return [table for table in SQLModel.metadata.sorted_tables if "tenant" in table.c]


def rows(database: Database, tenant: str) -> dict[str, list[Any]]:
    """Everything that the store holds of a tenant."""
    return {
        table.name: database.read(
            lambda tx, table=table: sorted(map(str, tx.execute(select(table).where(table.c.tenant == tenant)).all()))
        )
        for table in of_tenants()
    }


def give_to_a_neighbour(database: Database) -> None:
    """All rows change their tenant; what they say of records is other than it was, and what waits waited longer."""

    def work(tx: Any) -> None:
        for table in of_tenants():
            tx.execute(update(table).values(tenant="neighbour"))
            for name in TIMES & set(table.c.keys()):
                tx.execute(text(f"UPDATE {table.name} SET {name} = {name} - {EARLIER}"))
        tx.execute(update(tables.Due.__table__).values(revision=BEGINNING))
        for row in tx.execute(select(view := tables.View.__table__)).all():
            here = (view.c.endpoint == row.endpoint, view.c.kind == row.kind, view.c.id == row.id)
            tx.execute(update(view).where(*here).values(fields=dict.fromkeys(row.fields, CANARY)))
        linked = select(pair := tables.Pair.__table__).where(pair.c.crm_id.is_not(None)).order_by(pair.c.kirim_id)
        links = [(row.kirim_id, row.crm_id) for row in tx.execute(linked).all()]
        tx.execute(update(pair).values(base={}, noted={}, crm_id=None))
        for (kirim_id, _), (_, crm_id) in zip(links, [*links[1:], links[0]], strict=True):  # all others than ours
            tx.execute(update(pair).where(pair.c.kirim_id == kirim_id).values(crm_id=crm_id))
        for row in tx.execute(select(delivery := tables.Delivery.__table__)).all():
            body = row.body.replace(b"Ana", CANARY.encode())
            key = hashlib.sha256(body).digest()
            tx.execute(update(delivery).where(delivery.c.id == row.id).values(body=body, key=key))

    database.write(work)


def move_behind(database: Database) -> None:
    """The neighbour's rows are written anew, so that a query that mixes tenants comes to them last."""

    def work(tx: Any) -> None:
        for table in of_tenants():
            if table.autoincrement_column is not None:
                continue
            theirs = [dict(row._mapping) for row in tx.execute(select(table).where(table.c.tenant == "neighbour"))]
            tx.execute(delete(table).where(table.c.tenant == "neighbour"))
            if theirs:
                tx.execute(insert(table), theirs)

    database.write(work)


class Story(Household):
    """What happens, in turns that are this tenant's only."""

    def rounds(self, count: int = 8) -> None:
        for _ in range(count):
            self.arrive_all()
            for work in (Work.OBSERVE, Work.REREAD, Work.POLL):
                for endpoint in ENDPOINTS:
                    self.turn(work, endpoint)
            self.turn(Work.SYNC, "crm")
            self.clock.advance(timedelta(seconds=20))

    def play(self) -> dict[str, Any]:
        """Creation, edits on both sides, a refusal, a merge, and in the end work of every kind that is not done."""
        self.crm.hooks_say_values = False
        self.crm.refuse("company", "bad")
        ids = [self.add(name=f"Ana {number}", company="Acme") for number in range(3)]
        ids.append(self.add(name="Ana Bad", company="bad"))
        self.rounds()
        move_behind(self.database)
        self.kirim.edit(ids[0], {"company": "Ana's"})
        self.crm.edit(self.partner(ids[1]).id, {"name": "Ana Lee", "score": 5})
        self.rounds()
        self.crm.merge(self.crm.add(None, {"name": "Ana Twin"}), self.partner(ids[2]).id)
        self.rounds()
        told = self.told(ids)
        self.kirim.edit(ids[0], {"company": "Ana & Sons"})
        self.crm.edit(self.partner(ids[1]).id, {"name": "Ana Lim"})
        self.arrive_all()
        self.observe(KIRIM)
        self.observe("crm")
        self.kirim.edit(ids[1], {"company": "Ana Ltd"})
        self.crm.edit(self.partner(ids[0]).id, {"score": 9})
        self.arrive_all()
        self.database.write(lambda tx: cursors.ring(tx, "acme", "crm", Kind.CONTACT, "changes", self.clock()))
        return told

    def told(self, ids: list[str]) -> dict[str, Any]:
        """All that this tenant's people can see."""
        endings = tables.SeenItem.__table__
        ended = select(endings.c.source, endings.c.key, endings.c.outcome).where(endings.c.tenant == "acme")
        return {
            "platforms": {
                name: {record.id: dict(record.fields) for record in platform.records()}
                for name, platform in self.sources.items()
            },
            "requests": {name: platform.requests for name, platform in self.sources.items()},
            "calls": {name: platform.calls for name, platform in self.sources.items()},
            "ends": sorted(map(tuple, self.database.read(lambda tx: tx.execute(ended).all()))),
            "pairs": [(row.crm_id, row.parked, row.error, row.attempts) for row in map(self.row, ids)],
            "history": [(one.field, one.old, one.new, one.outcome) for id in ids for one in self.history(id)],
            "waiting": (sorted(self.mine("change")), sorted(self.mine("stale"))),
        }

    def mine(self, table: str) -> list[Any]:
        query = text(f"SELECT * FROM {table} WHERE tenant = 'acme'")
        return self.database.read(lambda tx: [tuple(row) for row in tx.execute(query)])


def test_a_tenant_lives_as_if_it_were_alone(database: Database) -> None:
    alone = Story(database, crms={"crm": Crm()}).play()
    give_to_a_neighbour(database)
    before = rows(database, "neighbour")
    assert before["delivery"]
    assert before["change"]
    assert before["stale"]
    assert before["item"]
    beside = Story(database, crms={"crm": Crm()}).play()

    assert beside == alone
    assert rows(database, "neighbour") == before
    assert not any(CANARY in row for table in rows(database, "acme").values() for row in table)
