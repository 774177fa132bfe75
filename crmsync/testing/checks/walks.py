"""A walk over everything names every record, and a count says how many there are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from crmsync.connector import Connector
from crmsync.model import Can, Kind
from crmsync.testing.checks.base import DAY, Checks, key, needs, past, populate, same, walk
from crmsync.testing.fake import FakeCrm


class Walks(Checks):
    """`walk` and `count`."""

    def test_a_walk_names_every_record(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Over several pages, each with its fields and its external id, and it ends."""
        kind = walked(fake, connector)
        start = past(fake)
        fake.set_time(start)
        ids = populate(fake, fake.sample.several_pages)
        fake.set_time(start + DAY)
        seen = walk(connector, kind, every=True)
        last = seen.last(ids[-1])

        assert seen.ids == set(ids)
        assert last is not None
        assert last.external_id == key(len(ids))
        same(last.fields, fake.held(ids[-1]), fake.sample.text, fake.sample.other)

    def test_a_walk_that_is_interrupted_goes_on(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """From its cursor alone, in another process; what was deleted meanwhile hides nothing."""
        kind = walked(fake, connector)
        start = past(fake)
        fake.set_time(start)
        ids = populate(fake, fake.sample.several_pages)
        fake.set_time(start + DAY)
        page = connector.walk(kind, None)
        assert page.more, "sample.several_pages fits on one page"
        seen = {record.id for record in page.records}
        for id in sorted(seen)[:2]:
            fake.delete(id)
        other = fake.connect()
        try:
            rest = walk(other, kind, page.cursor, every=True)
        finally:
            other.close()

        assert seen | rest.ids >= set(ids)

    def test_a_walk_since_a_time_leaves_older_records_out(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """What changed at that very instant is in."""
        kind = walked(fake, connector)
        start = past(fake)
        fake.set_time(start)
        old = populate(fake, 2)
        fake.set_time(start + 10 * DAY)
        new = fake.add(key(3), {fake.sample.text: "New"})
        fake.set_time(start + 19 * DAY)
        seen = walk(connector, kind, since=start + 10 * DAY, every=True)

        assert new in seen.ids
        assert not seen.ids & set(old)

    def test_a_deleted_record_is_not_walked_over(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Or it says that it is archived."""
        kind = walked(fake, connector)
        start = past(fake)
        fake.set_time(start)
        kept, gone = populate(fake, 2)
        fake.set_time(start + timedelta(minutes=1))
        fake.delete(gone)
        fake.set_time(start + DAY)
        live = {record.id for record in walk(connector, kind, every=True).records if not record.archived}

        assert live == {kept}

    def test_a_count_is_the_number_of_records(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Of more than one page, or it is not told."""
        kind = fake.sample.kind
        start = past(fake)
        fake.set_time(start)
        ids = populate(fake, fake.sample.several_pages)
        fake.set_time(start + DAY)
        told = connector.count(kind)
        if told is None:
            pytest.skip(f"{connector.name} does not tell how many records there are")

        assert told == len(ids)


def walked(fake: FakeCrm, connector: Connector[Any]) -> Kind:
    """The kind to walk over; a connector that lists what its platform cannot tell changes of walks as well."""
    if type(connector).walk is Connector.walk:
        needs(connector, Can.CHANGES)
    return fake.sample.kind
