"""A body from outside is a document with one meaning, or it is refused for a constant reason."""

from __future__ import annotations

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmsync import strict_json
from crmsync.errors import BadPayload

REASONS = {
    "empty_body",
    "not_utf8",
    "bad_json",
    "duplicate_key",
    "non_finite",
    "number_too_long",
    "too_deep",
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@given(VALUES)
def test_what_is_sound_is_read_as_it_is(value: object) -> None:
    assert strict_json.read(json.dumps(value).encode()) == value


@given(st.binary() | st.text(alphabet='[]{}:,"\\u0ed8019-.eNaInfity \0\ufeff', max_size=40).map(str.encode))
def test_any_bytes_are_a_value_or_a_constant_reason(body: bytes) -> None:
    reason = None
    try:
        strict_json.read(body)
    except BadPayload as error:
        reason = str(error)

    assert reason in REASONS | {None}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_nesting_ends_at_a_depth_of_our_own_long_before_pythons(opening: str, closing: str) -> None:
    def nested(depth: int) -> bytes:
        return f"{opening * depth}1{closing * depth}".encode()

    strict_json.read(nested(strict_json.DEEPEST))
    for depth in (strict_json.DEEPEST + 1, 100_000):
        with pytest.raises(BadPayload, match=r"^too_deep$"):
            strict_json.read(nested(depth))


@pytest.mark.parametrize("body", [b'{"phone": "+62811"', b'{"a": "+62811\xff"}'])
def test_what_is_refused_is_not_shown(body: bytes) -> None:
    """Not even by a traceback, which prints its causes."""
    with pytest.raises(BadPayload) as refused:
        strict_json.read(body)

    assert refused.value.__cause__ is None
    assert "62811" not in "".join(traceback.format_exception(refused.value))
