"""Who changed a field later, end to end: by the platforms' own times, as each was seen to change field by field."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from support.household import RULES, Crm, CrmConnector, Household, reowned

from crmsync.core.mapping import Owner
from crmsync.model import Record
from crmsync.store.database import Database
from crmsync.store.records import KIRIM

LATEST = reowned(RULES, name=Owner.LATEST, email=Owner.LATEST)
SECOND = timedelta(seconds=1)


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database, rules=LATEST)


class Timeless(CrmConnector):
    """Says nothing of when a record was changed."""

    def _translated(self, record: Record) -> Record:
        return replace(super()._translated(record), version=None)


def synced(home: Household, **fields: str) -> str:
    id = home.add(**fields)
    home.settle()
    home.clock.advance(timedelta(minutes=1))
    return id


def test_the_later_edit_wins_whichever_delivery_arrives_first(home: Household) -> None:
    for first, second in (("kirim", "crm"), ("crm", "kirim")):
        id = synced(home, name="Ana")
        for place in (first, second):
            home.clock.advance(SECOND)
            if place == "kirim":
                home.kirim.edit(id, {"name": "of Kirim"})
            else:
                home.crm.edit(home.row(id).crm_id, {"name": "of the CRM"})
        home.collect()
        home.wire.reverse()
        home.settle()

        wanted = "of the CRM" if second == "crm" else "of Kirim"
        assert (home.kirim.held(id)["name"], home.partner(id).fields["name"]) == (wanted, wanted)
        (told,) = [entry for entry in home.history(id, "name") if entry.rule == "conflict"]
        assert {told.new, told.competing} == {"of Kirim", "of the CRM"}


def test_a_later_edit_of_another_field_does_not_make_this_one_later(home: Household) -> None:
    id = synced(home, name="Ana", email="ana@b.c")
    home.clock.advance(SECOND)
    home.kirim.edit(id, {"name": "of Kirim"})
    home.clock.advance(SECOND)
    home.crm.edit(home.row(id).crm_id, {"name": "of the CRM"})
    home.collect()  # both are on their way
    home.arrive_all()
    home.observe(KIRIM)
    home.clock.advance(SECOND)
    home.kirim.edit(id, {"email": "later@b.c"})  # Kirim's record is now the later one, its name is not
    home.settle()

    assert home.kirim.held(id)["name"] == "of the CRM"
    assert home.partner(id).fields["email"] == "later@b.c"


def test_a_tie_goes_to_the_crm(home: Household) -> None:
    id = synced(home, name="Ana")
    home.kirim.edit(id, {"name": "of Kirim"})
    home.crm.edit(home.row(id).crm_id, {"name": "of the CRM"})
    home.settle()

    assert home.kirim.held(id)["name"] == "of the CRM"


def test_where_one_platform_tells_no_times_the_crm_wins(database: Database) -> None:
    crm = Crm()
    crm.connector, crm.hooks_say_values = Timeless, False
    home = Household(database, crms={"crm": crm}, rules=LATEST)
    id = synced(home, name="Ana")
    home.crm.edit(home.row(id).crm_id, {"name": "of the CRM"})
    home.clock.advance(SECOND)
    home.kirim.edit(id, {"name": "of Kirim"})
    home.settle()

    assert home.kirim.held(id)["name"] == "of the CRM"


def test_the_time_of_a_field_is_that_of_the_version_that_changed_it(home: Household) -> None:
    id = synced(home, name="Ana", email="ana@b.c")
    home.kirim.edit(id, {"name": "Ani"})
    changed = home.clock()
    home.clock.advance(SECOND)
    home.arrive_all()
    home.observe(KIRIM)
    view = home.view(KIRIM, id)

    assert view.times["name"] == changed
    assert view.times.get("email", view.times[""]) < changed


def test_at_first_sight_the_record_that_moved_later_wins(home: Household) -> None:
    id = home.add(name="of Kirim")
    home.clock.advance(SECOND)
    home.crm.add(id, {"name": "of the CRM"})
    home.settle()
    assert home.kirim.held(id)["name"] == "of the CRM"
    home.clock.advance(SECOND)
    newer = home.add(name="of nobody")
    home.crm.add(newer, {"name": "of the CRM"})
    home.clock.advance(SECOND)
    home.kirim.edit(newer, {"name": "of Kirim"})
    home.settle()
    assert home.partner(newer).fields["name"] == "of Kirim"
