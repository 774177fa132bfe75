"""Dead letters: they are all in one list, say why and what to do, and can be tried again or dropped."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import orjson
import pytest
from support.household import Crm, Household

from crmsync.core.retry import ATTEMPTS
from crmsync.core.trouble import Reason
from crmsync.errors import Retry
from crmsync.flows import dead
from crmsync.flows.dead import Action, Outcome
from crmsync.model import Kind
from crmsync.store import history, pairs, records, stale
from crmsync.store.database import Database
from crmsync.store.dead import Wanted
from crmsync.store.records import KIRIM

BAD = "nobody@wrong.example"


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database)


def listed(home: Household, **wanted: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = home.database.read(lambda tx: dead.overview(tx, Wanted(**wanted), 100))["dead"]
    return found


def ids(home: Household, **wanted: Any) -> list[str]:
    return [letter["id"] for letter in listed(home, **wanted)]


def shown(home: Household, name: str, *, unmask: bool = False) -> dict[str, Any]:
    (letter,) = home.database.read(lambda tx: dead.show(tx, name, unmask=unmask))
    return letter


def act(home: Household, action: Action, *names: str, force: bool = False) -> Outcome:
    return dead.act(home.database, action, names, home.clock, force=force)


def retry(home: Household, *names: str, force: bool = False) -> Outcome:
    return act(home, Action.RETRY, *names, force=force)


def refused(home: Household, **fields: Any) -> str:
    """A contact whose e-mail address the CRM refuses, and with it the whole record."""
    home.crm.partial_rows = False
    home.crm.refuse("company", BAD)
    id = home.add(name="Ana", company=BAD, **fields)
    home.settle()
    return id


def said(home: Household, key: str, id: str, **fields: Any) -> bytes:
    """A delivery that states a record."""
    at = home.clock().isoformat()
    return orjson.dumps(
        {"changes": [{"key": key, "type": "contact.changed", "id": id, "at": at, "version": at, "fields": fields}]}
    )


def test_what_cannot_be_understood_is_listed_with_its_reason_and_advice(home: Household) -> None:
    home.arrive("crm", b'{"phone": "+62 812 3456 7890", "event": "odd", "id": "x1"}')
    home.observe("crm")
    (letter,) = listed(home)

    assert (letter["form"], letter["reason"], letter["place"]) == ("delivery", "no changes", "crm")
    told = shown(home, letter["id"])
    assert told["payload"] == {"phone": "‹17 characters›", "event": "odd", "id": "x1"}
    assert "--unmask" in told["advice"]
    assert shown(home, letter["id"], unmask=True)["payload"]["phone"] == "+62 812 3456 7890"


def test_a_refused_pair_shows_what_was_sent_and_answered_without_values(home: Household) -> None:
    id = refused(home)
    (letter,) = listed(home)

    assert (letter["form"], letter["reason"], letter["id"]) == ("pair", "refused", f"pair/acme/crm/contact/{id}")
    told = shown(home, letter["id"])
    assert told["requests"][0]["to"] == "crm"
    assert "company" in told["requests"][0]["fields_sent"]
    assert told["requests"][0]["answer"].startswith("memory answered 4")
    assert BAD not in orjson.dumps(told).decode()
    assert shown(home, id, unmask=True)["payload"][KIRIM]["company"] == BAD


def test_a_refused_write_is_sent_once_for_each_version_of_it(home: Household) -> None:
    """Whatever else makes the pair due: the same request is not sent again, a new one is."""
    id = refused(home)
    sent = len(home.crm.calls)
    for _ in range(5):
        home.look_again()
        home.settle()
    assert len(home.crm.calls) == sent
    assert ids(home) == [f"pair/acme/crm/contact/{id}"]

    home.kirim.edit(id, {"company": "Toko Ana"})
    home.settle()
    assert home.partner(id).fields["company"] == "Toko Ana"
    assert ids(home) == []


def test_trying_a_refused_pair_again_sends_it_again(home: Household) -> None:
    id = refused(home)
    home.crm._refuses.clear()  # the administrator changed the account
    outcome = retry(home, f"pair/acme/crm/contact/{id}")
    assert (outcome.done, outcome.left, outcome.unknown) == (1, {}, [])
    home.settle()

    assert home.partner(id).fields["company"] == BAD
    assert ids(home) == []


def test_a_field_that_was_refused_alone_stays_listed_until_it_is_tried_again(database: Database) -> None:
    """Its note keeps it from being sent; a glance at the pair must not make it look fine."""
    home = Household(database, crms={"crm": Crm(partial_rows=False)})
    id = home.add(name="Ana", company="Toko")
    home.settle()
    home.crm.refuse("company", BAD)
    home.kirim.edit(id, {"company": BAD})
    home.settle()
    assert ids(home) == [f"pair/acme/crm/contact/{id}"]
    home.look_again()
    home.settle()
    assert ids(home) == [f"pair/acme/crm/contact/{id}"]

    home.crm._refuses.clear()
    retry(home, id)
    home.settle()
    assert (ids(home), home.partner(id).fields["company"]) == ([], BAD)


def test_trying_again_twice_does_it_once_and_says_so(home: Household) -> None:
    id = refused(home)
    name = f"pair/acme/crm/contact/{id}"
    assert retry(home, name).done == 1
    assert retry(home, name).left == {name: "pending"}
    home.crm._refuses.clear()
    home.settle()

    assert retry(home, name).left == {name: "done"}
    assert retry(home, "pair/acme/crm/contact/nobody", "delivery/99", "nonsense").unknown == [
        "pair/acme/crm/contact/nobody",
        "delivery/99",
        "nonsense",
    ]


def test_what_is_dropped_is_shown_no_more_and_noted(home: Household) -> None:
    id = refused(home)
    home.arrive("crm", b"nonsense")
    home.observe("crm")
    names = sorted(ids(home))
    assert act(home, Action.DROP, *names).done == 2
    assert ids(home) == []
    assert act(home, Action.DROP, *names).left == dict.fromkeys(names, "dropped")

    home.look_again()
    home.settle()
    assert ids(home) == []
    notes = home.history(id) + home.database.read(lambda tx: history.of(tx, "acme", names[0]))
    found = [(entry.outcome, entry.rule, entry.note) for entry in notes if entry.rule == "operator"]
    assert sorted(found) == [("dropped", "operator", "no changes"), ("dropped", "operator", "refused")]


def test_a_dropped_pair_is_tried_anew_with_its_next_version(home: Household) -> None:
    id = refused(home)
    act(home, Action.DROP, id)
    home.kirim.edit(id, {"company": "Toko Ana"})
    home.settle()

    assert home.partner(id).fields["company"] == "Toko Ana"


def test_a_delivery_tried_again_has_an_effect_although_its_items_are_known(home: Household) -> None:
    """The view was damaged, or the mapping changed: only a replay can put it right."""
    home.arrive("crm", said(home, "k1", "c9", name="Ana"))
    home.observe("crm")
    table = records._view
    home.database.write(lambda tx: tx.execute(table.delete().where(table.c.id == "c9")) and None)
    assert retry(home, "delivery/1").left == {"delivery/1": "done"}
    home.observe("crm")
    assert home.view("crm", "c9") is None

    assert retry(home, "delivery/1", force=True).done == 1
    home.observe("crm")
    assert home.view("crm", "c9").fields == {"name": "Ana"}


def test_a_broken_item_is_tried_again_with_what_it_came_in(home: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmsync.flows.observe.BROKEN", frozenset({"unreadable"}))
    body = said(home, "k1", "c9", name="Ana").replace(b'"contact.changed"', b"17")
    home.arrive("crm", body)
    home.observe("crm")
    (letter,) = listed(home)
    assert (letter["form"], letter["reason"]) == ("item", "unreadable")

    monkeypatch.setattr("crmsync.flows.observe.BROKEN", frozenset())  # a newer version understands it
    assert retry(home, letter["id"]).done == 1
    assert retry(home, letter["id"]).left == {letter["id"]: "again"}
    home.observe("crm")
    assert ids(home) == []


def test_a_record_that_cannot_be_read_is_given_up_shown_and_read_again_on_demand(home: Household) -> None:
    id = home.add(name="Ana")
    home.settle()

    def broken(*arguments: Any) -> Any:
        raise Retry("KIRIM answered 500")

    home.tenant.kirim.fetch = broken  # type: ignore[method-assign]
    home.database.write(lambda tx: records.mark_stale(tx, "acme", KIRIM, Kind.CONTACT, {id: "test"}, home.clock()))
    turns = 0
    while not ids(home):
        turns += 1
        assert turns < 200
        with contextlib.suppress(Retry):
            home.reread(KIRIM)
        home.clock.advance(timedelta(minutes=16))
    (letter,) = listed(home)
    assert (letter["form"], letter["reason"]) == ("reading", Reason.UNANSWERED)
    assert "500" in letter["error"]

    del home.tenant.kirim.fetch  # type: ignore[method-assign]
    retry(home, letter["id"])
    home.settle()
    assert (ids(home), home.stale(KIRIM)) == ([], {})


@pytest.mark.parametrize("innocents", [1, 30])
def test_a_reading_that_ends_the_process_is_dead_after_its_starts_and_takes_no_other_with_it(
    home: Household, innocents: int
) -> None:
    class Killed(BaseException):
        """The process is no more."""

    poison, *others = [home.add(name=f"n{number}") for number in range(innocents + 1)]
    home.settle()
    fetch, starts = home.tenant.kirim.fetch, 0

    def deadly(kind: Kind, refs: Any) -> Any:
        nonlocal starts
        if any(ref.id == poison for ref in refs):
            starts += 1
            raise Killed
        return fetch(kind, refs)

    home.tenant.kirim.fetch = deadly  # type: ignore[method-assign]
    now = home.clock()
    causes = dict.fromkeys([poison, *others], "test")
    home.database.write(lambda tx: records.mark_stale(tx, "acme", KIRIM, Kind.CONTACT, causes, now))
    for _ in range(60):
        with contextlib.suppress(Killed):
            home.reread(KIRIM)
        home.clock.advance(timedelta(seconds=2))

    assert [letter["reason"] for letter in listed(home)] == [Reason.EXHAUSTED]
    assert ids(home) == [f"reading/acme/kirim/contact/{poison}"]
    assert starts == ATTEMPTS
    assert list(home.stale(KIRIM)) == [poison]


@pytest.mark.parametrize("innocents", [1, 30])
def test_a_pair_that_ends_the_process_is_parked_after_its_starts_and_takes_no_other_with_it(
    home: Household, innocents: int
) -> None:
    class Killed(BaseException):
        """The process is no more."""

    poison, *others = [home.add(name=f"n{number}") for number in range(innocents + 1)]
    home.arrive_all()
    home.observe(KIRIM)
    connector = home.tenant.connections["crm"].connector
    fetch, starts = connector.fetch, 0

    def deadly(kind: Kind, refs: Any) -> Any:
        nonlocal starts
        if any(ref.external_id == poison for ref in refs):
            starts += 1
            raise Killed
        return fetch(kind, refs)

    connector.fetch = deadly  # type: ignore[method-assign]
    for _ in range(80):
        with contextlib.suppress(Killed):
            home.sync()
        home.clock.advance(timedelta(seconds=2))

    assert ids(home) == [f"pair/acme/crm/contact/{poison}"]
    assert listed(home)[0]["reason"] == Reason.EXHAUSTED
    assert starts == ATTEMPTS
    assert all(home.partner(id) for id in others)


def test_letters_are_chosen_by_tenant_place_reason_and_time(home: Household) -> None:
    home.arrive("crm", b"nonsense")
    home.observe("crm")
    old = home.clock()
    home.clock.advance(timedelta(hours=1))
    id = refused(home)

    assert ids(home, reason="refused") == [f"pair/acme/crm/contact/{id}"]
    assert ids(home, since=old + timedelta(minutes=1)) == [f"pair/acme/crm/contact/{id}"]
    assert ids(home, place="kirim") == ids(home, tenant="another") == []
    assert len(ids(home, tenant="acme", place="crm")) == 2
    counted = home.database.read(lambda tx: dead.overview(tx, Wanted(), 1))
    assert (counted["total"], len(counted["dead"])) == (2, 1)


def test_what_is_marked_stale_anew_is_read_although_it_was_given_up(home: Household) -> None:
    id = home.add(name="Ana")
    home.settle()
    now = home.clock()
    home.database.write(lambda tx: records.mark_stale(tx, "acme", KIRIM, Kind.CONTACT, {id: "one"}, now))
    taken = home.database.write(lambda tx: stale.take(tx, "acme", KIRIM, 10, now, together=3, alone=1))
    home.database.write(lambda tx: stale.give_up(tx, "acme", KIRIM, taken, Reason.UNANSWERED, "500"))
    assert len(ids(home)) == 1
    home.database.write(lambda tx: records.mark_stale(tx, "acme", KIRIM, Kind.CONTACT, {id: "two"}, now))

    assert ids(home) == []
    home.settle()
    assert home.stale(KIRIM) == {}


def test_a_pair_that_agrees_is_tried_again_only_by_force(home: Household) -> None:
    id = home.add(name="Ana")
    home.settle()
    name = f"pair/acme/crm/contact/{id}"

    assert retry(home, name).left == {name: "done"}
    assert retry(home, name, force=True).done == 1
    assert list(home.due()) == [id]
    assert [pair.kirim_id for pair in home.database.write(lambda tx: pairs.take(tx, "acme", "crm", 9, home.clock()))]
