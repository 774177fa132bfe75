"""Brakes: what is let through, what is withheld, and that a limit is never passed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import profiles  # noqa: F401

from crmsync.core.brakes import DEFAULTS, Brake, Limit, admitted, judge, kinds, too_much, without
from crmsync.core.decide import Agreed, PairView, Side, decide
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.model import Fields, FieldType, Kind

CREATE, OVERWRITE, CLEAR, REMOVAL = Brake
BOTH = {OVERWRITE, CLEAR}
RULES = Rules(
    Kind.CONTACT,
    (
        FieldRule("name", "firstname", Owner.CRM),
        FieldRule("company", "company", Owner.KIRIM),
        FieldRule("tags", "tags", Owner.UNION, FieldType.SET),
    ),
)


def view(kirim: Fields, crm: Fields | None, **base: tuple[object, object]) -> PairView:
    return PairView(kirim, crm, {name: Agreed(*both) for name, both in base.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (view({"name": "a", "company": "c"}, None), {CREATE}),
        (view({"company": "c"}, {"company": None}), set()),
        (view({"company": "c"}, {"company": "d"}), {OVERWRITE}),
        (view({"company": None}, {"company": "d"}, company=("d", "d")), {CLEAR}),
        (view({"tags": ("a",)}, {"tags": ("a", "b")}, tags=(("a", "b"), ("a", "b"))), {REMOVAL}),
        (view({"tags": ("a", "b")}, {"tags": ("a",)}, tags=(("a",), ("a",))), set()),
        (view({"name": "a", "company": None}, {"firstname": "b", "company": "d"}, company=("d", "d")), BOTH),
    ],
)
def test_what_cannot_be_taken_back_is_told_from_what_can(pair: PairView, expected: set[Brake]) -> None:
    assert kinds(decide(RULES, pair), creates=pair.crm is None) == expected


def test_what_is_withheld_leaves_the_rest_as_it_was() -> None:
    decision = decide(RULES, view({"name": "a", "company": "c"}, {"firstname": "b", "company": None}))
    kept = without(decision, {OVERWRITE}, creates=False)

    assert decision.writes(Side.KIRIM) == {"name": "b"}
    assert (kept.writes(Side.KIRIM), kept.writes(Side.CRM)) == ({}, {"company": "c"})
    assert without(decision, {CLEAR, REMOVAL, CREATE}, creates=False) == decision


def test_a_record_that_is_not_created_is_not_created_in_part() -> None:
    pair = view({"name": "a", "company": "c"}, None)

    assert without(decide(RULES, pair), {CREATE}, creates=True).quiet


def test_a_set_that_both_sides_follow_is_written_on_both_or_on_neither() -> None:
    """Else the base would move past what was withheld, and it would never be done."""
    both = view({"tags": ("a", "k")}, {"tags": ("a", "b", "c")}, tags=(("a", "b"), ("a", "b")))
    decision = decide(RULES, both)
    assert decision.writes(Side.KIRIM)
    assert decision.writes(Side.CRM)

    assert without(decision, {REMOVAL}, creates=False).quiet


@pytest.mark.parametrize(
    ("limit", "used", "linked", "run", "expected"),
    [
        (Limit(None, None), 10**9, 10, True, None),
        (Limit(5, 3), 0, 0, True, 5),
        (Limit(5, 3), 0, 0, False, 3),
        (Limit(5, 3), 2, 0, False, 1),
        (Limit(5, 3), 9, 0, False, 0),
        (Limit(None, None, 0.5), 0, 99, True, None),
        (Limit(None, None, 0.5), 0, 200, True, 100),
        (Limit(1_000, 80, 0.5), 30, 200, False, 50),
        (Limit(1_000, 80, 0.5), 30, 200, True, 70),
    ],
)
def test_room_is_what_number_and_share_leave(
    limit: Limit, used: int, linked: int, run: bool, expected: int | None
) -> None:
    assert limit.room(used, linked, run=run) == expected


def test_a_first_backfill_has_room() -> None:
    assert DEFAULTS[CREATE].room(0, 0, run=True) == 1_000_000
    assert all(limit.room(0, 0, run=False) for limit in DEFAULTS.values())


@pytest.mark.parametrize(
    ("count", "of", "expected"), [(21, 100, True), (20, 100, False), (19, 19, False), (1_001, 10**6, True)]
)
def test_too_much_is_by_number_or_by_share(count: int, of: int, expected: bool) -> None:
    assert too_much(count, of, 1_000, 0.2) is expected


def test_what_is_reached_is_withheld_from_there_on_and_nothing_else() -> None:
    asked = [("", frozenset({CLEAR})), ("", frozenset({CLEAR, OVERWRITE})), ("run:1", frozenset({CLEAR, CREATE}))]
    judged = judge(asked, {("", CLEAR): 1, ("run:1", CLEAR): 5, ("run:1", CREATE): None, ("", OVERWRITE): 1})

    assert judged.withheld == [frozenset(), frozenset({CLEAR}), frozenset({CLEAR})]
    assert judged.reached == {("", CLEAR)}
    assert list(admitted(asked, judged.withheld)) == [("", CLEAR), ("", OVERWRITE), ("run:1", CREATE)]


SCOPES = st.sampled_from(["", "run:1", "run:2"])
ASKED = st.lists(st.tuples(SCOPES, st.frozensets(st.sampled_from(list(Brake)))), max_size=40)
ROOM = st.dictionaries(st.tuples(SCOPES, st.sampled_from(list(Brake))), st.one_of(st.none(), st.integers(0, 10)))


@given(ASKED, ROOM, st.frozensets(st.sampled_from(list(Brake))))
def test_no_limit_is_passed_and_what_is_paused_never_goes(
    asked: list[tuple[str, frozenset[Brake]]], room: dict[tuple[str, Brake], int | None], paused: frozenset[Brake]
) -> None:
    judged = judge(asked, room, paused)
    gone = Counter(admitted(asked, judged.withheld))

    assert all((most := room.get(key)) is None or count <= most for key, count in gone.items())
    assert not paused & {brake for _, brake in gone}
    stopped = paused | {brake for _, brake in judged.reached}
    assert all(held <= wanted & stopped for (_, wanted), held in zip(asked, judged.withheld, strict=True))
    again = judge(asked, room, stopped)
    assert again.reached == frozenset()
    assert all(before <= after for before, after in zip(judged.withheld, again.withheld, strict=True))


@given(ASKED)
def test_without_limits_everything_goes(asked: list[tuple[str, frozenset[Brake]]]) -> None:
    assert not any(judge(asked, {}).withheld)
    assert replace(judge(asked, {})).reached == frozenset()
