"""A feed is read page by page, and no page is ever passed over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.household import Household

from crmsync.errors import Fenced
from crmsync.flows.poll import poll
from crmsync.store import cursors
from crmsync.store.database import Database


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


def changes(home: Household, count: int) -> list[str]:
    """Records that only the feed tells of, longer ago than the feed's next reading goes back."""
    home.poll("crm")
    home.clock.advance(timedelta(minutes=1))
    ids = [home.crm.add(None, {"name": f"n{number}"}) for number in range(count)]
    home.crm.take_hooks()
    home.clock.advance(timedelta(hours=1))
    home.crm.page_size = 2
    return ids


def pages_left(home: Household) -> int:
    return len(home.database.read(lambda tx: cursors.due(tx, "acme", "crm", home.clock())))


def test_a_page_that_could_not_be_stored_is_read_again(home: Household) -> None:
    """Every page is lost once between its reading and its transaction; the cursor does not move without it."""
    ids = changes(home, 7)
    home.fence_breaks = 1
    with pytest.raises(Fenced):
        home.poll("crm")
    while pages_left(home):
        home.fence_breaks = 1
        with pytest.raises(Fenced):
            poll(home.database, home.tenant, "crm", home.fence, home.clock)
        poll(home.database, home.tenant, "crm", home.fence, home.clock)

    assert [id for id in ids if home.view("crm", id) is None] == []


def test_rows_are_stored_again_without_harm(home: Household) -> None:
    """A page that was stored and is read again, such as the overlap of two readings, says nothing new."""
    ids = changes(home, 3)
    for _ in range(3):
        home.poll("crm")
        home.clock.advance(timedelta(seconds=1))

    assert [home.view("crm", id).fields["name"] for id in ids] == ["n0", "n1", "n2"]
    assert home.due() == {}
