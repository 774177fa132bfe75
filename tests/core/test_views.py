"""What an observation does to a view: newer, older, the same, unclear, and never forgetting what is not mentioned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import profiles  # noqa: F401

from crmsync.core.views import Source, Verdict, View, observe
from crmsync.model import Fields, Kind, Record

AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
LATER, EARLIER = AT + timedelta(seconds=1), AT - timedelta(seconds=1)
TOLD, READ = Source.TOLD, Source.READ


def record(fields: Fields, version: datetime | None = AT, **more: object) -> Record:
    return Record(Kind.CONTACT, "c1", fields, version, **more)  # type: ignore[arg-type]


VIEW = View("c1", {"name": "Ana", "email": "a@b.c"}, AT, "ctc_1")

TABLE = [
    # source, fields, version, verdict, the fields afterwards
    (TOLD, {"name": "Ani"}, LATER, Verdict.CHANGED, {"name": "Ani", "email": "a@b.c"}),
    (TOLD, {"name": "Ani"}, EARLIER, Verdict.OLD, VIEW.fields),
    (TOLD, {"name": "Ani"}, AT, Verdict.UNCLEAR, VIEW.fields),
    (TOLD, {"name": "Ani"}, None, Verdict.UNCLEAR, VIEW.fields),
    (TOLD, {"name": "Ana"}, LATER, Verdict.SAME, VIEW.fields),
    (TOLD, {"name": "Ana"}, AT, Verdict.SAME, VIEW.fields),
    (TOLD, {"name": "Ana"}, None, Verdict.SAME, VIEW.fields),
    (TOLD, {"name": "Ana"}, EARLIER, Verdict.OLD, VIEW.fields),
    (TOLD, {}, LATER, Verdict.SAME, VIEW.fields),
    (TOLD, {"name": None}, LATER, Verdict.CHANGED, {"name": None, "email": "a@b.c"}),
    (TOLD, {"city": "Solo"}, LATER, Verdict.CHANGED, {**VIEW.fields, "city": "Solo"}),
    (TOLD, {"city": None}, AT, Verdict.UNCLEAR, VIEW.fields),  # known to be empty is more than unknown
    (READ, {"name": "Ani"}, LATER, Verdict.CHANGED, {"name": "Ani", "email": "a@b.c"}),
    (READ, {"name": "Ani"}, AT, Verdict.CHANGED, {"name": "Ani", "email": "a@b.c"}),
    (READ, {"name": "Ani"}, None, Verdict.CHANGED, {"name": "Ani", "email": "a@b.c"}),
    (READ, {"name": "Ani"}, EARLIER, Verdict.OLD, VIEW.fields),
    (READ, {"name": "Ana"}, AT, Verdict.SAME, VIEW.fields),
]


@pytest.mark.parametrize(("source", "fields", "version", "verdict", "after"), TABLE)
def test_an_observation_of_a_known_record(
    source: Source, fields: Fields, version: datetime | None, verdict: Verdict, after: Fields
) -> None:
    view, found = observe(VIEW, record(fields, version), source)

    assert (found, view.fields) == (verdict, after)


def test_the_first_observation_is_the_view() -> None:
    seen = record({"name": "Ana"}, external_id="ctc_1")

    assert observe(None, seen, TOLD) == (View("c1", {"name": "Ana"}, AT, "ctc_1"), Verdict.NEW)


def test_a_view_without_a_version_believes_the_first_who_tells_one() -> None:
    view, verdict = observe(View("c1", {"name": "Ana"}), record({"name": "Ani"}), TOLD)

    assert (view.fields, view.version, verdict) == ({"name": "Ani"}, AT, Verdict.CHANGED)


def test_the_version_moves_even_if_nothing_else_does() -> None:
    view, verdict = observe(VIEW, record({"name": "Ana"}, LATER), TOLD)

    assert (view.version, verdict) == (LATER, Verdict.SAME)
    assert observe(view, record({"name": "Ani"}, AT), TOLD)[1] is Verdict.OLD


def test_a_record_without_version_keeps_the_version_that_was_known() -> None:
    assert observe(VIEW, record({"name": "Ani"}, None), READ)[0].version == AT


def test_an_external_id_that_is_not_mentioned_is_kept() -> None:
    assert observe(VIEW, record({"name": "Ani"}, LATER), TOLD)[0].external_id == "ctc_1"
    assert observe(VIEW, record({}, LATER, external_id="ctc_2"), TOLD)[0].external_id == "ctc_2"


def test_a_record_that_was_archived_exists_no_more_and_may_come_back() -> None:
    gone, verdict = observe(VIEW, record({}, None, archived=True), READ)
    back, again = observe(gone, record({"name": "Ana"}, LATER), TOLD)

    assert (gone.exists, verdict) == (False, Verdict.CHANGED)
    assert gone.fields == VIEW.fields
    assert (back.exists, again) == (True, Verdict.CHANGED)


def test_late_news_does_not_bring_a_deleted_record_back() -> None:
    gone, _ = observe(VIEW, record({}, None, archived=True), READ)

    view, verdict = observe(gone, record({"name": "Ana"}), TOLD)

    assert (view.exists, verdict) == (False, Verdict.UNCLEAR)


@given(st.permutations([1, 2, 3, 4, 5]), st.lists(st.sampled_from([1, 2, 3, 4, 5]), max_size=5))
def test_whole_statements_end_the_same_in_any_order_and_number(order: list[int], repeats: list[int]) -> None:
    view: View | None = None
    for number in [*order, *repeats]:
        stated = record({"name": f"name {number}", "email": None}, AT + timedelta(seconds=number))
        view, _ = observe(view, stated, TOLD)

    assert view is not None
    assert view.fields == {"name": "name 5", "email": None}


def test_a_field_changed_when_the_record_says_that_it_did_for_the_first_time() -> None:
    view, _ = observe(None, record({"name": "Ana", "email": "a@b.c"}), TOLD)
    view, _ = observe(view, record({"name": "Ani", "email": "a@b.c"}, LATER), TOLD)
    view, _ = observe(view, record({"name": "Ani"}, LATER + timedelta(seconds=1)), TOLD)

    assert view.times == {"": AT, "name": LATER}


def test_a_change_without_a_version_happened_nobody_knows_when() -> None:
    view, _ = observe(VIEW, record({"name": "Ani"}, None), READ)

    assert view.times == {"name": None}


def test_of_what_no_reading_shows_the_last_word_at_a_version_counts() -> None:
    """Two labels within the same second: there is nothing that could be read to tell them apart."""
    view = View("c1", {"name": "Ana", "labels": ()}, AT, "ctc_1")
    labels = frozenset({"labels"})

    told, verdict = observe(view, record({"name": "Ana", "labels": ("a",)}, told_only=labels), TOLD)
    assert (told.fields["labels"], verdict, told.times["labels"]) == (("a",), Verdict.CHANGED, AT)
    told, verdict = observe(view, record({"name": "Ani", "labels": ("a",)}, told_only=labels), TOLD)
    assert (told.fields, verdict) == ({"name": "Ana", "labels": ("a",)}, Verdict.UNCLEAR)
    told, verdict = observe(view, record({"labels": ("a",)}, EARLIER, told_only=labels), TOLD)
    assert (told, verdict) == (view, Verdict.OLD)
