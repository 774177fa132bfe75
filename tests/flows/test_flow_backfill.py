"""A backfill finds everything once, survives any death, and never goes back behind what live events said."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from support.household import Crm, Household

from crmsync.errors import Fenced, Reject
from crmsync.flows import backfill
from crmsync.flows.backfill import Options
from crmsync.flows.forecast import forecast
from crmsync.flows.progress import progress
from crmsync.store import runs, tables
from crmsync.store.database import Database
from crmsync.store.records import KIRIM, Rank
from crmsync.store.runs import Run, State

PEOPLE = 23


@pytest.fixture
def home(database: Database) -> Household:
    """Contacts that were there before anybody listened."""
    made = Household(database)
    for number in range(PEOPLE):
        made.add(name=f"n{number}", phone=f"+6281100000{number:02}")
        made.clock.advance(timedelta(seconds=1))
    made.kirim.take_hooks()
    made.kirim.page_size = 4
    return made


def begin(home: Household, *, anew: bool = False, **options: Any) -> Run:
    return home.database.write(lambda tx: backfill.begin(tx, home.tenant, Options(**options), home.clock(), anew=anew))


def state(home: Household, run: Run) -> Run:
    found = home.database.read(lambda tx: runs.find(tx, run.id))
    assert found is not None
    return found


def partners(home: Household) -> dict[str, Any]:
    """What the CRM holds of whom, by Kirim id; fails where one has two records."""
    linked = [record for record in home.crm.records() if record.external_id]
    found = {record.external_id: record for record in linked}
    assert len(found) == len(linked)
    return found


def counts(home: Household) -> dict[str, int]:
    """Rows in every table that effects are stored in."""
    names = ("View", "Pair", "Due", "Stale", "Run", "History", "Cursor")
    of = {name: getattr(tables, name).__table__ for name in names}
    return {
        name: home.database.read(lambda tx, table=table: tx.execute(select(func.count()).select_from(table)).scalar())
        for name, table in of.items()
    }


def test_everybody_is_found_and_written_once(home: Household) -> None:
    run = begin(home)
    home.settle()
    ended = state(home, run)

    assert len(partners(home)) == PEOPLE
    assert (ended.state, ended.counts["read"], ended.counts["new"], ended.counts["parked"]) == (
        State.DONE,
        PEOPLE,
        PEOPLE,
        0,
    )
    assert sum(len(call) for call in home.crm.calls) == PEOPLE
    assert home.due() == {}


def test_a_second_walk_finds_nothing_to_do(home: Household) -> None:
    begin(home)
    home.settle()
    before = home.writes()
    again = begin(home)
    home.settle()
    ended = state(home, again)

    assert (ended.counts["read"], ended.counts["new"], ended.counts["changed"]) == (PEOPLE, 0, 0)
    assert home.writes() == before


def test_a_walk_that_is_interrupted_at_every_page_has_no_gap_and_repeats_nothing(home: Household) -> None:
    """Every page is lost once between its reading and its commit, as if the process had been killed there."""
    run = begin(home)
    for _ in range(200):
        home.fence_breaks = 1
        with pytest.raises(Fenced):
            home.walk(KIRIM, 1)
        assert home.database.write(lambda tx: runs.stop(tx, run.id, home.clock()))
        assert begin(home).id == run.id
        home.walk(KIRIM, 1)
        if state(home, run).place.get("settling"):
            break
    home.settle()
    ended = state(home, run)

    assert (ended.state, ended.counts["read"], ended.counts["new"]) == (State.DONE, PEOPLE, PEOPLE)
    assert len(partners(home)) == PEOPLE
    assert sum(len(call) for call in home.crm.calls) == PEOPLE


def test_a_live_event_that_overtakes_a_page_wins(home: Household) -> None:
    """The page was read before the change, and is stored after its event."""
    begin(home)
    first = home.kirim.records()[0].id
    real = home.tenant.kirim.walk

    def slow(*arguments: Any) -> Any:
        page = real(*arguments)
        home.clock.advance(timedelta(seconds=5))
        home.kirim.edit(first, {"company": "after"})
        home.arrive_all()
        home.observe(KIRIM)
        return page

    home.tenant.kirim.walk = slow  # type: ignore[method-assign]
    home.walk(KIRIM, 1)
    home.tenant.kirim.walk = real  # type: ignore[method-assign]
    assert home.view(KIRIM, first).fields["company"] == "after"
    home.settle()

    assert partners(home)[first].fields["company"] == "after"


def test_records_that_move_to_another_page_meanwhile_are_found(home: Household) -> None:
    """The feed is in order of change: whoever changes during the walk moves to its end."""
    run = begin(home)
    for _ in range(PEOPLE):
        home.walk(KIRIM, 1)
        if state(home, run).place.get("settling"):
            break
        for record in home.kirim.records()[:2]:
            home.clock.advance(timedelta(seconds=1))
            home.kirim.edit(record.id, {"company": f"moved at {home.clock().isoformat()}"})
    home.settle()
    held = {record.id: record.fields.get("company") for record in home.kirim.records()}

    assert {id: record.fields.get("company") for id, record in partners(home).items()} == held


def test_live_changes_go_before_what_a_walk_found(home: Household) -> None:
    begin(home)
    home.walk(KIRIM, 3)
    home.clock.advance(timedelta(minutes=1))
    live = home.add(name="live", company="c")
    home.arrive_all()
    home.observe(KIRIM)
    ranks = {id: row.rank for id, row in home.due().items()}

    assert ranks.pop(live) == Rank.LIVE
    assert set(ranks.values()) == {Rank.RUN}
    home.sync()
    assert any(write.external_id == live for write in home.crm.calls[0])


def test_where_records_go_by_the_job_a_walk_waits_no_earlier_than_for_a_job(
    home: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "BACKLOG", 0.1)
    monkeypatch.setattr(backfill, "LOOK_EVERY", 1)  # pages of four
    monkeypatch.setattr(home.tenant.connections["crm"].connector, "loads", range(5, 11))
    begin(home)
    home.walk(KIRIM, 50)

    assert len(home.due()) == 12


def test_a_walk_waits_for_those_who_write(home: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "BACKLOG", 0.5)  # batches of 20
    monkeypatch.setattr(backfill, "LOOK_EVERY", 4)  # pages of four
    begin(home)
    home.walk(KIRIM, 50)

    assert len(home.due()) == 16
    home.settle()
    assert len(partners(home)) == PEOPLE


def test_a_run_ends_when_what_it_made_due_is_done_and_says_what_is_parked(home: Household) -> None:
    refused = home.kirim.records()[0].id
    home.crm.refuse("name", "n0")
    run = begin(home)
    home.walk(KIRIM, 50)
    assert state(home, run).state is State.RUNNING
    told = home.database.read(lambda tx: progress(tx, home.tenant, state(home, run), home.clock()))
    assert (told["phase"], told["left"]) == ("settling", PEOPLE)
    home.settle()

    assert state(home, run).state is State.DONE
    assert state(home, run).counts["parked"] == 1
    assert home.row(refused).parked


def test_a_limit_is_kept_and_a_moment_is_begun_at(home: Household) -> None:
    run = begin(home, limit=6)
    home.settle()
    assert (state(home, run).counts["read"], len(partners(home))) == (6, 6)

    home.clock.advance(timedelta(hours=1))
    since = home.clock()
    home.clock.advance(timedelta(hours=1))
    late = home.kirim.records()[10].id
    home.kirim.edit(late, {"company": "late"})
    home.kirim.take_hooks()
    run = begin(home, since=since)
    home.settle()

    assert state(home, run).counts["read"] == 1
    assert partners(home)[late].fields["company"] == "late"


def test_the_records_of_the_crm_can_be_walked(home: Household) -> None:
    begin(home)
    home.settle()
    for record in list(partners(home).values()):
        home.clock.advance(timedelta(seconds=1))
        home.crm.edit(record.id, {"name": f"crm {record.id}"})
    home.crm.take_hooks()
    home.crm.page_size = 5
    run = begin(home, source="crm")
    home.settle()

    assert state(home, run).counts["changed"] == PEOPLE
    assert {record.fields["name"] for record in home.kirim.records()} == {
        record.fields["name"] for record in partners(home).values()
    }


def test_a_connection_that_is_new_gets_what_is_known_already(database: Database) -> None:
    home = Household(database, crms={"crm": Crm(), "other": Crm()})
    connections = dict(home.tenant.connections)
    home.tenant = replace(home.tenant, connections={"crm": connections["crm"]})
    id = home.add(name="Ana")
    home.settle()
    home.tenant = replace(home.tenant, connections=connections)
    run = begin(home)
    home.settle()

    assert home.partner(id, "other").fields["name"] == "Ana"
    assert state(home, run).counts["introduced"] == 1


def test_a_rehearsal_stores_and_writes_nothing(home: Household) -> None:
    begin(home)
    home.settle()
    home.add(name="new")
    home.kirim.take_hooks()
    before, writes = counts(home), home.writes()
    told: list[int] = []
    seen = backfill.rehearse(home.database, home.tenant, Options(), lambda now: told.append(now["read"]))

    assert (seen["read"], seen["new"], seen["changed"]) == (PEOPLE + 1, 1, 0)
    assert told == sorted(told)
    assert (counts(home), home.writes()) == (before, writes)
    assert backfill.rehearse(None, home.tenant, Options(limit=5), lambda now: None)["new"] == 5


def test_a_run_that_was_stopped_goes_on_and_another_has_to_be_asked_for(home: Household) -> None:
    run = begin(home)
    home.walk(KIRIM, 2)
    assert home.database.write(lambda tx: runs.stop(tx, run.id, home.clock()))
    home.walk(KIRIM, 50)
    assert state(home, run).counts["read"] == 8
    with pytest.raises(Reject, match="other options"):
        begin(home, limit=3)
    assert begin(home).id == run.id
    again = begin(home, limit=3, anew=True)

    assert again.id != run.id
    assert state(home, run).state is State.FAILED
    with pytest.raises(Reject, match="nothing"):
        begin(home, source="nowhere", anew=True)


def test_a_stop_while_a_page_is_read_stores_nothing_of_it(home: Household) -> None:
    run = begin(home)
    real = home.tenant.kirim.walk

    def stopped(*arguments: Any) -> Any:
        home.database.write(lambda tx: runs.stop(tx, run.id, home.clock()))
        return real(*arguments)

    home.tenant.kirim.walk = stopped  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        home.walk(KIRIM, 1)

    assert counts(home)["View"] == 0
    assert state(home, run).state is State.STOPPED


def test_the_forecast_counts_requests_and_names_the_tighter_side(home: Household) -> None:
    paces = {KIRIM: 10.0, "crm": 1.0}
    unknown = forecast(home.database, home.tenant, Options(), lambda name, bucket: paces[name])
    assert (unknown.records, unknown.exact) == (4, False)
    home.kirim.page_size = 100
    known = forecast(home.database, home.tenant, Options(), lambda name, bucket: paces[name])
    kirim, crm = known.shares

    assert (known.records, known.exact) == (PEOPLE, True)
    assert (kirim.reads, crm.reads, crm.writes) == (1, 2, 2)
    assert known.lasts == timedelta(seconds=4)
    assert (round(kirim.share, 3), crm.share) == (0.025, 1.0)
