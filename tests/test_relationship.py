"""The whole relationship through the real daemon: tickets, messages, labels, segments and a matched record."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hubspot_account import prepared_account
from test_end_to_end import KEY, Town

from crmsync.sandbox.kirim import Behaviour, KirimEmulator

TENANT = """
tenant: acme
region: "ID"
kirim:
  api_key: ${{KEY}}
  webhook_secrets:
    - ${{SECRET}}
  phone_number_ids: ["106540352242922"]
  base_url: {kirim}/v1
  read_per_minute: 100000
  write_per_minute: 100000
connections:
  hubspot:
    start: live
    access_token: ${{TOKEN}}
    base_url: {hubspot}
    poll_seconds: 1
    contacts:
      match: [phone]
      fields:
        phone_number: phone
        name: {{ crm: firstname + lastname, owner: crm }}
        email: {{ crm: email, owner: latest }}
    conversations:
      initial: {{ subject: "WhatsApp {{contact_name}}", hs_pipeline: "0" }}
      fields:
        status:
          crm: hs_pipeline_stage
          owner: {status_owner}
          map: {{ open: ["1", "2"], pending: "3", resolved: "4" }}
        assignee: {{ crm: hubspot_owner_id, otherwise: "{fallback}" }}
    messages: {{ log: {log} }}
    segments:
      - {{ segment: VIP customers, label: VIP, create_label: true }}
daemon:
  database: {database}
  listen: 127.0.0.1:{port}
  insecure_targets: ["{kirim_target}", "{hubspot_target}"]
