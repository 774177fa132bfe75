"""Thousands of new records in one job: each made once, each told its own end, and nothing newer overwritten."""

from __future__ import annotations

from typing import Any

import pytest

from crmsync.connector import Connector
from crmsync.errors import Reject, Retry
from crmsync.model import Can, Ref, Write, Written
from crmsync.testing.checks.base import Checks, fetched, given, key, needs, written
from crmsync.testing.fake import FakeCrm

MANY = 30


def _at_once(seconds: float) -> bool:
    """Nobody waits in a check."""
    return seconds >= 0


class Loads(Checks):
    """`load`."""

    def test_a_load_makes_each_record_once_and_tells_each(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """In the order of the writes, with values of any kind."""
        needs(connector, Can.BULK)
        sample = fake.sample
        texts = ["plain", 'a "quoted" one', "two\nlines", "a, comma", "José", "=1+1", "#N/A", "007"]
        writes = [
            Write(key(number), {sample.text: f"Person {number}", sample.other: texts[number % len(texts)]})
            for number in range(MANY)
        ]
        outcomes = [written(outcome) for outcome in connector.load(sample.kind, writes, _at_once)]

        assert len(outcomes) == MANY
        assert len(fake.ids()) == MANY
        for write, outcome in zip(writes, outcomes, strict=True):
            record = fetched(connector, sample.kind, Ref(external_id=write.external_id))
            assert outcome.created
            assert outcome.record is not None
            assert outcome.record.id == record.id
            assert {name: fake.held(record.id).get(name) for name in write.fields} == write.fields

    def test_a_load_of_nothing_asks_for_nothing(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """No job is begun."""
        needs(connector, Can.BULK)

        assert list(connector.load(fake.sample.kind, [], _at_once)) == []

    def test_what_is_there_by_then_is_not_made_again_by_a_load(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """It is written as by any other write."""
        needs(connector, Can.BULK, Can.NATIVE_UPSERT)
        sample = fake.sample
        held = fake.add(key(1), {sample.text: "Ana", sample.other: "Oak"})
        writes = [Write(key(number), {sample.text: "Beatrice"}) for number in range(3)]
        outcomes = [written(outcome) for outcome in connector.load(sample.kind, writes, _at_once)]

        assert [outcome.created for outcome in outcomes] == [True, False, True]
        assert len(fake.ids()) == 3
        assert fake.held(held)[sample.text] == "Beatrice"
        assert fake.held(held)[sample.other] == "Oak"

    def test_a_refused_value_in_a_load_harms_no_other_row(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """It costs that field, or that row."""
        needs(connector, Can.BULK)
        sample = fake.sample
        field, value = given(sample.refused, "value that is refused")
        writes = [Write(key(number), {sample.text: f"Person {number}"}) for number in range(4)]
        writes[2] = Write(key(2), {sample.text: "Person 2", field: value})
        outcomes = connector.load(sample.kind, writes, _at_once)
        guilty = outcomes[2]

        assert [isinstance(outcome, Written) for outcome in outcomes if outcome is not guilty] == [True] * 3
        assert isinstance(guilty, Reject) or (isinstance(guilty, Written) and field in guilty.refused)

    def test_a_load_that_is_given_up_may_have_come_to_something(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Nobody takes it for done, or for not done; a second one comes to the same records."""
        needs(connector, Can.BULK, Can.NATIVE_UPSERT)
        sample = fake.sample
        writes = [Write(key(number), {sample.text: f"Person {number}"}) for number in range(3)]
        with pytest.raises(Retry) as raised:
            connector.load(sample.kind, writes, lambda seconds: False)
        assert raised.value.ambiguous
        outcomes = connector.load(sample.kind, writes, _at_once)

        assert all(isinstance(outcome, Written) for outcome in outcomes)
        assert len(fake.ids()) == 3
