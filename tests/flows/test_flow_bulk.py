"""What runs found is written beside what is live: neither waits for the other, and no pair is in two hands."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.household import Household

from crmsync.errors import Retry
from crmsync.flows import backfill
from crmsync.store import lanes
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.records import KIRIM, Rank
from crmsync.testing.platform import Trouble


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


def found_by_a_run(home: Household, count: int) -> list[str]:
    """Contacts that no event told of, due because a backfill saw them."""
    ids = [home.add(name=f"Ana {number}", company="Toko") for number in range(count)]
    home.kirim.take_hooks()
    options = backfill.Options.of({"source": "kirim"})
    home.database.write(lambda tx: backfill.begin(tx, home.tenant, options, home.clock()) and None)
    home.walk(KIRIM)
    return ids


def edited(home: Household, id: str) -> None:
    """Somebody changes it later."""
    home.clock.advance(timedelta(minutes=1))
    home.kirim.edit(id, {"company": "Warung"})


def works(home: Household) -> set[Work]:
    waiting = home.database.read(lambda tx: lanes.waiting(tx, home.clock()))
    return {one.lane.work for one in waiting if one.lane.endpoint == "crm"}


def test_each_lane_writes_what_is_its_own(home: Household) -> None:
    [seen] = found_by_a_run(home, 1)
    live = home.add(name="Budi", company="Toko")
    home.arrive_all()
    home.observe(KIRIM)
    assert works(home) >= {Work.SYNC, Work.BULK}

    home.sync(rank=Rank.LIVE)
    assert home.partner(live)
    assert not [record for record in home.crm.records() if record.external_id == seen]
    home.sync(rank=Rank.RUN)
    assert home.partner(seen)


def test_an_event_makes_live_what_a_run_found(home: Household) -> None:
    [id] = found_by_a_run(home, 1)
    edited(home, id)
    home.arrive_all()
    home.observe(KIRIM)

    assert works(home) == {Work.SYNC}
    home.sync(rank=Rank.LIVE)
    assert home.partner(id).fields["company"] == "Warung"


def test_a_pair_on_its_way_is_left_alone_until_it_is_back(home: Household) -> None:
    [id] = found_by_a_run(home, 1)
    turns: list[int] = []

    def meanwhile() -> None:
        edited(home, id)
        home.arrive_all()
        home.observe(KIRIM)
        turns.append(home.sync(rank=Rank.LIVE))

    home.crm.meanwhile.append(meanwhile)
    home.sync(rank=Rank.RUN)
    assert turns == [0]
    assert home.partner(id).fields["company"] == "Toko"

    home.sync(rank=Rank.LIVE)
    assert home.partner(id).fields["company"] == "Warung"
    assert len(home.crm.calls) == 2


def test_what_came_to_no_end_can_be_taken_again(home: Household) -> None:
    [id] = found_by_a_run(home, 1)
    home.crm.fail_next(Trouble.RESET, times=9)
    with pytest.raises(Retry):
        home.sync(rank=Rank.RUN)
    home.crm.heal()

    home.settle()
    assert home.partner(id)
    assert home.away["crm"].ids() == []
