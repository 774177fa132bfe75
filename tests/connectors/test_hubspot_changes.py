"""The feed of changes skips nothing, whatever happens between two pages, and comes to an end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.hubspot.changes import Place
from crmsync.errors import Retry

OVERLAP = timedelta(seconds=300)
START = 1_795_000_000_000  # milliseconds


@dataclass
class Search:
    """HubSpot's search over records that change: times by record id, and which are not visible yet."""

    page: int
    times: dict[int, int] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)

    def __call__(self, place: Place) -> tuple[list[dict[str, Any]], bool]:
        tests = {"GTE": int.__ge__, "LT": int.__lt__, "GT": int.__gt__}
        rules = [
            (rule["propertyName"], tests[rule["operator"]], int(rule["value"]))
            for rule in place.filters("lastmodifieddate")
        ]
        hits = [
            (id, time)
            for id, time in self.times.items()
            if id not in self.late
            and all(test(id if name == "hs_object_id" else time, value) for name, test, value in rules)
        ]
        hits.sort(key=lambda hit: hit if place.order("lastmodifieddate") == "hs_object_id" else (hit[1], -hit[0]))
        return [row(*hit) for hit in hits[: self.page]], len(hits) > self.page


def row(id: int, time: int) -> dict[str, Any]:
    moment = datetime.fromtimestamp(time / 1000, UTC).isoformat()
    return {"id": str(id), "properties": {"lastmodifieddate": moment}}


def walk(search: Search, place: Place, now: int, meanwhile: Any = None) -> tuple[Place, dict[int, int]]:
    """To the end of the feed; `meanwhile` happens after each page. Returns the last time each record was seen with."""
    seen: dict[int, int] = {}
    for _ in range(10_000):
        rows, more = search(place)
        seen |= {int(each["id"]): search.times[int(each["id"])] for each in rows}
        at = datetime.fromtimestamp(now / 1000, UTC) if now else None
        following, more = place.after(rows, "lastmodifieddate", more, at, OVERLAP)
        place = Place.read(str(following))
        assert place == following
        if not more:
            return place, seen
        if meanwhile is not None:
            meanwhile()
    raise AssertionError("the feed does not end")


@settings(max_examples=200, deadline=None)
@given(
    page=st.integers(2, 5),
    offsets=st.lists(st.integers(0, 6), max_size=40),
    edits=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 3)), max_size=20),
)
def test_every_record_is_seen_with_its_last_change(page: int, offsets: list[int], edits: list[tuple[int, int]]) -> None:
    """Pages of few rows, many rows of one instant, and edits between the pages."""
    search = Search(page, {id: START + offset for id, offset in enumerate(offsets, 1)})
    clock = START + 10
    waiting = list(edits)

    def edit() -> None:
        nonlocal clock
        if waiting and offsets:
            which, wait = waiting.pop()
            clock += wait
            search.times[which % len(offsets) + 1] = clock

    place, seen = walk(search, Place.since(None), clock, edit)
    _, again = walk(search, place, clock)

    assert {**seen, **again} == search.times


@settings(max_examples=200, deadline=None)
@given(
    page=st.integers(2, 4),
    steps=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 299), st.booleans()), max_size=25),
)
def test_a_row_that_shows_itself_within_the_overlap_is_never_missed(
    page: int, steps: list[tuple[int, int, bool]]
) -> None:
    """Time passes, records change, some are visible at once and some up to 299 seconds later, and there are polls."""
    search, place = Search(page), Place.since(None)
    now, shows, seen = START, dict[int, int](), dict[int, int]()
    for id, (wait, lag, poll) in enumerate(steps, 1):
        now += wait * 1000
        search.times[id] = now
        shows[id] = now + lag * 1000
        search.late = {late for late, due in shows.items() if due > now}
        if poll:
            place, found = walk(search, place, now)
            seen |= found
    search.late = set()
    _, found = walk(search, place, now + 300_000)

    assert {**seen, **found} == search.times


def test_a_quiet_account_is_not_read_again_for_ever() -> None:
    """A bulk import would otherwise be read again with each poll."""
    search = Search(200, {id: START for id in range(1, 1000)})
    place, first = walk(search, Place.since(None), START)
    place, soon = walk(search, place, START + 60_000)
    place, settling = walk(search, place, START + 301_000)
    place, quiet = walk(search, place, START + 302_000)

    assert [len(seen) for seen in (first, soon, settling, quiet)] == [999, 999, 999, 0]
    search.times[7] = START + 303_000
    assert walk(search, place, START + 303_000)[1] == {7: START + 303_000}


def test_without_hubspots_clock_the_overlap_is_read_again() -> None:
    """Nothing is taken for settled on a guess."""
    search = Search(200, {1: START, 2: START + 1})
    place, _ = walk(search, Place.since(None), 0)

    assert [len(walk(search, place, 0)[1]) for _ in range(3)] == [2, 2, 2]


def test_the_beginning_is_never_gone_behind() -> None:
    """Not by the overlap either: what is older was not asked for."""
    search = Search(200, {1: START, 2: START + 1000})
    since = datetime.fromtimestamp(START / 1000, UTC) + timedelta(milliseconds=500)
    place, seen = walk(search, Place.since(since), START + 2000)

    assert set(seen) | set(walk(search, place, START + 2000)[1]) == {2}


@pytest.mark.parametrize(
    ("rows", "tied"), [([(1, START + 1), (2, START)], ""), ([(3, START), (2, START)], "2"), ([], "")]
)
def test_a_search_that_does_not_do_as_it_is_told_is_not_trusted(rows: list[tuple[int, int]], tied: str) -> None:
    """Out of order, in circles, or empty with more to come: going on would skip or never end."""
    place = Place(floor=START, tied=tied)
    with pytest.raises(Retry):
        place.after([row(*each) for each in rows], "lastmodifieddate", True, None, OVERLAP)
