"""Values that are hard to keep, through daemon and HubSpot: they arrive, or `explain` says what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon_town import known, record_of, town
from test_end_to_end import Town

from crmsync.core.canonical import storable, text

CONTACTS = """
fields:
  phone_number: phone
  name: { crm: firstname, owner: crm }
  metadata.note: { crm: city, owner: kirim }
  metadata.tier: { crm: tier, owner: kirim, type: choice }
  metadata.mapped: { crm: mapped, owner: kirim, type: choice, map: { gold: GOLD } }
"""
NASTY = [
    "👨‍👩‍👧‍👦 Keluarga Ana 🇮🇩",
    "مرحبا بالعالم",
    "Ana \u202eمرحبا\u202c Lee",
    "An\0a",
    "x" * 10_000,
    "00123",
    "<b>&amp;</b>",
    "one\r\ntwo\u2028three",
]


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[Town]:
    with town(sqlite_url, tmp_path / "config", CONTACTS) as found:
        found.hubspot.properties.define("tier", type="enumeration", options=("gold", "silver"))
        found.hubspot.properties.define("mapped", type="enumeration", options=("GOLD",))
        yield found


def entries(house: Town, contact: str, field: str) -> list[dict[str, Any]]:
    told = house.run("explain", contact, "--field", field, "--json")
    assert told.returncode == 0, told.stderr
    (found,) = json.loads(told.stdout)["connections"][0]["fields"]
    return list(found["entries"])


def test_nasty_texts_arrive_on_both_sides_or_are_told(house: Town) -> None:
    house.start()
    contacts = {}
    for number, value in enumerate(NASTY):
        contact = house.kirim.create_contact(f"+62811111{number:04}", name="before", metadata={"note": value})
        contacts[contact] = value
    house.await_that(lambda: all(known(house.hubspot, contact) for contact in contacts))
    for contact, value in contacts.items():
        clean = text(storable({"": value})[""])
        house.await_that(
            lambda contact=contact, clean=clean: house.hubspot.get(record_of(house, contact)).get("city") == clean  # type: ignore[misc]
        )
        assert house.kirim.get(contact)["metadata"]["note"] == value
        house.hubspot.edit(record_of(house, contact), firstname=clean)
    for contact, value in contacts.items():
        clean = text(storable({"": value})[""])
        house.await_that(lambda contact=contact, clean=clean: house.kirim.get(contact)["name"] == clean)  # type: ignore[misc]
        outcomes = [entry["outcome"] for entry in entries(house, contact, "metadata.note")]
        assert outcomes == ["written"]


def test_words_that_a_picklist_does_not_have_are_refused_or_left_and_told(house: Town) -> None:
    house.start()
    contact = house.kirim.create_contact("+628111111111", name="Ana", metadata={"tier": "wood", "mapped": "wood"})
    house.await_that(lambda: known(house.hubspot, contact))
    house.await_that(lambda: bool(entries(house, contact, "metadata.tier")))

    assert [entry["outcome"] for entry in entries(house, contact, "metadata.tier")] == ["refused"]
    assert [(entry["outcome"], entry["rule"]) for entry in entries(house, contact, "metadata.mapped")] == [
        ("left", "unmapped")
    ]
    house.kirim.edit_contact(contact, metadata={"tier": "gold", "mapped": "gold"})
    house.await_that(lambda: house.hubspot.get(record_of(house, contact)).get("tier") == "gold")
    house.await_that(lambda: house.hubspot.get(record_of(house, contact)).get("mapped") == "GOLD")
