"""The real daemon with Salesforce, alone and beside HubSpot: the whole relationship, found by asking only."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.hubspot_account import prepared_account
from support.salesforce_org import CONSUMER, SECRET, prepared_org
from test_end_to_end import KEY, Town

from crmsync.sandbox.kirim import Behaviour, KirimEmulator
from crmsync.sandbox.salesforce import Field, SalesforceEmulator

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
  salesforce:
    start: live
    consumer_key: {consumer}
    consumer_secret: ${{CONSUMER_SECRET}}
    login_url: {salesforce}
    poll_seconds: 1
    contacts:
      match: [email]
      fields:
        phone_number: Phone
        name: {{ crm: FirstName + LastName, owner: crm }}
        email: {{ crm: Email, owner: kirim }}
    conversations:
      initial: {{ Subject: "WhatsApp {{contact_name}}" }}
      fields:
        status:
          crm: Status
          owner: kirim
          map: {{ open: [New, Working], pending: Escalated, resolved: Closed }}
        assignee: {{ crm: OwnerId }}
    messages: {{ log: each }}
    segments:
      - {{ segment: VIP customers, label: VIP, create_label: true }}
{beside}
daemon:
  database: {database}
  listen: 127.0.0.1:{port}
  insecure_targets: [{targets}]
"""
HUBSPOT = """
  hubspot:
    start: live
    access_token: ${{TOKEN}}
    base_url: {hubspot}
    poll_seconds: 1
    contacts:
      fields:
        phone_number: phone
        email: {{ crm: email, owner: kirim }}
        metadata.company: {{ crm: company, owner: {owner} }}
        name: {{ crm: firstname, owner: kirim }}
"""


@dataclass
class Both(Town):
    """A town that has an org as well."""

    org: SalesforceEmulator | None = None

    @property
    def environ(self) -> dict[str, str]:
        secrets = {"KEY": KEY, "SECRET": self.secret, "TOKEN": self.hubspot.token, "CONSUMER_SECRET": SECRET}
        return {**os.environ, **secrets}

    @property
    def salesforce(self) -> SalesforceEmulator:
        assert self.org is not None
        return self.org

    def held(self, id: str, kind: str = "Contact") -> dict[str, Any]:
        found = self.salesforce.by_external_id(id, kind)
        assert len(found) < 2
        return {"Id": found[0], **self.salesforce.get(found[0])} if found else {}


@pytest.fixture
def beside() -> str:
    return ""


@pytest.fixture
def town(database_url: str, tmp_path: Path, beside: str) -> Iterator[Both]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    behaviour = Behaviour(kirim_block=True, sent_events=True)
    with (
        prepared_account() as hubspot,
        prepared_org() as org,
        KirimEmulator(key=KEY, behaviour=behaviour) as kirim,
    ):
        made = Both(kirim, hubspot, tmp_path / "config", port, "", org=org)
        made.folder.mkdir()
        made.secret = kirim.subscribe(f"http://127.0.0.1:{port}/hooks/acme/kirim").secret
        targets = [f'"{each.url.removeprefix("http://")}"' for each in (kirim, hubspot, org)]
        text = TENANT.format(
            kirim=kirim.url,
            salesforce=org.url,
            consumer=CONSUMER,
            database=database_url,
            port=port,
            targets=", ".join(targets),
            beside=beside.format(hubspot=hubspot.url, owner="crm"),
        )
        (made.folder / "acme.yaml").write_text(text)
        yield made
        if made.daemon is not None and made.daemon.poll() is None:
            made.end(signal.SIGKILL)


def begin(town: Both) -> tuple[str, str]:
    """A customer writes: a contact and a conversation begin."""
    town.kirim.receive_message("+6281234567890", "Halo", name="Ana Lee")
    ((conversation, held),) = town.kirim.workspace.conversations.items()
    return held.contact.id, conversation


def test_the_whole_relationship_reaches_salesforce_and_comes_back(town: Both) -> None:
    org = town.salesforce
    known = org.add_user("budi@example.com", "Budi")
    checked = town.run("check", "--online")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    town.start()

    contact, conversation = begin(town)
    town.await_that(lambda: len(org.all("Task")) == 1)
    held, case = town.held(contact), town.held(conversation, "Case")
    assert (held["FirstName"], held["LastName"], held["Phone"]) == ("Ana", "Lee", "+6281234567890")
    assert (case["Subject"], case["Status"], case["ContactId"]) == ("WhatsApp Ana Lee", "New", held["Id"])
    (task,) = org.all("Task").values()
    assert (task["WhoId"], task["WhatId"], task["Status"]) == (held["Id"], case["Id"], "Completed")
    assert "Customer: Halo" in task["Description"]

    town.kirim.edit_contact(contact, email="ana@example.com")
    town.await_that(lambda: town.held(contact).get("Email") == "ana@example.com")
    org.edit(held["Id"], LastName="Wijaya", Email="drift@example.com")
    town.await_that(lambda: town.kirim.get(contact)["name"] == "Ana Wijaya")
    town.await_that(lambda: town.held(contact)["Email"] == "ana@example.com")

    org.expire_sessions()
    town.kirim.assign(conversation, town.kirim.add_user("Budi", "budi@example.com"))
    town.await_that(lambda: town.held(conversation, "Case")["OwnerId"] == known)
    town.kirim.close(conversation)
    town.await_that(lambda: town.held(conversation, "Case")["Status"] == "Closed")

    wamid = town.kirim.send_message(contact, text="Ada, kak")
    for status in ("delivered", "sent"):  # out of order
        town.kirim.message_status(wamid, status)
    town.await_that(lambda: any(one.get("Kirim_Status__c") == "delivered" for one in org.all("Task").values()))
    assert len(org.all("Task")) == 2
    assert town.end(signal.SIGTERM) == 0
    for secret in (town.secret, KEY, SECRET, "+6281234567890", "ana@example.com"):
        assert secret not in town.log.read_text()


