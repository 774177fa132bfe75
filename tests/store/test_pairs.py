"""Pairs on both databases: due, taken, ended, put off; links that are kept unique."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from crmsync.core.decide import Agreed, Noted, Why
from crmsync.core.views import Source, Verdict
from crmsync.model import Kind, Record
from crmsync.store import pairs, records, tables
from crmsync.store.database import Database
from crmsync.store.pairs import Ended, Taken
from crmsync.store.records import KIRIM, Observation
from crmsync.testing.clock import START

C = Kind.CONTACT


def see(database: Database, endpoint: str, *seen: Record, now=START, **more) -> list[Verdict]:
    observations = [Observation(record, Source.TOLD, "cause", **more) for record in seen]
    return database.write(
        lambda tx: records.observe(tx, "acme", endpoint, observations, now=now, followers=["crm", "other"])
    )


def contact(id: str, second: int = 0, **fields) -> Record:
    return Record(C, id, fields, START + timedelta(seconds=second), id)


def take(database: Database, now=START, limit: int = 100, name: str = "crm") -> list[Taken]:
    return database.write(lambda tx: pairs.take(tx, "acme", name, limit, now))


def ended(pair: Taken, **more) -> Ended:
    return Ended(
        pair.kind, pair.kirim_id, pair.revision, **{"crm_id": None, "looked_up": False, "base": {}, "noted": {}} | more
    )


def end(database: Database, *results: Ended, now=START) -> None:
    database.write(lambda tx: pairs.end(tx, "acme", "crm", results, now))


def test_a_kirim_record_is_due_on_every_connection_that_follows(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))

    assert [pair.kirim_id for pair in take(database)] == ["k1"]
    assert [pair.kirim_id for pair in take(database, name="other")] == ["k1"]


def test_taking_counts_the_attempt_and_ending_well_forgets_it(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    take(database)
    (pair,) = take(database)
    assert pair.attempts == 2
    end(database, ended(pair))
    see(database, KIRIM, contact("k1", 1, name="Ani"))

    assert take(database)[0].attempts == 1


def test_giving_back_does_not_count(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    taken = take(database)
    database.write(lambda tx: pairs.give_back(tx, "acme", "crm", taken))

    assert take(database)[0].attempts == 1


def test_ending_removes_only_the_revision_that_was_taken(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    (pair,) = take(database)
    see(database, KIRIM, contact("k1", 1, name="Ani"))
    end(database, ended(pair))
    (again,) = take(database)

    assert again.revision > pair.revision
    assert again.kirim is not None
    assert again.kirim.fields == {"name": "Ani"}
    end(database, ended(again))
    assert take(database) == []


def test_what_is_put_off_is_not_taken_before_its_time(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    (pair,) = take(database)
    later = START + timedelta(minutes=1)
    end(database, ended(pair, again_at=later, error="busy", attempts=1))

    assert take(database, START + timedelta(seconds=59)) == []
    assert take(database, later)[0].attempts == 2


def test_base_notes_and_sets_survive_the_store(database: Database) -> None:
    see(database, KIRIM, contact("k1", tags=("a", "b"), name=None, score=1.5, vip=True))
    (pair,) = take(database)
    base = {"tags": Agreed(("a", "b"), None), "name": Agreed("", 0)}
    noted = {"email": Noted(Why.REFUSED, "👩\u200d👩", False)}
    end(database, ended(pair, base=base, noted=noted))
    (held,) = database.read(lambda tx: pairs.pairs(tx, "acme", "crm", C, ["k1"]))

    assert (held.base, held.noted) == (base, noted)
    assert held.kirim is not None
    assert held.kirim.fields == {"tags": ("a", "b"), "name": None, "score": 1.5, "vip": True}


def test_a_crm_record_is_linked_by_the_kirim_id_it_carries(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    see(database, "crm", Record(C, "c1", {"name": "x"}, START, "k1"))
    (pair,) = take(database)

    assert (pair.crm_id, pair.crm.fields if pair.crm else None) == ("c1", {"name": "x"})


def test_a_second_record_with_the_same_kirim_id_does_not_take_the_link(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    see(database, "crm", Record(C, "c1", {"name": "x"}, START, "k1"))
    see(database, "crm", Record(C, "c2", {"name": "y"}, START, "k1"))

    assert take(database)[0].crm_id == "c1"
    assert database.read(lambda tx: pairs.owners(tx, "acme", "crm", C, ["c1", "c2"])) == {"c1": "k1"}


def test_a_crm_record_of_an_unknown_contact_has_the_contact_read(database: Database) -> None:
    see(database, "crm", Record(C, "c1", {"name": "x"}, START, "k9"))
    table = tables.Stale.__table__

    assert [(row.endpoint, row.id) for row in database.read(lambda tx: tx.execute(select(table)).all())] == [
        (KIRIM, "k9")
    ]


def test_a_merge_moves_the_link_and_makes_the_pair_due(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    see(database, "crm", Record(C, "c1", {"name": "x"}, START, "k1"), Record(C, "c2", {"name": "y"}, START))
    end(database, *[ended(pair, crm_id=pair.crm_id) for pair in take(database)])
    see(database, "crm", Record(C, "c2", {"name": "y"}, START, aliases=("c1",)))  # known already, but for the alias
    (pair,) = take(database)

    assert pair.crm_id == "c2"
    assert pair.crm is not None
    assert pair.crm.fields == {"name": "y"}
    end(database, ended(pair, crm_id="c2"))
    see(database, "crm", Record(C, "c2", {"name": "y"}, START, aliases=("c1",)))
    assert take(database) == []  # said again, it is no news


def test_the_oldest_are_taken_first(database: Database) -> None:
    for number in range(5):
        see(database, KIRIM, contact(f"k{number}", name="a"), now=START + timedelta(seconds=9 - number))

    assert [pair.kirim_id for pair in take(database, START + timedelta(minutes=1), limit=3)] == ["k4", "k3", "k2"]


def test_tenants_do_not_see_each_other(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))

    assert database.write(lambda tx: pairs.take(tx, "other", "crm", 10, START)) == []
    assert database.read(lambda tx: records.views(tx, "other", KIRIM, C, ["k1"])) == {}


def test_a_reading_that_was_overtaken_has_to_prove_that_it_is_newer(database: Database) -> None:
    see(database, KIRIM, contact("k1", name="Ana"))
    basis = database.read(lambda tx: records.views(tx, "acme", KIRIM, C, ["k1"]))["k1"]
    see(database, KIRIM, contact("k1", 1, name="Ani"))
    reading = [Observation(contact("k1", 1, name="Ana"), Source.READ, "read", basis=basis)]
    verdicts = database.write(lambda tx: records.observe(tx, "acme", KIRIM, reading, now=START, followers=["crm"]))

    assert verdicts == [Verdict.UNCLEAR]
    assert database.read(lambda tx: records.views(tx, "acme", KIRIM, C, ["k1"]))["k1"].fields == {"name": "Ani"}


@pytest.mark.parametrize("count", [0, 1, 1201])
def test_any_number_of_views_can_be_asked_for(database: Database, count: int) -> None:
    see(database, KIRIM, *[contact(f"k{number}", name="a") for number in range(count)])

    assert len(database.read(lambda tx: records.views(tx, "acme", KIRIM, C, [f"k{n}" for n in range(count)]))) == count