"""


@pytest.fixture
def log() -> str:
    return "each"


@pytest.fixture
def status_owner() -> str:
    return "kirim"


@pytest.fixture
def town(database_url: str, tmp_path: Path, log: str, status_owner: str) -> Iterator[Town]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    behaviour = Behaviour(kirim_block=True, sent_events=True)
    with prepared_account() as hubspot, KirimEmulator(key=KEY, behaviour=behaviour) as kirim:
        secret = kirim.subscribe(f"http://127.0.0.1:{port}/hooks/acme/kirim").secret
        folder = tmp_path / "config"
        folder.mkdir()
        text = TENANT.format(
            kirim=kirim.url,
            hubspot=hubspot.url,
            kirim_target=kirim.url.removeprefix("http://"),
            hubspot_target=hubspot.url.removeprefix("http://"),
            database=database_url,
            port=port,
            log=log,
            status_owner=status_owner,
            fallback=hubspot.owners.add("nobody@example.com"),
        )
        (folder / "acme.yaml").write_text(text)
        town = Town(kirim, hubspot, folder, port, secret)
        yield town
        if town.daemon is not None and town.daemon.poll() is None:
            town.end(signal.SIGKILL)


def ticket(town: Town, conversation: str) -> dict[str, str]:
    found = town.hubspot.by_external_id(conversation, "ticket")
    return {"id": found[0], **town.hubspot.get(found[0])} if found else {}


def said(town: Town, kind: str = "communication", field: str = "hs_communication_body") -> list[str]:
    return sorted(each[field] for each in town.hubspot.all(kind).values())


def begin(town: Town) -> tuple[str, str]:
    """A customer writes: a contact and a conversation begin."""
    town.kirim.receive_message("+6281234567890", "Halo", name="Ana Lee")
    ((conversation, held),) = town.kirim.workspace.conversations.items()
    return held.contact.id, conversation


def test_a_customer_who_writes_becomes_a_contact_a_ticket_and_an_entry_on_both(town: Town) -> None:
    town.start()
    contact, conversation = begin(town)
    town.await_that(lambda: len(said(town)) == 1)
    (record,) = town.hubspot.by_external_id(contact)
    held = ticket(town, conversation)
    assert (held["subject"], held["hs_pipeline_stage"]) == ("WhatsApp Ana Lee", "1")
    assert town.hubspot.linked(held["id"]) == [record]
    (entry,) = town.hubspot.all("communication")
    assert "Customer: Halo" in said(town)[0]
    assert (town.hubspot.linked(entry), town.hubspot.linked(entry, "ticket")) == ([record], [held["id"]])
    assert town.hubspot.get(record)["lastname"] == "Lee"


def test_closing_and_giving_away_reach_the_ticket_and_strangers_fall_to_somebody_and_are_listed(town: Town) -> None:
    known = town.hubspot.owners.add("budi@example.com")
    town.start()
    _, conversation = begin(town)
    town.await_that(lambda: bool(ticket(town, conversation)))
    town.kirim.assign(conversation, town.kirim.add_user("Budi", "budi@example.com"))
    town.await_that(lambda: ticket(town, conversation).get("hubspot_owner_id") == known)
    town.kirim.assign(conversation, town.kirim.add_user("Eve", "eve@example.com"))
    town.await_that(lambda: ticket(town, conversation).get("hubspot_owner_id") not in (known, None, ""))
    (told,) = json.loads(town.run("status", "--json").stdout)["unmapped"]
    assert [user["email"] for user in told["users"]] == ["eve@example.com"]
    assert told["otherwise"] == ticket(town, conversation)["hubspot_owner_id"]
    assert "eve@" not in town.log.read_text()
    town.kirim.close(conversation)
    town.await_that(lambda: ticket(town, conversation)["hs_pipeline_stage"] == "4")
    town.kirim.receive_message("+6281234567890", "Masih ada?")  # reopens it, and no event says so
    town.await_that(lambda: ticket(town, conversation)["hs_pipeline_stage"] == "1")


@pytest.mark.parametrize("status_owner", ["crm"])
def test_closing_in_the_crm_closes_in_kirim_where_the_crm_owns_the_status(town: Town) -> None:
    town.start()
    _, conversation = begin(town)
    town.await_that(lambda: bool(ticket(town, conversation)))
    town.hubspot.edit(ticket(town, conversation)["id"], hs_pipeline_stage="4")
    town.await_that(lambda: town.kirim.workspace.conversations[conversation].status == "resolved")


def test_every_message_is_one_entry_whose_status_moves_on_and_a_kill_makes_no_second(town: Town) -> None:
    town.start()
    contact, _ = begin(town)
    town.await_that(lambda: len(said(town)) == 1)
    wamid = town.kirim.send_message(contact, text="Ada, kak")
    for status in ("delivered", "sent"):  # out of order
        town.kirim.message_status(wamid, status)
    town.await_that(lambda: any("Status: delivered" in body for body in said(town)))
    town.end(signal.SIGKILL)
    town.start()
    town.kirim.message_status(wamid, "read")
    town.await_that(lambda: any("Status: read" in body for body in said(town)))
    assert len(said(town)) == 2
    assert any("Agent: Ada, kak" in body for body in said(town))


@pytest.mark.parametrize("log", ["digest"])
def test_a_digest_is_one_note_for_a_conversation_and_a_day(town: Town) -> None:
    town.start()
    contact, _ = begin(town)
    town.kirim.send_message(contact, text="Selamat pagi")
    town.await_that(lambda: any("Selamat pagi" in body for body in said(town, "note", "hs_note_body")))
    (note,) = said(town, "note", "hs_note_body")
    assert note.index("Halo") < note.index("Selamat pagi")


def test_the_members_of_a_list_get_a_label_and_who_leaves_it_loses_it(town: Town) -> None:
    town.hubspot.lists.define("VIP customers")
    town.start()
    contact, _ = begin(town)
    town.await_that(lambda: bool(town.hubspot.by_external_id(contact)))
    (record,) = town.hubspot.by_external_id(contact)
    stranger = town.hubspot.create_contact(firstname="not in Kirim")
    town.hubspot.lists.add("1", [record, stranger])
    told = town.run("segments", "sync", "acme", "--json")
    assert told.returncode == 0, told.stderr
    town.await_that(lambda: town.kirim.get(contact)["labels"] == ["VIP"])
    town.hubspot.lists.remove("1", [record])
    assert town.run("segments", "sync", "acme").returncode == 0
    town.await_that(lambda: town.kirim.get(contact)["labels"] == [])
    assert "VIP" in town.run("segments", "list", "acme").stdout


def test_a_record_of_the_same_number_is_taken_and_given_the_kirim_id(town: Town) -> None:
    theirs = town.hubspot.create_contact(firstname="Ana", lastname="from the shop", phone="0812-3456-7890")
    town.start()
    contact, _ = begin(town)
    town.await_that(lambda: town.hubspot.by_external_id(contact) == [theirs])
    town.await_that(lambda: town.kirim.get(contact)["name"] == "Ana from the shop")
    assert len(town.hubspot.all()) == 1
