"""A record whose creation was never answered is looked for before it is created again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.household import Crm, CrmConnector, Household

from crmsync.connector import Outcome
from crmsync.errors import Retry
from crmsync.model import Kind, Write, Written
from crmsync.store.database import Database
from crmsync.store.records import KIRIM


class Keyless(CrmConnector):
    """The CRM keeps no external id unique: a write without an id makes a record, each time."""

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        known = [write for write in writes if write.id is not None]
        outcomes = dict(zip((w.external_id for w in known), super().upsert(kind, known), strict=True)) if known else {}
        outcomes |= {write.external_id: self._created(write) for write in writes if write.id is None}
        return [outcomes[write.external_id] for write in writes]

    def _created(self, write: Write) -> Outcome:
        made = self.crm.add(write.external_id, write.fields)
        if self.crm.unanswered:
            self.crm.unanswered -= 1
            return Retry("no answer", ambiguous=True)
        return Written(self.crm.record(made), created=True)


@pytest.fixture
def home(database: Database) -> Household:
    crm = Crm(unique_key=False)
    crm.connector = Keyless
    crm.unanswered = 0
    return Household(database, crms={"crm": crm})


def test_a_create_without_an_answer_is_looked_up_before_another(home: Household) -> None:
    home.crm.unanswered = 1
    id = home.add(name="Ana", company="a")
    home.arrive_all()
    home.observe(KIRIM)
    with pytest.raises(Retry):
        home.sync()
    home.crm.take_hooks()  # and nothing tells us of it either
    home.settle()

    assert home.partner(id).fields["company"] == "a"  # one record, and one only
    assert home.row(id).crm_id == home.partner(id).id
    assert home.due() == {}


def test_only_what_was_not_answered_is_looked_up_again(home: Household) -> None:
    home.crm.unanswered = 2
    ids = [home.add(name=f"n{number}") for number in range(5)]
    home.settle()

    assert {home.partner(id).fields["name"] for id in ids} == {f"n{number}" for number in range(5)}
    assert len(home.crm.records()) == 1 + 5
