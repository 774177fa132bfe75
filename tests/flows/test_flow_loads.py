"""What a run found and nobody waits for is made by the thousand, where the platform has a way of its own for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from support.household import Household

from crmsync.connector import Outcome
from crmsync.errors import Retry
from crmsync.flows.sync import sync
from crmsync.flows.work import Surroundings
from crmsync.model import Kind, Write
from crmsync.store.database import Database
from crmsync.store.records import Rank
from crmsync.testing.memory import MemoryConnector

BATCH = 20
MANY = range(100, 201)


class Loading:
    """A household whose CRM takes loads, and what is sent to it."""

    def __init__(self, database: Database) -> None:
        self.home = Household(database)
        self.loads: list[int] = []
        self.upserts: list[int] = []
        self.connector = connector = self.home.tenant.connections["crm"].connector
        assert isinstance(connector, MemoryConnector)
        connector.loads = MANY
        load, upsert = connector.load, connector.upsert

        def noted_load(kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
            self.loads.append(len(writes))
            return load(kind, writes, pause)

        def noted_upsert(kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
            self.upserts.append(len(writes))
            return upsert(kind, writes)

        connector.load = noted_load  # type: ignore[method-assign]
        connector.upsert = noted_upsert  # type: ignore[method-assign]

    def people(self, count: int, rank: Rank = Rank.RUN) -> None:
        """So many are due, as a run or as live."""
        for number in range(count):
            self.home.add(name=f"n{number}")
        self.home.arrive_all()
        while self.home.observe("kirim"):
            pass
        self.home.database.write(lambda tx: tx.exec_driver_sql(f"UPDATE change SET rank = {int(rank)}") and None)

    def turn(self, rank: Rank = Rank.RUN, *, goes_on: bool = True, **surroundings: object) -> int:
        """One turn of writing."""
        connection = self.home.tenant.connections["crm"]
        around = Surroundings(
            self.home.database, self.home.tenant, connection, self.home.fence, self.home.clock, lambda: 0.5
        )
        around = replace(around, rank=rank, away=self.home.away["crm"], pause=lambda seconds: goes_on)
        return sync(replace(around, **surroundings), self.home.executor)  # type: ignore[arg-type]

    def finish(self, rank: Rank = Rank.RUN) -> None:
        """Turn after turn, until nothing is due."""
        while self.home.due():
            self.turn(rank)

    @property
    def made(self) -> list[str]:
        return sorted(record.external_id for record in self.home.crm.records() if record.external_id)


@pytest.fixture
def loading(database: Database) -> Loading:
    return Loading(database)


def test_new_records_of_a_run_go_by_load_as_far_as_there_are_enough(loading: Loading) -> None:
    loading.people(330)
    loading.finish()

    assert loading.loads == [200, 130]
    assert loading.upserts == []
    assert len(loading.made) == len(set(loading.made)) == 330
    assert {loading.home.row(id).attempts for id in loading.made} == {0}


def test_too_few_go_as_ever_and_none_is_held_up(loading: Loading) -> None:
    loading.people(99)
    loading.finish()

    assert loading.loads == []
    assert sum(loading.upserts) == 99
    assert max(loading.upserts) == BATCH


@pytest.mark.parametrize(
    "surroundings", [{"pause": None}, {"failures": 1}, {"careful": True}], ids=["alone", "after trouble", "on trial"]
)
def test_where_it_is_no_time_for_it_nothing_is_loaded(loading: Loading, surroundings: dict[str, object]) -> None:
    loading.people(150)
    loading.turn(**surroundings)

    assert loading.loads == []
    assert loading.upserts


def test_what_is_live_never_goes_by_load(loading: Loading) -> None:
    loading.people(150, Rank.LIVE)
    loading.finish(Rank.LIVE)

    assert loading.loads == []
    assert sum(loading.upserts) == 150


def test_what_turns_out_to_be_there_is_no_part_of_the_load(loading: Loading) -> None:
    loading.people(150)
    for id in list(loading.home.due())[:40]:
        loading.home.crm.add(id, {"company": "somebody's"})
    loading.finish()

    assert loading.loads == [110]
    assert len(loading.made) == len(set(loading.made)) == 150


def test_a_load_that_is_given_up_is_done_again_later_and_nothing_twice(loading: Loading) -> None:
    loading.people(150)
    with pytest.raises(Retry):
        loading.turn(goes_on=False)
    assert len(loading.home.due()) == 150
    loading.home.clock.advance(loading.home.clock().resolution * 120_000_000)
    loading.finish()

    assert loading.loads[0] == 150
    assert len(loading.made) == len(set(loading.made)) == 150


def test_an_edit_that_comes_while_a_load_is_on_its_way_is_written_after_it(loading: Loading) -> None:
    loading.people(120)
    (first, *_) = loading.home.due()
    load = loading.connector.load

    def edited(kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        loading.home.kirim.edit(first, {"company": "edited"})
        loading.home.arrive_all()
        loading.home.observe("kirim")
        assert loading.turn(Rank.LIVE) == 0
        return load(kind, writes, pause)

    loading.connector.load = edited  # type: ignore[method-assign]
    loading.turn()
    loading.home.settle()

    assert loading.home.partner(first).fields["company"] == "edited"
    assert len(loading.made) == len(set(loading.made)) == 120
