"""What is written is held, nothing else is touched, and every write is told its own end."""

from __future__ import annotations

from typing import Any

import pytest

from crmsync.connector import Connector, Outcome
from crmsync.errors import Reject, Retry
from crmsync.model import Can, Ref, Value, Write, Written
from crmsync.testing.checks.base import (
    TEXTS,
    Checks,
    at_once,
    attempt,
    empty,
    fetch,
    fetched,
    given,
    key,
    needs,
    populate,
    same,
    upsert,
    write,
    written,
)
from crmsync.testing.fake import FakeCrm, Trouble


class Writes(Checks):
    """`upsert`, one record at a time."""

    def test_a_created_record_reads_back_by_its_external_id(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """And the outcome says that it is new."""
        needs(connector, Can.CREATE)
        sample = fake.sample
        outcome = written(write(connector, sample.kind, Write(key(7), {sample.text: "Ana", sample.other: "Oak"})))
        record = fetched(connector, sample.kind, Ref(external_id=key(7)))

        assert outcome.created
        assert fake.ids() == [record.id]
        assert {name: fake.held(record.id).get(name) for name in (sample.text, sample.other)} == {
            sample.text: "Ana",
            sample.other: "Oak",
        }

    def test_without_the_capability_nothing_is_created(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A record that is not there is a row that cannot be written."""
        if Can.CREATE in connector.can:
            pytest.skip(f"{connector.name} creates records")
        outcome = write(connector, fake.sample.kind, Write(key(7), {fake.sample.text: "Ana"}))

        assert isinstance(outcome, Reject)
        assert fake.ids() == []

    def test_only_the_given_fields_change(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """What is absent is left alone."""
        sample = fake.sample
        (id,) = populate(fake, 1)
        before = dict(fake.held(id))
        outcome = written(write(connector, sample.kind, Write(key(1), {sample.text: "New"})))

        assert not outcome.created
        assert fake.held(id).get(sample.text) == "New"
        assert fake.held(id).get(sample.other) == before[sample.other]

    def test_none_clears(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Only the field that says so."""
        sample = fake.sample
        (id,) = populate(fake, 1)
        written(write(connector, sample.kind, Write(key(1), {sample.text: "Ana", sample.other: None})))

        assert empty(fake.held(id).get(sample.other)) is None
        assert fake.held(id).get(sample.text) == "Ana"

    def test_a_known_id_is_written_to(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """No second record is made."""
        sample = fake.sample
        first, second = populate(fake, 2)
        written(write(connector, sample.kind, Write(key(2), {sample.text: "New"}, id=second)))

        assert fake.held(second).get(sample.text) == "New"
        assert sorted(fake.ids()) == sorted((first, second))

    def test_an_adopted_record_is_stamped_with_the_external_id(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A record that a person made is linked by the first write to it."""
        needs(connector, Can.CREATE)
        sample = fake.sample
        id = fake.add(None, {sample.text: "Made by hand"})
        written(write(connector, sample.kind, Write(key(5), {sample.other: "Oak"}, id=id)))

        assert fetched(connector, sample.kind, Ref(external_id=key(5))).id == id
        assert fake.ids() == [id]

    def test_a_known_id_that_is_gone_is_rejected(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Whether the record is made anew is not the connector's decision."""
        sample = fake.sample
        first, second = populate(fake, 2)
        fake.delete(second)
        gone, kept = upsert(
            connector,
            sample.kind,
            [Write(key(2), {sample.text: "Gone"}, id=second), Write(key(1), {sample.text: "Kept"}, id=first)],
        )

        assert isinstance(gone, Reject)
        assert isinstance(kept, Written)
        assert fake.ids() == [first]
        assert fake.held(first).get(sample.text) == "Kept"

    def test_a_deleted_record_is_made_anew_by_its_external_id(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Where no id says that the old one is meant."""
        needs(connector, Can.CREATE)
        sample = fake.sample
        (id,) = populate(fake, 1)
        fake.delete(id)
        outcome = written(write(connector, sample.kind, Write(key(1), {sample.text: "Anew"})))
        (made,) = fake.ids()

        assert outcome.created
        assert fake.held(made).get(sample.text) == "Anew"

    def test_a_write_to_a_merged_record_is_not_lost(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """It reaches the survivor, or it is rejected; the record that is gone does not come back."""
        sample = fake.sample
        winner, loser = populate(fake, 2)
        survivor = fake.merge(winner, loser)
        outcome = write(connector, sample.kind, Write(key(2), {sample.text: "New"}, id=loser))

        assert fake.ids() == [survivor]
        assert isinstance(outcome, Written | Reject)
        assert (fake.held(survivor).get(sample.text) == "New") is isinstance(outcome, Written)

    def test_twice_is_once(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """The second write finds the first one's record."""
        needs(connector, Can.CREATE)
        sample = fake.sample
        again = Write(key(3), {sample.text: "Ana", sample.other: "Oak"})
        outcomes = [written(write(connector, sample.kind, again)) for _ in range(2)]

        assert [outcome.created for outcome in outcomes] == [True, False]
        assert len(fake.ids()) == 1

    def test_the_outcome_has_the_record_as_it_is_held(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """With the platform's spelling, and with what others wrote meanwhile; never what was sent."""
        sample = fake.sample
        (id,) = populate(fake, 1)
        connector.fetch(sample.kind, [Ref(id=id)])
        fake.edit(id, {sample.other: "Meanwhile"})
        values: dict[str, Value] = {sample.text: "Ana"}
        if sample.email:
            values[sample.email] = "Ana.Mixed@Example.COM"
        if sample.phone:
            values[sample.phone] = "+62 851-1760-0829"
        record = written(write(connector, sample.kind, Write(key(1), values))).record

        if record is None:
            pytest.skip(f"{connector.name} does not return what it wrote")
        assert (record.id, record.external_id) == (id, key(1))
        same(record.fields, fake.held(id), *values.keys() & record.fields.keys())
        if sample.other in record.fields:
            assert record.fields[sample.other] == "Meanwhile"

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    def test_a_text_arrives_as_it_was_written(self, fake: FakeCrm, connector: Connector[Any], text: str) -> None:
        """Numbers with a plus, leading zeros, emoji, right-to-left script, markup, quotes."""
        sample = fake.sample
        (id,) = populate(fake, 1)
        written(write(connector, sample.kind, Write(key(1), {sample.text: text})))

        assert fake.held(id).get(sample.text) == text

    def test_a_refused_field_is_named(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """The others are written, or the row is rejected; the value is never dropped in silence."""
        sample = fake.sample
        field, value = given(sample.refused, "value that is refused")
        (id,) = populate(fake, 1)
        outcome = write(connector, sample.kind, Write(key(1), {sample.text: "New", field: value}))

        assert fake.held(id).get(field) != value
        if isinstance(outcome, Written):
            assert set(outcome.refused) == {field}
            assert fake.held(id).get(sample.text) == "New"
        else:
            assert isinstance(outcome, Reject)
            assert set(outcome.fields) <= {field}
            assert fake.held(id).get(sample.text) != "New"

    def test_a_lost_answer_does_not_make_two_records(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """The create took effect, nobody said so, and it is sent again."""
        needs(connector, Can.CREATE)
        sample = fake.sample
        again = Write(key(4), {sample.text: "Ana"})
        fake.fail_next(Trouble.LOST)
        attempt(connector, sample.kind, [again])
        written(write(connector, sample.kind, again))

        assert len(fake.ids()) == 1

    def test_one_external_id_from_several_threads_is_one_record(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Where the platform keeps the external id unique, nothing else has to."""
        needs(connector, Can.CREATE, Can.NATIVE_UPSERT)
        kind, text = fake.sample.kind, fake.sample.text
        at_once(lambda n: attempt(connector, kind, [Write(key(6), {text: f"T{n}"})]), range(8))

        assert len(fake.ids()) == 1


class Batches(Checks):
    """`upsert`, many records at a time: n writes have n outcomes, in order, each its own."""

    def test_outcomes_come_in_the_order_of_the_writes(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Whatever order the platform answers in."""
        sample = fake.sample
        ids = populate(fake, 5)
        order = [3, 1, 5, 2, 4]
        outcomes = upsert(
            connector, sample.kind, [Write(key(number), {sample.text: f"New {number}"}) for number in order]
        )
        records = [written(outcome).record for outcome in outcomes]

        assert [fake.held(ids[number - 1]).get(sample.text) for number in order] == [f"New {n}" for n in order]
        assert [record.id for record in records if record] == [
            ids[n - 1] for n, r in zip(order, records, strict=True) if r
        ]

    def test_creates_and_updates_mix(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """By known id, by external id, and new; each outcome says which it was."""
        needs(connector, Can.CREATE)
        sample = fake.sample
        populated = populate(fake, 2)
        writes = [
            Write(key(11), {sample.text: "New 11"}),
            Write(key(2), {sample.text: "New 2"}, id=populated[1]),
            Write(key(12), {sample.text: "New 12"}),
            Write(key(1), {sample.text: "New 1"}),
        ]
        outcomes = [written(outcome) for outcome in upsert(connector, sample.kind, writes)]

        assert [outcome.created for outcome in outcomes] == [True, False, True, False]
        assert _texts(fake, connector, writes) == ["New 11", "New 2", "New 12", "New 1"]
        assert len(fake.ids()) == 4

    def test_a_full_batch_works(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """As many writes as the connector says it takes, in one call."""
        sample = fake.sample
        ids = populate(fake, connector.batch_size)
        writes = [Write(key(number), {sample.text: f"New {number}"}) for number in range(1, len(ids) + 1)]
        outcomes = connector.upsert(sample.kind, writes)

        assert [type(outcome) for outcome in outcomes] == [Written] * len(ids)
        assert [fake.held(id).get(sample.text) for id in ids] == [f"New {n}" for n in range(1, len(ids) + 1)]

    @pytest.mark.parametrize("place", [0, 2, 4])
    def test_one_bad_row_does_not_harm_the_others(self, fake: FakeCrm, connector: Connector[Any], place: int) -> None:
        """It alone is rejected, wherever it stands."""
        sample = fake.sample
        field, value = given(sample.refused, "value that is refused")
        ids = populate(fake, 5)
        writes = [Write(key(number), {sample.text: f"New {number}"}) for number in range(1, 6)]
        writes[place] = Write(key(place + 1), {field: value})
        outcomes = upsert(connector, sample.kind, writes)
        guilty = outcomes.pop(place)

        assert isinstance(guilty, Reject) or (isinstance(guilty, Written) and field in guilty.refused)
        assert fake.held(ids[place]).get(field) != value
        assert [type(outcome) for outcome in outcomes] == [Written] * 4
        assert [fake.held(id).get(sample.text) for id in ids] == [
            f"Person {number}" if number == place + 1 else f"New {number}" for number in range(1, 6)
        ]

    @pytest.mark.parametrize("skip", [0, 1, 2])
    @pytest.mark.parametrize("trouble", [400, 401, 429, 500, Trouble.RESET, Trouble.LOST])
    def test_every_outcome_is_true_when_a_request_fails(
        self, fake: FakeCrm, connector: Connector[Any], trouble: Trouble | int, skip: int
    ) -> None:
        """What is told as written is held; what is told as rejected is not; a call that raises wrote nothing."""
        sample = fake.sample
        populated = populate(fake, 4)
        field, value = sample.refused or (sample.other, "Oak")
        writes = [
            Write(key(1), {sample.text: "New 1"}),
            Write(key(2), {sample.text: "New 2"}, id=populated[1]),
            Write(key(3), {field: value}),
            Write(key(4), {sample.text: "New 4"}),
        ]
        if Can.CREATE in connector.can:
            writes.append(Write(key(11), {sample.text: "New 11"}))
        fake.fail_next(trouble, skip=skip)
        outcomes: list[Outcome] = []
        for start in range(0, len(writes), connector.batch_size):
            outcomes += attempt(connector, sample.kind, writes[start : start + connector.batch_size])
        fake.heal()

        for row, outcome in zip(writes, outcomes, strict=True):
            _is_true(fake, connector, row, outcome)

    def test_several_threads_can_write_at_once(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Each write reaches its own record."""
        sample = fake.sample
        ids = populate(fake, 8)
        writes = [Write(key(number), {sample.text: f"New {number}"}) for number in range(1, 9)]
        at_once(lambda row: written(write(connector, sample.kind, row)), writes)

        assert [fake.held(id).get(sample.text) for id in ids] == [f"New {number}" for number in range(1, 9)]


def _texts(fake: FakeCrm, connector: Connector[Any], writes: list[Write]) -> list[Value]:
    """What is held where the writes went."""
    records = fetch(connector, fake.sample.kind, [Ref(external_id=row.external_id) for row in writes])
    return [fake.held(record.id).get(fake.sample.text) for record in records if record]


def _is_true(fake: FakeCrm, connector: Connector[Any], row: Write, outcome: Outcome) -> None:
    """The platform holds what the outcome says. An ambiguous one says nothing."""
    record = fetch(connector, fake.sample.kind, [Ref(external_id=row.external_id)])[0]
    held = fake.held(record.id) if record else {}
    arrived = all(held.get(name) == value for name, value in row.fields.items())
    if isinstance(outcome, Written):
        assert arrived or outcome.refused, "told as written, and not held"
    elif not (isinstance(outcome, Retry) and outcome.ambiguous):
        assert not arrived, f"told as {type(outcome).__name__}, and held all the same"
