"""HubSpot contacts, through HubSpot's own client package.

Needs the scopes crm.objects.contacts.read and .write, crm.schemas.contacts.read, and .write for `prepare`. Leaves
out tickets, activities, lists (segments) and the webhooks journal.

https://developers.hubspot.com/docs/api-reference/latest/crm/objects/contacts/guide
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from connectors.hubspot.changes import MODIFIED, RECORD_ID, Place
from connectors.hubspot.complaints import Complaint, Refusal, listed
from connectors.hubspot.settings import HubSpotSettings
from connectors.hubspot.stand_in import EMPTY, NAME, TELLING, without_stand_in
from connectors.hubspot.upsert import Upsert
from connectors.hubspot.values import Row, field_of, from_hubspot, key_property, moment_of, rows
from connectors.hubspot.webhooks import check_signature, items, read_events
from connectors.hubspot.wire import Answer, Wire
from crmsync.connector import Connector, Outcome, Surroundings, pick
from crmsync.errors import Reject, Retry, Suspend, Unsupported
from crmsync.model import Can, FieldInfo, Item, Kind, Page, Rate, Record, Ref, WebhookRequest, Write

OBJECT = "contacts"
MERGED = "hs_merged_object_ids"
SEARCH_PAGE, SEARCH_BODY, SEARCH_CAP = 200, 3_000, 10_000
SEARCH_VALUES, SEARCH_VALUES_SIZE = 100, 1_500


class HubSpot(Connector[HubSpotSettings]):
    """Contacts of one HubSpot account, keyed by a text property with unique values."""

    name = "hubspot"
    kinds = frozenset({Kind.CONTACT})
    can = frozenset({Can.WEBHOOKS, Can.CHANGES, Can.FIND, Can.NATIVE_UPSERT, Can.CREATE, Can.PREPARE})
    Settings = HubSpotSettings
    batch_size = 100
    rate = Rate(190, 10, rolling=True)
    buckets = MappingProxyType({"search": Rate(5, 1, rolling=True)})
    signature_headers = (b"x-hubspot-signature-v3", b"x-hubspot-request-timestamp", b"x-hubspot-signature")

    def __init__(self, settings: HubSpotSettings, around: Surroundings) -> None:
        super().__init__(settings, around)
        self.wire = Wire(settings, around)
        self.wanted = around.wanted.get(Kind.CONTACT, frozenset())
        self._asked = self.wanted | {settings.external_id, MODIFIED, MERGED}
        if NAME in self.wanted:
            self._asked |= set(TELLING)
        self._secrets = tuple(secret.get_secret_value() for secret in settings.client_secrets)
        self._schema: Mapping[str, Row] | None = None

    def close(self) -> None:
        self.wire.close()

    # Schema

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        self._check(kind)
        return [field_of(definition) for definition in self._read_schema().values()]

    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        self._check(kind)
        name = self.settings.external_id
        if found := self._read_schema().get(name):
            self._check_key(found)
            return []
        if not plan_only:
            try:
                self.wire.call(self.wire.properties.create, OBJECT, key_property(name), writing=True)
            except Refusal as refusal:
                if not refusal.conflict:  # a conflict: somebody else made it meanwhile
                    raise refusal.plain() from None
            self._check_key(self._read_schema().get(name, {}))
        return [f"The contact property {name}, a text with unique values, has to be made for the Kirim id."]

    def _check_key(self, found: Row) -> None:
        """Whether a property can be the key. Uniqueness is given to a property when it is made, or never."""
        if not (found.get("hasUniqueValue") and found.get("type") == "string" and field_of(found).writable):
            raise Reject(
                f"HubSpot's contact property {self.settings.external_id} is not a writable text with unique values, "
                "and cannot be made one: name another property in `external_id:`"
            )

    def require_key(self) -> None:
        """Raises `Suspend` unless the key property is there: without it no record can be written."""
        if self.settings.external_id not in self._read_schema():
            raise Suspend(f"HubSpot has no contact property {self.settings.external_id}; prepare the account")

    def schema(self) -> Mapping[str, Row]:
        """The property definitions by name, read once: what a property's text means does not change."""
        return self._read_schema() if self._schema is None else self._schema

    def _read_schema(self) -> Mapping[str, Row]:
        results = self.wire.call(self.wire.properties.get_all, OBJECT).body.get("results")
        if not isinstance(results, list):
            raise Retry("HubSpot gave a bad response: no list of properties")
        self._schema = {str(row["name"]): row for row in results if isinstance(row, dict) and row.get("name")}
        return self._schema

    # Writing and reading

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        self._check(kind)
        return Upsert(self).send(writes)

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        self._check(kind)
        by_id = self._read_by_id([ref.id for ref in refs if ref.id])
        missed = [ref for ref in refs if ref.external_id and ref.id not in by_id]
        by_key = self._read_by_key([ref.external_id for ref in missed if ref.external_id])
        return [by_id.get(ref.id or "") or by_key.get(ref.external_id or "") for ref in refs]

    def _read_by_id(self, ids: Iterable[str]) -> Mapping[str, Record]:
        """The live records of these ids; for an id that was merged away, the survivor."""
        asked = list(dict.fromkeys(id for id in ids if re.fullmatch(r"[0-9]{1,19}", id)))
        records = self._read(asked)
        bearers = {id: record for record in records for id in (*record.aliases, record.id)}
        found = {id: bearers[id] for id in asked if id in bearers}
        strangers = [record for record in records if record not in found.values()]
        if strangers and len(asked) == 1:
            return {asked[0]: replace(strangers[0], aliases=(*strangers[0].aliases, asked[0]))}
        for id in asked if strangers else ():  # a survivor that does not tell whom it absorbed
            if id not in found:
                found.update(self._read_by_id([id]))
        return found

    def _read_by_key(self, keys: Iterable[str]) -> Mapping[str, Record]:
        found = self._read(list(dict.fromkeys(keys)), idProperty=self.settings.external_id)
        return {record.external_id: record for record in found if record.external_id}

    def _read(self, ids: Sequence[str], **options: str) -> Sequence[Record]:
        return [record for record in map(self.record, self.read_rows(ids, **options)) if not record.archived]

    def read_rows(self, ids: Sequence[str], **options: str) -> Sequence[Row]:
        """The rows of these ids, with everything that a record is made of."""
        if not ids:
            return []
        request = {
            "inputs": [{"id": id} for id in ids],
            "properties": self._properties(),
            "propertiesWithHistory": [],
            **options,
        }
        body = self.wire.call(self.wire.contacts.read, request).body
        for complaint in map(Complaint.read, listed(body.get("errors"))):
            if complaint.category not in ("", "OBJECT_NOT_FOUND"):  # those that were not found are no failure
                raise Retry(f"HubSpot could not read every record: {complaint}")
        return rows(body)

    def _properties(self, *more: str) -> list[str]:
        return sorted({*self._asked, *more})

    def record(self, row: Row, alias: str | None = None, known: Row | None = None) -> Record:
        """A record as HubSpot holds it; a property that is not in the answer is unknown.

        `known` are the properties by which to tell whether the contact has a name: those of a row that was read
        are enough.
        """
        schema, key = self.schema(), self.settings.external_id
        properties = without_stand_in(row["properties"], known or {**EMPTY, **row["properties"]}, key)
        absorbed = str(properties.get(MERGED) or "").split(";")
        return Record(
            Kind.CONTACT,
            str(row["id"]),
            {name: from_hubspot(text, schema.get(name, {})) for name, text in pick(properties, self.wanted).items()},
            version=moment_of(row.get("updatedAt")),
            external_id=properties.get(key) or None,
            aliases=tuple(id for id in dict.fromkeys([*absorbed, alias]) if id and id != str(row["id"])),
            archived=row.get("archived") is True,
        )

    # Searching

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        self._check(kind)
        alike: dict[str, list[Record]] = {}
        for part in _portions({_folded(value) for value in values} - {""}):
            filters = [{"propertyName": field, "operator": "IN", "values": part}]  # wants lower case
            after: str | None = ""
            count = 0
            while after is not None and count < SEARCH_CAP:
                found, after, _ = self._search(filters, RECORD_ID, after, field)
                count += len(found)
                for row in found:
                    alike.setdefault(_folded(row["properties"].get(field)), []).append(self.record(row))
        return {value: alike.get(_folded(value), []) for value in values}

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        self._check(kind)
        place = Place.begin(since) if cursor is None else Place.read(cursor)
        found, after, answer = self._search(place.filters(), place.order)
        overlap = timedelta(seconds=self.settings.poll_overlap_seconds)
        following, more = place.after(found, after is not None, answer.at, overlap)
        return Page(tuple(map(self.record, found)), str(following), more)

    def _search(
        self, filters: Sequence[Row], order: str, after: str = "", *more: str
    ) -> tuple[Sequence[Row], str | None, Answer]:
        """One page: its rows, where the next one begins, and the answer they came in."""
        request = {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": order, "direction": "ASCENDING"}],
            "properties": self._properties(*more),
            "limit": SEARCH_PAGE,
            **({"after": after} if after else {}),
        }
        crowded = len(json.dumps(request)) > SEARCH_BODY
        if crowded:
            request["properties"] = [MODIFIED, *more]
        answer = self.wire.call(self.wire.search.do_search, request, bucket="search")
        found = rows(answer.body)
        return (self._complete(found) if crowded else found), _next(answer.body), answer

    def _complete(self, found: Sequence[Row]) -> Sequence[Row]:
        """The same rows with every wanted property, which a batch read can ask for where a search is too short.

        What the search said stays: its order rests on it.
        """
        ids = [str(row["id"]) for row in found]
        parts = (ids[start : start + self.batch_size] for start in range(0, len(ids), self.batch_size))
        whole = {str(row["id"]): row for part in parts for row in self.read_rows(part)}
        return [
            {**row, "properties": {**whole.get(str(row["id"]), row)["properties"], **row["properties"]}}
            for row in found
        ]

    # Webhooks

    def verify(self, request: WebhookRequest) -> str:
        return check_signature(request, self.around.hook_url, self._secrets)

    def parse(self, body: bytes) -> Sequence[Item]:
        kept = self.wanted | {self.settings.external_id}
        return [item for event in read_events(body) for item in items(event, self.settings.portal_id, kept)]

    def _check(self, kind: Kind) -> None:
        if kind not in self.kinds:
            raise Unsupported(f"{self.name} does not keep {kind} records")


def _next(body: Row) -> str | None:
    """Where the next page begins, None after the last."""
    paging = body.get("paging")
    following = paging.get("next") if isinstance(paging, dict) else None
    after = following.get("after") if isinstance(following, dict) else None
    return None if after is None else str(after)


def _folded(value: object) -> str:
    """What a search takes for equal."""
    return str(value or "").strip().lower()


def _portions(values: Iterable[str]) -> Iterable[list[str]]:
    """Values in portions that a search has room for."""
    portion: list[str] = []
    for value in sorted(values):
        if portion and (len(portion) == SEARCH_VALUES or len(json.dumps([*portion, value])) > SEARCH_VALUES_SIZE):
            yield portion
            portion = []
        portion.append(value)
    if portion:
        yield portion
