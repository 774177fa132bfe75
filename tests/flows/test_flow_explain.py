"""`explain` says what is so, and why, from the same rows that the work leaves behind."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta

import orjson
import pytest
from support.household import RULES, Crm, Household, reowned

from crmsync.core.mapping import Owner
from crmsync.flows.explain import FieldStory, PairStory, explain
from crmsync.model import Kind
from crmsync.store.database import Database
from crmsync.store.records import KIRIM
from crmsync.testing.memory import Respelling


@pytest.fixture
def home(database: Database) -> Household:
    return Household(database, crms={"crm": Crm(spelling=Respelling(cut_at=12))})


def story(home: Household, id: str, field: str | None = None) -> PairStory:
    rules = {name: connection.rules[Kind.CONTACT] for name, connection in home.tenant.connections.items()}
    (told,) = home.database.read(lambda tx: explain(tx, "acme", id, rules, field))
    return told


def told(home: Household, id: str, field: str) -> FieldStory:
    (found,) = story(home, id, field).fields
    return found


def test_a_contact_that_was_never_seen_has_no_story(home: Household) -> None:
    assert home.database.read(lambda tx: explain(tx, "acme", "nobody", {"crm": RULES})) == []


def test_a_field_that_was_written_says_by_whom_and_why(home: Household) -> None:
    id = home.add(company="Acme")
    home.settle()
    field = told(home, id, "company")

    assert (field.kirim, field.crm, field.agreed, field.owner) == ("Acme", "Acme", True, "kirim")
    assert "crm was changed from nothing to “Acme”" in field.entries[-1].sentence
    assert "contact.created" in field.entries[-1].sentence


def test_what_the_crm_cut_is_agreed_until_someone_changes_it(home: Household) -> None:
    id = home.add(company="a very long company name")
    home.settle()
    assert told(home, id, "company").agreed
    assert "keeps another value" in told(home, id, "company").entries[-1].note

    home.clock.advance(timedelta(seconds=1))
    home.crm.edit(home.row(id).crm_id, {"company": "drifted"})
    home.arrive_all()
    home.observe("crm")
    assert not told(home, id, "company").agreed
    assert story(home, id).due
    home.settle()
    assert told(home, id, "company").agreed
    assert "had changed it" in told(home, id, "company").entries[-1].sentence


def test_the_side_that_takes_no_writes_is_named(home: Household) -> None:
    """Kirim owns the number, has none, and lets nobody set it."""
    id = home.add(name="Ana")
    home.crm.add(id, {"phone": "+6285117600829"})
    home.settle()
    field = told(home, id, "phone")

    assert not field.agreed
    assert "Kirim was left at nothing, because Kirim does not let this field be written" in field.entries[-1].sentence


def test_a_refusal_and_a_parked_pair_say_so(database: Database) -> None:
    home = Household(database, crms={"crm": Crm(partial_rows=False)})
    home.crm.refuse("company", "bad")
    id = home.add(company="bad")
    home.settle()

    assert story(home, id).error
    assert not story(home, id).due
    assert "crm did not take “bad”" in told(home, id, "company").entries[-1].sentence
    assert not told(home, id, "company").agreed


def test_a_conflict_names_the_value_that_lost(home: Household) -> None:
    id = home.add(company="a")
    home.settle()
    home.clock.advance(timedelta(seconds=1))
    home.kirim.edit(id, {"company": "ours"})
    home.crm.edit(home.row(id).crm_id, {"company": "theirs"})
    home.settle()

    assert "The competing value was “theirs”" in told(home, id, "company").entries[-1].sentence


def test_other_connections_are_told_apart(database: Database) -> None:
    short = replace(RULES, fields=RULES.fields[:1])
    home = Household(database, crms={"one": Crm(), "two": Crm()}, rules={"one": RULES, "two": short})
    id = home.add(phone="+6285117600829")
    home.settle()
    rules = {"one": RULES, "two": short}
    stories = home.database.read(lambda tx: explain(tx, "acme", id, rules))

    assert [(one.connection, len(one.fields)) for one in stories] == [("one", 6), ("two", 1)]
    assert all(entry.side == "crm" for one in stories for field in one.fields for entry in field.entries)
    assert home.view(KIRIM, id) is not None


def test_the_chain_goes_from_an_event_over_its_echo_to_a_persons_edit_and_what_became_of_it(home: Household) -> None:
    id = home.add(company="Acme")
    home.settle()
    home.clock.advance(timedelta(minutes=1))
    home.kirim.edit(id, {"company": "Globex"})
    changed = home.clock()
    home.clock.advance(timedelta(seconds=2))
    home.settle()
    home.clock.advance(timedelta(minutes=1))
    home.crm.edit(home.row(id).crm_id, {"company": "by hand"})
    home.clock.advance(timedelta(seconds=3))
    home.settle()

    made, written, restored = told(home, id, "company").entries
    assert (made.rule, made.outcome) == ("created", "written")
    assert (written.rule, written.old, written.new, written.changed_at) == (
        "owner_changed",
        "Acme",
        "Globex",
        changed,
    )
    assert (written.learned.endpoint, written.learned.event) == (KIRIM, "contact.updated")
    assert written.learned.received_at == changed + timedelta(seconds=2)
    assert written.echo is not None
    assert written.echo.learned.endpoint == "crm"
    for words in (
        "Kirim owns the field and changed it",
        f"Kirim changed it at {changed:%Y-%m-%d %H:%M:%S}",
        "contact.up",
    ):
        assert words in written.sentence
    assert "crm accepted it and told it back at" in written.sentence
    assert (restored.rule, restored.competing, restored.new) == ("restored", "by hand", "Globex")
    assert "The competing value was “by hand”" in restored.sentence
    assert "crm changed it at" in restored.sentence
    assert restored.echo is not None
    document = orjson.loads(orjson.dumps(asdict(story(home, id))))
    chain = next(field for field in document["fields"] if field["field"] == "company")["entries"]
    assert [(link["rule"], link["echo"] is not None) for link in chain] == [
        ("created", True),
        ("owner_changed", True),
        ("restored", True),
    ]


def test_a_write_whose_echo_is_still_to_come_says_so_and_many_echoes_are_told_once(home: Household) -> None:
    id = home.add(company="Acme")
    home.arrive_all()
    home.observe(KIRIM)
    home.sync()
    assert "has not told it back yet" in told(home, id, "company").entries[-1].sentence
    home.collect()
    home.wire = [(source, body + b" " * n) for source, body in home.wire for n in range(3)]
    home.settle()

    assert len([entry for entry in home.history(id) if entry.outcome == "echoed"]) == 1


@pytest.mark.parametrize("owner", [Owner.LATEST, Owner.UNION])
def test_fields_that_nobody_owns_for_good_are_told_in_words_of_their_own(database: Database, owner: Owner) -> None:
    home = Household(database, rules=reowned(RULES, tags=owner))
    id = home.add(tags=("a",))
    home.settle()
    home.clock.advance(timedelta(seconds=1))
    home.crm.edit(home.row(id).crm_id, {"tags": ("a", "b")})
    home.settle()

    sentence = told(home, id, "tags").entries[-1].sentence
    words = {Owner.LATEST: "whoever changes the field last", Owner.UNION: "either side adds"}[owner]
    assert words in sentence
    assert "Kirim was changed from a to a, b" in sentence


def test_a_frozen_field_is_told_as_such(home: Household) -> None:
    id = home.add(company="Acme")
    home.settle()
    for _ in range(6):
        home.clock.advance(timedelta(seconds=5))
        home.crm.edit(home.row(id).crm_id, {"company": "fight"})
        home.settle()

    field = told(home, id, "company")
    assert (field.frozen, field.agreed) == (True, False)
    assert "frozen from here on" in field.entries[-1].sentence
