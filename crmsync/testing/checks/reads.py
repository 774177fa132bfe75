"""What is there is seen: by name, by value, and by following the feed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from crmsync.connector import Connector
from crmsync.model import Can, Ref
from crmsync.testing.checks.base import (
    DAY,
    TEXTS,
    Checks,
    at_once,
    declared,
    fetch,
    fetched,
    given,
    is_utc,
    key,
    needs,
    past,
    populate,
    same,
    walk,
)
from crmsync.testing.fake import FakeCrm


class Reads(Checks):
    """`fetch` and `find`."""

    def test_what_is_there_is_fetched_by_id(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """With its id, its external id and its fields."""
        sample = fake.sample
        _, id = populate(fake, 2)
        record = fetched(connector, sample.kind, Ref(id=id))

        assert (record.id, record.external_id) == (id, key(2))
        same(record.fields, fake.held(id), sample.text, sample.other)

    def test_what_is_there_is_fetched_by_external_id(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """The platform's own id is found out."""
        _, id = populate(fake, 2)
        record = fetched(connector, fake.sample.kind, Ref(external_id=key(2)))

        assert (record.id, record.external_id) == (id, key(2))

    def test_the_own_id_goes_before_the_external_id(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Where a reference names two records, the platform's own id decides."""
        first, _ = populate(fake, 2)

        assert fetched(connector, fake.sample.kind, Ref(first, key(2))).id == first

    def test_a_missing_record_is_none(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Deleted, or never there."""
        kind = fake.sample.kind
        (id,) = populate(fake, 1)
        fake.delete(id)
        found = fetch(connector, kind, [Ref(id=id), Ref(external_id=key(1)), Ref(external_id=key(99))])

        assert [record for record in found if record is not None and not record.archived] == []

    def test_records_come_in_the_order_asked(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """By either name, with gaps, and the same one twice."""
        first, second, third = populate(fake, 3)
        refs = [Ref(external_id=key(3)), Ref(id=first), Ref(external_id=key(99)), Ref(id=second), Ref(id=first)]
        found = fetch(connector, fake.sample.kind, refs)

        assert [record and record.id for record in found] == [third, first, None, second, first]

    def test_nothing_asked_is_nothing_answered(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """No reference, no write: no trouble."""
        assert list(connector.fetch(fake.sample.kind, [])) == []
        assert list(connector.upsert(fake.sample.kind, [])) == []

    def test_a_full_batch_can_be_fetched(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """As many references as the connector says it takes."""
        ids = populate(fake, connector.batch_size)
        found = connector.fetch(fake.sample.kind, [Ref(id=id) for id in ids])

        assert [record and record.id for record in found] == ids

    def test_a_merged_record_is_found_under_its_survivor(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """With the old id among its aliases."""
        winner, loser = populate(fake, 2)
        survivor = fake.merge(winner, loser)
        record = fetched(connector, fake.sample.kind, Ref(id=loser))

        assert record.id == survivor
        assert loser in record.aliases

    def test_times_say_that_they_are_utc(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A time without a zone is a time nobody knows."""
        populate(fake, 1)
        record = fetched(connector, fake.sample.kind, Ref(external_id=key(1)))

        assert is_utc(record.version)

    def test_a_version_moves_forward(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """An edit is newer than what was there before."""
        sample = fake.sample
        start = past(fake)
        fake.set_time(start)
        (id,) = populate(fake, 1)
        before = given(fetched(connector, sample.kind, Ref(id=id)).version, "version")
        fake.set_time(before + timedelta(minutes=1))
        fake.edit(id, {sample.text: "Later"})
        after = fetched(connector, sample.kind, Ref(id=id)).version

        assert after is not None
        assert after > before

    def test_an_empty_field_is_none_and_not_absent(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Absent means unknown; what a person cleared would never be seen."""
        sample = fake.sample
        (id,) = populate(fake, 1)
        fake.edit(id, {sample.text: None})

        assert fetched(connector, sample.kind, Ref(id=id)).fields.get(sample.text, "absent") is None

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    def test_a_text_is_read_as_it_is_held(self, fake: FakeCrm, connector: Connector[Any], text: str) -> None:
        """Numbers with a plus, leading zeros, emoji, right-to-left script, markup, quotes."""
        sample = fake.sample
        (id,) = populate(fake, 1)
        fake.edit(id, {sample.text: text})

        same(fetched(connector, sample.kind, Ref(id=id)).fields, fake.held(id), sample.text)

    def test_a_phone_number_is_read_as_it_is_held(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """It is text, not a number."""
        sample = fake.sample
        phone = given(sample.phone, "phone field")
        (id,) = populate(fake, 1)
        fake.edit(id, {phone: "+6285117600829"})

        same(fetched(connector, sample.kind, Ref(id=id)).fields, fake.held(id), phone)

    def test_find_gives_none_one_and_many(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """An answer for each value that was asked."""
        needs(connector, Can.FIND)
        sample = fake.sample
        field = declared(sample.find_by, "field to find by")
        values = ["none@example.com", "one@example.com", "many@example.com"]
        ids = [fake.add(None, {sample.text: f"P {value}", field: value}) for value in (*values[1:], values[2])]
        found = connector.find(sample.kind, field, values)

        assert {value: {record.id for record in found[value]} for value in values} == {
            values[0]: set(),
            values[1]: {ids[0]},
            values[2]: set(ids[1:]),
        }

    def test_find_takes_a_value_literally(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A quote or a wildcard is part of the value."""
        needs(connector, Can.FIND)
        sample = fake.sample
        field = declared(sample.find_by, "field to find by")
        fake.add(None, {sample.text: "P", field: "one@example.com"})
        values = ["x' OR 'a'='a", 'x" OR "a"="a', "*", "%", "one@example.co_"]
        found = connector.find(sample.kind, field, values)

        assert [value for value in values if found[value]] == []

    def test_several_threads_can_read_at_once(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Each gets what it asked for."""
        ids = populate(fake, 8)
        found = at_once(lambda id: connector.fetch(fake.sample.kind, [Ref(id=id)])[0], ids * 3)

        assert [record and record.id for record in found] == ids * 3


class Follows(Checks):
    """`changed`: a page may repeat what was seen, and never skips."""

    def test_an_empty_feed_ends_and_goes_on(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """The cursor of an empty account sees the first record."""
        needs(connector, Can.CHANGES)
        kind = fake.sample.kind
        start = past(fake)
        fake.set_time(start)
        first = walk(connector, kind)
        fake.set_time(start + DAY)
        ids = populate(fake, 1)

        assert first.ids == set()
        assert walk(connector, kind, first.cursor).ids == set(ids)

    def test_the_feed_has_everything_oldest_first(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Over several pages, with aware times, and an end."""
        needs(connector, Can.CHANGES)
        start = past(fake)
        ids = []
        for number in range(fake.sample.several_pages):
            fake.set_time(start + timedelta(minutes=number))
            ids.append(fake.add(key(number), {fake.sample.text: f"Person {number}"}))
        fake.set_time(start + 29 * DAY)
        seen = walk(connector, fake.sample.kind)
        versions = [record.version for record in seen.records if record.version is not None]

        assert seen.ids == set(ids)
        assert all(is_utc(version) for version in versions)
        assert versions == sorted(versions)

    def test_records_of_one_instant_are_neither_skipped_nor_repeated_for_ever(
        self, fake: FakeCrm, connector: Connector[Any]
    ) -> None:
        """An import gives thousands of records one time of change."""
        needs(connector, Can.CHANGES)
        start = past(fake)
        fake.set_time(start)
        ids = populate(fake, fake.sample.several_pages)
        fake.set_time(start + DAY)

        assert walk(connector, fake.sample.kind).ids == set(ids)

    def test_since_leaves_older_records_out(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A first walk need not begin with the oldest record. What changed at that very instant is in."""
        needs(connector, Can.CHANGES)
        start = past(fake)
        fake.set_time(start)
        old = populate(fake, 2)
        fake.set_time(start + 10 * DAY)
        new = fake.add(key(3), {fake.sample.text: "New"})
        fake.set_time(start + 19 * DAY)
        seen = walk(connector, fake.sample.kind, since=start + 10 * DAY)

        assert new in seen.ids
        assert not seen.ids & set(old)

    def test_an_edit_is_seen_after_the_end(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """With its new content, also where the record was seen before."""
        needs(connector, Can.CHANGES)
        sample = fake.sample
        start = past(fake)
        fake.set_time(start)
        ids = populate(fake, 3)
        first = walk(connector, sample.kind)
        fake.set_time(start + DAY)
        fake.edit(ids[1], {sample.text: "Edited"})
        fake.set_time(start + 2 * DAY)
        record = walk(connector, sample.kind, first.cursor).last(ids[1])

        assert record is not None
        same(record.fields, fake.held(ids[1]), sample.text)

    def test_a_row_that_becomes_visible_late_is_seen(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A search index shows a newer record before an older one."""
        needs(connector, Can.CHANGES)
        kind = fake.sample.kind
        moment = past(fake)
        fake.set_time(moment)
        late = fake.add(key(1), {fake.sample.text: "Late"})
        fake.hide(late)
        fake.set_time(moment + timedelta(seconds=30))
        early = fake.add(key(2), {fake.sample.text: "Early"})
        first = walk(connector, kind)
        fake.show(late)
        fake.set_time(moment + timedelta(seconds=60))

        assert first.ids == {early}
        assert late in walk(connector, kind, first.cursor).ids

    def test_a_page_that_shrinks_hides_nothing(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A record that is deleted between two pages does not push another one out of sight."""
        needs(connector, Can.CHANGES)
        kind = fake.sample.kind
        start = past(fake)
        fake.set_time(start)
        ids = populate(fake, fake.sample.several_pages)
        fake.set_time(start + DAY)
        page = connector.changed(kind, None)
        assert page.more, "sample.several_pages fits on one page"
        seen = {record.id for record in page.records}
        for id in sorted(seen)[:2]:
            fake.delete(id)

        assert seen | walk(connector, kind, page.cursor).ids >= set(ids)

    def test_an_edit_between_two_pages_is_seen(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """By the end of the next walk at the latest, wherever the record was in the feed."""
        needs(connector, Can.CHANGES)
        sample = fake.sample
        start = past(fake)
        fake.set_time(start)
        ids = populate(fake, sample.several_pages)
        fake.set_time(start + DAY)
        page = connector.changed(sample.kind, None)
        touched = [page.records[0].id, next(id for id in ids if id not in {seen.id for seen in page.records})]
        for id in touched:
            fake.edit(id, {sample.text: "Edited"})
        rest = walk(connector, sample.kind, page.cursor)
        fake.set_time(start + 2 * DAY)
        again = walk(connector, sample.kind, rest.cursor)

        assert rest.ids | again.ids | {seen.id for seen in page.records} == set(ids)
        for id in touched:
            record = again.last(id) or rest.last(id)
            assert record is not None
            same(record.fields, fake.held(id), sample.text)
