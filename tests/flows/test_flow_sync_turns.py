"""A turn of writing goes on while there are full batches, takes nothing twice, and stops at the first trouble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat

import pytest
from support.household import Household, Inline

from crmsync.errors import Retry
from crmsync.flows.sync import sync
from crmsync.flows.work import Surroundings
from crmsync.store.database import Database

PEOPLE = 230
BATCH = 20


@pytest.fixture
def home(database: Database) -> Household:
    """More people are due than fit into the first batches of a turn."""
    made = Household(database)
    for number in range(PEOPLE):
        made.add(name=f"n{number}")
    made.arrive_all()
    while made.observe("kirim"):
        pass
    return made


def around(home: Household, answers: Iterator[bool]) -> Surroundings:
    connection = home.tenant.connections["crm"]
    base = Surroundings(home.database, home.tenant, connection, home.fence, home.clock, lambda: 0.5)
    return replace(base, going=lambda: next(answers))


def sent(home: Household) -> Counter[str]:
    return Counter(write.external_id for call in home.crm.calls for write in call)


@pytest.mark.parametrize("executor", [Inline, lambda: ThreadPoolExecutor(4)], ids=["inline", "threads"])
def test_full_batches_follow_until_there_are_none(home: Household, executor: Callable[[], ThreadPoolExecutor]) -> None:
    with executor() as pool:
        done = sync(around(home, repeat(True)), pool)

    assert done == PEOPLE - PEOPLE % BATCH
    assert len(home.due()) == PEOPLE % BATCH
    assert set(sent(home).values()) == {1}
    assert {row.attempts for row in map(home.row, home.due())} == {0}


def test_a_turn_whose_time_is_up_ends(home: Household) -> None:
    done = sync(around(home, chain([True], repeat(False))), Inline())

    assert 4 * BATCH < done < PEOPLE - BATCH
    assert len(sent(home)) == done == PEOPLE - len(home.due())


def test_a_live_change_is_in_the_next_batch(home: Household) -> None:
    """It happens while the first batch is on its way, and does not wait for all the others."""
    home.database.write(lambda tx: tx.exec_driver_sql("UPDATE change SET rank = 1") and None)
    made: list[str] = []

    def live() -> None:
        home.clock.advance(timedelta(seconds=1))
        made.append(home.add(name="live"))
        home.arrive_all()
        home.observe("kirim")

    home.crm.meanwhile.append(live)
    sync(around(home, repeat(True)), Inline())

    assert any(write.external_id == made[0] for write in home.crm.calls[4])


def test_nothing_follows_a_batch_that_failed(home: Household) -> None:
    home.crm.fail_next(503, times=2, skip=5)
    with pytest.raises(Retry):
        sync(around(home, repeat(True)), Inline())

    before = len(sent(home))
    assert before < PEOPLE - BATCH
    home.settle()
    assert home.due() == {}
    assert len({record.external_id for record in home.crm.records() if record.external_id}) == PEOPLE
