"""HubSpot keeps the connector contract, over a real socket, in each of the three ways it deals with a bad row."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.hubspot import HubSpot
from crmsync.connector import Surroundings
from crmsync.http import Budget, Unlimited
from crmsync.model import CONTACT_LINK, ActivityKind, Change, Fields, Kind, MessageStatus, WebhookRequest
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import Behaviour, HubSpotEmulator, Partial, sign
from crmsync.testing.contract import Batches, ConnectorContract, Writes  # type: ignore[attr-defined]
from crmsync.testing.fake import Delivery, Entry, Hooks, Sample, Trouble
from crmsync.testing.http_fake import FAULTS
from crmsync.testing.loopback import LOOPBACK

HOOK_URL = "https://sync.example.com/hooks/acme/hubspot"
TOKEN, SECRETS = "pat-eu1-0000-secret", ("client-secret-0000", "client-secret-1111")
KEYS = {"contact": "kirim_contact_id", "ticket": "kirim_conversation_id"}
ENTRIES = {"communication": ("kirim_key", "kirim_status"), "note": ("kirim_key",)}
CONVERSATION = frozenset({"subject", CONTACT_LINK})
EVENT = {
    "eventId": 3816279340,
    "subscriptionId": 25,
    "portalId": 777,
    "appId": 1160452,
    "occurredAt": 1795168800123,
    "attemptNumber": 0,
    "changeSource": "CRM_UI",
    "sourceId": "userId:9001",
}


def delivery(name: str, *changes: Change, **event: Any) -> Delivery:
    """A body with one event, and what it means."""
    return Delivery(name, json.dumps([{**EVENT, **event}]).encode(), changes)


def changed(id: str, **seen: str | None) -> Change:
    return Change(Kind.CONTACT, id, seen=seen)


DELIVERIES = (
    delivery(
        "creation",
        Change(Kind.CONTACT, "1246965", created=True),
        subscriptionType="contact.creation",
        objectId=1246965,
        changeFlag="NEW",
    ),
    delivery(
        "propertyChange",
        changed("1246965", email="ana@example.com"),
        subscriptionType="contact.propertyChange",
        objectId=1246965,
        propertyName="email",
        propertyValue="ana@example.com",
    ),
    delivery(
        "cleared",
        changed("1246965", phone=None),
        subscriptionType="object.propertyChange",
        objectTypeId="0-1",
        objectId=1246965,
        propertyName="phone",
        propertyValue="",
    ),
    delivery(
        "deletion",
        Change(Kind.CONTACT, "1246965", deleted=True),
        subscriptionType="contact.deletion",
        objectId=1246965,
        changeFlag="DELETED",
    ),
    delivery(
        "privacyDeletion",
        Change(Kind.CONTACT, "1246965", deleted=True),
        subscriptionType="contact.privacyDeletion",
        objectId=1246965,
    ),
    delivery("restore", changed("1246965"), subscriptionType="contact.restore", objectId=1246965),
    delivery(
        "merge",
        changed("9000000003"),
        changed("9000000001"),
        changed("9000000002"),
        subscriptionType="contact.merge",
        objectId=9000000001,
        primaryObjectId=9000000001,
        mergedObjectIds=[9000000002],
        newObjectId=9000000003,
        numberOfPropertiesMoved=1,
    ),
    delivery(
        "unmapped property",
        subscriptionType="contact.propertyChange",
        objectId=1246965,
        propertyName="hs_analytics_source",
        propertyValue="OFFLINE",
    ),
    delivery(
        "ticket",
        Change(Kind.CONVERSATION, "7", created=True),
        subscriptionType="ticket.creation",
        objectId=7,
    ),
    delivery("company", subscriptionType="object.creation", objectTypeId="0-2", objectId=7),
    delivery(
        "association", subscriptionType="contact.associationChange", objectId=1246965, fromObjectId=1, toObjectId=2
    ),
)


TICKET = Change(Kind.CONVERSATION, "555")
TICKET_DELIVERIES = (
    delivery(
        "creation",
        Change(Kind.CONVERSATION, "555", created=True),
        subscriptionType="ticket.creation",
        objectId=555,
    ),
    delivery(
        "propertyChange",
        Change(Kind.CONVERSATION, "555", seen={"subject": "Order"}),
        subscriptionType="object.propertyChange",
        objectTypeId="0-5",
        objectId=555,
        propertyName="subject",
        propertyValue="Order",
    ),
    delivery(
        "deletion",
        Change(Kind.CONVERSATION, "555", deleted=True),
        subscriptionType="ticket.deletion",
        objectId=555,
    ),
    delivery("restore", TICKET, subscriptionType="object.restore", objectTypeId="0-5", objectId=555),
    delivery(
        "merge",
        Change(Kind.CONVERSATION, "557"),
        TICKET,
        Change(Kind.CONVERSATION, "556"),
        subscriptionType="ticket.merge",
        objectId=555,
        primaryObjectId=555,
        mergedObjectIds=[556],
        newObjectId=557,
    ),
    delivery(
        "association",
        TICKET,
        subscriptionType="ticket.associationChange",
        associationType="TICKET_TO_CONTACT",
        fromObjectId=555,
        toObjectId=1246965,
        associationRemoved=False,
    ),
    delivery(
        "association, from the other end",
        TICKET,
        subscriptionType="object.associationChange",
        objectTypeId="0-1",
        fromObjectTypeId="0-1",
        toObjectTypeId="0-5",
        fromObjectId=1246965,
        toObjectId=555,
        associationRemoved=True,
    ),
    delivery(
        "association with a company",
        subscriptionType="ticket.associationChange",
        associationType="TICKET_TO_COMPANY",
        fromObjectId=555,
        toObjectId=7,
    ),
    delivery("company", subscriptionType="company.creation", objectId=7),
)


class HubSpotFake:
    """An emulated account, arranged as the kit wants it."""

    sample = Sample(
        text="firstname",
        other="company",
        email="email",
        phone="phone",
        read_only="createdate",
        refused=("lifecyclestage", "no such stage"),
        find_by="jobtitle",
        several_pages=450,
        conversation={"subject": "Order", "hs_pipeline": "0", "hs_pipeline_stage": "1"},
    )
    hooks = Hooks((b"x-hubspot-signature-v3", b"x-hubspot-request-timestamp"), secrets=len(SECRETS))
    secrets = (TOKEN, *SECRETS)
    object = "contact"
    wanted = frozenset({"firstname", "company", "email", "phone", "createdate", "jobtitle", "lifecyclestage"})

    def __init__(self, partial: Partial) -> None:
        self.at: datetime | None = None
        behaviour = Behaviour(partial=partial)
        self.account = HubSpotEmulator(token=TOKEN, clock=self.now, behaviour=behaviour, client_secret=SECRETS[0])
        self.table = self.account.tables[self.object]
        for object, key in KEYS.items():
            self.account.tables[object].properties.define(key, unique=True)
        for object, names in ENTRIES.items():
            for name in names:
                self.account.tables[object].properties.define(name)
        self.account.start()

    def connect(self, *, budget: Budget | None = None) -> HubSpot:
        keys = {"access_token": TOKEN, "client_secrets": SECRETS, "base_url": self.account.url}
        settings = HubSpot.Settings.model_validate({**keys, "timeout_seconds": 0.4})
        kind = self.sample.kind
        around = Surroundings(
            "acme",
            "hubspot",
            HOOK_URL,
            budget or Unlimited(),
            {Kind.CONVERSATION: CONVERSATION, kind: self.wanted},
            reach=LOOPBACK,
            activities=frozenset(ActivityKind),
        )
        connector = HubSpot(settings, around)
        connector.fields(kind)  # read before the first write in any case; the kit's faults are meant for the write
        return connector

    def close(self) -> None:
        self.account.stop()

    def add(self, external_id: str | None, fields: Fields) -> str:
        key = {KEYS[self.object]: external_id} if external_id else {}
        return self.account.create(self.object, **_texts(fields), **key)

    def edit(self, id: str, fields: Fields) -> None:
        self.account.edit(id, **_texts(fields))

    def held(self, id: str) -> Fields:
        return self.account.get(id)

    def ids(self) -> Sequence[str]:
        return list(self.account.all(self.object))

    def delete(self, id: str) -> None:
        self.account.archive(id)

    def merge(self, winner: str, loser: str) -> str:
        return self.account.merge(winner, loser)

    def hide(self, id: str) -> None:
        self.table.index.remove(int(id))

    def show(self, id: str) -> None:
        self.table.index.update(self.table.records.by_id[int(id)], 0)

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
            echo = {"status": "error", "message": f"Bad: {json.dumps(self.account.all(self.object))} {TOKEN}"}
            fault = Fault.error(trouble, after=retry_after, after_as_date=as_date, body=echo)
        else:
            fault = FAULTS[trouble]
        if skip:
            self.account.faults.fail_next(skip, Fault.slow(0))
        self.account.faults.fail_next(times, fault)

    def heal(self) -> None:
        self.account.faults.recover()

    def sign(self, body: bytes, age: timedelta = timedelta(0), secret: int = 0) -> WebhookRequest:
        stamp = str(int((self.now() - age).timestamp() * 1000))
        headers = (
            (b"x-hubspot-signature-v3", sign(SECRETS[secret], "POST", HOOK_URL, body, stamp).encode()),
            (b"x-hubspot-request-timestamp", stamp.encode()),
        )
        return WebhookRequest("POST", "/hooks/acme/hubspot", headers, body, self.now())

    def deliveries(self) -> Sequence[Delivery]:
        return DELIVERIES

    def add_segment(self, name: str, members: Sequence[str]) -> str:
        return self.account.lists.define(name, members)

    def leave(self, segment: str, member: str) -> None:
        self.account.lists.remove(segment, [member])

    def add_person(self, email: str, name: str, *, active: bool = True) -> str:
        first, _, last = name.partition(" ")
        return self.account.owners.add(email, first, last, archived=not active)

    def timeline(self, id: str) -> Sequence[Entry]:
        entries = [entry for object in ENTRIES for entry in self.account.linked(id, object)]
        return [self._entry(entry) for entry in sorted(entries, key=int)]

    def _entry(self, id: str) -> Entry:
        held = self.account.get(id)
        note = html.unescape(held.get("hs_note_body", "").replace("<br>", "\n"))
        status = held.get("kirim_status")
        return Entry(id, note or held["hs_communication_body"], MessageStatus(status) if status else None)


def _texts(fields: Fields) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in fields.items()}


class TicketFake(HubSpotFake):
    """The same for tickets. The kit knows no field that a new record must have, so that these need none."""

    sample = Sample(
        text="content",
        other="subject",
        read_only="createdate",
        refused=("hs_ticket_priority", "no such priority"),
        find_by="reply_to",
        several_pages=450,
        kind=Kind.CONVERSATION,
    )
    object = "ticket"
    wanted = frozenset({"content", "subject", "createdate", "hs_ticket_priority", "reply_to", CONTACT_LINK})

    def __init__(self, partial: Partial) -> None:
        super().__init__(partial)
        self.table.properties.define("reply_to")
        self.table.records.of = replace(self.table.of, needs=())

    def deliveries(self) -> Sequence[Delivery]:
        return TICKET_DELIVERIES


class TestHubSpot(ConnectorContract):
    """Bad rows are told apart: 207."""

    def make_fake(self) -> HubSpotFake:
        return HubSpotFake(Partial.MULTI_STATUS)


class HubSpotWrites(Writes, Batches):
    """The ways differ in writing only."""

    partial: Partial

    def make_fake(self) -> HubSpotFake:
        return HubSpotFake(self.partial)


class TestHubSpotThatRefusesBatches(HubSpotWrites):
    """One bad row refuses its batch: 400."""

    partial = Partial.WHOLE_BATCH


class TestHubSpotThatSaysNothing(HubSpotWrites):
    """One bad row leaves 207 with no results, and an error that cannot be traced."""

    partial = Partial.EMPTY


class TestHubSpotTickets(ConnectorContract):
    """Conversations are records like any other."""

    def make_fake(self) -> HubSpotFake:
        return TicketFake(Partial.MULTI_STATUS)
