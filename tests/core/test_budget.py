"""Sharing one limit: it is never passed, live work never waits for a backfill, and what is idle is used."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import profiles  # noqa: F401

from crmsync.core.budget import ACTIVE, ROOM, Allowance, Priority, full, paused, refilled, seen, taken, used, wait
from crmsync.model import Rate

LIVE, RETRY, RECONCILE, BACKFILL = Priority
RATES = st.builds(Rate, st.integers(1, 2_000), st.sampled_from([1.0, 10.0, 60.0]), st.booleans())
HUBSPOT = Rate(190, 10, rolling=True)
KIRIM = Rate(6_000, 60)


def simulate(rate: Rate, seconds: float, *hungry: Priority, step: float = 0.01) -> Counter[Priority]:
    """What each class gets while all of these ask all the time, the least important first."""
    held, sent = full(rate, 0.0), Counter[Priority]()
    held = replace(held, tokens=0.0, credits=(0.0,) * 4)
    for number in range(int(seconds / step)):
        held = refilled(held, (number + 1) * step)
        for who in sorted(hungry, reverse=True):
            held, count = taken(held, who, 1_000)
            sent[who] += count
    return sent


@given(RATES, st.lists(st.tuples(st.floats(0, 3), st.sampled_from(list(Priority)), st.integers(1, 30)), max_size=60))
def test_no_stretch_of_time_sees_more_than_the_limit(rate: Rate, asked: list[tuple[float, Priority, int]]) -> None:
    held, sent, now = full(rate, 0.0), list[tuple[float, int]](), 0.0
    for pause, who, most in asked:
        now += pause
        held, count = taken(refilled(held, now), who, most)
        sent.append((now, count))
        lately = sum(number for moment, number in sent if moment > now - rate.seconds * (1 - 1e-9))
        allowed = max(rate.requests, 1 + rate.seconds) if rate.rolling else 2 * rate.requests + rate.seconds
        assert lately <= allowed + 1e-6
        assert held.tokens >= -1e-6


@given(RATES, st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50)), max_size=40))
def test_a_backfill_never_takes_what_is_kept_for_live_work(rate: Rate, asked: list[tuple[float, int]]) -> None:
    """However greedy it is: as much as live's share holds goes at once, as far as the limit has room for two."""
    held, now = full(rate, 0.0), 0.0
    for pause, most in asked:
        now += pause
        held, _ = taken(refilled(held, now), BACKFILL, most)
    at_once = int(min(held.most(LIVE), held.size - 1) + 1e-6)
    _, count = taken(held, LIVE, 10_000)

    assert count >= at_once


@pytest.mark.parametrize("rate", [HUBSPOT, KIRIM, Rate(5, 1, rolling=True), Rate(10, 1)])
@pytest.mark.parametrize("alone", list(Priority))
def test_whoever_is_alone_uses_all_there_is(rate: Rate, alone: Priority) -> None:
    sent = simulate(rate, 60, alone)

    assert sent[alone] >= 0.94 * 60 * full(rate, 0).per_second


@pytest.mark.parametrize("rate", [HUBSPOT, KIRIM])
def test_live_work_has_all_it_wants_beside_a_backfill(rate: Rate) -> None:
    """Both ask all the time, and the backfill is always asked first."""
    sent = simulate(rate, 60, LIVE, BACKFILL)

    assert sent[LIVE] >= 0.6 * sent.total()
    assert sent.total() >= 0.94 * 60 * full(rate, 0).per_second


@pytest.mark.parametrize(("after", "left"), [(0.0, ROOM), (ACTIVE - 0.01, ROOM), (ACTIVE, 0.0)])
def test_beside_live_work_a_backfill_leaves_room_for_the_next_change(after: float, left: float) -> None:
    """Beyond its own share, and until nobody changed anything for a while."""
    held, _ = taken(full(HUBSPOT, 0.0), LIVE, 1)
    held = replace(refilled(held, after), tokens=held.size, credits=(0.0,) * 4)
    held, count = taken(held, BACKFILL, 100)

    assert left * held.size <= held.tokens < left * held.size + 1
    assert count >= 2


@given(
    RATES,
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(list(Priority)), st.integers(1, 30)), max_size=30),
    st.sampled_from(list(Priority)),
    st.floats(0, 0.999),
)
def test_a_forecast_of_a_wait_is_never_too_long(
    rate: Rate, asked: list[tuple[float, Priority, int]], who: Priority, part: float
) -> None:
    held = full(rate, 0.0)
    for pause, other, most in asked:
        held, _ = taken(refilled(held, held.at + pause), other, most)
    pause = wait(held, who)

    if pause <= 0:
        assert taken(held, who)[1] == 1
        return
    assert taken(refilled(held, held.at + pause * part), who)[1] == 0
    for _ in range(20):
        held = refilled(held, held.at + wait(held, who))
        if taken(held, who)[1]:
            return
    raise AssertionError("it never comes to its turn")


@pytest.mark.parametrize("rate", [HUBSPOT, KIRIM])
def test_each_class_has_its_share_when_everybody_asks(rate: Rate) -> None:
    sent = simulate(rate, 120, LIVE, RETRY, RECONCILE, BACKFILL)
    share = {who: sent[who] / sent.total() for who in Priority}

    assert share[LIVE] >= 0.55
    assert share[RETRY] >= 0.08
    assert share[RECONCILE] >= 0.12
    assert share[BACKFILL] <= 0.25


def test_the_others_share_what_live_leaves() -> None:
    sent = simulate(KIRIM, 60, RETRY, BACKFILL)

    assert sent.total() >= 0.94 * 60 * full(KIRIM, 0).per_second
    assert min(sent[RETRY], sent[BACKFILL]) >= 0.1 * sent.total()


def test_nothing_goes_before_the_time_that_the_platform_named() -> None:
    held = paused(paused(full(HUBSPOT, 100.0), 107.0), 103.0)

    assert [taken(held, who, 5)[1] for who in Priority] == [0, 0, 0, 0]
    assert wait(held, LIVE) == 7.0
    assert taken(refilled(held, 107.0), LIVE, 5)[1] == 5


def test_what_the_platform_says_is_believed_unless_the_operator_said_less() -> None:
    held = full(Rate(10, 1), 0.0)

    assert seen(held, 3, 10).tokens == 3
    assert seen(held, 100, 20).tokens == 20
    assert seen(held, 100, 20, fixed=True).tokens == 10
    assert (seen(held, 5, 5).rate.requests, seen(held, 5, 5).tokens) == (5, 5)
    assert seen(held, 0, 0).rate.requests == 10


def test_a_clock_that_is_put_back_earns_nothing() -> None:
    held, _ = taken(full(Rate(10, 1), 100.0), LIVE, 10)

    assert refilled(held, 50.0).tokens == 0
    assert refilled(refilled(held, 50.0), 50.5).tokens == pytest.approx(5.0)


def test_use_is_told_by_class_and_fades() -> None:
    held = full(KIRIM, 0.0)
    for second in range(600):
        held, _ = taken(refilled(held, float(second)), BACKFILL, 10)

    assert used(held)[BACKFILL] == pytest.approx(10, rel=0.05)
    assert used(refilled(held, 1_200.0))[BACKFILL] < 0.1
    assert (held.spent[BACKFILL], used(held)[LIVE]) == (6_000, 0)


@given(RATES, st.sampled_from(list(Priority)))
def test_what_is_stored_comes_back(rate: Rate, who: Priority) -> None:
    held, _ = taken(paused(full(rate, 5.0), 4.0), who, 3)

    assert Allowance.of(held.document()) == held
