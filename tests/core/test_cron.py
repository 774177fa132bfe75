"""Cron expressions in time zones: every moment once, also where clocks are put forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import profiles  # noqa: F401

from crmsync.core.cron import Cron

BERLIN = ZoneInfo("Europe/Berlin")
FORWARD = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)
"""An hour before clocks in Berlin go from 2 to 3."""
BACK = datetime(2026, 10, 24, 23, 59, tzinfo=UTC)
"""An hour before clocks in Berlin go from 3 to 2."""


def moments(text: str, after: datetime, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """What the clock on the wall reads at the next moments."""
    found = []
    for _ in range(count):
        following = Cron(text, zone).after(after)
        assert following is not None
        after = following
        found.append(after.astimezone(zone).strftime("%a %H:%M %z"))
    return found


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("30 2 * * *", FORWARD, ["Sun 03:30 +0200", "Mon 02:30 +0200"]),
        ("30 2 * * *", BACK, ["Sun 02:30 +0200", "Mon 02:30 +0100"]),
        ("0 * * * *", FORWARD, ["Sun 03:00 +0200", "Sun 04:00 +0200"]),
        ("0 * * * *", BACK, ["Sun 02:00 +0200", "Sun 02:00 +0100", "Sun 03:00 +0100"]),
        ("*/30 * * * *", BACK, ["Sun 02:00 +0200", "Sun 02:30 +0200", "Sun 02:00 +0100", "Sun 02:30 +0100"]),
        ("0 2,3 * * *", FORWARD, ["Sun 03:00 +0200", "Mon 02:00 +0200"]),
    ],
)
def test_what_clocks_do_makes_nothing_come_twice_or_never(text: str, after: datetime, expected: list[str]) -> None:
    assert moments(text, after, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 9 * * 0", ["Sun", "Sun"]),
        ("0 9 * * 7", ["Sun", "Sun"]),
        ("0 9 * * 1", ["Mon", "Mon"]),
        ("0 9 * * 5-7", ["Fri", "Sat", "Sun", "Fri"]),
        ("0 9 * * fri-mon", ["Fri", "Sat", "Sun", "Mon", "Fri"]),
        ("0 9 * * mon,Wed", ["Wed", "Mon"]),
        ("0 9 * * */3", ["Wed", "Sat", "Sun"]),
        ("0 9 * * 1/2", ["Wed", "Fri", "Mon"]),
        ("@weekly", ["Sun", "Sun"]),
    ],
)
def test_days_of_the_week_count_from_sunday(text: str, days: list[str]) -> None:
    wednesday = datetime(2026, 6, 3, 0, 0, tzinfo=UTC)

    assert [reading[:3] for reading in moments(text, wednesday, len(days))] == days


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hourly", "has 1 fields; five are needed"),
        ("0 0 1 * 1", "only one of them can be"),
        ("61 * * * *", "cannot be read as a cron expression"),
        ("0 0 * * 8", '"8" is no day of the week'),
        ("0 0 * * m-f", '"m" is no day of the week'),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Cron(text, BERLIN)


def test_a_day_that_never_comes_is_never() -> None:
    assert Cron("0 0 30 2 *", BERLIN).after(FORWARD) is None


def test_the_latest_moment_is_found_however_many_there_were() -> None:
    long_ago, now = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, 12, 0, 30, tzinfo=UTC)

    assert Cron("* * * * *", BERLIN).latest(long_ago, now) == datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert Cron("0 0 29 2 *", BERLIN).latest(long_ago, now) == datetime(2024, 2, 28, 23, 0, tzinfo=UTC)
    assert Cron("0 0 29 2 *", BERLIN).latest(datetime(2025, 1, 1, tzinfo=UTC), now) is None
    assert Cron("0 12 * * *", BERLIN).latest(now - timedelta(hours=3), now) == datetime(2026, 7, 1, 10, 0, tzinfo=UTC)


EXPRESSIONS = st.sampled_from(
    ["*/7 * * * *", "15 * * * *", "30 2 * * *", "10,40 1-3 * * *", "0 */4 * * *", "5 1 * * 0"]
)
ZONES = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Jakarta", "Africa/Casablanca"]
)
TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(EXPRESSIONS, ZONES, TIMES)
def test_moments_follow_one_another_and_the_latest_is_the_one_before_the_next(
    text: str, zone: str, moment: datetime
) -> None:
    cron = Cron(text, ZoneInfo(zone))
    following = cron.after(moment)
    assert following is not None
    assert following > moment
    later = cron.after(following)
    assert later is not None
    assert later > following
    assert cron.after(later - timedelta(microseconds=1)) == later
    assert cron.latest(moment, following) == following
    assert cron.latest(moment, following - timedelta(microseconds=1)) is None
    assert cron.latest(moment, later - timedelta(microseconds=1)) == following
