"""When writes of one field are a fight: by example, and for any sequence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import profiles  # noqa: F401

from crmsync.core.breaker import MOST, WINDOW, Stroke, oscillates, pruned, recent
from crmsync.core.mapping import FieldRule, Owner
from crmsync.model import FieldType, Value

AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
NAME = FieldRule("name", "name", Owner.KIRIM)
TAGS = FieldRule("tags", "tags", Owner.UNION, FieldType.SET)


def strokes(*values: Value, apart: float = 10) -> tuple[Stroke, ...]:
    return tuple(Stroke(AT + timedelta(seconds=apart * n), "crm", None, value) for n, value in enumerate(values))


TABLE = [
    ("the same value again and again", "xxxxx", True),
    ("not yet too often", "xxxx", False),
    ("two values in turn", "ababa", True),
    ("two values in turn, not yet too often", "abab", False),
    ("three values in turn", "abcabca", True),
    ("three values, not yet most of them for the second time", "abcab", False),
    ("a value that moves on", "abcdefghij", False),
    ("somebody who changed their mind once", "abcda", False),
    ("a fight that began after honest work", "abcdxyxyxyxyxy", True),
    ("other spellings of one value", ["A", " A", "A ", "A", "A"], True),
]


@pytest.mark.parametrize(("what", "values", "fight"), TABLE, ids=[row[0] for row in TABLE])
def test_a_sequence_of_writes(what: str, values: str, fight: bool) -> None:
    assert oscillates(NAME, strokes(*values)) is fight


def test_members_in_another_order_are_the_same_set() -> None:
    assert oscillates(TAGS, strokes(("a", "b"), ("b", "a"), ("a", "b"), ("b", "a"), ("a", "b")))


def test_what_is_written_to_both_sides_at_once_is_one_write() -> None:
    both = [Stroke(AT + timedelta(seconds=n), side, None, str(n)) for n in range(6) for side in ("kirim", "crm")]
    assert not oscillates(NAME, both)


def test_only_the_writes_of_the_last_minutes_count() -> None:
    slow = strokes(*"xxxxx", apart=WINDOW.total_seconds() / 4 + 1)
    assert len(recent(slow, slow[-1].at)) == MOST
    assert not oscillates(NAME, recent(slow, slow[-1].at))
    assert pruned({"name": slow, "old": slow[:1]}, slow[-1].at) == {"name": slow[1:]}


@given(st.lists(st.text(max_size=8), unique_by=lambda value: value.strip(), max_size=40))
def test_values_that_never_come_back_are_no_fight(values: list[str]) -> None:
    assert not oscillates(NAME, strokes(*values))


@given(st.lists(st.sampled_from("ab"), min_size=MOST + 1, max_size=40))
def test_two_values_cannot_go_on_for_ever(values: list[str]) -> None:
    assert oscillates(NAME, strokes(*values))


@given(st.lists(st.sampled_from("abcde"), max_size=MOST))
def test_a_few_writes_are_never_a_fight(values: list[str]) -> None:
    assert not oscillates(NAME, strokes(*values))
