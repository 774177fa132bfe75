"""Records that are deleted, restored and merged in HubSpot, through the real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemon_town import known, record_of, town
from test_end_to_end import Town

CONTACTS = """
on_crm_delete: {policy}
fields:
  phone_number: phone
  name: {{ crm: firstname, owner: crm }}
  metadata.city: {{ crm: city, owner: kirim }}
"""


@pytest.fixture
def policy() -> str:
    return "unlink"


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path, policy: str) -> Iterator[Town]:
    with town(sqlite_url, tmp_path / "config", CONTACTS.format(policy=policy)) as found:
        yield found


def begin(house: Town) -> tuple[str, str]:
    house.start()
    contact = house.kirim.create_contact("+628111111111", name="Ana", metadata={"city": "Solo"})
    house.await_that(lambda: known(house.hubspot, contact))
    return contact, record_of(house, contact)


def story(house: Town, contact: str) -> dict[str, Any]:
    (told,) = json.loads(house.run("explain", contact, "--json").stdout)["connections"]
    return dict(told)


def test_a_record_deleted_in_hubspot_is_not_made_again_and_linked_again_when_it_is_restored(house: Town) -> None:
    contact, record = begin(house)
    house.hubspot.archive(record)
    house.kirim.edit_contact(contact, metadata={"city": "Bandung"})
    house.await_that(lambda: story(house, contact)["unlinked"])
    assert "unlinked" in house.run("status").stdout
    assert house.hubspot.all() == {}

    house.hubspot.restore(record)
    assert house.run("resync", contact).returncode == 0
    house.await_that(lambda: house.hubspot.get(record).get("city") == "Bandung")
    assert not story(house, contact)["unlinked"]
    assert house.kirim.get(contact)["name"] == "Ana"


@pytest.mark.parametrize("policy", ["recreate"])
def test_where_it_is_wanted_another_record_is_made(house: Town) -> None:
    contact, record = begin(house)
    house.hubspot.archive(record)
    house.kirim.edit_contact(contact, metadata={"city": "Bandung"})
    house.await_that(lambda: known(house.hubspot, contact))

    again = record_of(house, contact)
    assert again != record
    house.await_that(lambda: house.hubspot.get(again).get("city") == "Bandung")
    assert len(house.hubspot.all()) == 1


@pytest.mark.parametrize("policy", ["unlink", "recreate"])
def test_a_merged_record_is_followed_to_its_new_id(house: Town) -> None:
    contact, record = begin(house)
    other = house.hubspot.create_contact(firstname="Ana", lastname="twice")
    survivor = house.hubspot.merge(record, other)
    assert survivor not in (record, other)
    house.kirim.edit_contact(contact, metadata={"city": "Bandung"})
    house.await_that(lambda: house.hubspot.get(survivor).get("city") == "Bandung")
    house.await_that(lambda: story(house, contact)["crm_id"] == survivor)
    house.hubspot.edit(survivor, firstname="Ani")
    house.await_that(lambda: house.kirim.get(contact)["name"] == "Ani")
    assert list(house.hubspot.all()) == [survivor]
