"""Kirim behind the interface that every CRM has. It only ever changes what exists, never makes a record.

Contacts and conversations live under phone numbers. An id does not say which, so the number is remembered where it
was seen and the configured numbers are tried in turn otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from crmsync.connector import Connector, Outcome, Surroundings
from crmsync.core.mapping import VOCABULARIES
from crmsync.errors import BadPayload, ConnectorError, Reject, Retry, Suspend, Unsupported
from crmsync.kirim.client import BulkLabelled, KirimClient, Limits
from crmsync.kirim.contact import METADATA, SCHEMA, contact_record, metadata_of
from crmsync.kirim.conversation import SCHEMA as CONVERSATION_SCHEMA
from crmsync.kirim.conversation import conversation_patch, conversation_record
from crmsync.kirim.events import parse
from crmsync.kirim.labels import LabelBook
from crmsync.kirim.nulls import Nulls
from crmsync.kirim.numbers import NumberBook
from crmsync.kirim.reading import clean
from crmsync.kirim.settings import KirimSettings, Paths
from crmsync.kirim.signature import HEADER, OTHER_HEADER, Secret, verify
from crmsync.kirim.walk import Position
from crmsync.kirim.wire import READ, WRITE, Listing, Row
from crmsync.model import (
    Can,
    FieldInfo,
    Fields,
    FieldType,
    Item,
    Kind,
    Page,
    Rate,
    Record,
    Ref,
    Value,
    WebhookRequest,
    Write,
    Written,
)

A = TypeVar("A")
B = TypeVar("B")

FREE_READS, FREE_WRITES = Rate(600, 60), Rate(60, 60)
"""The documented limits of the free tier; the headers of the first answer tell of a better one."""

CLOCKS_APART = timedelta(hours=48)
"""How far ahead of ours a stated time may be and still be believed."""

OVERLAP = timedelta(minutes=5)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
_SEARCHED = frozenset({"name", "email"})
_STRIPES = 64
LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Resource:
    """The calls for one kind of record."""

    noun: str
    get: Callable[[str, str], Row | None]
    patch: Callable[[str, str, Row], Row | None]
    page: Callable[..., Listing]
    record: Callable[[Row], Record]
    body: Callable[[Row, Fields], dict[str, Any]]


class Kirim(Connector[KirimSettings]):
    """Kirim's contacts and conversations, its labels, and its webhooks."""

    name: ClassVar[str] = "kirim"
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.CONTACT, Kind.CONVERSATION})
    can: ClassVar[frozenset[Can]] = frozenset({Can.WEBHOOKS, Can.CHANGES, Can.FIND})
    Settings: ClassVar[type[KirimSettings]] = KirimSettings
    batch_size: ClassVar[int] = 25
    rate: ClassVar[Rate] = FREE_READS
    buckets: ClassVar[Mapping[str, Rate]] = MappingProxyType({READ: FREE_READS, WRITE: FREE_WRITES})
    signature_headers: ClassVar[tuple[bytes, ...]] = (HEADER, OTHER_HEADER)
    buckets = MappingProxyType({"read": Rate(600, 60), "write": Rate(60, 60)})

    def __init__(self, settings: KirimSettings, around: Surroundings) -> None:
        super().__init__(settings, around)
        self.client = KirimClient(settings, around.budget, around.clock, around.reach)
        self._wanted = around.wanted.get(Kind.CONTACT, frozenset())
        self._nulls = Nulls(self._wanted)
        self._labels = LabelBook(self.client, settings.team_id)
        self._resources = {
            Kind.CONTACT: Resource(
                "contact",
                self.client.contact,
                self.client.patch_contact,
                self.client.contacts_page,
                lambda row: contact_record(row, self._wanted, self._horizon()),
                self._nulls.body,
            ),
            Kind.CONVERSATION: Resource(
                "conversation",
                self.client.conversation,
                self.client.patch_conversation,
                self.client.conversations_page,
                lambda row: conversation_record(row, self._horizon()),
                conversation_patch,
            ),
        }
        self._secrets = tuple(Secret.of(secret.get_secret_value()) for secret in settings.webhook_secrets)
        self._tolerance = timedelta(seconds=settings.tolerance_seconds)
        self._oldest = timedelta(hours=settings.accept_stale_hours)
        self._numbers = NumberBook(settings.phone_number_ids if settings.paths is Paths.PHONE else ("",))
        self._routed = frozenset(settings.phone_number_ids if settings.paths is Paths.PHONE else ())
        self._stripes = tuple(Lock() for _ in range(_STRIPES))
        self._pool = ThreadPoolExecutor(settings.parallel, thread_name_prefix="kirim")

    def close(self) -> None:
        """Waits for what is under way and lets go of the connections."""
        self._pool.shutdown(cancel_futures=True)
        self.client.close()

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        """The record's fields; of a contact also every metadata key that is mapped: Kirim takes any.

        Asks who we are and looks into each number once, so that a wrong key or a wrong number shows.
        """
        resource = self._resource(kind)
        self.client.me()
        self._each(lambda number: resource.page(number, limit=1), self._numbers.all)
        if kind is Kind.CONVERSATION:
            return CONVERSATION_SCHEMA
        mapped = sorted(name for name in self._wanted if name.startswith(METADATA))
        return (*SCHEMA, *(FieldInfo(name, FieldType.TEXT, name.removeprefix(METADATA)) for name in mapped))

    def limits(self) -> Limits:
        """Requests per minute: as configured, else as Kirim says, else those of its free tier."""
        read, write = self.settings.read_per_minute, self.settings.write_per_minute
        if read is None or write is None:
            said = self.client.limits() or Limits(FREE_READS.requests, FREE_WRITES.requests)
            return Limits(read or said.read_per_minute, write or said.write_per_minute)
        return Limits(read, write)

    # -- writing

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Changes each record by itself, several at a time; Kirim has no call for many."""
        resource = self._resource(kind)
        outcomes = self._each(lambda write: self._outcome(resource, write), writes)
        suspended = [outcome for outcome in outcomes if isinstance(outcome, Suspend)]
        if suspended and len(suspended) == len(outcomes):
            raise suspended[0]
        return outcomes

    def _outcome(self, resource: Resource, write: Write) -> Outcome:
        record_id = write.id or write.external_id
        try:
            with self._stripes[hash(record_id) % _STRIPES]:
                return self._write(resource, record_id, write)
        except ConnectorError as error:
            return error

    def _write(self, resource: Resource, record_id: str, write: Write) -> Written:
        """Reads the record, sends what differs, and returns it as Kirim then holds it.

        Metadata can only be sent whole, so it is read just before; a lock keeps our own writers apart. What
        someone else changes between the two calls can be lost: Kirim's interface knows no versions.
        """
        writable = VOCABULARIES[Kind(resource.noun)].writable
        refused = {name: "read_only" for name in write.fields if not writable(name)}
        if refused and len(refused) == len(write.fields):
            raise Reject("kirim takes none of these fields", fields=tuple(refused))
        found = self._locate(resource, record_id)
        if found is None:
            raise Reject(f"kirim has no such {resource.noun}")
        number, held = found
        wanted = {name: value for name, value in write.fields.items() if name not in (*refused, LABELS)}
        row = self._patched(resource, number, record_id, held, wanted, refused)
        record = self._record(resource, row, number)
        if LABELS in write.fields:
            labels = self._relabel(number, record_id, write, refused)
            record = replace(record, fields={**record.fields, LABELS: labels})
        return Written(record, refused=MappingProxyType(refused))

    def _relabel(self, number: str, contact_id: str, write: Write, refused: dict[str, str]) -> Value:
        """Puts on what is new and takes off what is gone, by what was known before; returns what is known then.

        Kirim shows the labels of a contact in events only: what we do not know of we do not take away.
        """
        wanted, held = (_members(fields.get(LABELS)) for fields in (write.fields, write.held))
        after = list(held)
        for name in wanted:
            if name not in held:
                label = self._labels.id(name, create=self.settings.create_labels)
                if label is None:
                    refused[LABELS] = f"kirim has no label {name}; make it there, or say create_labels: true"
                    continue
                self.client.attach_label(number, contact_id, label)
                after.append(name)
        for name in held:
            if name not in wanted:
                label = self._labels.id(name)
                if label is not None:
                    self.client.detach_label(number, contact_id, label)
                after.remove(name)
        return tuple(after)

    def _patched(
        self,
        resource: Resource,
        number: str,
        record_id: str,
        held: Row,
        wanted: dict[str, Any],
        refused: dict[str, str],
    ) -> Row:
        """Sends what differs. A field that Kirim points at is left out and named, so that the others go."""
        while body := resource.body(held, wanted):
            try:
                row = resource.patch(number, record_id, body)
            except Reject as error:
                guilty = _blamed(error, wanted)
                if not guilty or len(guilty) == len(wanted):
                    raise Reject(str(error), fields=guilty or error.fields) from error
                for name in guilty:
                    refused[name] = str(error)
                    del wanted[name]
                continue
            if row is None:
                raise Reject(f"kirim has no such {resource.noun}")
            shown = row if row.get("id") else self._again(resource, number, record_id)
            return self._whole(resource, number, record_id, self._nulls.withheld(held, body), shown, body)
        return held

    def _whole(
        self, resource: Resource, number: str, record_id: str, withheld: frozenset[str], row: Row, body: Row
    ) -> Row:
        """The record after a PATCH. The nulls of others that went with the object it replaced are put back."""
        if withheld and "metadata" not in row:
            row = self._again(resource, number, record_id)
        self._nulls.learn(body, row)
        lost = withheld - metadata_of(row).keys()
        if not lost:
            return row
        back = {"metadata": metadata_of(row) | dict.fromkeys(sorted(lost))}
        try:
            again = resource.patch(number, record_id, back)
        except Reject:
            return row  # what we were to write was taken
        shown = again if again and "metadata" in again else self._again(resource, number, record_id)
        self._nulls.learn(back, shown)
        return shown

    def _again(self, resource: Resource, number: str, record_id: str) -> Row:
        """Reads back what a write's answer did not show."""
        row = resource.get(number, record_id)
        if row is None:
            raise Reject(f"kirim has no such {resource.noun}")
        return row

    # -- reading

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        """Each record by itself, several at a time, each from the first number that has it."""
        resource = self._resource(kind)
        return self._each(lambda ref: self._fetch(resource, ref), refs)

    def _fetch(self, resource: Resource, ref: Ref) -> Record | None:
        found = self._locate(resource, ref.id or ref.external_id or "")
        return None if found is None else self._record(resource, found[1], found[0])

    def _locate(self, resource: Resource, record_id: str) -> tuple[str, Row] | None:
        if not record_id:
            return None
        for number in self._numbers.likely(record_id):
            row = resource.get(number, record_id)
            if row is not None:
                self._numbers.note(record_id, number)
                return number, row
        return None

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """By number exactly, by name or e-mail through Kirim's partial search and an exact comparison."""
        if kind is not Kind.CONTACT:
            raise Unsupported(f"kirim cannot search for a {kind}")
        if field != "phone_number" and field not in _SEARCHED:
            raise Reject("kirim cannot search by this field", fields=(field,))
        candidates = self._each(lambda value: self._candidates(field, value), values)
        return dict(zip(values, candidates, strict=True))

    def _candidates(self, field: str, value: str) -> Sequence[Record]:
        found = {record.id: record for record in self._matches(field, value)}
        return tuple(found.values())

    def _matches(self, field: str, value: str) -> Iterator[Record]:
        if field == "phone_number":
            filters = {"phone": value} if _E164(value) else None
        else:
            filters = {"search": value} if 0 < len(value) <= 200 else None
        if filters is None:
            return  # nothing Kirim holds can equal it, and it would refuse the question
        for number in self._numbers.all:
            for contact in self.client.contacts(number, **filters):
                record = self._record(self._resources[Kind.CONTACT], contact, number)
                if str(record.fields.get(field) or "").casefold() == value.casefold():
                    yield record

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        """One page of a walk over every record of every number; after the last page a new walk begins.

        Kirim documents no filter by time of change (`created_after`, which one guide uses, would miss changes
        of old contacts), so everything is read and `since` is applied here, with an overlap. Pages come in
        Kirim's order, which it does not document.
        """
        resource = self._resource(kind)
        position = Position.read(cursor, since).within(self._numbers.all)
        try:
            listing = resource.page(position.number, position.page)
        except Reject:
            if position.page is None or position.restarted:
                raise
            position = position.again()  # a cursor that Kirim no longer takes: this number from its start
            listing = resource.page(position.number)
        following = position.after(listing.next_cursor, self._numbers.all)
        records = tuple(self._record(resource, row, position.number) for row in listing.rows)
        return Page(
            tuple(record for record in records if position.covers(record.version, OVERLAP)),
            following.write(),
            more=following.begun,
        )

    # -- webhooks

    def verify(self, request: WebhookRequest) -> str:
        """Checks the signature against every secret; returns the label of the one that matched."""
        values = request.header(HEADER) or request.header(OTHER_HEADER)
        return verify(values, request.body, self._secrets, request.received_at, self._tolerance, self._oldest)

    def parse(self, body: bytes) -> Sequence[Item]:
        """Reads a verified body, and remembers which number a contact belongs to."""
        items = parse(
            body,
            self._wanted,
            self._horizon(),
            accept_test_mode=self.settings.accept_test_mode,
            numbers=self._routed,
            conversations=Kind.CONVERSATION in self.around.wanted,
        )
        for item in items:
            record = item.change and item.change.record
            if record:
                self._numbers.note(record.id, record.fields.get("phone_number_id"))
        return items

    # -- how it is done

    def _record(self, resource: Resource, row: Row, number: str) -> Record:
        """The record a row states, with the number it was read under.

        Of one that cannot be read nothing is known but its id: it must not keep a whole page back.
        """
        known = {"phone_number_id": number, **row} if number else row
        try:
            record = resource.record(clean(known))
        except BadPayload as error:
            record_id = row.get("id")
            if not isinstance(record_id, str) or not record_id:
                raise Retry(f"kirim answered with a {resource.noun} that has no id") from error
            record = Record(Kind(resource.noun), record_id, external_id=record_id)
        self._numbers.note(record.id, number)
        return record

    def _horizon(self) -> datetime:
        return self.around.clock() + CLOCKS_APART

    def _each(self, work: Callable[[A], B], inputs: Sequence[A]) -> list[B]:
        """Does the same for each, a few at a time, results in order."""
        if len(inputs) < 2:
            return [work(one) for one in inputs]
        several = [(copy_context(), one) for one in inputs]  # whose work it is goes along
        return list(self._pool.map(lambda pair: pair[0].run(work, pair[1]), several))

    # -- labels of segments

    def label_id(self, name: str, *, create: bool = False) -> str | None:
        """The id of a label; None where there is none, and none is to be made."""
        return self._labels.id(name, create=create)

    def group_by_number(self, contact_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Contacts by the number they live under; whom no number is known to have is looked for."""
        if len(self._numbers.all) == 1:
            return {self._numbers.all[0]: list(contact_ids)}
        found: dict[str, list[str]] = {}
        contacts = self._resources[Kind.CONTACT]
        for contact_id in contact_ids:
            number = self._numbers.known(contact_id) or (self._locate(contacts, contact_id) or ("", {}))[0]
            found.setdefault(number or self._numbers.all[0], []).append(contact_id)
        return found

    def bulk_label(
        self, number: str, contact_ids: Sequence[str], label_id: str, *, attach: bool, key: str
    ) -> BulkLabelled:
        """Gives or takes a label; at most a thousand contacts, and once only for a key."""
        return self.client.bulk_label(number, contact_ids, label_id, attach=attach, idempotency_key=key)

    def _resource(self, kind: Kind) -> Resource:
        if kind not in self._resources:
            raise Unsupported(f"kirim does not keep a {kind} in step")
        return self._resources[kind]


def _members(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (str(value),) if value else ()


def _blamed(error: Reject, wanted: Fields) -> tuple[str, ...]:
    """The fields of ours that an error means; `metadata` means every key of it that we write."""
    return tuple(
        name for name in wanted if name in error.fields or (name.startswith(METADATA) and "metadata" in error.fields)
    )
