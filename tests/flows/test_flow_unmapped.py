"""Kirim's users whom the CRM does not know are listed for people, by e-mail where there is one."""

from __future__ import annotations

from typing import Any

import pytest
from support.household import Household, KirimPlatform
from support.relationship import CONTACTS, OURS, THEIRS, Account

from crmsync.core.lens import Assigned, Plain
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.flows import report
from crmsync.flows.unmapped import SHOWN, Assigning
from crmsync.model import CONTACT_LINK, FieldInfo, FieldType, Kind, Person
from crmsync.store import people
from crmsync.store.database import Database
from crmsync.store.records import KIRIM

LENS = Assigned(Plain("handler"), {"usr_boss": "u000009"}, "u000007")
CONVERSATIONS = Rules(
    Kind.CONVERSATION,
    (
        FieldRule("assignee", "handler", Owner.KIRIM, crm_lens=LENS),
        FieldRule(CONTACT_LINK, CONTACT_LINK, Owner.UNION, FieldType.SET, kirim_writable=False),
    ),
)
SEEN = tuple(FieldInfo(name, FieldType.TEXT, writable=False) for name in ("assignee_email", "assignee_name"))


@pytest.fixture
def home(database: Database) -> Household:
    schema = {**OURS, Kind.CONVERSATION: (*OURS[Kind.CONVERSATION], *SEEN)}
    crms = {"crm": Account(schema=THEIRS)}
    return Household(
        database, crms=crms, rules=CONTACTS, kirim=KirimPlatform(schema=schema), conversations=CONVERSATIONS
    )


def assigned(home: Household, user: str, email: str | None = None, name: str | None = None) -> str:
    """A conversation of somebody's; the user that the CRM's record belongs to."""
    fields = {"status": "open", "contact": home.add(name="A customer"), "assignee": user}
    said = {key: value for key, value in (("assignee_email", email), ("assignee_name", name)) if value}
    id = home.kirim.add(f"cnv_{user}", {**fields, **said}, Kind.CONVERSATION)
    home.settle()
    return str(next(one for one in home.crm.records(Kind.CONVERSATION) if one.external_id == id).fields["handler"])


def told(home: Household, *, listed: bool = True) -> list[dict[str, Any]]:
    assigning = [Assigning("acme", "crm", LENS, listed)]
    rows: list[dict[str, Any]] = home.database.read(lambda tx: report.status(tx, home.clock(), assigning=assigning))[
        "unmapped"
    ]
    return rows


def test_whom_neither_the_list_nor_an_e_mail_names_is_told_with_who_has_it_instead(home: Household) -> None:
    ana = home.crm.add_person("Ana@Toko.example", "Ana")
    home.crm.add_person("two@toko.example", "One")
    home.crm.add_person("two@toko.example", "Two")
    owners = [
        assigned(home, "usr_ana", "ana@toko.example", "Ana"),
        assigned(home, "usr_boss", "boss@toko.example"),
        assigned(home, "usr_budi", "budi@toko.example", "Budi"),
        assigned(home, "usr_two", "two@toko.example"),
        assigned(home, "usr_x"),
    ]

    assert owners == [ana, "u000009", "u000007", "u000007", "u000007"]
    assert told(home) == [
        {
            "tenant": "acme",
            "connection": "crm",
            "field": "handler",
            "otherwise": "u000007",
            "count": 3,
            "users": [
                {"id": "usr_budi", "email": "budi@toko.example", "name": "Budi"},
                {"id": "usr_two", "email": "two@toko.example", "name": None},
                {"id": "usr_x", "email": None, "name": None},
            ],
        }
    ]


def test_who_becomes_a_user_of_the_crm_is_told_no_more(home: Household) -> None:
    home.crm.add_person("ana@toko.example", "Ana")
    assigned(home, "usr_budi", "budi@toko.example")
    assert [row["count"] for row in told(home)] == [1]

    home.crm.add_person("budi@toko.example", "Budi")
    home.database.write(lambda tx: people.replace_all(tx, "acme", "crm", home.crm.people(), home.clock()))
    assert told(home) == []


def test_before_the_crm_was_asked_nobody_is_called_unknown(home: Household) -> None:
    """One that lists no users knows those alone who are named by hand."""
    seen = [Person("usr_boss"), Person("usr_budi", "budi@toko.example")]
    home.database.write(lambda tx: people.learn(tx, "acme", KIRIM, seen, home.clock()))

    assert told(home) == []
    assert [row["users"][0]["id"] for row in told(home, listed=False)] == ["usr_budi"]


def test_many_are_counted_and_some_named(home: Household) -> None:
    seen = [Person(f"usr_{number:03}") for number in range(SHOWN + 5)]
    home.database.write(lambda tx: people.learn(tx, "acme", KIRIM, seen, home.clock()))

    (row,) = told(home, listed=False)
    assert (row["count"], len(row["users"])) == (SHOWN + 5, SHOWN)


def test_an_e_mail_that_was_known_is_kept_where_a_later_word_has_none(home: Household) -> None:
    for seen in (Person("usr_1", "ana@toko.example", "Ana"), Person("usr_1")):
        home.database.write(lambda tx, seen=seen: people.learn(tx, "acme", KIRIM, [seen], home.clock()))  # type: ignore[misc]

    (known,) = home.database.read(lambda tx: people.known(tx, "acme", KIRIM)).values()
    assert (known.email, known.name) == ("ana@toko.example", "Ana")
