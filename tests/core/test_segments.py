"""Segments: only the difference is applied, flapping is waited out, and nobody loses a label by accident."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmsync.core.segments import CHUNK, Difference, Kept, Rule, Standing, chunks, difference, key, too_many

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RULE = Rule("VIP customers", "VIP")
PATIENT = replace(RULE, dwell=timedelta(minutes=10))
people = st.sets(st.sampled_from("abcdef"))


def applied(*ids: str) -> dict[str, Kept]:
    return {id: Kept(Standing.APPLIED, NOON) for id in ids}


def carried_out(kept: dict[str, Kept], made: Difference, now: datetime) -> dict[str, Kept]:
    after = {**kept, **{id: Kept(Standing.APPLIED, now) for id in made.attach}}
    for id, standing in made.standing.items():
        after.pop(id, None)
        if standing is not None:
            after[id] = standing
    return {id: each for id, each in after.items() if id not in made.detach}


def test_only_who_came_and_who_went_is_touched() -> None:
    made = difference(applied("a", "b"), {"b", "c"}, NOON, RULE)
    assert (made.attach, made.detach, made.standing) == (("c",), ("a",), {})


@given(people, people)
def test_a_second_walk_over_the_same_members_changes_nothing(before: set[str], members: set[str]) -> None:
    kept = carried_out(applied(*before), difference(applied(*before), members, NOON, RULE), NOON)
    assert set(kept) == members
    assert difference(kept, members, NOON, RULE) == Difference((), (), {})


@given(st.lists(people, max_size=8))
def test_who_flaps_faster_than_the_dwell_time_is_left_alone(walks: list[set[str]]) -> None:
    kept, now = applied("a", "b"), NOON
    for members in walks:
        now += timedelta(minutes=1)
        made = difference(kept, members, now, PATIENT)
        assert made.attach == made.detach == ()
        kept = carried_out(kept, made, now)
    stayed = difference(kept, {"a", "b"}, now, PATIENT)
    assert (stayed.attach, stayed.detach) == ((), ())


def test_who_stays_long_enough_gets_the_label_and_who_stays_away_loses_it() -> None:
    first = difference(applied("a"), {"b"}, NOON, PATIENT)
    kept = carried_out(applied("a"), first, NOON)
    assert (first.attach, first.detach) == ((), ())
    second = difference(kept, {"b"}, NOON + timedelta(minutes=10), PATIENT)
    assert (second.attach, second.detach) == (("b",), ("a",))


def test_nobody_loses_a_label_that_is_only_given() -> None:
    assert difference(applied("a"), set(), NOON, replace(RULE, removes=False)).detach == ()


@pytest.mark.parametrize(
    ("removals", "held", "said"),
    [
        (0, 100, ""),
        (20, 100, ""),
        (21, 100, "21 of 100 contacts (21 %) would lose the label VIP"),
        (19, 19, ""),
        (1_001, 100_000, "1001 contacts would lose the label VIP; one run may take it from 1000"),
    ],
)
def test_mass_removal_is_stopped_by_number_and_by_share(removals: int, held: int, said: str) -> None:
    assert too_many(removals, held, RULE) == said


def test_a_thousand_go_into_one_call_and_one_more_into_the_next() -> None:
    assert [len(chunk) for chunk in chunks([str(n) for n in range(2 * CHUNK + 1)])] == [1_000, 1_000, 1]


def test_the_same_chunk_has_the_same_key_and_another_time_another() -> None:
    assert key("acme", "crm", "VIP", 1, "attach", "ctc_1") == key("acme", "crm", "VIP", 1, "attach", "ctc_1")
    assert key("acme", "crm", "VIP", 1, "attach", "ctc_1") != key("acme", "crm", "VIP", 2, "attach", "ctc_1")
    assert len(key("a")) <= 255
