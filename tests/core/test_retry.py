"""How long to wait: grows, is spread, is capped, and is never shorter than the platform asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crmsync.core.retry import ATTEMPTS, FIRST, LONGEST, PROBE, wait
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled


def seconds(amount: float) -> timedelta:
    return timedelta(seconds=amount)


@pytest.mark.parametrize(
    ("attempts", "expected"), [(0, 1), (1, 1), (2, 2), (3, 4), (10, 512), (11, 900), (10_000, 900)]
)
def test_the_wait_doubles_until_it_is_longest(attempts: int, expected: float) -> None:
    assert wait(Retry("busy"), attempts, 0.5) == seconds(expected)


def test_chance_spreads_the_wait_by_a_quarter_either_way() -> None:
    assert wait(Retry("busy"), 3, 0.0) == seconds(3)
    assert wait(Retry("busy"), 3, 0.999999) < seconds(5)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_a_time_that_the_platform_named_is_a_minimum(chance: float) -> None:
    assert wait(Retry("busy", seconds(7)), 1, chance) == seconds(7)
    assert wait(Retry("busy", seconds(7)), 8, chance) > seconds(90)
    assert wait(Suspend("expired", seconds(7200)), 1, chance) == seconds(7200)
    assert wait(Throttled("budget", seconds(7)), 0, chance) >= seconds(7)


@pytest.mark.parametrize("attempts", [1, 5, 100])
def test_a_suspended_connection_is_probed_every_minute(attempts: int) -> None:
    assert wait(Suspend("expired"), attempts, 0.5) == PROBE


def test_our_own_budget_does_not_make_waits_grow() -> None:
    assert wait(Throttled("budget", seconds(2)), 30, 0.0) == seconds(2)
    assert wait(Throttled("budget"), 30, 0.0) == seconds(1)


@pytest.mark.parametrize("error", [Retry("x"), Reject("x"), Suspend("x"), Throttled("x")])
@pytest.mark.parametrize("attempts", range(ATTEMPTS + 2))
def test_no_wait_is_negative_nor_longer_than_the_longest_by_more_than_the_spread(
    error: ConnectorError, attempts: int
) -> None:
    for chance in (0.0, 0.3, 0.999):
        assert timedelta(0) <= wait(error, attempts, chance) <= LONGEST * 1.25


def test_the_first_wait_is_short() -> None:
    assert wait(Retry("busy"), 1, 0.5) == FIRST
