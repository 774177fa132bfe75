"""Disputes through the real daemon and HubSpot: conflicts are shown and decided, and a fight ends in a freeze."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon_town import known, record_of, town
from test_end_to_end import Town

CONTACTS = """
match: [phone]
fields:
  phone_number: phone
  name: { crm: firstname, owner: crm }
  email: { crm: email, owner: latest }
  metadata.city: { crm: city, owner: kirim }
"""


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[Town]:
    with town(sqlite_url, tmp_path / "config", CONTACTS) as found:
        yield found


def listed(house: Town, *options: str) -> list[dict[str, Any]]:
    told = house.run("conflicts", "acme", "--json", *options)
    assert told.returncode == 0, told.stderr
    return list(json.loads(told.stdout)["conflicts"])


def test_a_conflict_is_shown_and_a_person_has_the_other_value_written(house: Town) -> None:
    record = house.hubspot.create_contact(phone="+628111111111", email="of.hubspot@example.com")
    house.start()
    contact = house.kirim.create_contact("+628111111111", name="Ana", email="of.kirim@example.com")
    house.await_that(lambda: house.hubspot.by_external_id(contact) == [record])
    house.await_that(lambda: house.hubspot.get(record)["email"] == house.kirim.get(contact)["email"])

    (told,) = listed(house, "--unmask")
    assert (told["kirim_id"], told["field"], told["rule"], told["state"]) == (contact, "email", "latest", "open")
    assert (told["kirim"], told["crm"]) == ("of.kirim@example.com", "of.hubspot@example.com")
    assert "example.com" not in house.run("conflicts").stdout
    lost = "crm" if told["won"] == "kirim" else "kirim"

    for _ in range(2):  # the second time nothing is left to do
        said = house.run("conflicts", "keep", contact, "email", "--keep", lost)
        assert said.returncode == 0, said.stderr
        house.await_that(lambda: house.hubspot.get(record)["email"] == told[lost])
        house.await_that(lambda: house.kirim.get(contact)["email"] == told[lost])
    assert listed(house) == []
    assert "operator" in house.run("explain", contact, "--field", "email").stdout
    assert house.run("conflicts", "keep", contact, "name", "--value", "x").returncode == 4


def test_an_automation_in_hubspot_that_fights_us_ends_in_a_freeze(house: Town) -> None:
    house.start()
    contact = house.kirim.create_contact("+628111111111", name="Ana", metadata={"city": "Solo"})
    house.await_that(lambda: known(house.hubspot, contact))
    record = record_of(house, contact)

    def fought() -> bool:
        if house.hubspot.get(record)["city"] != "of the workflow":
            house.hubspot.edit(record, city="of the workflow")
        return bool(listed(house))

    house.await_that(fought)
    (told,) = listed(house, "--unmask")
    assert (told["field"], told["state"], told["kirim"]) == ("metadata.city", "frozen", "Solo")
    assert [stroke["new"] for stroke in told["sequence"]] == ["Solo"] * 5
    house.hubspot.edit(record, city="of the workflow", firstname="Ani")
    house.await_that(lambda: house.kirim.get(contact)["name"] == "Ani")
    assert house.hubspot.get(record)["city"] == "of the workflow"
    assert "frozen" in house.run("explain", contact, "--field", "metadata.city").stdout
    assert "1 frozen" in house.run("status").stdout

    assert house.run("conflicts", "thaw", contact, "metadata.city").returncode == 0
    house.await_that(lambda: house.hubspot.get(record)["city"] == "Solo")
    assert listed(house) == []
