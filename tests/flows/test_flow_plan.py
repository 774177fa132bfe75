"""A plan names every write to the field and makes none; what is approved is written only if it is still the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.household import RULES, Household

from crmsync.core.matching import MatchRule
from crmsync.errors import Reject, Retry
from crmsync.flows import plan
from crmsync.flows.applying import apply
from crmsync.flows.work import Surroundings
from crmsync.model import FieldType
from crmsync.store import plans, runs
from crmsync.store.database import Database
from crmsync.store.runs import Run, State
from crmsync.testing.fake import Trouble


class Cautious(Household):
    """A connection that only observes."""

    def __init__(self, database: Database) -> None:
        rules = replace(RULES, match=(MatchRule("phone", "phone", FieldType.PHONE),))
        super().__init__(database, rules=rules)
        connections = {name: replace(each, live=False) for name, each in self.tenant.connections.items()}
        self.tenant = replace(self.tenant, connections=connections)

    def sync(self, name: str = "crm") -> int:
        return 0  # the worker leaves the lanes of such connections alone

    def resting(self) -> bool:
        return False

    def look(self) -> None:
        """What came in is taken in."""
        for _ in range(3):
            self.arrive_all()
            for source in self.sources:
                self.observe(source)
                self.reread(source)

    def planned(self) -> tuple[Run, list[dict[str, Any]]]:
        """A plan, made to its end."""
        run = self.database.write(lambda tx: plan.begin(tx, self.tenant, plan.Options("crm"), self.clock()))
        run = self.ended(run)
        return run, self.database.read(lambda tx: list(plans.items(tx, run.id)))

    def ended(self, run: Run) -> Run:
        for _ in range(50):
            found = self.database.read(lambda tx: runs.find(tx, run.id))
            assert found is not None
            if found.state is not State.RUNNING:
                return found
            self.walk(found.endpoint, 5)
        raise AssertionError("it never ends")

    def approve(self, items: list[dict[str, Any]]) -> Run:
        asked = {"connection": "crm", "items": [[i["kind"], i["kirim_id"], i["fingerprint"]] for i in items]}
        return self.database.write(lambda tx: plan.begin_apply(tx, self.tenant, asked, self.clock()))

    def work(self) -> int:
        """One turn of writing what was approved."""
        connection = self.tenant.connections["crm"]
        return apply(Surroundings(self.database, self.tenant, connection, self.fence, self.clock, lambda: 0.5))

    def states(self, run: Run) -> dict[str, int]:
        return self.database.read(lambda tx: plans.states(tx, run.id))


@pytest.fixture
def home(database: Database) -> Cautious:
    return Cautious(database)


def test_a_plan_names_every_write_and_makes_none(home: Cautious) -> None:
    ana = home.add(name="Ana", company="Acme", phone="+6281234567890")
    home.look()
    before = home.writes()
    run, items = home.planned()
    assert home.writes() == before
    assert [(item["kirim_id"], item["action"]) for item in items] == [(ana, "create")]
    written = {write["field"]: (write["now"], write["then"], write["why"]) for write in items[0]["writes"]}
    assert written["company"] == (None, "Acme", "created")
    assert run.counts["records"] == {"create": 1}


def test_what_is_approved_is_written_and_nothing_else(home: Cautious) -> None:
    ana, ben = home.add(name="Ana", company="Acme"), home.add(name="Ben")
    home.look()
    _, items = home.planned()
    run = home.approve([item for item in items if item["kirim_id"] == ana])
    home.work()
    assert home.states(run) == {"done": 1}
    assert home.partner(ana).fields["company"] == "Acme"
    assert all(record.external_id != ben for record in home.crm.records())
    assert home.ended(run).state is State.DONE
    home.look()
    assert [item["kirim_id"] for item in home.planned()[1]] == [ben]


def test_an_item_whose_base_moved_is_refused_and_the_others_are_written(home: Cautious) -> None:
    ana, ben = home.add(name="Ana", company="Acme"), home.add(name="Ben", company="Beta")
    home.look()
    _, items = home.planned()
    home.clock.advance(timedelta(seconds=2))
    home.kirim.edit(ana, {"company": "Other"})
    home.look()
    run = home.approve(items)
    home.work()
    assert home.states(run) == {"done": 1, "moved": 1}
    assert [record.external_id for record in home.crm.records() if record.external_id] == [ben]


def test_a_plan_tells_what_would_be_lost(home: Cautious) -> None:
    theirs = home.crm.add(None, {"phone": "+6281234567890", "company": "Old", "name": "A"})
    home.crm.take_hooks()
    home.add(name="Ana", company="New", phone="+6281234567890")
    home.look()
    run, (item,) = home.planned()
    assert (item["action"], item["crm_id"]) == ("adopt", theirs)
    assert run.counts["surprises"] == {"overwrite": 2}


def test_who_is_to_be_chosen_by_a_person_is_said(home: Cautious) -> None:
    for _ in range(2):
        home.crm.add(None, {"phone": "+6281234567890"})
    home.crm.take_hooks()
    home.add(name="Ana", phone="+6281234567890")
    home.look()
    _, (item,) = home.planned()
    assert (item["action"], item["writes"]) == ("choose", [])


def test_trouble_on_the_way_is_tried_again_and_a_lost_answer_makes_no_second_record(home: Cautious) -> None:
    ana = home.add(name="Ana", company="Acme")
    home.look()
    run = home.approve(home.planned()[1])
    home.crm.fail_next(Trouble.LOST, skip=1)  # the lookup goes well
    home.work()
    assert home.states(run) == {"waiting": 1}
    home.clock.advance(timedelta(minutes=5))
    home.work()
    assert [record.external_id for record in home.crm.records()].count(ana) == 1
    assert home.states(run) == {"done": 1}


def test_an_outage_leaves_everything_waiting(home: Cautious) -> None:
    home.add(name="Ana", company="Acme")
    home.look()
    run = home.approve(home.planned()[1])
    home.crm.fail_next(503)
    with pytest.raises(Retry):
        home.work()
    assert home.states(run) == {"waiting": 1}
    home.clock.advance(timedelta(minutes=5))
    home.work()
    assert home.states(run) == {"done": 1}


def test_a_live_connection_has_nothing_to_apply(home: Cautious) -> None:
    live = {name: replace(each, live=True) for name, each in home.tenant.connections.items()}
    home.tenant = replace(home.tenant, connections=live)
    with pytest.raises(Reject, match="live"):
        home.approve([])
