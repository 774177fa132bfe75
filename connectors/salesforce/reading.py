"""Reading the records of one kind: by id, by the Kirim id, by value, by time of change, and all of them.

A row is what a query answers, a record what the rest of crmsync understands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from connectors.salesforce.changes import MODIFIED, ORDER, Place
from connectors.salesforce.complaints import COLUMN, Refusal
from connectors.salesforce.schema import OwnField, Schema
from connectors.salesforce.settings import SalesforceSettings
from connectors.salesforce.stand_in import NAME, PHONES, is_stand_in
from connectors.salesforce.values import ID, Row, among, from_salesforce, quoted, rows, soql
from connectors.salesforce.wire import Wire
from crmsync.connecting.pages import every, packed
from crmsync.connecting.values import alike, moment_of
from crmsync.connector import Surroundings
from crmsync.errors import Reject
from crmsync.model import CONTACT_LINK, FieldInfo, FieldType, Kind, Page, Record, Ref

BATCH = 200
LONGEST_VALUES = 10_000
"""Characters of values in one query, which has to fit into an address together with the fields' names."""
RECENT = timedelta(minutes=10)
OLDEST_DELETION = timedelta(days=14)
MASTER, CONTACT, AUTHOR = "MasterRecordId", "ContactId", "LastModifiedById"


