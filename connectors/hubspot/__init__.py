"""HubSpot, through HubSpot's own client package: contacts, tickets for conversations, timelines, lists and owners.

Needs the scopes that `connectors/README.md` names. Leaves out the webhooks journal and everything that deletes.

https://developers.hubspot.com/docs/api-reference/latest/crm/objects/contacts/guide
https://developers.hubspot.com/docs/api-reference/latest/crm/objects/tickets/guide
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from connectors.hubspot.activities import OWN, Timelines
from connectors.hubspot.lists import members, people, segments
from connectors.hubspot.objects import RECORDS
from connectors.hubspot.reading import BATCH, Records, key_of
from connectors.hubspot.settings import HubSpotSettings
from connectors.hubspot.signatures import check_signature
from connectors.hubspot.upsert import Upsert
from connectors.hubspot.webhooks import items, read_events
from connectors.hubspot.wire import Wire
from crmsync.connector import Connector, LogOutcome, Outcome, Surroundings
from crmsync.model import (
    Activity,
    Can,
    FieldInfo,
    Item,
    Kind,
    Members,
    Page,
    Person,
    Rate,
    Record,
    Ref,
    Segment,
    WebhookRequest,
    Write,
)


class HubSpot(Connector[HubSpotSettings]):
    """One HubSpot account. Records are keyed by text properties with unique values."""

    name = "hubspot"
    kinds = frozenset(RECORDS)
    can = frozenset(
        {
            Can.WEBHOOKS,
            Can.CHANGES,
            Can.FIND,
            Can.NATIVE_UPSERT,
            Can.CREATE,
            Can.PREPARE,
            Can.SEGMENTS,
            Can.ACTIVITIES,
            Can.PEOPLE,
        }
    )
    Settings = HubSpotSettings
    batch_size = BATCH
    rate = Rate(190, 10, rolling=True)
    buckets = MappingProxyType({"search": Rate(5, 1, rolling=True), "associations": Rate(150, 10, rolling=True)})
    proposed_fields = MappingProxyType({"phone_number": "phone", "name": "firstname + lastname", "email": "email"})
    signature_headers = (b"x-hubspot-signature-v3", b"x-hubspot-request-timestamp", b"x-hubspot-signature")

    def __init__(self, settings: HubSpotSettings, around: Surroundings) -> None:
        super().__init__(settings, around)
        own = {key_of(kind, settings).name for kind in RECORDS} | {each.name for some in OWN.values() for each in some}
        self.wire = Wire(settings, around, own)
        wanted = {kind: around.wanted.get(kind, frozenset()) for kind in RECORDS}
        contacts = Records(Kind.CONTACT, self.wire, settings, wanted[Kind.CONTACT])
        tickets = Records(Kind.CONVERSATION, self.wire, settings, wanted[Kind.CONVERSATION], contacts)
        self.records = {Kind.CONTACT: contacts, Kind.CONVERSATION: tickets}
        self.timelines = Timelines(self.wire, contacts, tickets)
        self._kept = {kind: wanted[kind] | {self.records[kind].key} for kind in (Kind.CONTACT, *around.wanted)}
        self._secrets = tuple(secret.get_secret_value() for secret in settings.client_secrets)

    def close(self) -> None:
        self.wire.close()

    # The account

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        return self.records[kind].fields()

    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        """Entries on timelines are a contact's, so what they need is made along with what contacts need."""
        plan = list(self.records[kind].schema.prepare(plan_only=plan_only))
        for entries in sorted(self.around.activities) if kind is Kind.CONTACT else ():
            plan += self.timelines.prepare(entries, plan_only=plan_only)
        return plan

    def people(self) -> Sequence[Person]:
        return people(self.wire)

    # Records

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return Upsert(self.records[kind]).send(writes)

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        return self.records[kind].fetch(refs)

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        return self.records[kind].find(field, values)

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return self.records[kind].changed(cursor, since)

    def walk(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return self.records[kind].walk(cursor) if since is None else self.changed(kind, cursor, since)

    def count(self, kind: Kind) -> int | None:
        return self.records[kind].count()

    # Timelines and lists

    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        return self.timelines.log(activities)

    def segments(self) -> Sequence[Segment]:
        return segments(self.wire)

    def members(self, segment: str, cursor: str | None = None) -> Members:
        return members(self.wire, self.records[Kind.CONTACT], segment, cursor)

    # Webhooks

    def verify(self, request: WebhookRequest) -> str:
        return check_signature(request, self.around.hook_url, self._secrets, version_1=self.settings.signature_v1)

    def parse(self, body: bytes) -> Sequence[Item]:
        return [item for event in read_events(body) for item in items(event, self.settings.portal_id, self._kept)]
