"""Salesforce keeps the connector contract, over a real socket, for contacts, leads and cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.salesforce_org import SECRET, connect

from connectors.salesforce import Salesforce
from crmsync.http import Budget
from crmsync.model import CONTACT_LINK, Fields, Kind, MessageStatus, WebhookRequest
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.faults import Trouble as Wire
from crmsync.sandbox.salesforce import Field, SalesforceEmulator
from crmsync.testing.contract import ConnectorContract
from crmsync.testing.fake import Delivery, Entry, Sample, Trouble

CASE = frozenset({"Subject", CONTACT_LINK})
FAULTS = {
    Trouble.RESET: Fault.reset(applied=False),
    Trouble.LOST: Fault.reset(applied=True),
    Trouble.TIMEOUT: Fault.hang(applied=False),
    Trouble.CUT: Fault(Wire.TRUNCATED, applied=True),
    Trouble.HTML: Fault(Wire.HTML),
}


class SalesforceFake:
    """An emulated org, arranged as the kit wants it."""

    sample = Sample(
        text="LastName",
        other="Department",
        email="Email",
        phone="Phone",
        read_only="CreatedDate",
        refused=("Segment__c", "no such segment"),
        find_by="Description__c",
        several_pages=450,
        conversation={"Subject": "Order"},
        contacts=1,
    )
    hooks = None
    secrets = (SECRET,)
    object = "Contact"
    wanted = frozenset({"LastName", "Department", "Email", "Phone", "CreatedDate", "Segment__c", "Description__c"})

    def __init__(self) -> None:
        self.at: datetime | None = None
        self.org = SalesforceEmulator(clock=self.now)
        self.org.prepare()
        self.org.define(
            self.object,
            Field("Segment__c", "picklist", options=("gold", "silver"), restricted=True),
            Field("Description__c", length=80),
        )
        self.org.start()

    def connect(self, *, budget: Budget | None = None) -> Salesforce:
        kind = self.sample.kind
        settings: dict[str, Any] = {"page_size": 200, "timeout_seconds": 0.4}
        if kind is Kind.CONTACT:
            settings["contact_object"] = self.object
        wanted = {Kind.CONVERSATION: CASE, kind: self.wanted}
        connector = connect(self.org, wanted, clock=self.now, budget=budget, **settings)
        connector.fields(kind)  # read before the first write in any case; the kit's faults are meant for the write
        return connector

    def close(self) -> None:
        self.org.stop()

    def add(self, external_id: str | None, fields: Fields) -> str:
        key = {self.key: external_id} if external_id else {}
        return self.org.create(self.object, **dict(fields), **key)

    @property
    def key(self) -> str:
        return "Kirim_Conversation_Id__c" if self.object == "Case" else "Kirim_Contact_Id__c"

    def edit(self, id: str, fields: Fields) -> None:
        name = self.sample.text
        if self.sample.kind is Kind.CONTACT and name in fields and fields[name] is None:
            fields = {**fields, name: self.org.get(id).get(self.key)}  # nobody can be without a last name
        self.org.edit(id, **dict(fields))

    def held(self, id: str) -> Fields:
        held = self.org.get(id)
        stand_in = held.get(self.sample.text) == held.get(self.key)
        return {name: value for name, value in held.items() if not (stand_in and name == self.sample.text)}

    def ids(self) -> Sequence[str]:
        return list(self.org.all(self.object))

    def delete(self, id: str) -> None:
        self.org.delete(id)

    def merge(self, winner: str, loser: str) -> str:
        return self.org.merge(winner, loser)

    def hide(self, id: str) -> None:
        self.org.hide(id)

    def show(self, id: str) -> None:
        self.org.show(id)

    def set_time(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at or datetime.now(UTC)

    def fail_next(
        self,
        trouble: Trouble | int,
        times: int = 1,
        *,
        skip: int = 0,
        retry_after: float | None = None,
        as_date: bool = False,
    ) -> None:
        if isinstance(trouble, int):
            told = f"Bad: {json.dumps(self.org.all(self.object), default=str)} {SECRET}"
            fault = Fault.error(trouble, after=retry_after, after_as_date=as_date, body={"message": told})
        else:
            fault = FAULTS[trouble]
        if skip:
            self.org.faults.fail_next(skip, Fault.slow(0))
        self.org.faults.fail_next(times, fault)

    def heal(self) -> None:
        self.org.faults.recover()

    def sign(self, body: bytes, age: timedelta = timedelta(0), secret: int = 0) -> WebhookRequest:
        pytest.skip("Salesforce sends no webhooks")

    def deliveries(self) -> Sequence[Delivery]:
        pytest.skip("Salesforce sends no webhooks")

    def add_segment(self, name: str, members: Sequence[str]) -> str:
        campaign = self.org.create("Campaign", Name=name, NumberOfContacts=len(members))
        for member in members:
            self.org.create("CampaignMember", CampaignId=campaign, **{f"{self.object}Id": member})
        return campaign

    def leave(self, segment: str, member: str) -> None:
        for id, row in self.org.all("CampaignMember").items():
            if (row["CampaignId"], row[f"{self.object}Id"]) == (segment, member):
                self.org.delete(id)

    def add_person(self, email: str, name: str, *, active: bool = True) -> str:
        return self.org.add_user(email, name, active=active)

    def timeline(self, id: str) -> Sequence[Entry]:
        tasks = [
            (task, row) for task, row in self.org.all("Task").items() if id in (row.get("WhoId"), row.get("WhatId"))
        ]
        return [self._entry(task, row) for task, row in sorted(tasks)]

    def _entry(self, id: str, row: Mapping[str, Any]) -> Entry:
        status = row.get("Kirim_Status__c")
        return Entry(id, f"{row['Subject']}\n{row['Description']}", MessageStatus(status) if status else None)


class LeadFake(SalesforceFake):
    """The same for leads. The kit knows no field that a new record must have, so that a company need not be given."""

    object = "Lead"
    sample = Sample(
        text="LastName",
        other="City",
        email="Email",
        phone="Phone",
        read_only="CreatedDate",
        refused=("Segment__c", "no such segment"),
        find_by="Description__c",
        several_pages=450,
        contacts=0,
    )
    wanted = frozenset({"LastName", "City", "Email", "Phone", "CreatedDate", "Segment__c", "Description__c"})

    def __init__(self) -> None:
        super().__init__()
        self.org.define("Lead", Field("Company"))


class CaseFake(SalesforceFake):
    """The same for cases."""

    object = "Case"
    sample = Sample(
        text="Subject",
        other="Notes__c",
        email="SuppliedEmail",
        read_only="CreatedDate",
        refused=("Priority", "no such priority"),
        find_by="Description__c",
        several_pages=450,
        kind=Kind.CONVERSATION,
    )
    wanted = frozenset(
        {"Subject", "Notes__c", "SuppliedEmail", "CreatedDate", "Priority", "Description__c", CONTACT_LINK}
    )

    def __init__(self) -> None:
        super().__init__()
        self.org.define("Case", Field("Notes__c"))


class TestSalesforce(ConnectorContract):
    """Contacts."""

    def make_fake(self) -> SalesforceFake:
        return SalesforceFake()


class TestSalesforceLeads(ConnectorContract):
    """Leads instead of contacts."""

    def make_fake(self) -> SalesforceFake:
        return LeadFake()


class TestSalesforceCases(ConnectorContract):
    """Conversations are records like any other."""

    def make_fake(self) -> SalesforceFake:
        return CaseFake()
