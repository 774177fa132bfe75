"""What is forgotten, and what is remembered for as long as anybody can repeat it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from support.household import Household

from crmsync.daemon.schedule import Schedule
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.records import KIRIM

KIRIM_REPEATS = timedelta(days=30, hours=31)
"""A delivery can be replayed for thirty days, and each replay is tried for 31 hours."""


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


def arrives(home: Household, body: bytes) -> bool:
    """Whether a delivery was new, by the door that real ones take."""
    return asyncio.run(Inbox(home.database).append("acme", KIRIM, body, home.clock(), "secret"))


def tidy(home: Household) -> None:
    schedule = Schedule(home.database, {}, "node", home.clock, lambda: None)
    home.database.write(schedule._tidy)


def test_what_a_sender_can_still_repeat_is_known(home: Household) -> None:
    home.add(name="Ana")
    (body,) = home.kirim.take_hooks()
    assert arrives(home, body)
    home.settle()
    home.clock.advance(KIRIM_REPEATS)
    tidy(home)

    assert not arrives(home, body)
    assert arrives(home, body + b" ")  # in another wrapping, the same event
    assert home.observe(KIRIM) == 1
    assert home.due() == {}


def test_what_nobody_can_repeat_any_more_is_forgotten(home: Household) -> None:
    home.add(name="Ana")
    (body,) = home.kirim.take_hooks()
    assert arrives(home, body)
    home.settle()
    home.clock.advance(timedelta(days=46))
    tidy(home)

    assert arrives(home, body)
