"""No bytes of a stranger are believed, none makes the parsers fall over, and unsigned headers change nothing.

What is hunted here with examples is hunted by coverage with `scripts/fuzz`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import prey
from support.gate import SECRET, Gate, T, signed

from crmsync.kirim.signature import sign

RIGHT = sign(prey.KEYS[0], b"{}", prey.T).encode()
PIECES = [
    b"t=",
    b"v1=",
    b"v0=",
    b",",
    b" ",
    b"=",
    b"\t",
    b"\xff",
    str(prey.T).encode(),
    RIGHT[-64:],
    RIGHT[:20],
    b"0" * 64,
]


def mangled(data: bytes) -> st.SearchStrategy[bytes]:
    """A seed with some of its bytes replaced, removed or repeated."""
    places = st.integers(0, len(data))
    edits = st.lists(st.tuples(places, places, st.one_of(st.binary(max_size=8), st.sampled_from(PIECES))), max_size=4)

    def edit(steps: list[tuple[int, int, bytes]]) -> bytes:
        result = data
        for start, end, new in steps:
            result = result[: min(start, end)] + new + result[max(start, end) :]
        return result

    return edits.map(edit)


@given(header=st.one_of(mangled(RIGHT), st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), st.binary()))
@settings(max_examples=1_500, deadline=None)
@example(RIGHT)
def test_no_header_is_believed_without_a_right_mac(header: bytes) -> None:
    prey.believed(header, b"{}")
    if not prey.believed(header, b"{} "):
        return
    raise AssertionError("believed for another body")


def test_the_right_header_is_believed() -> None:
    assert prey.believed(RIGHT, b"{}")


@pytest.mark.parametrize("target", prey.SEEDS)
def test_the_seeds_are_what_they_should_be(target: str) -> None:
    for seed in prey.SEEDS[target]:
        prey.TARGETS[target](seed)


NAMES = ("id", "type", "data", "contact", "entry", "changes", "value", "messages", "statuses", "metadata", "labels")
ANY_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["ctc_1", "", "\0", "\ud800"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.text(max_size=8),
                st.sampled_from(
                    [
                        "id",
                        "type",
                        "data",
                        "contact",
                        "entry",
                        "changes",
                        "value",
                        "messages",
                        "statuses",
                        "metadata",
                        "labels",
                    ]
                ),
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=25,
)


def replaced(document: Any, new: Any, path: list[int]) -> Any:
    """The document with something else at some place inside it."""
    if not path or not isinstance(document, dict | list) or not document:
        return new
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[path[0] % len(keys)]
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[key] = replaced(document[key], new, path[1:])
    return copy


@pytest.mark.parametrize("target", ["body", "hubspot"])
@given(data=st.data())
@settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_makes_a_parser_fall_over(target: str, data: st.DataObject) -> None:
    if target == "hubspot":
        pytest.importorskip("hubspot")
    seed = data.draw(st.sampled_from(prey.SEEDS[target]))
    body = data.draw(
        st.one_of(
            mangled(seed),
            st.binary(max_size=200),
            ANY_JSON.map(lambda value: json.dumps(value).encode()),
            st.tuples(ANY_JSON, st.lists(st.integers(0, 9), max_size=9)).map(
                lambda drawn: json.dumps(replaced(json.loads(seed), *drawn)).encode()
            ),
        )
    )
    prey.TARGETS[target](body)


# Headers that nobody signed

CONTACT = {"id": "ctc_1", "name": "Ana", "email": "ana@example.com", "updated_at": "2026-03-01T11:59:00Z"}
BODY = json.dumps({"id": "evt_1", "type": "contact.updated", "data": {"contact": CONTACT}}).encode()
UNSIGNED = {
    "X-Kirim-Source": "kirim",
    "X-Kirim-Event": "contact.updated",
    "X-Kirim-Event-Id": "evt_1",
    "X-Kirim-Delivery-Id": "wbd_1",
    "X-Kirim-Attempt": "1",
    "User-Agent": "Kirim-Webhook/1.0",
    "Content-Type": "application/json",
    "Accept": "*/*",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Host": "sync.example.com",
    "Cookie": "a=b",
}
VALUES = st.one_of(
    st.sampled_from([*UNSIGNED.values(), "meta", "evt_2", "0", "-1", "99", "", "other", "message.received"]),
    st.binary(max_size=60).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127)),
)


@pytest.fixture(scope="module")
def gate(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    path = tmp_path_factory.mktemp("fuzz") / "store.db"
    shutil.copy(sqlite_template, path)
    with Gate(f"sqlite:///{path}") as running:
        yield running


def effect(gate: Gate) -> Any:
    """What is stored, under which identity, and what came of it."""
    gate.observe()
    [row] = gate.stored()
    view = gate.view("ctc_1")
    return row.tenant, row.source, row.key, row.body, row.secret, gate.items(), view.fields, view.version, gate.kept()


@given(
    headers=st.lists(st.tuples(st.one_of(st.sampled_from([*UNSIGNED]), st.just("X-Whatever")), VALUES), max_size=14),
    dropped=st.sets(st.sampled_from([*UNSIGNED])),
    again=st.booleans(),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unsigned_headers_change_neither_what_is_stored_nor_its_identity_nor_its_effect(
    gate: Gate, headers: list[tuple[str, Any]], dropped: set[str], again: bool
) -> None:
    gate.reset()
    usual = [(name, value) for name, value in UNSIGNED.items() if name not in dropped]
    assert gate.post((*signed(BODY), *UNSIGNED.items()), BODY).status == 200
    expected = effect(gate)
    if not again:
        gate.reset()
    assert gate.post((*usual, *signed(BODY, SECRET, T + 1), *headers), BODY).status == 200
    assert effect(gate) == expected
