"""Only what the platform signed is believed, and what it says is understood exactly."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmsync.connector import Connector
from crmsync.errors import BadPayload, BadSignature, Doubt
from crmsync.model import Can, Change, Item, WebhookRequest
from crmsync.testing.checks.base import Checks, declared, is_utc, needs
from crmsync.testing.fake import Delivery, FakeCrm, Hooks

UNREADABLE = (b"", b"{", b"\xff\xfe", b"null", b"7", b'"text"', b"[" * 5000)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
QUIETLY = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class Webhooks(Checks):
    """`verify` and `parse`."""

    def test_every_delivery_means_exactly_its_changes(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Those written beside it, in order; also none."""
        _hooks(fake, connector)
        for delivery in fake.deliveries():
            connector.verify(fake.sign(delivery.body))
            assert _changes(connector.parse(delivery.body)) == list(delivery.changes), delivery.name

    def test_every_item_has_an_identity_of_its_own(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """The same each time the body is read; and what concerns no record says why."""
        _hooks(fake, connector)
        for delivery in fake.deliveries():
            items = connector.parse(delivery.body)
            keys = [item.key for item in items]
            assert all(keys), delivery.name
            assert len(set(keys)) == len(keys), delivery.name
            assert [item.key for item in connector.parse(delivery.body)] == keys, delivery.name
            assert all(item.reason for item in items if item.change is None and item.message is None), delivery.name

    def test_times_in_a_delivery_say_that_they_are_utc(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """The item's and the record's."""
        _hooks(fake, connector)
        for delivery in fake.deliveries():
            for item in connector.parse(delivery.body):
                record = item.change.record if item.change else None
                assert is_utc(item.at), delivery.name
                assert record is None or is_utc(record.version), delivery.name

    def test_every_configured_secret_works(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """During a rotation both do, and one can tell which it was."""
        hooks = _hooks(fake, connector)
        body = fake.deliveries()[0].body
        matched = [connector.verify(fake.sign(body, secret=number)) for number in range(hooks.secrets)]

        assert len(set(matched)) == hooks.secrets
        assert not [secret for secret in fake.secrets if any(secret in name for name in matched)]

    def test_nothing_is_parsed_to_verify(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Any bytes can be signed."""
        _hooks(fake, connector)
        for body in UNREADABLE:
            assert isinstance(connector.verify(fake.sign(body)), str)

    def test_a_missing_header_is_not_believed(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Each on its own, and all of them."""
        hooks = _hooks(fake, connector)
        request = _request(fake)
        for missing in (*({name} for name in hooks.headers), set(hooks.headers)):
            kept = tuple((name, value) for name, value in request.headers if name not in missing)
            assert _doubt(connector, replace(request, headers=kept)) is not None

    @pytest.mark.parametrize("wrong", ["changed", "emptied", "cut", "longer", "not_ascii", "spaced", "zeros"])
    def test_one_wrong_header_is_not_believed(self, fake: FakeCrm, connector: Connector[Any], wrong: str) -> None:
        """One at a time, the others right."""
        hooks = _hooks(fake, connector)
        request = _request(fake)
        for name in hooks.headers:
            headers = tuple((key, _spoilt(value, wrong) if key == name else value) for key, value in request.headers)
            doubt = _doubt(connector, replace(request, headers=headers))
            assert doubt not in (Doubt.STALE, Doubt.FUTURE), "an age was believed before the signature"

    def test_a_changed_body_is_not_believed(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Not by one byte, not by white space."""
        _hooks(fake, connector)
        request = _request(fake)
        for body in (b"", request.body + b" ", request.body[:-1], bytes([request.body[0] ^ 1]) + request.body[1:]):
            assert _doubt(connector, replace(request, body=body)) is Doubt.MISMATCH

    @pytest.mark.parametrize(
        ("age", "expected"),
        [(timedelta(days=1), Doubt.STALE), (-timedelta(hours=1), Doubt.FUTURE)],
        ids=["old", "future"],
    )
    def test_a_wrong_time_is_not_believed(
        self, fake: FakeCrm, connector: Connector[Any], age: timedelta, expected: Doubt
    ) -> None:
        """It is told apart from a wrong signature: clocks can be put right."""
        if not _hooks(fake, connector).timed:
            pytest.skip(f"{connector.name} signs no time")
        request = fake.sign(fake.deliveries()[0].body, age=age)

        assert _doubt(connector, request) is expected
        assert _doubt(connector, replace(request, body=request.body + b" ")) is Doubt.MISMATCH

    def test_a_clock_may_be_a_minute_off(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Either way."""
        _hooks(fake, connector)
        for seconds in (60, -60):
            connector.verify(fake.sign(b"{}", age=timedelta(seconds=seconds)))

    @pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
    def test_what_cannot_be_read_is_a_bad_payload(self, fake: FakeCrm, connector: Connector[Any], body: bytes) -> None:
        """Signed all the same."""
        _hooks(fake, connector)
        with pytest.raises(BadPayload):
            connector.parse(body)

    def test_one_broken_entry_does_not_harm_the_others(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Where a delivery is a list of things."""
        _hooks(fake, connector)
        for delivery in fake.deliveries():
            for body in _with_garbage(delivery):
                changes = _changes(connector.parse(body))
                assert [change for change in delivery.changes if change not in changes] == [], delivery.name

    def test_no_body_does_harm(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Whatever is signed, it is items or a bad payload."""
        _hooks(fake, connector)
        recorded = [orjson.loads(delivery.body) for delivery in fake.deliveries()]

        @QUIETLY
        @given(st.binary(max_size=64) | JSON.map(_dumped) | _mutants(recorded).map(_dumped))
        def parse(body: bytes) -> None:
            try:
                items = connector.parse(body)
            except BadPayload:
                return
            assert all(isinstance(item, Item) for item in items)

        parse()


def _hooks(fake: FakeCrm, connector: Connector[Any]) -> Hooks:
    needs(connector, Can.WEBHOOKS)
    return declared(fake.hooks, "signed deliveries")


def _request(fake: FakeCrm) -> WebhookRequest:
    return fake.sign(next(delivery.body for delivery in fake.deliveries() if delivery.changes))


def _changes(items: Any) -> list[Change]:
    return [item.change for item in items if item.change is not None]


def _doubt(connector: Connector[Any], request: WebhookRequest) -> Doubt | None:
    """Why a request was not believed; it must not be."""
    with pytest.raises(BadSignature) as refused:
        connector.verify(request)
    return refused.value.doubt


def _spoilt(value: bytes, how: str) -> bytes:
    middle = len(value) // 2
    return {
        "changed": value[:middle] + (b"1" if value[middle : middle + 1] != b"1" else b"2") + value[middle + 1 :],
        "emptied": b"",
        "cut": value[:-1],
        "longer": value + b"0",
        "not_ascii": "１".encode() + value + b"\xff",
        "spaced": value[:middle] + b" " + value[middle:],
        "zeros": b"0" * len(value),
    }[how]


def _with_garbage(delivery: Delivery) -> Iterator[bytes]:
    """The body with entries nobody understands, in each list of things at its top."""
    root = orjson.loads(delivery.body)
    garbage: list[Any] = [None, 7, "text", [], {}, {"id": {}}]
    if isinstance(root, list):
        yield orjson.dumps([*garbage, *root, *garbage])
    for name, value in root.items() if isinstance(root, dict) else ():
        if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
            yield orjson.dumps({**root, name: [*garbage, *value, *garbage]})


@st.composite
def _mutants(draw: st.DrawFn, recorded: list[Any]) -> Any:
    """A recorded body with one place replaced by anything, or left out."""
    root = copy.deepcopy(draw(st.sampled_from(recorded)))
    places = list(_places(root))
    if not places:
        return root
    holder, place = draw(st.sampled_from(places))
    if draw(st.booleans()):
        holder[place] = draw(JSON)
    else:
        del holder[place]
    return root


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for place, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield node, place
        yield from _places(value)


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return b"{}"
