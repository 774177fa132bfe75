"""A contact without a name is called by its number in HubSpot, and has no name for whoever reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from support.hubspot_spec import checked_hubspot

from connectors.hubspot import HubSpot
from connectors.hubspot.stand_in import EMPTY, is_stand_in
from crmsync.connector import Surroundings
from crmsync.http import Unlimited
from crmsync.model import Fields, Kind, Record, Ref, Write
from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.testing.loopback import LOOPBACK

TOKEN = "pat-eu1-sandbox"
KEY = "kirim_contact_id"
NUMBER = "+6281112345678"
UPSERT = "POST /crm/v3/objects/contacts/batch/upsert"
UPDATE = "POST /crm/v3/objects/contacts/batch/update"
READ = "POST /crm/v3/objects/contacts/batch/read"


@pytest.fixture
def account() -> Iterator[HubSpotEmulator]:
    with checked_hubspot(token=TOKEN) as emulator:
        emulator.properties.define(KEY, unique=True)
        yield emulator


def connect(account: HubSpotEmulator, *wanted: str) -> HubSpot:
    settings = HubSpot.Settings.model_validate({"access_token": TOKEN, "base_url": account.url})
    fields = {Kind.CONTACT: frozenset(wanted)}
    around = Surroundings("acme", "hubspot", "https://x", Unlimited(), fields, reach=LOOPBACK)
    return HubSpot(settings, around)


@pytest.fixture
def hubspot(account: HubSpotEmulator) -> Iterator[HubSpot]:
    """Asked for the first name and nothing by which to tell what it is."""
    connector = connect(account, "firstname")
    yield connector
    connector.close()


def upsert(hubspot: HubSpot, fields: Fields, id: str | None = None) -> Record:
    (outcome,) = hubspot.upsert(Kind.CONTACT, [Write("ctc_1", fields, id)])
    return outcome.record  # type: ignore[union-attr, return-value]


def fetch(hubspot: HubSpot) -> Fields:
    (record,) = hubspot.fetch(Kind.CONTACT, [Ref(external_id="ctc_1")])
    assert record is not None
    return record.fields


def test_a_contact_with_a_number_only_has_no_name_until_it_gets_one(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    made = upsert(hubspot, {"phone": NUMBER})

    assert account.get(made.id)["firstname"] == NUMBER
    assert made.fields == fetch(hubspot) == {"firstname": None}

    named = upsert(hubspot, {"firstname": "Ana"}, made.id)
    assert account.get(made.id)["firstname"] == "Ana"
    assert named.fields == fetch(hubspot) == {"firstname": "Ana"}


def test_the_external_id_is_no_name_either(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    made = upsert(hubspot, {"company": "Acme"})

    assert account.get(made.id)["firstname"] == "ctc_1"
    assert made.fields == fetch(hubspot) == {"firstname": None}


def test_a_number_that_hubspot_sets_in_another_way_is_still_recognised(
    account: HubSpotEmulator, hubspot: HubSpot
) -> None:
    account.behaviour.respelling.reformat_phone = True
    made = upsert(hubspot, {"mobilephone": NUMBER})

    assert account.get(made.id)["mobilephone"] != account.get(made.id)["firstname"]
    assert fetch(hubspot) == {"firstname": None}


def test_searching_finds_no_name_either(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    account.create_contact(firstname=NUMBER, phone=NUMBER, company="Acme")
    found = hubspot.find(Kind.CONTACT, "company", ["Acme"])
    page = hubspot.changed(Kind.CONTACT, None)

    assert [record.fields for record in (*found["Acme"], *page.records)] == [{"firstname": None}] * 2


def test_what_is_asked_for_to_tell_a_name_is_not_handed_out(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    account.create_contact(firstname="Ana", lastname="Lim", phone=NUMBER, kirim_contact_id="ctc_1")

    assert fetch(hubspot) == {"firstname": "Ana"}


def test_without_the_first_name_in_the_mapping_nothing_more_is_asked_for(account: HubSpotEmulator) -> None:
    hubspot = connect(account, "phone")
    asked: list[Any] = []
    account.on_exchange.append(lambda exchange: asked.append(exchange.call))
    hubspot.fetch(Kind.CONTACT, [Ref(id="1")])
    hubspot.close()

    (read,) = [call.json() for call in asked if f"{call.method} {call.path}" == READ]
    assert read["properties"] == ["hs_merged_object_ids", KEY, "lastmodifieddate", "phone"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"firstname": NUMBER, "phone": NUMBER}, True),
        ({"firstname": NUMBER, "phone": "+62 (811) 1234-5678"}, True),
        ({"firstname": "+62 811 1234 5678", "hs_whatsapp_phone_number": NUMBER}, True),
        ({"firstname": "+62811 ext. 7", "phone": "+62811 ext. 7"}, True),
        ({"firstname": "ctc_1"}, True),
        ({"firstname": NUMBER, "phone": NUMBER, "lastname": "Lim"}, False),
        ({"firstname": NUMBER, "phone": "+628"}, False),
        ({"firstname": NUMBER}, False),
        ({"firstname": f"Ana {NUMBER}", "phone": NUMBER}, False),
        ({"firstname": "Ana", "phone": None}, False),
        ({"firstname": "-", "phone": "+"}, False),
        ({"firstname": "ctc_2"}, False),
        ({"firstname": None, "phone": None}, False),
        ({}, False),
    ],
)
def test_a_stand_in_is_the_records_own_number_or_key_and_nothing_else(
    fields: dict[str, str | None], expected: bool
) -> None:
    assert is_stand_in({**EMPTY, KEY: "ctc_1", **fields}, KEY) is expected


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"firstname": "Ana"}, False),
        ({"firstname": "+628"}, None),
        ({"firstname": "+628", "phone": "+628"}, None),
        ({"firstname": "+628", "phone": "+628", "lastname": None}, True),
        ({"firstname": "ctc_1"}, None),
        ({"firstname": "+628", "lastname": "Lim"}, False),
    ],
)
def test_what_is_not_known_is_not_guessed(known: dict[str, str | None], expected: bool | None) -> None:
    assert is_stand_in({KEY: "ctc_1", **known}, KEY) is expected


class Terse(HubSpotEmulator):
    """Answers a write with no more than what was written."""

    def finish(self, call: Call, reply: Reply) -> Reply:
        if not call.path.endswith(("/batch/update", "/batch/upsert")) or not isinstance(reply.body, dict):
            return reply
        sent = {item["objectWriteTraceId"]: item["properties"].keys() for item in call.json()["inputs"]}
        for row in reply.body.get("results", ()):
            kept = sent[row["objectWriteTraceId"]]
            row["properties"] = {name: text for name, text in row["properties"].items() if name in kept}
        return reply


@pytest.fixture
def terse() -> Iterator[HubSpotEmulator]:
    with Terse(token=TOKEN) as emulator:
        emulator.properties.define(KEY, unique=True)
        yield emulator


def test_an_answer_that_says_little_of_a_new_contact_is_completed_by_what_was_sent(terse: HubSpotEmulator) -> None:
    hubspot = connect(terse, "firstname", "phone")
    made = upsert(hubspot, {"phone": NUMBER})
    hubspot.close()

    assert made.fields == {"firstname": None, "phone": NUMBER}


def test_an_update_to_a_name_that_may_be_the_number_is_read_again(terse: HubSpotEmulator) -> None:
    """Else the answer and the next reading would tell different values, and the pair would never come to rest."""
    hubspot = connect(terse, "firstname")
    id = terse.create_contact(firstname="Ana", phone=NUMBER, kirim_contact_id="ctc_1")
    hubspot.fields(Kind.CONTACT)
    terse.calls.clear()

    assert upsert(hubspot, {"firstname": "Bea"}, id).fields == {"firstname": "Bea"}
    assert terse.calls == Counter({UPDATE: 1})
    assert upsert(hubspot, {"firstname": NUMBER}, id).fields == fetch(hubspot) == {"firstname": None}
    assert upsert(hubspot, {"firstname": "12345"}, id).fields == fetch(hubspot) == {"firstname": "12345"}
    hubspot.close()


def test_a_name_of_which_it_cannot_be_told_what_it_is_stays_unknown(terse: HubSpotEmulator) -> None:
    hubspot = connect(terse, "firstname")
    id = terse.create_contact(firstname="Ana", phone=NUMBER, kirim_contact_id="ctc_1")
    hubspot.fields(Kind.CONTACT)
    terse.faults.fail_next(1, Fault.error(503), "/crm/v3/objects/contacts/batch/read")
    record = upsert(hubspot, {"firstname": NUMBER}, id)
    hubspot.close()

    assert record.fields == {}
    assert terse.get(id)["firstname"] == NUMBER
