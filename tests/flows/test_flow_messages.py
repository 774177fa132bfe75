"""Messages on timelines: one entry each or one a day, never twice, and their status moves forward only."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, timedelta
from itertools import permutations
from typing import Any

import pytest
from support.household import Household

from crmsync.connector import LogOutcome
from crmsync.core.messages import Log, Logging
from crmsync.core.retry import ATTEMPTS
from crmsync.core.trouble import Reason
from crmsync.flows import dead
from crmsync.flows.dead import Action
from crmsync.model import Activity, MessageStatus
from crmsync.store import lanes
from crmsync.store.database import Database
from crmsync.store.dead import Wanted
from crmsync.testing.fake import Entry
from crmsync.testing.platform import Trouble

PHONE = "+6281234567890"
SAID = {"id": "wamid.1", "direction": "outbound", "type": "text", "text": "Ada, kak", "phone": PHONE}


@pytest.fixture
def log() -> Log:
    return Log.EACH


@pytest.fixture
def home(database: Database, log: Log) -> Household:
    return Household(database, messages=Logging(log, UTC))


def customer(home: Household) -> str:
    """A contact that both sides know."""
    id = home.add(name="Ana", phone=PHONE)
    home.settle()
    return id


def timeline(home: Household, contact: str) -> list[Entry]:
    return list(home.crm.timeline(home.partner(contact).id))


def told(at: str, **more: Any) -> dict[str, Any]:
    return {**SAID, "at": f"2026-03-01T{at}:00+00:00", **more}


def letters(home: Household) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.database.read(lambda tx: dead.overview(tx, Wanted(), 100))["dead"]
    return found


def later(home: Household, seconds: float) -> None:
    home.clock.advance(timedelta(seconds=seconds))


@pytest.mark.parametrize("order", list(permutations(["sent", "delivered", "read"])), ids="-".join)
def test_in_whatever_order_its_statuses_come_a_message_is_one_entry_with_the_farthest(
    home: Household, order: tuple[str, ...]
) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    for status in order:
        home.say({"id": "wamid.1", "status": status})
        home.settle()

    (entry,) = timeline(home, contact)
    assert "Ada, kak" in entry.text
    assert entry.status is MessageStatus.READ


def test_what_failed_stays_failed(home: Household) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.say({"id": "wamid.1", "status": "failed", "error": "131026"}, {"id": "wamid.1", "status": "delivered"})
    home.settle()

    (entry,) = timeline(home, contact)
    assert entry.status is MessageStatus.FAILED
    assert "131026" in entry.text


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.CUT])
def test_an_entry_whose_answer_was_lost_is_found_and_not_made_again(home: Household, trouble: Trouble) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.observe("kirim")
    later(home, 10)
    home.crm.fail_next(trouble)
    home.turn(lanes.Work.LOG, "crm")
    assert len(timeline(home, contact)) == 1
    home.settle()

    assert len(timeline(home, contact)) == 1


def test_who_dies_after_the_platform_took_an_entry_finds_it_the_next_time(home: Household) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.observe("kirim")
    later(home, 10)
    home.fence_breaks = 1  # what was answered is not stored
    home.settle()

    assert len(timeline(home, contact)) == 1


def test_the_same_delivery_again_changes_nothing(home: Household) -> None:
    contact = customer(home)
    for _ in range(3):
        home.say(told("08:00", contact_id=contact))
        home.settle()

    assert len(timeline(home, contact)) == 1


def test_a_message_that_two_events_name_differently_is_one_as_soon_as_a_third_names_both(home: Household) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.say({"kirim_id": "msg_1", "status": "read"}, {"kirim_id": "msg_1", "id": "wamid.1"})
    home.settle()

    (entry,) = timeline(home, contact)
    assert entry.status is MessageStatus.READ


def test_whose_a_message_is_may_be_told_by_its_number_alone(home: Household) -> None:
    contact = customer(home)
    home.say(told("08:00"))
    home.settle()

    assert len(timeline(home, contact)) == 1


def test_a_message_waits_for_the_record_of_its_contact(home: Household) -> None:
    contact = home.add(name="Ana", phone=PHONE)
    home.say(told("08:00", contact_id=contact))
    home.observe("kirim")
    later(home, 10)
    home.log()
    assert not [record for record in home.crm.records() if record.external_id == contact]

    home.settle()
    assert len(timeline(home, contact)) == 1


def test_a_message_of_nobody_ends_as_a_dead_letter_that_can_be_tried_again(home: Household) -> None:
    home.say(told("08:00", text="a secret"))
    home.settle(rounds=500)
    (letter,) = letters(home)
    assert (letter["form"], letter["reason"], letter["about"]) == ("entry", Reason.UNANSWERED, "message")
    (shown,) = home.database.read(lambda tx: dead.show(tx, letter["id"], unmask=False))
    assert "secret" not in str(shown)
    assert "number" in shown["error"]

    contact = customer(home)
    assert dead.act(home.database, Action.RETRY, [letter["id"]], home.clock).done == 1
    home.settle()
    assert len(timeline(home, contact)) == 1
    assert letters(home) == []


def test_what_is_dropped_is_shown_no_more_and_not_logged(home: Household) -> None:
    home.say(told("08:00"))
    home.settle(rounds=500)
    (letter,) = letters(home)
    assert dead.act(home.database, Action.DROP, [letter["id"]], home.clock).done == 1
    assert letters(home) == []
    contact = customer(home)
    home.settle()

    assert timeline(home, contact) == []
    assert dead.act(home.database, Action.DROP, [letter["id"]], home.clock).left == {letter["id"]: "done"}


def test_an_entry_that_ends_the_process_each_time_is_given_up(home: Household) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.observe("kirim")
    for _ in range(ATTEMPTS):
        later(home, 10)
        home.fence_breaks = 1
        home.turn(lanes.Work.LOG, "crm")
    home.settle()

    assert [letter["reason"] for letter in letters(home)] == [Reason.EXHAUSTED]
    assert len(timeline(home, contact)) == 1


def test_an_entry_that_was_there_when_others_ended_the_process_is_not_given_up(home: Household) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.observe("kirim")
    later(home, 10)
    for _ in range(3 * ATTEMPTS):
        home.fence_breaks = 1
        home.turn(lanes.Work.LOG, "crm")
        later(home, 0.5)
    later(home, 60)
    home.fence_breaks = 0
    home.settle()

    assert letters(home) == []
    assert len(timeline(home, contact)) == 1


def test_an_entry_that_ends_the_process_takes_no_others_with_it(home: Household) -> None:
    class Killed(BaseException):
        """The process is no more."""

    contact = customer(home)
    said = [told("08:00", id=f"wamid.{number}", text=f"text {number}", contact_id=contact) for number in range(9)]
    home.say(*said)
    home.observe("kirim")
    connector = home.tenant.connections["crm"].connector
    log, starts = connector.log, 0

    def deadly(activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        nonlocal starts
        if any(activity.key == "wamid.4" for activity in activities):
            starts += 1
            raise Killed
        return log(activities)

    connector.log = deadly  # type: ignore[method-assign]
    for _ in range(3 * ATTEMPTS):
        later(home, 10)
        with contextlib.suppress(Killed):
            home.turn(lanes.Work.LOG, "crm")

    assert [letter["reason"] for letter in letters(home)] == [Reason.EXHAUSTED]
    assert len(timeline(home, contact)) == 8
    assert starts == ATTEMPTS


@pytest.mark.parametrize("log", [Log.DIGEST])
def test_a_day_of_a_conversation_is_one_entry_that_grows_in_place(home: Household) -> None:
    contact = customer(home)
    for number, at in enumerate(["08:02", "08:00", "23:59"]):
        home.say(told(at, id=f"wamid.{number}", text=f"text {number}", contact_id=contact, conversation_id="cnv_1"))
        home.settle()
    (entry,) = timeline(home, contact)
    assert [entry.text.index(f"text {number}") for number in (1, 0, 2)] == sorted(
        entry.text.index(f"text {number}") for number in range(3)
    )

    home.say(
        {**told("08:00", id="wamid.9", contact_id=contact, conversation_id="cnv_1"), "at": "2026-03-02T00:00:00+00:00"}
    )
    home.settle()
    assert len(timeline(home, contact)) == 2


@pytest.mark.parametrize("log", [Log.DIGEST])
def test_a_message_whose_conversation_is_told_later_moves_into_its_digest(home: Household) -> None:
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.say({"id": "wamid.1", "conversation_id": "cnv_1"})
    home.settle()

    assert len([entry for entry in timeline(home, contact) if "Ada, kak" in entry.text]) == 1


def test_without_bodies_nothing_of_what_was_said_is_kept_or_logged(database: Database) -> None:
    home = Household(database, messages=Logging(Log.EACH, UTC, bodies=False))
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.settle()

    (entry,) = timeline(home, contact)
    assert "Ada" not in entry.text


def test_where_nobody_logs_messages_end_as_not_mapped(database: Database) -> None:
    home = Household(database)
    contact = customer(home)
    home.say(told("08:00", contact_id=contact))
    home.settle()

    assert timeline(home, contact) == []
    assert letters(home) == []


def test_however_long_a_message_waited_it_follows_soon_after_the_record_of_its_contact(home: Household) -> None:
    contact = home.add(name="Ana", phone=PHONE)
    home.say(told("08:00", contact_id=contact))
    home.observe("kirim")
    for _ in range(60):  # a minute in which nothing else gets done
        later(home, 1)
        home.log()
    home.sync()
    home.arrive_all()
    home.observe("kirim")
    home.sync()
    later(home, 16)
    home.log()

    assert len(timeline(home, contact)) == 1
