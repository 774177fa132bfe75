"""Reading the records of one kind: by id, by the Kirim id, by search, and page by page through all of them.

A row is what HubSpot answers, a record what the rest of crmsync understands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from connectors.hubspot.changes import RECORD_ID, Place
from connectors.hubspot.complaints import Complaint
from connectors.hubspot.links import ContactLinks
from connectors.hubspot.objects import CONTACTS, RECORDS, TICKETS, OwnProperty
from connectors.hubspot.schema import Schema, pipelines
from connectors.hubspot.settings import HubSpotSettings
from connectors.hubspot.stand_in import EMPTY, NAME, TELLING, without_stand_in
from connectors.hubspot.values import Row, field_of, from_hubspot, next_page, rows
from connectors.hubspot.wire import Answer, Wire
from crmsync.connecting.pages import packed, portions
from crmsync.connecting.values import alike, listed, moment_of
from crmsync.connector import pick
from crmsync.errors import Retry
from crmsync.model import CONTACT_LINK, FieldInfo, FieldType, Kind, Page, Record, Ref

MERGED = "hs_merged_object_ids"
BATCH = 100
SEARCH_PAGE, SEARCH_BODY, SEARCH_CAP = 200, 3_000, 10_000
SEARCH_VALUES, SEARCH_VALUES_SIZE = 100, 1_500
LONGEST_QUERY = 4_000
LINKS = FieldInfo(CONTACT_LINK, FieldType.SET, label="Contacts")


class Records:
    """The records of one kind. `key` is the property with the Kirim id; `wanted` are the fields that are read.

    `named` says that a new record needs a name, so that a stand-in may be one. `links` are there for what belongs to
    contacts.
    """

    def __init__(
        self, kind: Kind, wire: Wire, settings: HubSpotSettings, wanted: frozenset[str], contacts: Records | None = None
    ) -> None:
        self.kind = kind
        self.of = RECORDS[kind]
        self.wire = wire
        self.wanted = wanted
        own = key_of(kind, settings)
        self.key = own.name
        self.schema = Schema(wire, self.of, [own])
        self.named = self.of is CONTACTS
        self.links = None if contacts is None else ContactLinks(wire, self.of, contacts.survivors)
        self._overlap = timedelta(seconds=settings.poll_overlap_seconds)
        self._asked = (wanted | {self.key, self.of.modified, MERGED}) - {CONTACT_LINK}
        if self.named and NAME in wanted:
            self._asked |= set(TELLING)

    # Schema

    def fields(self) -> Sequence[FieldInfo]:
        """Every property as a field; what can be chosen of pipelines and stages is kept in another place."""
        known = self.schema.read()
        found = [field_of(definition) for definition in known.values()]
        if self.of is TICKETS:
            choices = pipelines(self.wire, self.of)
            found = [_with_choices(info, choices[info.name]) if info.name in choices else info for info in found]
        return found if self.links is None else [*found, LINKS]

    # By id

    def fetch(self, refs: Sequence[Ref]) -> Sequence[Record | None]:
        """As the connector's `fetch`."""
        by_id = self._read_by_id([ref.id for ref in refs if ref.id])
        missed = [ref for ref in refs if ref.external_id and ref.id not in by_id]
        by_key = self._read_by_key([ref.external_id for ref in missed if ref.external_id])
        found = [by_id.get(ref.id or "") or by_key.get(ref.external_id or "") for ref in refs]
        linked = iter(self._linked([record for record in found if record]))
        return [next(linked) if record else None for record in found]

    def survivors(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Under which ids the records of these ids are to be found now; none for what is gone."""
        return {id: record.id for part in portions(list(ids), BATCH) for id, record in self._read_by_id(part).items()}

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
        found = self._read(list(dict.fromkeys(keys)), idProperty=self.key)
        return {record.external_id: record for record in found if record.external_id}

    def _read(self, ids: Sequence[str], **options: str) -> Sequence[Record]:
        return [record for record in map(self.record, self.read_rows(ids, **options)) if not record.archived]

    def read_rows(self, ids: Sequence[str], **options: str) -> Sequence[Row]:
        """The rows of these ids, with everything that a record is made of."""
        return read_rows(self.wire, self.of.path, ids, self._properties(), **options)

    def keys(self, ids: Sequence[str]) -> Mapping[str, str | None]:
        """The Kirim ids of records, by every id they have or had. At most a batch."""
        found = read_rows(self.wire, self.of.path, ids, [self.key, MERGED])
        return {id: row["properties"].get(self.key) or None for row in found for id in (*absorbed(row), str(row["id"]))}

    def _properties(self, *more: str) -> list[str]:
        return sorted({*self._asked, *more})

    def record(self, row: Row, alias: str | None = None, known: Row | None = None) -> Record:
        """A record as HubSpot holds it; a property that is not in the answer is unknown.

        `known` are the properties by which to tell whether the contact has a name: those of a row that was read
        are enough.
        """
        schema, properties = self.schema.known(), row["properties"]
        if self.named:
            properties = without_stand_in(properties, known or {**EMPTY, **properties}, self.key)
        return Record(
            self.kind,
            str(row["id"]),
            {name: from_hubspot(text, schema.get(name, {})) for name, text in pick(properties, self.wanted).items()},
            version=moment_of(row.get("updatedAt")),
            external_id=properties.get(self.key) or None,
            aliases=tuple(id for id in dict.fromkeys([*absorbed(row), alias]) if id and id != str(row["id"])),
            archived=row.get("archived") is True,
        )

    def _linked(self, records: Sequence[Record]) -> Sequence[Record]:
        """The same with the contacts they belong to, which HubSpot never tells together with a record."""
        if self.links is None or CONTACT_LINK not in self.wanted or not records:
            return records
        contacts = self.links.read([record.id for record in records])
        return [replace(record, fields={**record.fields, CONTACT_LINK: contacts.get(record.id)}) for record in records]

    # Searching

    def find(self, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """As the connector's `find`."""
        asked = sorted({value.strip().lower() for value in values} - {""})
        return alike(values, self._found(field, asked), str.lower)

    def _found(self, field: str, values: Sequence[str]) -> Iterator[tuple[object, Record]]:
        for part in packed(values, SEARCH_VALUES, SEARCH_VALUES_SIZE, lambda value: len(json.dumps(value)) + 2):
            filters = [{"propertyName": field, "operator": "IN", "values": part}]  # wants lower case
            after: str | None = ""
            count = 0
            while after is not None and count < SEARCH_CAP:
                found, after, _ = self._search(filters, RECORD_ID, after, field)
                count += len(found)
                for row, record in zip(found, self._linked(list(map(self.record, found))), strict=True):
                    yield row["properties"].get(field), record

    def changed(self, cursor: str | None, since: datetime | None = None) -> Page:
        """As the connector's `changed`."""
        modified = self.of.modified
        place = Place.since(since) if cursor is None else Place.read(cursor)
        found, after, answer = self._search(place.filters(modified), place.order(modified))
        following, more = place.after(found, modified, after is not None, answer.at, self._overlap)
        return Page(tuple(self._linked(list(map(self.record, found)))), str(following), more)

    def walk(self, cursor: str | None) -> Page:
        """One page of all records, in the order of their ids: such pages are no searches, of which few are allowed."""
        asked = self._properties()
        crowded = sum(map(len, asked)) + len("properties=&") * len(asked) > LONGEST_QUERY
        options = {
            "limit": BATCH,
            "properties": [self.key] if crowded else asked,
            "archived": False,
            **({"after": cursor} if cursor else {}),
        }
        body = self.wire.call(self.wire.pages.get_page, self.of.path, options=options).body
        found = rows(body)
        following = next_page(body)
        records = map(self.record, self._complete(found) if crowded else found)
        return Page(tuple(self._linked(list(records))), following or "", following is not None)

    def count(self) -> int | None:
        """How many there are, as far as the search has noticed."""
        total = self._search([], RECORD_ID, limit=1)[2].body.get("total")
        return total if type(total) is int else None

    def _search(
        self, filters: Sequence[Row], order: str, after: str = "", *more: str, limit: int = SEARCH_PAGE
    ) -> tuple[Sequence[Row], str | None, Answer]:
        """One page: its rows, where the next one begins, and the answer they came in."""
        request = {
            "filterGroups": [{"filters": filters}] if filters else [],
            "sorts": [{"propertyName": order, "direction": "ASCENDING"}],
            "properties": self._properties(*more),
            "limit": limit,
            **({"after": after} if after else {}),
        }
        crowded = len(json.dumps(request)) > SEARCH_BODY
        if crowded:
            request["properties"] = [self.of.modified, *more]
        answer = self.wire.call(self.wire.search.do_search, self.of.path, request, bucket="search")
        found = rows(answer.body)
        return (self._complete(found) if crowded else found), next_page(answer.body), answer

    def _complete(self, found: Sequence[Row]) -> Sequence[Row]:
        """The same rows with every wanted property, which a batch read can ask for where a search is too short.

        What the search said stays: its order rests on it.
        """
        ids = [str(row["id"]) for row in found]
        whole = {str(row["id"]): row for part in portions(ids, BATCH) for row in self.read_rows(part)}
        return [
            {**row, "properties": {**whole.get(str(row["id"]), row)["properties"], **row["properties"]}}
            for row in found
        ]


def key_of(kind: Kind, settings: HubSpotSettings) -> OwnProperty:
    """The property that holds the Kirim id."""
    if kind is Kind.CONTACT:
        return OwnProperty(settings.external_id, "Kirim contact id", "the Kirim id", True, "external_id")
    name, setting = settings.conversation_external_id, "conversation_external_id"
    return OwnProperty(name, "Kirim conversation id", "the Kirim id", True, setting)


def read_rows(wire: Wire, path: str, ids: Sequence[str], properties: Sequence[str], **options: str) -> Sequence[Row]:
    """The rows of at most a hundred ids; those that were not found are left out."""
    if not ids:
        return []
    request = {
        "inputs": [{"id": id} for id in ids],
        "properties": list(properties),
        "propertiesWithHistory": [],
        **options,
    }
    body = wire.call(wire.objects.read, path, request).body
    for complaint in map(Complaint.read, listed(body.get("errors"))):
        if complaint.category not in ("", "OBJECT_NOT_FOUND"):  # those that were not found are no failure
            raise Retry(f"HubSpot could not read every record: {complaint}")
    return rows(body)


def absorbed(row: Row) -> Sequence[str]:
    """The ids of the records that were merged into a row's."""
    return [id for id in str(row["properties"].get(MERGED) or "").split(";") if id]


def _with_choices(info: FieldInfo, names: Mapping[str, str]) -> FieldInfo:
    """A field with the ids it takes; people know them by name."""
    told = ", ".join(f"{id} = {name}" for id, name in names.items())
    return replace(info, type=FieldType.CHOICE, options=tuple(names), label=f"{info.label} ({told})")
