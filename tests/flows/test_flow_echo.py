"""What we wrote comes back as news from the platform. It ends there: nothing is read, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from support.household import Crm, CrmConnector, Household

from crmsync.model import Item
from crmsync.store.database import Database
from crmsync.store.records import KIRIM


class Hinting(CrmConnector):
    """Its deliveries name a record and the values that changed, and state nothing: they may be late."""

    def parse(self, body: bytes) -> Sequence[Item]:
        return [self._hint(item) for item in super().parse(body)]

    def _hint(self, item: Item) -> Item:
        if item.change is None or item.change.record is None:
            return item
        return replace(item, change=replace(item.change, record=None, seen=item.change.record.fields))


@pytest.fixture
def home(database: Database) -> Household:
    crm = Crm()
    crm.connector = Hinting
    return Household(database, crms={"crm": crm})


def wrote(home: Household) -> str:
    """A contact of which the CRM was just written a field, and has not told yet."""
    id = home.add(name="Ana", company="a")
    home.settle()
    home.clock.advance(timedelta(seconds=5))
    home.kirim.edit(id, {"company": "b"})
    home.arrive_all()
    home.observe(KIRIM)
    home.sync()
    return id


def test_the_echo_of_a_write_ends_where_it_came_in(home: Household) -> None:
    wrote(home)
    writes, reads = home.writes(), list(home.crm.requests).count("read")
    home.collect()
    assert home.wire  # the CRM tells of what we wrote
    home.arrive_all()
    assert home.observe("crm")

    assert home.stale("crm") == home.due() == {}
    home.settle()
    assert (home.writes(), list(home.crm.requests).count("read")) == (writes, reads)


def test_an_edit_of_a_person_right_after_a_write_is_no_echo(home: Household) -> None:
    id = wrote(home)
    home.clock.advance(timedelta(seconds=1))
    home.crm.edit(home.partner(id).id, {"name": "Ana Lee"})
    home.settle()

    assert home.kirim.held(id)["name"] == "Ana Lee"


def test_after_a_change_on_each_side_both_fall_silent(home: Household) -> None:
    id = wrote(home)
    home.clock.advance(timedelta(seconds=1))
    home.crm.edit(home.partner(id).id, {"email": "Ana@Example.com"})
    home.settle()
    before = home.writes()
    home.look_again()
    home.settle()

    assert home.writes() == before
