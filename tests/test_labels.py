"""Labels and metadata through the real daemon and HubSpot: mirrored by adding and removing, nobody else's touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon_town import known, record_of, town
from test_end_to_end import Town

from crmsync.sandbox.kirim import Behaviour, Metadata

CONTACTS = """
fields:
  phone_number: phone
  labels:
    - { crm: whatsapp_labels }
    - { crm: label_text, separator: ", " }
  metadata.code: { crm: city, owner: crm }
"""
SEGMENTS = """
segments:
  - { segment: VIP customers, label: VIP, create_label: true }
"""


@pytest.fixture
def metadata() -> Metadata:
    return Metadata.MERGE


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path, metadata: Metadata) -> Iterator[Town]:
    behaviour = Behaviour(labels_in_events=True, metadata=metadata)
    with town(sqlite_url, tmp_path / "config", CONTACTS, behaviour, SEGMENTS) as found:
        options = ("new", "regular", "by hand")
        found.hubspot.properties.define("whatsapp_labels", type="enumeration", options=options)
        found.hubspot.properties.define("label_text")
        found.hubspot.lists.define("VIP customers")
        yield found


def begin(house: Town, **fields: object) -> tuple[str, str]:
    house.start()
    contact = house.kirim.create_contact("+628111111111", **fields)  # type: ignore[arg-type]
    house.await_that(lambda: known(house.hubspot, contact))
    return contact, record_of(house, contact)


def members(house: Town, record: str) -> tuple[set[str], set[str]]:
    """What HubSpot holds, in the multi-select and in the text."""
    held = house.hubspot.get(record)
    several, text = held.get("whatsapp_labels", ""), held.get("label_text", "")
    return {one for one in several.split(";") if one}, {one for one in text.split(", ") if one}


def test_labels_are_mirrored_into_a_multi_select_and_a_text_as_they_come_and_go(house: Town) -> None:
    contact, record = begin(house, name="Ana")
    house.kirim.label(contact, "new")
    house.await_that(lambda: members(house, record) == ({"new"}, {"new"}))
    house.kirim.label(contact, "regular")
    house.await_that(lambda: members(house, record) == ({"new", "regular"},) * 2)
    house.kirim.label(contact, "new", attached=False)
    house.await_that(lambda: members(house, record) == ({"regular"},) * 2)
    house.hubspot.edit(record, whatsapp_labels="regular;by hand", label_text="nothing of ours")
    house.await_that(lambda: members(house, record) == ({"regular"},) * 2)
    assert house.kirim.get(contact)["labels"] == ["regular"]


def test_a_label_that_a_segment_manages_is_neither_mirrored_nor_taken_away(house: Town) -> None:
    contact, record = begin(house, name="Ana")
    house.hubspot.lists.add("1", [record])
    assert house.run("segments", "sync", "acme").returncode == 0
    house.await_that(lambda: house.kirim.get(contact)["labels"] == ["VIP"])
    house.kirim.label(contact, "new")
    house.await_that(lambda: members(house, record) == ({"new"}, {"new"}))
    assert set(house.kirim.get(contact)["labels"]) == {"VIP", "new"}


def test_what_is_not_known_of_labels_clears_nothing(house: Town) -> None:
    """Events that do not show labels leave them as they are, and so does a reading."""
    contact, record = begin(house, name="Ana")
    house.kirim.label(contact, "new")
    house.await_that(lambda: members(house, record) == ({"new"}, {"new"}))
    house.kirim.behaviour.labels_in_events = False
    house.kirim.edit_contact(contact, metadata={"code": "1"})
    house.hubspot.edit(record, city="2")
    house.await_that(lambda: house.kirim.get(contact)["metadata"].get("code") == "2")
    assert house.run("resync", contact).returncode == 0
    house.hubspot.edit(record, city="3")
    house.await_that(lambda: house.kirim.get(contact)["metadata"].get("code") == "3")
    assert members(house, record) == ({"new"}, {"new"})


@pytest.mark.parametrize("metadata", list(Metadata))
def test_keys_of_others_survive_whatever_kirim_takes_a_patch_for(house: Town) -> None:
    foreign = {"theirs": {"deep": [1, None]}, "count": 3}
    contact, record = begin(house, name="Ana", metadata={**foreign, "code": "1"})
    for code in ("2", "", "3"):
        house.hubspot.edit(record, city=code)
        house.await_that(lambda code=code: (house.kirim.get(contact)["metadata"].get("code") or "") == code)  # type: ignore[misc]
        assert {**house.kirim.get(contact)["metadata"], "code": ""} == {**foreign, "code": ""}
