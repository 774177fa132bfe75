"""Lenses: what goes to a side and comes back is the same, or comes to rest; and nothing of somebody else's is lost."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmsync.core.canonical import canonical, text
from crmsync.core.lens import (
    SAMPLES,
    UNKNOWN,
    Assigned,
    Chosen,
    Constant,
    Day,
    Dialled,
    Joined,
    Lens,
    Listed,
    PhoneFormat,
    Plain,
    Strangers,
    Unknown,
    Without,
    settles,
)
from crmsync.model import FieldType, Value

NAME = Joined(("firstname", "lastname"))
TIER = Chosen(Plain("tier"), {"gold": ("GOLD", "PLATINUM"), "silver": ("SILVER",)})
JAKARTA = ZoneInfo("Asia/Jakarta")

texts = st.text(max_size=20) | st.sampled_from([value for value in SAMPLES[FieldType.TEXT] if isinstance(value, str)])
sets = st.lists(st.sampled_from(["a", "B", "c d", "é", "😀"]), max_size=4, unique=True).map(tuple)


@pytest.mark.parametrize(
    ("whole", "first", "last"),
    [
        ("Ana", "Ana", None),
        ("Ana Lee", "Ana", "Lee"),
        ("Ana Maria Lee", "Ana Maria", "Lee"),
        ("  Ana   Lee ", "Ana", "Lee"),
        ("مرحبا بك", "مرحبا", "بك"),
        (None, None, None),
    ],
)
def test_a_name_is_split_at_its_last_word_and_joined_again(whole: str, first: str, last: str) -> None:
    written = NAME.write(whole)
    assert written == {"firstname": first, "lastname": last}
    assert canonical(FieldType.TEXT, NAME.read(written)) == (" ".join(whole.split()) if whole else None)


def test_half_a_name_that_was_never_seen_decides_nothing() -> None:
    assert isinstance(NAME.read({"firstname": "Ana"}), Unknown)
    assert NAME.read({"firstname": "Ana", "lastname": None}) == "Ana"


def test_of_several_words_the_first_is_written_and_all_are_understood() -> None:
    assert TIER.write("gold") == {"tier": "GOLD"}
    assert [TIER.read({"tier": word}) for word in ("GOLD", "platinum", "Silver")] == ["gold", "gold", "silver"]


def test_a_stranger_is_ignored_kept_or_written_as_something_else() -> None:
    assert isinstance(TIER.read({"tier": "BRONZE"}), Unknown)
    assert TIER.write("bronze") is None
    keeping = Chosen(Plain("tier"), TIER.words, Strangers.KEEP)
    assert (keeping.read({"tier": "BRONZE"}), keeping.write("bronze")) == ("BRONZE", {"tier": "bronze"})
    assert Chosen(Plain("tier"), TIER.words, fallback="OTHER").write("bronze") == {"tier": "OTHER"}


def test_empty_needs_no_word() -> None:
    assert (TIER.read({"tier": None}), TIER.write(None)) == (None, {"tier": None})
    assert isinstance(TIER.read({}), Unknown)


def test_members_that_no_word_means_stay_in_a_set() -> None:
    held = {"tier": ("GOLD", "MADE BY HAND")}
    assert TIER.read(held) == ("gold",)
    assert TIER.write(("silver",), held) == {"tier": ("SILVER", "MADE BY HAND")}


def test_labels_of_segments_are_neither_seen_nor_taken_away() -> None:
    lens = Without(Plain("labels"), frozenset({"VIP"}))
    assert lens.read({"labels": ("a", "VIP")}) == ("a",)
    assert lens.write(("b", "VIP"), {"labels": ("a", "VIP")}) == {"labels": ("b", "VIP")}
    assert lens.write(("b", "VIP"), {"labels": ("a",)}) == {"labels": ("b",)}
    assert isinstance(lens.read({}), Unknown)


def test_a_constant_is_written_nowhere_and_is_always_the_same() -> None:
    assert (Constant("WhatsApp").read({}), Constant("WhatsApp").write("other")) == ("WhatsApp", None)


def test_a_number_is_written_in_the_form_that_was_asked_for_and_words_as_they_are() -> None:
    forms = {form: Dialled(Plain("phone"), form, "ID").write("0812 3456 7890") for form in PhoneFormat}
    assert {form: written and written["phone"] for form, written in forms.items()} == {
        PhoneFormat.AS_IS: "0812 3456 7890",
        PhoneFormat.E164: "+6281234567890",
        PhoneFormat.INTERNATIONAL: "+62 812-3456-7890",
        PhoneFormat.NATIONAL: "0812-3456-7890",
    }
    assert Dialled(Plain("phone"), PhoneFormat.E164, "ID").write("call me") == {"phone": "call me"}


def test_a_point_in_time_is_on_the_day_it_is_where_the_tenant_is() -> None:
    assert Day(Plain("day"), JAKARTA).read({"day": "2026-11-20T17:30:00Z"}) == "2026-11-21"
    assert Day(Plain("day"), JAKARTA).write("2026-11-20") == {"day": "2026-11-20"}
    assert Day(Plain("day")).read({"day": "soon"}) == "soon"


def test_a_user_whom_the_other_side_does_not_know_decides_nothing() -> None:
    lens = Assigned(Plain("owner"), {"usr_1": "11"})
    assert (lens.read({"owner": "11"}), lens.write("usr_1")) == ("usr_1", {"owner": "11"})
    assert isinstance(lens.read({"owner": "12"}), Unknown)
    assert lens.write("usr_2") is None
    assert Assigned(Plain("owner"), {}, "99").write("usr_2") == {"owner": "99"}
    assert lens.write(None) == {"owner": None}


def test_a_lens_that_never_comes_to_rest_is_found() -> None:
    class Restless(Plain):
        def write(self, value: Value, held: object = None) -> dict[str, Value]:  # type: ignore[override]
            return {self.name: f"{value}!"}

    assert settles(Restless("x"), FieldType.TEXT, ("a",)) == "a"
    assert settles(Plain("x"), FieldType.TEXT, SAMPLES[FieldType.TEXT]) is UNKNOWN


@pytest.mark.parametrize("form", PhoneFormat)
@pytest.mark.parametrize("region", [None, "ID", "GB"])
def test_every_form_of_a_number_comes_to_rest(form: PhoneFormat, region: str | None) -> None:
    assert settles(Dialled(Plain("x"), form, "ID"), FieldType.PHONE, SAMPLES[FieldType.PHONE], "ID") is UNKNOWN


@given(texts)
def test_any_text_comes_to_rest_in_two_fields_and_loses_no_letter(value: str) -> None:
    written = NAME.write(value)
    assert written is not None
    read = NAME.read(written)
    assert read == (" ".join(text(value).split()) or None)
    assert NAME.write(read) == written  # type: ignore[arg-type]


@given(sets, sets)
def test_a_set_in_one_text_is_the_same_set_whatever_else_is_held(value: tuple[str, ...], held: tuple[str, ...]) -> None:
    lens: Lens = Listed(Plain("x"), ";")
    written = lens.write(value, {"x": ";".join(held)})
    assert written is not None
    assert canonical(FieldType.SET, lens.read(written)) == canonical(FieldType.SET, value)  # type: ignore[arg-type]


@given(sets, sets)
def test_whatever_is_written_others_members_stay_and_ours_are_ours(
    value: tuple[str, ...], held: tuple[str, ...]
) -> None:
    others = frozenset({"a", "😀"})
    lens = Without(Plain("x"), others)
    written = lens.write(value, {"x": held})
    assert written is not None
    members = written["x"]
    assert isinstance(members, tuple)
    assert set(members) & others == set(held) & others
    assert set(members) - others == set(value) - others