class Records:
    """The records of one kind, of the object `of`. `key` is the field with the Kirim id; `wanted` are the fields that
    are read. `linked` says that they belong to contacts."""

    def __init__(self, kind: Kind, wire: Wire, settings: SalesforceSettings, around: Surroundings) -> None:
        self.kind = kind
        self.wire = wire
        self.of, own = own_of(kind, settings)
        self.key = own.name
        self.schema = Schema(wire, self.of, [own])
        self.named = kind is Kind.CONTACT
        self.linked = kind is Kind.CONVERSATION and settings.contact_object == "Contact"
        self.wanted = around.wanted.get(kind, frozenset())
        self._clock = around.clock
        self.page = settings.page_size
        self._overlap = timedelta(seconds=settings.poll_overlap_seconds)

    def fields(self) -> Sequence[FieldInfo]:
        """Every field, and what a conversation's record belongs to."""
        links = FieldInfo(CONTACT_LINK, FieldType.SET, label="Contact", writable=self.linked)
        return [*self.schema.fields(), *([] if self.named else [links])]

    # By id

    def fetch(self, refs: Sequence[Ref]) -> Sequence[Record | None]:
        """As the connector's `fetch`."""
        by_id = self.by_id([ref.id for ref in refs if ref.id])
        missed = [ref.external_id for ref in refs if ref.external_id and ref.id not in by_id]
        by_key = {record.external_id: record for record in self._among(self.key, missed)}
        return [by_id.get(ref.id or "") or by_key.get(ref.external_id) for ref in refs]

    def by_id(self, ids: Iterable[str]) -> Mapping[str, Record]:
        """The live records of these ids; for one that was merged away, the survivor."""
        asked = [id for id in dict.fromkeys(ids) if ID.fullmatch(id)]
        found = {str(row["Id"])[:15]: row for row in self._rows_among("Id", asked, deleted=True)}
        masters = {id: str(row[MASTER]) for id, row in found.items() if row.get("IsDeleted") and row.get(MASTER)}
        survivors = self.by_id(set(masters.values())) if masters else {}
        records: dict[str, Record] = {}
        for id in asked:
            row = found.get(id[:15])
            if row is not None and not row.get("IsDeleted"):
                records[id] = self.record(row)
            elif survivor := survivors.get(masters.get(id[:15], "")):
                records[id] = replace(survivor, aliases=(*survivor.aliases, id))
        return records

    def as_written(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """The records of these ids that nobody else changed since our own last write to them."""
        rows = self._rows_among("Id", ids, more=(AUTHOR,))
        return {str(row["Id"]): self.record(row) for row in rows if str(row[AUTHOR]).startswith(self.wire.user)}

    def survivors(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Under which ids the records of these ids are to be found now; none for what is gone."""
        return {id: record.id for id, record in self.by_id(ids).items()}

    def keys(self, values: Iterable[str]) -> set[str]:
        """Which of these Kirim ids a record carries."""
        return {str(row[self.key]) for row in self._rows_among(self.key, list(values))}

    def record(self, row: Row) -> Record:
        """A record as Salesforce holds it; a field that is not in the answer is unknown."""
        known = self.schema.known()
        fields = {
            name: from_salesforce(row[name], known[name]) for name in self.wanted if name in row and name in known
        }
        if self.named and NAME in fields and is_stand_in(row, self.key):
            fields[NAME] = None
        if self.linked and CONTACT_LINK in self.wanted:
            fields[CONTACT_LINK] = (str(row[CONTACT]),) if row.get(CONTACT) else None
        return Record(
            self.kind,
            str(row["Id"]),
            fields,
            version=moment_of(row.get(MODIFIED)),
            external_id=row.get(self.key) or None,
            archived=row.get("IsDeleted") is True,
        )

    # By value

    def find(self, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """As the connector's `find`."""
        rows = self._rows_among(field, sorted({value.strip() for value in values} - {""}), more=(field,))
        return alike(values, ((row.get(field), self.record(row)) for row in rows), str.casefold)

    def _among(self, field: str, values: Sequence[str]) -> Sequence[Record]:
        return [self.record(row) for row in self._rows_among(field, values)]

    def _rows_among(
        self, field: str, values: Sequence[str], *, deleted: bool = False, more: Sequence[str] = ()
    ) -> Sequence[Row]:
        """The rows whose field has one of these values."""
        found: list[Row] = []
        for part in packed(values, BATCH, LONGEST_VALUES, _room):
            found += pages(self.wire, self.select(among(field, part), deleted=deleted, more=more))
        return found

    # By time

    def changed(self, cursor: str | None, since: datetime | None = None) -> Page:
        """As the connector's `changed`. Deletions are among the rows, with the survivor of a merge if there is one."""
        place = Place.begin(since) if cursor is None else Place.read(cursor)
        now, gone = self._clock(), []
        if place.is_due(now):
            gone = self._gone(place, now)
            place = place.covering(self._covered(now), now)
        body = self.select(*place.conditions(), deleted=True, order=ORDER, limit=self.page)
        found = rows(body)
        more = bool(found) and (len(found) >= self.page or body.get("done") is False)
        following = place.after(found, self._overlap, more=more)
        return Page((*gone, *self._stated(found)), str(following), more)

    def _stated(self, found: Sequence[Row]) -> Sequence[Record]:
        """The records of rows. One that was merged away is stated as its survivor."""
        merged = [str(row["Id"]) for row in found if row.get("IsDeleted") and row.get(MASTER)]
        survivors = self.by_id(merged) if merged else {}
        return [survivors.get(str(row["Id"])) or self.record(row) for row in found]

    def _covered(self, now: datetime) -> datetime | None:
        """Up to when every change is visible. None where Salesforce does not tell."""
        body = self._window("updated", now - RECENT, now)
        return moment_of(body.get("latestDateCovered")) if isinstance(body, dict) else None

    def _gone(self, place: Place, now: datetime) -> list[Record]:
        """What was deleted since, as far as no query shows it any more: the recycle bin can be emptied."""
        since = moment_of(place.covered or place.floor)
        if since is None:
            return []
        body = self._window("deleted", max(since - self._overlap, now - OLDEST_DELETION), now)
        listed = body.get("deletedRecords") if isinstance(body, dict) else None
        ids = [str(one["id"]) for one in listed if one.get("id")] if isinstance(listed, list) else []
        shown = {str(row["Id"]) for row in self._rows_among("Id", ids, deleted=True)}
        return [Record(self.kind, id, archived=True) for id in ids if id not in shown]

    def _window(self, what: str, start: datetime, end: datetime) -> Any:
        """None where the window is refused: a full comparison finds what it would have told."""
        times = {"start": start.isoformat(timespec="seconds"), "end": end.isoformat(timespec="seconds")}
        try:
            return self.wire.call(f"sobjects/{self.of}/{what}/", params=times)
        except Reject:
            return None

    # All

    def walk(self, cursor: str | None) -> Page:
        """One page of all live records, in the order of their ids."""
        after = [f"Id > {quoted(cursor)}"] if cursor and ID.fullmatch(cursor) else []
        body = self.select(*after, order="Id", limit=self.page)
        found = rows(body)
        more = bool(found) and (len(found) >= self.page or body.get("done") is False)
        return Page(tuple(map(self.record, found)), str(found[-1]["Id"]) if found else cursor or "", more)

    def count(self) -> int | None:
        """How many live ones there are."""
        body = self.wire.call("query", params={"q": soql(["COUNT()"], self.of)})
        total = body.get("totalSize") if isinstance(body, dict) else None
        return total if type(total) is int else None

    def select(
        self, *conditions: str, deleted: bool = False, order: str = "", limit: int = 0, more: Sequence[str] = ()
    ) -> Any:
        """The answer to a query for whole records. Fields may have gone since they were last looked at: once, the
        query is asked anew with those that are left."""
        path = "queryAll" if deleted else "query"

        def ask() -> Any:
            text = soql(sorted({*self._columns(), *more}), self.of, *conditions, order=order, limit=limit)
            return self.wire.call(path, params={"q": text}, detailed=True)

        try:
            return ask()
        except Refusal as refusal:
            before = self._columns()
            if refusal.code != COLUMN or self._anew() == before:
                raise refusal.plain() from None
        return ask()

    def _anew(self) -> Sequence[str]:
        self.schema.read()
        return self._columns()

    def _columns(self) -> Sequence[str]:
        known = self.schema.known()
        asked = {self.key, "Id", "IsDeleted", MODIFIED, MASTER, *self.wanted}
        if self.linked:
            asked.add(CONTACT)
        if self.named and NAME in self.wanted:
            asked.update(PHONES)
        return sorted(asked & known.keys())


def own_of(kind: Kind, settings: SalesforceSettings) -> tuple[str, OwnField]:
    """The object of a kind, and the field that holds the Kirim id."""
    if kind is Kind.CONTACT:
        return settings.contact_object, OwnField(settings.external_id, "the Kirim id")
    return "Case", OwnField(settings.conversation_external_id, "the Kirim id")


def pages(wire: Wire, first: Any) -> Iterable[Row]:
    """The rows of every page of a query."""

    def ask(cursor: str | None) -> tuple[Sequence[Row], str | None]:
        body = first if cursor is None else wire.more(cursor)
        return rows(body), str(body.get("nextRecordsUrl")) if body.get("done") is False else None

    return every(ask)


def _room(value: str) -> int:
    """What a value takes of an address, at most."""
    return 9 + sum(1 if character.isalnum() and character.isascii() else 12 for character in value)
