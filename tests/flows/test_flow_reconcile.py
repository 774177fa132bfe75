"""A reconciliation says what is true, takes nothing for deleted that was only not shown, heals only when told to."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text
from support.household import Household

from crmsync.errors import Fenced, Reject
from crmsync.flows import reconcile
from crmsync.flows.reconcile import Options
from crmsync.model import Page
from crmsync.store import runs
from crmsync.store.database import Database
from crmsync.store.records import KIRIM
from crmsync.store.runs import Run, State

PEOPLE = 11


@pytest.fixture
def home(database: Database) -> Household:
    """Contacts that agree on both sides."""
    made = Household(database)
    for number in range(PEOPLE):
        made.add(name=f"n{number}", company=f"c{number}")
        made.clock.advance(timedelta(seconds=1))
    made.settle()
    made.kirim.page_size = made.crm.page_size = 3
    made.clock.advance(timedelta(hours=2))
    return made


def begin(home: Household, *, anew: bool = False, **options: Any) -> Run:
    return home.database.write(lambda tx: reconcile.begin(tx, home.tenant, Options(**options), home.clock(), anew=anew))


def state(home: Household, run: Run) -> Run:
    found = home.database.read(lambda tx: runs.find(tx, run.id))
    assert found is not None
    return found


def reconciled(home: Household, **options: Any) -> Run:
    """The end of a run; only the run goes on, nobody hears of webhooks."""
    run = begin(home, **options)
    for _ in range(300):
        now = state(home, run)
        if now.state is not State.RUNNING:
            return now
        home.walk(now.endpoint, 5)
        if now.place["phase"] == "settling":
            home.settle()
    raise AssertionError("it never ends")


def told(run: Run) -> dict[str, Any]:
    return dict(run.counts["report"]["crm/contact"])


def quietly(home: Household, platform: Any, id: str, **fields: Any) -> None:
    """A change that no webhook tells of."""
    home.clock.advance(timedelta(seconds=1))
    platform.edit(id, fields)
    platform.take_hooks()


def test_sides_that_agree_are_said_to_agree_and_nothing_is_written(home: Household) -> None:
    before = home.writes()
    run = reconciled(home, heal=True)

    assert (run.state, run.counts["drift"], run.counts["read"]) == (State.DONE, 0, 2 * PEOPLE + 1)
    assert told(run)["records"] == {"agree": PEOPLE, "unlinked": 1}
    assert told(run)["fields"]["company"] == {"agree": PEOPLE}
    assert home.writes() == before
    assert home.due() == {}


def test_what_differs_is_told_with_the_side_that_is_right_and_left_alone(home: Household) -> None:
    ids = [record.id for record in home.kirim.records()]
    quietly(home, home.kirim, ids[0], company="kirim's own")
    quietly(home, home.crm, home.partner(ids[1]).id, name="the crm's own")
    quietly(home, home.crm, home.partner(ids[2]).id, company="drifted")
    before = home.writes()
    run = reconciled(home)

    assert told(run)["fields"]["company"] == {"agree": PEOPLE - 2, "kirim_right": 2}
    assert told(run)["fields"]["name"] == {"agree": PEOPLE - 1, "crm_right": 1}
    assert told(run)["records"] == {"agree": PEOPLE - 3, "differ": 3, "unlinked": 1}
    assert told(run)["samples"]["name: crm_right"] == [[ids[1], home.partner(ids[1]).id]]
    assert run.counts["drift"] == 3
    home.settle()
    assert home.writes() == before
    assert home.view(KIRIM, ids[0]).fields["company"] == "c0"


def test_what_only_a_look_saw_is_not_lost_to_the_event_that_comes_later(home: Household) -> None:
    """Were the view moved by the look, the event would be taken for an echo."""
    id = home.kirim.records()[0].id
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "late"})
    reconciled(home)
    home.settle()

    assert home.partner(id).fields["company"] == "late"


def test_healing_brings_everything_to_agreement(home: Household) -> None:
    ids = [record.id for record in home.kirim.records()]
    quietly(home, home.kirim, ids[0], company="kirim's own")
    quietly(home, home.crm, home.partner(ids[1]).id, name="the crm's own")
    home.clock.advance(timedelta(seconds=1))
    stranger = home.add(name="never heard of", company="c")
    home.kirim.take_hooks()
    run = reconciled(home, heal=True)

    assert told(run)["records"]["missing_right"] == 1
    assert (run.state, run.counts["drift"], run.counts["remaining"]) == (State.DONE, 3, 0)
    assert home.partner(ids[0]).fields["company"] == "kirim's own"
    assert home.kirim.record(ids[1]).fields["name"] == "the crm's own"
    assert home.partner(stranger).fields["company"] == "c"
    again = reconciled(home)
    assert again.counts["drift"] == 0


def test_what_was_known_to_differ_and_is_parked_is_found_too(home: Household) -> None:
    id = home.kirim.records()[0].id
    home.crm.refuse("company", "refused")
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "refused"})
    home.settle()
    run = reconciled(home, heal=True)

    assert told(run)["fields"]["company"] == {"agree": PEOPLE - 1, "refused": 1}
    assert (run.counts["drift"], run.counts["remaining"]) == (1, 1)


def test_a_threshold_stops_the_healing(home: Household) -> None:
    for record in home.kirim.records()[:4]:
        quietly(home, home.kirim, record.id, company="other")
    before = home.writes()
    run = reconciled(home, heal=True, threshold=3)
    home.settle()

    assert run.state is State.DONE
    assert "4 records differ, more than the 3" in run.error
    assert home.writes() == before
    assert reconciled(home, heal=True, threshold=4).counts["remaining"] == 0


def test_a_record_that_no_page_showed_is_asked_for_before_it_is_missing(home: Household) -> None:
    """It moves while the pages are read: from the page to come to one that was read already."""
    real = home.tenant.connections["crm"].connector.walk
    hidden = {home.partner(record.id).id for record in home.kirim.records()[:3]}

    def moving(*arguments: Any) -> Page:
        page = real(*arguments)
        return Page(tuple(record for record in page.records if record.id not in hidden), page.cursor, page.more)

    home.tenant.connections["crm"].connector.walk = moving  # type: ignore[method-assign]
    run = reconciled(home)

    assert told(run)["records"] == {"agree": PEOPLE, "unlinked": 1}
    assert run.counts["fetched"] == 3


def test_what_is_gone_is_told_apart(home: Household) -> None:
    ids = [record.id for record in home.kirim.records()]
    home.crm.delete(home.partner(ids[0]).id)
    home.kirim.delete(ids[1])
    home.crm.take_hooks()
    home.kirim.take_hooks()
    run = reconciled(home)

    assert told(run)["records"] == {"agree": PEOPLE - 2, "stale_link": 1, "missing_left": 1, "unlinked": 1}
    assert run.counts["fetched"] == 2


def test_a_change_on_its_way_is_not_judged(home: Household) -> None:
    id = home.kirim.records()[0].id
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "on its way"})
    home.arrive_all()
    home.observe(KIRIM)
    run = reconciled(home)

    assert told(run)["records"] == {"agree": PEOPLE - 1, "in_flight": 1, "unlinked": 1}


def test_it_goes_on_after_every_death_and_counts_nothing_twice(home: Household) -> None:
    """Every step is lost once between its work and its commit."""
    ids = [record.id for record in home.kirim.records()]
    quietly(home, home.kirim, ids[0], company="other")
    home.crm.delete(home.partner(ids[1]).id)
    home.crm.take_hooks()
    run = begin(home, heal=True)
    for _ in range(300):
        now = state(home, run)
        if now.state is not State.RUNNING:
            break
        home.fence_breaks = 1
        with pytest.raises(Fenced):
            home.walk(now.endpoint, 1)
        home.walk(now.endpoint, 1)
        if now.place["phase"] == "settling":
            home.settle()
    ended = state(home, run)

    assert ended.state is State.DONE
    assert told(ended)["records"] == {"agree": PEOPLE - 2, "differ": 1, "stale_link": 1, "unlinked": 1}
    assert (ended.counts["drift"], ended.counts["remaining"]) == (2, 1)
    assert home.partner(ids[0]).fields["company"] == "other"


def test_one_that_is_under_way_is_not_doubled(home: Household) -> None:
    run = begin(home)

    assert begin(home).id == run.id
    with pytest.raises(Reject, match="other options"):
        begin(home, heal=True)
    assert begin(home, heal=True, anew=True).id != run.id
    assert state(home, run).state is State.FAILED


def test_one_that_was_stopped_long_ago_is_begun_anew(home: Household) -> None:
    run = begin(home)
    home.walk(KIRIM, 2)
    assert home.database.write(lambda tx: runs.stop(tx, run.id, home.clock()))
    assert begin(home).id == run.id
    assert home.database.write(lambda tx: runs.stop(tx, run.id, home.clock()))
    home.clock.advance(timedelta(hours=2))

    assert begin(home).id != run.id


@pytest.mark.parametrize("given_up", [False, True])
def test_what_was_seen_is_forgotten_bit_by_bit(
    home: Household, monkeypatch: pytest.MonkeyPatch, given_up: bool
) -> None:
    monkeypatch.setattr(reconcile, "FORGOTTEN_AT_ONCE", 5)
    if given_up:
        before = begin(home)
        home.walk(before.endpoint, 3)
        assert sightings(home)
        assert home.database.write(lambda tx: runs.stop(tx, before.id, home.clock()))
        home.clock.advance(2 * reconcile.STALE)
    run = begin(home)
    kept = []
    while state(home, run).state is State.RUNNING:
        home.walk(state(home, run).endpoint, 1)
        kept.append(sightings(home))

    bits = [before - after for before, after in pairwise(kept) if after < before]
    assert sum(bits) == max(kept) >= 2 * PEOPLE
    assert set(bits[:-1]) == {5}
    assert bits[-1] <= 5


def sightings(home: Household) -> int:
    return home.database.read(lambda tx: tx.execute(text("SELECT count(*) FROM sighting")).scalar_one())
