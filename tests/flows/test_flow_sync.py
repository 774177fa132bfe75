"""The one path that writes: batches, coalescing, failures that delay only themselves, and links that heal."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.household import RULES, Crm, CrmConnector, Household

from crmsync.connector import Outcome
from crmsync.core.retry import ALONE_FROM, ATTEMPTS, FAILURES
from crmsync.errors import ConnectorError, Fenced, Reject, Retry, Suspend, Throttled
from crmsync.model import Kind, Record, Ref, Write, Written
from crmsync.store import census, lanes, pairs
from crmsync.store.database import Database
from crmsync.store.lanes import Work
from crmsync.store.records import KIRIM
from crmsync.testing.fake import Trouble


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


def synced(home: Household, **fields: Any) -> str:
    """A contact that both sides agree on."""
    id = home.add(**fields)
    home.settle()
    return id


class Scripted(CrmConnector):
    """Answers what the test put on the platform as `script`, where there is something."""

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        script = getattr(self.crm, "script", [])
        if not script:
            return super().upsert(kind, writes)
        self.crm.calls.append(tuple(writes))
        answer = script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return [answer(write) for write in writes]


def scripted(database: Database, *script: Any) -> Household:
    crm = Crm()
    crm.connector = Scripted
    crm.script = list(script)
    return Household(database, crms={"crm": crm})


def test_a_new_contact_is_looked_up_then_created_once_with_its_kirim_id(home: Household) -> None:
    id = synced(home, name="Ana", phone="+6285117600829")

    assert home.partner(id).fields["phone"] == "+6285117600829"
    assert len(home.crm.calls) == 1
    assert home.row(id).crm_id == home.partner(id).id
    assert home.due() == {}


def test_a_record_that_is_there_already_keeps_what_the_crm_owns(home: Household) -> None:
    id = home.kirim.add(None, {"name": "ana from whatsapp", "phone": "+6285117600829"})
    home.crm.add(id, {"name": "Ana Lee", "score": 7})
    home.crm.take_hooks()
    home.settle()

    assert home.partner(id).fields["name"] == "Ana Lee"
    assert home.kirim.held(id)["name"] == "Ana Lee"
    assert home.kirim.held(id)["score"] == 7
    assert [effect.operation for effect in home.crm.ledger if effect.by_api] == ["update"]


def test_twenty_changes_of_one_contact_become_one_write(home: Household) -> None:
    id = synced(home, company="c")
    before = len(home.crm.calls)
    for number in range(20):
        home.clock.advance(timedelta(seconds=1))
        home.kirim.edit(id, {"company": f"company {number}"})
    home.arrive_all()
    home.observe(KIRIM)
    home.sync()

    assert len(home.crm.calls) == before + 1
    assert home.crm.calls[-1][0].fields == {"company": "company 19"}


def test_many_due_pairs_go_in_full_batches(home: Household) -> None:
    for number in range(250):
        home.add(name=f"n{number}")
    home.arrive_all()
    while home.observe(KIRIM):
        pass
    while home.due():
        home.sync()

    assert [len(call) for call in home.crm.calls] == [20] * 12 + [10]
    assert len({write.external_id for call in home.crm.calls for write in call}) == 250


def test_the_last_pairs_of_a_turn_wait_for_company(home: Household) -> None:
    for number in range(33):
        home.add(name=f"n{number}")
    home.arrive_all()
    home.observe(KIRIM)

    assert home.sync() == 20
    assert len(home.due()) == 13
    assert all(home.row(id).attempts == 0 for id in home.due())
    assert home.sync() == 13


def test_a_change_during_a_flush_stays_due(home: Household) -> None:
    id = synced(home, company="a")
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "b"})
    home.arrive_all()
    home.observe(KIRIM)

    def change() -> None:
        home.clock.advance(timedelta(seconds=1))
        home.kirim.edit(id, {"company": "c"})
        home.arrive_all()
        home.observe(KIRIM)

    home.crm.meanwhile = [change]
    home.sync()

    assert list(home.due()) == [id]
    assert home.partner(id).fields["company"] == "b"
    home.sync()
    assert home.partner(id).fields["company"] == "c"
    home.settle()
    assert home.due() == {}


def test_an_answer_that_shows_another_change_is_worked_on_at_once(home: Household) -> None:
    id = synced(home, company="a", name="Ana")
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "b"})
    home.arrive_all()
    home.observe(KIRIM)
    home.crm.edit(home.partner(id).id, {"name": "Ana Lee"})  # nothing told us yet

    home.sync()
    assert list(home.due()) == [id]
    home.sync()

    assert home.kirim.held(id)["name"] == "Ana Lee"


def test_a_created_record_that_the_crm_filled_by_itself_is_compared_again(home: Household) -> None:
    class Defaulting(CrmConnector):
        def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
            outcomes = super().upsert(kind, writes)
            for outcome in outcomes:
                if isinstance(outcome, Written) and outcome.created and outcome.record:
                    self.crm.edit(outcome.record.id, {"score": 50})
            full = [self.crm.record(o.record.id) for o in outcomes if isinstance(o, Written) and o.record]
            return [Written(replace(record, external_id=None)) for record in full]

    crm = Crm()
    crm.connector = Defaulting
    home = Household(home.database, crms={"crm": crm})
    id = home.add(name="Ana")
    home.arrive_all()
    home.observe(KIRIM)

    home.sync()
    home.sync()

    assert home.kirim.held(id)["score"] == 50


def test_one_record_that_is_refused_delays_only_itself(database: Database) -> None:
    home = Household(database, crms={"crm": Crm(whole_batches=True, partial_rows=False)})
    home.crm.refuse("company", "bad")
    ids = [home.add(name=f"n{number}", company="bad" if number == 5 else "good") for number in range(20)]
    home.arrive_all()
    home.observe(KIRIM)
    home.sync()

    parked = database.read(lambda tx: census.parked(tx, 100))
    assert [row.kirim_id for row in parked] == [ids[5]]
    assert len(home.crm.records()) == 1 + 19
    assert home.due() == {}
    assert home.crm.requests.count("write") <= 1 + 2 * 5


def test_a_field_that_is_refused_does_not_keep_the_others_back(database: Database) -> None:
    """And again when the next value is refused as well."""
    home = Household(database, crms={"crm": Crm(partial_rows=False)})
    home.crm.refuse("company", "bad")
    home.crm.refuse("company", "worse")
    id = home.add(name="Ana", company="bad")
    home.settle()
    assert home.partner(id).fields["name"] == "Ana"

    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "worse", "phone": "+6285117600829"})
    home.settle()
    assert home.partner(id).fields["phone"] == "+6285117600829"

    calls = len(home.crm.calls)
    home.look_again()
    home.settle()
    assert len(home.crm.calls) == calls
    told = [(entry.new, entry.outcome) for entry in home.history(id, "company")]
    assert told == [("bad", "refused"), ("worse", "refused")]
    assert {e.outcome for e in home.history(id, "phone")} == {"written"}


def test_a_refusal_that_names_no_field_is_tried_once_for_each_input(database: Database) -> None:
    home = scripted(database, lambda write: Reject("no"), lambda write: Reject("no"))
    id = home.add(name="Ana", phone="+6285117600829")
    home.arrive_all()
    home.observe(KIRIM)
    home.sync()

    assert (home.row(id).parked, home.row(id).error, home.due()) == (True, "no", {})
    home.clock.advance(timedelta(days=1))
    assert home.sync() == 0
    assert len(home.crm.calls) == 1


def test_a_parked_pair_comes_back_when_its_view_changes(database: Database) -> None:
    home = scripted(database, lambda write: Reject("no"))
    id = home.add(name="Ana")
    home.settle()
    assert home.row(id).parked

    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"name": "Ani"})
    home.settle()

    assert not home.row(id).parked
    assert home.row(id).error == ""
    assert home.partner(id).fields["name"] == "Ani"


def test_an_input_that_moved_while_it_was_refused_is_tried_at_once(database: Database) -> None:
    """What the answer of the other side shows is news, although the pair is not due for its own writes."""
    home = Household(database)
    home.crm.refuse("company", "bad")
    id = synced(home, company="good")
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "bad"})
    home.crm.edit(home.partner(id).id, {"name": "Ana"})
    home.arrive_all()
    home.observe(KIRIM)
    home.observe("crm")
    home.reread("crm")
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "better"})

    home.sync()
    home.sync()

    assert home.partner(id).fields["company"] == "better"


@pytest.mark.parametrize(
    "trouble", [429, 500, 503, Trouble.RESET, Trouble.LOST, Trouble.TIMEOUT, Trouble.CUT, Trouble.HTML]
)
def test_passing_trouble_rests_the_lane_and_goes_away(home: Household, trouble: Any) -> None:
    id = home.add(name="Ana")
    home.arrive_all()
    home.observe(KIRIM)
    home.crm.fail_next(trouble, skip=1)  # the lookup goes well
    with pytest.raises(Retry):
        home.sync()

    assert (home.row(id).attempts, home.row(id).failures) == (0, 0)
    assert home.due()[id].not_before > home.clock()
    assert home.sync() == 0
    home.settle()
    assert home.partner(id).fields["name"] == "Ana"
    assert (home.row(id).attempts, home.row(id).error) == (0, "")


def test_a_write_without_an_answer_is_in_the_history(home: Household) -> None:
    id = home.add(name="Ana")
    home.arrive_all()
    home.observe(KIRIM)
    home.crm.fail_next(Trouble.LOST, skip=1)
    with pytest.raises(Retry):
        home.sync()
    home.settle()

    assert home.history(id, "name")[0].outcome == "unanswered"
    assert len([record for record in home.crm.records() if record.external_id]) == 1


def test_waiting_for_the_budget_is_no_attempt(database: Database) -> None:
    home = scripted(database, *[Throttled("budget", timedelta(seconds=3))] * 20)
    id = home.add(name="Ana")
    home.arrive_all()
    home.observe(KIRIM)
    for _ in range(20):
        with pytest.raises(Throttled):
            home.sync()
        assert home.row(id).attempts == 0
        home.clock.advance(timedelta(seconds=4))

    home.settle()
    assert home.partner(id).fields["name"] == "Ana"


def test_a_suspended_connection_stops_the_lane_after_storing_what_ended(database: Database) -> None:
    outcomes: list[Any] = [lambda write: Written(None), Suspend("expired")]
    home = scripted(database)
    first = synced(home, company="a")
    second = synced(home, company="a")
    home.crm.script = outcomes
    home.tenant.connections["crm"].connector.__class__.batch_size = 1
    try:
        home.clock.advance(timedelta(seconds=1))
        for id in (first, second):
            home.kirim.edit(id, {"company": "b"})
        home.arrive_all()
        home.observe(KIRIM)
        with pytest.raises(Suspend):
            home.sync()
    finally:
        home.tenant.connections["crm"].connector.__class__.batch_size = 20

    assert list(home.due()) == [second]
    assert home.pair(first).base["company"].kirim == "b"
    assert home.row(second).attempts == 0


def test_a_row_of_a_suspended_credential_is_never_given_up(database: Database) -> None:
    home = scripted(database, *[lambda write: Suspend("expired")] * 30)
    id = home.add(name="Ana")
    home.arrive_all()
    home.observe(KIRIM)
    for _ in range(30):
        with pytest.raises(Suspend):
            home.sync()
        home.clock.advance(timedelta(minutes=2))

    home.settle()
    assert home.partner(id).fields["name"] == "Ana"


class Choking(CrmConnector):
    """Fails whenever a certain name is in the batch, and says no more than that it failed."""

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        if any(write.fields.get("name") == "poison" for write in writes):
            self.crm.calls.append(tuple(writes))
            return [Retry("internal error", ambiguous=True)] * len(writes)
        return super().upsert(kind, writes)


def test_a_record_that_the_platform_chokes_on_stands_alone_and_is_parked(database: Database) -> None:
    crm = Crm()
    crm.connector = Choking
    home = Household(database, crms={"crm": crm})
    healthy = [home.add(name=f"n{number}") for number in range(30)]
    bad = home.add(name="poison")
    for _ in range(20):
        home.arrive_all()
        for one in home.database.read(lambda tx: lanes.waiting(tx, home.clock())):
            home.turn(one.lane.work, one.lane.endpoint)
        home.clock.advance(timedelta(minutes=1))

    assert all(home.partner(id) for id in healthy)
    assert home.due().keys() == {bad}

    for _ in range(2 * FAILURES):  # others go well meanwhile, so its failures are its own
        home.add(name="another")
        home.arrive_all()
        home.observe(KIRIM)
        home.turn(Work.SYNC, "crm")
        home.clock.advance(timedelta(minutes=16))
        if home.row(bad).parked:
            break

    assert home.row(bad).parked
    assert "given up" in home.row(bad).error


def test_an_outage_is_counted_against_no_record_and_probed_with_little(database: Database) -> None:
    home = scripted(database)
    ids = [home.add(name=f"n{number}") for number in range(100)]
    home.arrive_all()
    home.observe(KIRIM)
    home.crm.script = [lambda write: Retry("busy")] * 60
    for _ in range(8):
        with pytest.raises(Retry):
            home.sync()
        home.clock.advance(timedelta(minutes=16))

    assert max(len(call) for call in home.crm.calls[-4:]) == 1
    assert {home.row(id).failures for id in ids} == {0}

    home.crm.script = []
    home.crm.calls.clear()
    home.settle()
    assert all(home.partner(id) for id in ids)
    assert len(home.crm.calls) <= 4 + 100 // 20 + 1


def test_a_pair_whose_starts_never_end_is_parked(database: Database) -> None:
    home = scripted(database)
    id = home.add(name="Ana")
    home.arrive_all()
    home.observe(KIRIM)
    for _ in range(ATTEMPTS):  # taken and begun, and then the process was killed
        (taken,) = home.database.write(lambda tx: pairs.take(tx, "acme", "crm", 10, home.clock()))
        if taken.attempts > ALONE_FROM:
            home.database.write(lambda tx, taken=taken: pairs.start(tx, "acme", "crm", taken, home.clock()))
    home.settle()

    assert home.row(id).parked
    assert "given up" in home.row(id).error
    assert home.crm.calls == []


def test_a_lookup_that_is_refused_parks_only_its_own_pair(database: Database) -> None:
    class Picky(CrmConnector):
        def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
            if any(ref.external_id == bad for ref in refs):
                raise Reject("malformed id")
            return super().fetch(kind, refs)

    crm = Crm()
    crm.connector = Picky
    home = Household(database, crms={"crm": crm})
    ids = [home.add(name=f"n{number}") for number in range(5)]
    bad = ids[2]
    home.arrive_all()
    home.observe(KIRIM)
    home.sync()

    assert (home.row(bad).parked, home.row(bad).error) == (True, "malformed id")
    assert sorted(r.external_id for r in crm.records() if r.external_id) == sorted(set(ids) - {bad})


def test_a_lookup_that_fails_leaves_everything_as_it_was(home: Household) -> None:
    id = home.add(name="Ana")
    home.arrive_all()
    home.observe(KIRIM)
    home.crm.fail_next(503)

    with pytest.raises(Retry):
        home.sync()

    assert home.row(id).attempts == 0
    assert home.crm.calls == []


def test_an_answer_without_a_record_is_taken_as_what_was_sent(database: Database) -> None:
    """Otherwise the view would still hold the old value, and the pair would be written for ever."""
    home = scripted(database)
    id = synced(home, company="a")
    home.crm.script = [lambda write: Written(None)] * 10
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "b"})
    calls = len(home.crm.calls)
    home.settle()

    assert len(home.crm.calls) == calls + 1
    assert home.view("crm", home.row(id).crm_id).fields["company"] == "b"


def test_two_connections_share_what_kirim_holds(database: Database) -> None:
    one = Crm()
    other = Crm()
    mine = replace(RULES, fields=tuple(f for f in RULES.fields if f.kirim in ("phone", "company", "name")))
    theirs = replace(RULES, fields=tuple(f for f in RULES.fields if f.kirim in ("phone", "company", "email")))
    home = Household(database, crms={"one": one, "other": other}, rules={"one": mine, "other": theirs})
    id = home.add(name="ana", company="Acme")
    home.settle()
    home.clock.advance(timedelta(seconds=1))
    one.edit(home.partner(id, "one").id, {"name": "Ana Lee"})
    other.edit(home.partner(id, "other").id, {"email": "ana@b.c"})
    home.settle()

    assert home.kirim.held(id)["name"] == "Ana Lee"
    assert home.kirim.held(id)["email"] == "ana@b.c"
    assert home.partner(id, "other").fields["name"] is None  # not mapped there
    assert home.due("one") == home.due("other") == {}
    before = home.writes()
    home.look_again()
    home.settle()
    assert home.writes() == before


def test_a_merged_record_leads_to_the_survivor(home: Household) -> None:
    id = synced(home, name="Ana", company="Acme")
    stranger = home.crm.add(None, {"name": "Ana Lee", "company": "Other"})
    home.settle()
    home.clock.advance(timedelta(seconds=1))
    home.crm.merge(stranger, home.row(id).crm_id)
    home.settle()

    assert home.row(id).crm_id == stranger
    assert home.crm.held(stranger)["company"] == "Acme"
    assert home.kirim.held(id)["name"] == "Ana Lee"


def test_of_two_contacts_whose_records_were_merged_one_is_parked(home: Household) -> None:
    winner, loser = synced(home, company="a"), synced(home, company="b")
    home.clock.advance(timedelta(seconds=1))
    home.crm.merge(home.row(winner).crm_id, home.row(loser).crm_id)
    home.settle()

    assert not home.row(winner).parked
    assert home.row(loser).parked
    assert home.due() == {}


def test_a_record_deleted_in_the_crm_unlinks_its_pair_and_is_not_made_again(home: Household) -> None:
    id = synced(home, name="Ana")
    home.clock.advance(timedelta(seconds=1))
    home.crm.delete(home.row(id).crm_id)
    home.settle()
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "Acme"})
    home.settle()

    assert (home.row(id).parked, home.row(id).reason) == (False, "deleted")
    assert "deleted" in home.row(id).error
    assert len(home.crm.records()) == 1


def test_an_unknown_crm_record_with_a_kirim_id_is_linked(home: Household) -> None:
    """Nothing ever told us of the contact: it is read, because the CRM's record names it."""
    id = home.add(phone="+6285117600829")
    home.kirim.take_hooks()
    home.crm.add(id, {"name": "Ana"})
    home.settle()

    assert home.row(id).crm_id == home.partner(id).id
    assert home.kirim.held(id)["name"] == "Ana"
    assert home.partner(id).fields["phone"] == "+6285117600829"


