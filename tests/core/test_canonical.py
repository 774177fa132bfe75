"""Which spellings are one value, per type; and that two values are never taken for one."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import profiles  # noqa: F401

from crmsync.core.canonical import canonical, phone, same, storable
from crmsync.model import FieldType, Value

T = FieldType


@pytest.mark.parametrize("kind", list(T))
@pytest.mark.parametrize("value", [None, "", ()])
def test_null_the_empty_text_and_the_empty_set_are_empty_in_every_type(kind: T, value: Value) -> None:
    assert canonical(kind, value) is None


@pytest.mark.parametrize("kind", [kind for kind in T if kind is not T.SET])
def test_blank_text_is_empty(kind: T) -> None:
    assert canonical(kind, " \u00a0\t\n") is None


@pytest.mark.parametrize(
    ("kind", "value"), [(T.BOOLEAN, False), (T.NUMBER, 0), (T.NUMBER, "0"), (T.TEXT, 0), (T.TEXT, False), (T.TEXT, "0")]
)
def test_zero_and_false_are_not_empty(kind: T, value: Value) -> None:
    assert canonical(kind, value) is not None


SAME = [
    (T.TEXT, " Ana\n", "Ana"),
    (T.TEXT, unicodedata.normalize("NFD", "Zoë Müller"), "Zoë Müller"),
    (T.TEXT, "👩‍👩‍👧‍👦 ", "👩‍👩‍👧‍👦"),
    (T.TEXT, 12, "12"),
    (T.TEXT, True, "true"),
    (T.CHOICE, "lead ", "lead"),
    (T.EMAIL, "Ana.Lee+Work@Example.COM", "ana.lee+work@example.com"),
    (T.EMAIL, "BÜRO@BÜCHER.example", "büro@bücher.example"),
    (T.NUMBER, "10.0", 10),
    (T.NUMBER, 10.5, "10.50"),
    (T.NUMBER, "1e3", 1000),
    (T.NUMBER, "-0", 0),
    (T.NUMBER, 0.1, "0.1"),
    (T.NUMBER, " 7 ", 7),
    (T.BOOLEAN, "Yes", True),
    (T.BOOLEAN, "TRUE", 1),
    (T.BOOLEAN, "0", False),
    (T.BOOLEAN, "no", False),
    (T.DATETIME, 1762074000123, "2025-11-02T09:00:00.123Z"),
    (T.DATETIME, "1762074000123", "2025-11-02T16:00:00.123+07:00"),
    (T.DATETIME, 1762074000, "2025-11-02T09:00:00+00:00"),
    (T.DATETIME, "2025-11-02T09:00:00", "2025-11-02T09:00:00Z"),
    (T.DATETIME, "2025-11-02", "2025-11-02T00:00:00.000Z"),
    (T.SET, ("a", "b"), ("b", " a", "b")),
    (T.SET, "a", ("a",)),
    (T.SET, ("",), ()),
    (T.SET, (unicodedata.normalize("NFD", "é"),), ("é",)),
]


@pytest.mark.parametrize(("kind", "one", "other"), SAME)
def test_two_spellings_of_one_value(kind: T, one: Value, other: Value) -> None:
    assert same(kind, one, other)
    assert hash(canonical(kind, one)) == hash(canonical(kind, other))


DIFFERENT = [
    (T.TEXT, "Ana", "ana"),
    (T.TEXT, "Ana", "Ana\u200f"),  # a text keeps its marks: they may be meant
    (T.TEXT, "ﬁn", "fin"),  # composed, but not folded
    (T.TEXT, "👩", "👩🏽"),
    (T.EMAIL, "a@b.c", "a+1@b.c"),
    (T.NUMBER, "1", "1.01"),
    (T.NUMBER, "12345678901234567890123456789", "12345678901234567890123456788"),
    (T.NUMBER, "0.1", "0.10000000000000000000000000000001"),
    (T.NUMBER, "twelve", "twelfe"),
    (T.BOOLEAN, "maybe", "true"),
    (T.DATETIME, "2025-11-02T09:00:00.123Z", "2025-11-02T09:00:00.124Z"),
    (T.DATETIME, "soon", "later"),
    (T.SET, ("a",), ("A",)),
    (T.SET, ("a;b",), ("a", "b")),
]


@pytest.mark.parametrize(("kind", "one", "other"), DIFFERENT)
def test_two_values_are_not_taken_for_one(kind: T, one: Value, other: Value) -> None:
    assert not same(kind, one, other)


@pytest.mark.parametrize(
    "spelt",
    [
        "+62 851-1760-0829",
        "6285117600829",
        "085117600829",
        "(0851) 1760 0829",
        "+62(0)85117600829",
        "+62085117600829",
        "\u202a+62 851 1760 0829\u202c",
        "+62\u00a0851\u00a01760\u00a00829",
        "\u200e+6285117600829\u200f",
        "＋６２８５１１７６００８２９",
        "+٦٢٨٥١١٧٦٠٠٨٢٩",
        "٠٨٥١١٧٦٠٠٨٢٩",
    ],
)
def test_a_phone_number_is_one_number_in_every_spelling(spelt: str) -> None:
    assert canonical(T.PHONE, spelt, "ID") == "+6285117600829"


def test_a_local_number_means_nothing_without_a_region() -> None:
    assert phone("0851 1760 0829") == "0851 1760 0829"
    assert phone("6285117600829") == "+6285117600829"  # it begins with a country code


@pytest.mark.parametrize(
    "spelt", ["36555", "anonymous", "123456789012345@lid", "110", "+", "+62", "user@s.whatsapp.net"]
)
def test_what_is_no_phone_number_is_compared_as_text(spelt: str) -> None:
    assert phone(spelt) == spelt


@pytest.mark.parametrize(
    ("one", "other"),
    [("+5491123456789", "+541123456789"), ("+5511987654321", "+551187654321")],
)
def test_national_variants_are_left_apart_rather_than_guessed(one: str, other: str) -> None:
    assert phone(one) != phone(other)


@pytest.mark.parametrize("value", ["1e99999999", "-1e-99999999", "9" * 5000, "nan", "inf", "sNaN", "1e400", "--1", "٣"])
def test_no_number_is_too_odd_to_be_compared(value: str) -> None:
    assert same(T.NUMBER, value, value)
    assert not same(T.NUMBER, value, "1")


@pytest.mark.parametrize(
    "value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1e400", "nan", "24:61", -1]
)
def test_no_moment_is_too_odd_to_be_compared(value: Value) -> None:
    assert same(T.DATETIME, value, value)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.from_regex(r"[+0-9eE.:TZ-]{0,24}", fullmatch=True),
    st.lists(st.text(max_size=5), max_size=4).map(tuple),
)


@given(st.sampled_from(list(T)), VALUES, st.sampled_from([None, "ID", "US"]))
def test_every_value_has_a_form_in_every_type(kind: T, value: Value, region: str | None) -> None:
    form = canonical(kind, value, region)

    assert form == canonical(kind, value, region)
    hash(form)


@given(st.sampled_from([T.TEXT, T.EMAIL, T.CHOICE, T.SET]), st.text(max_size=20))
def test_the_form_of_a_text_is_its_own_form(kind: T, value: str) -> None:
    form = canonical(kind, value)
    again = tuple(form) if isinstance(form, frozenset) else form
    if kind is not T.EMAIL:  # folding twice may compose differently; comparing folds once
        assert canonical(kind, again) == form  # type: ignore[arg-type]


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_numbers_are_the_same_only_if_they_are_equal(one: Decimal, other: Decimal) -> None:
    assert same(T.NUMBER, str(one), str(other)) == (one == other)


def test_fields_are_made_fit_for_any_store() -> None:
    fields = {"a": "x\0y", "b": "\ud83d", "c": ("\0", "k"), "d": 1, "e": None, "f": "👩", "g": "\ud83d\ude00"}

    assert storable(fields) == {"a": "xy", "b": "\ufffd", "c": ("", "k"), "d": 1, "e": None, "f": "👩", "g": "😀"}


@given(st.text(st.characters(), max_size=20))
def test_what_is_storable_can_be_encoded(value: str) -> None:
    kept = storable({"a": value})["a"]

    assert isinstance(kept, str)
    assert "\0" not in kept.encode().decode()
    assert storable({"a": kept}) == {"a": kept}
