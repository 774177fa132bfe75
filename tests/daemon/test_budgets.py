"""A budget never lets more through than the rate, believes the platform, and never waits long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import profiles  # noqa: F401

from crmsync.daemon.budgets import PATIENCE, WIDEST_WINDOW, TokenBudget
from crmsync.errors import Throttled
from crmsync.model import Rate


class Time:
    """Passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= PATIENCE
        self.now += seconds + 1e-9  # as sleeping does: never less than asked for
        self.slept += seconds


def budget(
    requests: int = 10, seconds: float = 1, *, rolling: bool = False, fixed: bool = False, **extra: Rate
) -> tuple[TokenBudget, Time]:
    time = Time()
    limits = {"": Rate(requests, seconds, rolling), **extra}
    return TokenBudget(limits, time, time.sleep, frozenset(limits) if fixed else frozenset()), time


def test_a_full_budget_makes_nobody_wait() -> None:
    kept, time = budget()
    for _ in range(10):
        kept.take()

    assert (time.slept, kept.taken) == (0.0, 10)


def test_beyond_the_rate_it_waits_for_the_next_token() -> None:
    kept, time = budget()
    for _ in range(11):
        kept.take()

    assert time.slept == pytest.approx(0.1)


def test_whoever_would_wait_too_long_is_told_when_to_come_again() -> None:
    kept, time = budget(requests=1, seconds=60)
    kept.take()

    with pytest.raises(Throttled) as caught:
        kept.take()

    assert caught.value.after == timedelta(seconds=60)
    assert time.slept == 0.0
    assert kept.taken == 1


def test_nothing_is_sent_before_the_time_that_the_platform_named() -> None:
    kept, time = budget()
    kept.hold(timedelta(seconds=1.5))
    kept.hold(timedelta(seconds=0.5))  # a shorter one does not lift it
    kept.take()

    assert time.now == pytest.approx(101.5)
    kept.hold(timedelta(seconds=7))
    with pytest.raises(Throttled) as caught:
        kept.take()
    assert caught.value.after == timedelta(seconds=7)
    assert kept.ample() == 0.0


def test_a_bucket_of_its_own_is_a_limit_of_its_own() -> None:
    kept, time = budget(requests=100, search=Rate(1, 1))
    kept.take("search")
    kept.take()
    assert time.slept == 0.0
    kept.take("search")
    assert time.slept == pytest.approx(1.0)
    kept.take("unheard of")
    assert time.slept == pytest.approx(1.0)


def test_it_believes_a_platform_that_leaves_less() -> None:
    kept, time = budget()
    kept.observe(remaining=0, limit=10)
    assert kept.ample() == 0.0
    kept.take()
    assert time.slept == pytest.approx(0.1)


def test_what_the_operator_set_is_not_widened_by_the_platform() -> None:
    kept, _ = budget(fixed=True)
    for _ in range(10):
        kept.take()
    kept.observe(remaining=1000, limit=1000)

    assert kept.ample() == pytest.approx(0.0)


def test_a_wider_limit_than_documented_is_used() -> None:
    kept, time = budget()
    kept.observe(remaining=20, limit=20)
    for _ in range(20):
        kept.take()

    assert time.slept == 0.0


def test_a_bucket_that_is_held_does_not_hold_the_others() -> None:
    kept, time = budget(search=Rate(5, 1))
    kept.hold(timedelta(seconds=1), "search")
    kept.take()
    assert time.slept == 0.0
    kept.take("search")
    assert time.slept == pytest.approx(1.0)


def test_a_smaller_limit_than_documented_slows_it_down() -> None:
    kept, time = budget()
    kept.observe(remaining=5, limit=5)
    for _ in range(5):
        kept.take()
    kept.take()

    assert time.slept == pytest.approx(0.2)


def test_nothing_waits_for_company_while_the_budget_is_ample() -> None:
    kept, _ = budget()
    assert kept.window() == timedelta(0)
    for _ in range(5):
        kept.take()
    assert kept.window() == timedelta(0)
    for _ in range(5):
        kept.take()
    assert kept.window() == WIDEST_WINDOW


@given(st.integers(1, 50), st.floats(0.1, 100), st.lists(st.floats(0, 5), max_size=60))
def test_no_stretch_of_time_sees_more_than_its_share(requests: int, seconds: float, pauses: list[float]) -> None:
    kept, time = budget(requests, seconds)
    begun, sent = time.now, 0
    for pause in pauses:
        time.now += pause
        try:
            kept.take()
        except Throttled:
            continue
        sent += 1
        assert sent <= requests + (time.now - begun) * requests / seconds + 1e-6


@given(st.integers(2, 200), st.floats(1, 60), st.lists(st.floats(0, 5), min_size=5, max_size=120))
def test_a_rolling_limit_holds_in_every_stretch_of_time(requests: int, seconds: float, pauses: list[float]) -> None:
    kept, time = budget(requests, seconds, rolling=True)
    sent: list[float] = []
    for pause in pauses:
        time.now += pause
        try:
            kept.take()
        except Throttled as told:
            time.now += told.after.total_seconds() if told.after else 0.0
            continue
        sent.append(time.now)
        assert sum(1 for moment in sent if moment > time.now - seconds * (1 - 1e-9)) <= requests
