"""Kirim keeps every promise of a connector, as far as its API lets it."""

from __future__ import annotations

from typing import Any

from kirim.kirim_fake import KirimFake

from crmsync.connector import Connector
from crmsync.testing.contract import ConnectorContract
from crmsync.testing.fake import FakeCrm


class TestKirim(ConnectorContract):
    """Against the emulator, over a real socket."""

    def make_fake(self) -> FakeCrm:
        return KirimFake()

    def test_the_feed_has_everything_oldest_first(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Everything, in Kirim's order: it documents none, and no list by time of change."""
        sample = fake.sample
        ids = [fake.add(None, {sample.text: f"Person {number}"}) for number in range(sample.several_pages)]
        seen: list[str] = []
        cursor, more = None, True
        while more:
            page = connector.changed(sample.kind, cursor)
            seen += [record.id for record in page.records]
            cursor, more = page.cursor, page.more

        assert sorted(seen) == sorted(ids)