def test_a_record_that_names_a_contact_kirim_does_not_have_is_left_alone(home: Household) -> None:
    home.crm.add("ctc_nobody", {"name": "Ana"})
    home.settle()

    assert home.writes() == 0
    assert home.due() == {}


def test_a_fenced_transaction_changes_nothing(home: Household) -> None:
    id = synced(home, company="a")
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "b"})
    home.arrive_all()
    home.observe(KIRIM)
    before = (home.pair(id).base, home.view("crm", home.row(id).crm_id), home.history(id))
    home.fence_breaks = 1

    with pytest.raises(Fenced):
        home.sync()

    assert (home.pair(id).base, home.view("crm", home.row(id).crm_id), home.history(id)) == before
    assert list(home.due()) == [id]
    home.settle()
    assert home.partner(id).fields["company"] == "b"


def test_a_turn_ends_only_when_every_batch_has_ended(home: Household) -> None:
    """Else the lane would be left while a write of it is still on its way."""
    failed, released = threading.Event(), threading.Event()
    ended: list[int] = []

    class Staggered(ThreadPoolExecutor):
        """The first batch fails at once, the others end later."""

        def submit(self, work: Any, /, *arguments: Any) -> Any:  # type: ignore[override]
            return super().submit(self._flush, self._count(), work, *arguments)

        def _count(self) -> int:
            self.seen = getattr(self, "seen", -1) + 1
            return self.seen

        def _flush(self, number: int, work: Any, *arguments: Any) -> Any:
            if number:
                released.wait(10)
            try:
                return work(*arguments)
            finally:
                ended.append(number)

    def fence(tx: Any) -> None:
        if not failed.is_set():
            failed.set()
            threading.Timer(0.1, released.set).start()
            raise Fenced("lost")

    home.executor = Staggered(4)
    for number in range(40):
        home.add(name=f"n{number}")
    home.arrive_all()
    home.observe(KIRIM)
    home.fence = fence  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        home.sync()

    assert sorted(ended) == [0, 1]
    home.executor.shutdown()
    assert len(home.due()) == 20
    assert len(home.crm.records()) == 1 + 40


def test_an_edit_within_the_second_of_a_write_is_read_again(home: Household) -> None:
    """Versions may be whole seconds: the answer and the later edit look equally old."""
    id = synced(home, company="a", name="Ana")
    home.crm.hooks_say_values = True
    home.clock.advance(timedelta(seconds=5))
    home.kirim.edit(id, {"company": "b"})
    home.arrive_all()
    home.observe(KIRIM)

    def overtake() -> None:
        home.crm.edit(home.partner(id).id, {"name": "Ana Lee"})
        home.arrive_all()
        home.observe("crm")

    home.crm.meanwhile = [overtake]
    home.sync()
    home.settle()

    assert home.kirim.held(id)["name"] == "Ana Lee"


def test_errors_say_nothing_about_the_person(home: Household) -> None:
    id = home.add(name="Ana Secret", phone="+6285117600829")
    home.crm.refuse("name", "Ana Secret")
    home.crm.partial_rows = False
    home.settle()

    assert "Secret" not in home.row(id).error
    assert isinstance(home.row(id).error, str)
    assert all("Secret" not in entry.note for entry in home.history(id))


def test_every_kind_of_error_is_one_of_three() -> None:
    assert {error.__base__ for error in (Retry, Reject, Suspend)} == {ConnectorError}