def test_a_merged_contact_goes_on_as_its_survivor_and_a_campaign_becomes_a_label(town: Both) -> None:
    org = town.salesforce
    campaign = org.create("Campaign", Name="VIP customers")
    town.start()
    contact, conversation = begin(town)
    town.await_that(lambda: bool(town.held(conversation, "Case").get("ContactId")))
    other = org.create("Contact", LastName="Lee", FirstName="Anna")
    org.merge(other, town.held(contact)["Id"])
    town.await_that(lambda: town.held(contact).get("Id") == other)
    assert town.held(conversation, "Case")["ContactId"] == other

    org.create("CampaignMember", CampaignId=campaign, ContactId=other)
    assert town.run("segments", "sync", "acme", "--json").returncode == 0
    town.await_that(lambda: town.kirim.get(contact)["labels"] == ["VIP"])
    assert len(org.all("Contact")) == 1


def test_nothing_that_was_acknowledged_is_lost_to_kill_9_and_bad_weather(town: Both) -> None:
    town.kirim.behaviour.time_scale = 0.02  # what is refused meanwhile comes again soon
    org = town.salesforce
    town.start()
    contacts = []
    for round, fault in enumerate(("reset_after", "truncated")):
        org.faults.fail_next(1, fault, "/data/composite/")
        for number in range(15):
            phone = f"+62811{round:03}{number:04}"
            contacts.append(town.kirim.create_contact(phone, name=f"P{number}", email=f"p{round}.{number}@example.com"))
        acknowledged = len(town.kirim.acknowledged)
        town.await_that(lambda before=acknowledged: len(town.kirim.acknowledged) > before)  # type: ignore[misc]
        town.end(signal.SIGKILL)
        town.start()

    town.await_that(lambda: all(town.held(contact) for contact in contacts))
    town.kirim.wait_idle(30)
    assert [contact for contact in contacts if len(org.by_external_id(contact)) != 1] == []
    assert len(org.all()) == len(contacts)


@pytest.mark.parametrize("beside", [HUBSPOT])
def test_both_crms_of_a_tenant_are_kept_in_step_through_kirim(town: Both) -> None:
    town.start()
    contact = town.kirim.create_contact("+628111111111", name="Ana", email="ana@example.com")
    town.await_that(lambda: bool(town.record(contact)) and bool(town.held(contact)))
    town.salesforce.edit(town.held(contact)["Id"], FirstName="Beatrice", LastName="Putri")
    town.hubspot.edit(town.hubspot.by_external_id(contact)[0], company="Batik")
    town.await_that(lambda: town.kirim.get(contact)["name"] == "Beatrice Putri")
    town.await_that(lambda: town.record(contact).get("firstname") == "Beatrice Putri")
    town.await_that(lambda: (town.kirim.get(contact)["metadata"] or {}).get("company") == "Batik")
    town.kirim.edit_contact(contact, email="new@example.com")
    town.await_that(lambda: (town.record(contact)["email"], town.held(contact)["Email"]) == ("new@example.com",) * 2)
    assert (len(town.hubspot.all()), len(town.salesforce.all())) == (1, 1)


def test_two_owners_of_one_kirim_field_are_refused_at_load(town: Both) -> None:
    place = town.folder / "acme.yaml"
    two = HUBSPOT.format(hubspot=town.hubspot.url, owner="crm").replace(
        "firstname, owner: kirim", "firstname, owner: crm"
    )
    place.write_text(place.read_text().replace("\ndaemon:", f"{two}\ndaemon:"))
    told = town.run("check")

    assert told.returncode != 0
    assert "name" in told.stdout
    assert "salesforce" in told.stdout


def test_check_names_the_fields_that_are_missing_and_how_to_make_them(town: Both) -> None:
    org = town.salesforce
    del org.objects["Contact"].fields["Kirim_Contact_Id__c"], org.objects["Task"].fields["Kirim_Status__c"]
    org.define("Case", Field("Kirim_Conversation_Id__c", length=64))
    told = town.run("check", "--prepare")

    assert told.returncode != 0
    assert "--prepare does this" not in town.run("check", "--online").stdout
    assert "Contact needs Kirim_Contact_Id__c" in told.stdout
    assert "Case needs Kirim_Conversation_Id__c" in told.stdout
    assert "Object Manager, Activity" in told.stdout
