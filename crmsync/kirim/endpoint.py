"""Kirim behind the interface that every CRM has. It only ever changes contacts that exist, never makes any.

Contacts live under phone numbers. An id does not say which, so the number is remembered where it was seen and
the configured numbers are tried in turn otherwise. Labels, messages and conversations are not written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Lock
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from crmsync.connector import Connector, Outcome, Surroundings
from crmsync.core.mapping import kirim_writable
from crmsync.errors import BadPayload, ConnectorError, Reject, Retry, Suspend, Unsupported
from crmsync.kirim.client import KirimClient, Limits
from crmsync.kirim.contact import METADATA, SCHEMA, contact_record, patch_body
from crmsync.kirim.events import parse
from crmsync.kirim.numbers import NumberBook
from crmsync.kirim.reading import clean
from crmsync.kirim.settings import KirimSettings, Paths
from crmsync.kirim.signature import HEADER, OTHER_HEADER, Secret, verify
from crmsync.kirim.walk import Position
from crmsync.kirim.wire import READ, WRITE, Row
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


class Kirim(Connector[KirimSettings]):
    """Kirim's contacts, and its webhooks."""

    name: ClassVar[str] = "kirim"
    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.CONTACT})
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
        """The contact's fields and every metadata key that is mapped: Kirim takes any.

        Asks who we are and looks into each number once, so that a wrong key or a wrong number shows.
        """
        self._contacts_only(kind)
        self.client.me()
        self._each(lambda number: self.client.contacts_page(number, limit=1), self._numbers.all)
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
        """Changes each contact by itself, several at a time; Kirim has no call for many."""
        self._contacts_only(kind)
        outcomes = self._each(self._outcome, writes)
        suspended = [outcome for outcome in outcomes if isinstance(outcome, Suspend)]
        if suspended and len(suspended) == len(outcomes):
            raise suspended[0]
        return outcomes

    def _outcome(self, write: Write) -> Outcome:
        contact_id = write.id or write.external_id
        try:
            with self._stripes[hash(contact_id) % _STRIPES]:
                return self._write(contact_id, write.fields)
        except ConnectorError as error:
            return error

    def _write(self, contact_id: str, fields: Fields) -> Written:
        """Reads the contact, sends what differs, and returns it as Kirim then holds it.

        Metadata can only be sent whole, so it is read just before; a lock keeps our own writers apart. What
        someone else changes between the two calls can be lost: Kirim's interface knows no versions.
        """
        refused = {name: "read_only" for name in fields if not kirim_writable(name)}
        if refused and len(refused) == len(fields):
            raise Reject("kirim takes none of these fields", fields=tuple(refused))
        found = self._locate(contact_id)
        if found is None:
            raise Reject("kirim has no such contact")
        number, held = found
        wanted = {name: value for name, value in fields.items() if name not in refused}
        contact = self._patched(number, contact_id, held, wanted, refused)
        return Written(self._record(contact, number), refused=MappingProxyType(refused))

    def _patched(self, number: str, contact_id: str, held: Row, wanted: dict[str, Any], refused: dict[str, str]) -> Row:
        """Sends what differs. A field that Kirim points at is left out and named, so that the others go."""
        while body := patch_body(held, wanted):
            try:
                contact = self.client.patch_contact(number, contact_id, body)
            except Reject as error:
                guilty = _blamed(error, wanted)
                if not guilty or len(guilty) == len(wanted):
                    raise Reject(str(error), fields=guilty or error.fields) from error
                for name in guilty:
                    refused[name] = str(error)
                    del wanted[name]
                continue
            if contact is None:
                raise Reject("kirim has no such contact")
            return contact if contact.get("id") else self._again(number, contact_id)
        return held

    def _again(self, number: str, contact_id: str) -> Row:
        """Reads back what a write's answer did not show."""
        contact = self.client.contact(number, contact_id)
        if contact is None:
            raise Reject("kirim has no such contact")
        return contact

    # -- reading

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        """Each contact by itself, several at a time, each from the first number that has it."""
        self._contacts_only(kind)
        return self._each(self._fetch, refs)

    def _fetch(self, ref: Ref) -> Record | None:
        found = self._locate(ref.id or ref.external_id or "")
        return None if found is None else self._record(found[1], found[0])

    def _locate(self, contact_id: str) -> tuple[str, Row] | None:
        if not contact_id:
            return None
        for number in self._numbers.likely(contact_id):
            contact = self.client.contact(number, contact_id)
            if contact is not None:
                self._numbers.note(contact_id, number)
                return number, contact
        return None

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """By number exactly, by name or e-mail through Kirim's partial search and an exact comparison."""
        self._contacts_only(kind)
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
                record = self._record(contact, number)
                if str(record.fields.get(field) or "").casefold() == value.casefold():
                    yield record

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        """One page of a walk over every contact of every number; after the last page a new walk begins.

        Kirim documents no filter by time of change (`created_after`, which one guide uses, would miss changes
        of old contacts), so everything is read and `since` is applied here, with an overlap. Pages come in
        Kirim's order, which it does not document.
        """
        self._contacts_only(kind)
        position = Position.read(cursor, since).within(self._numbers.all)
        try:
            listing = self.client.contacts_page(position.number, position.page)
        except Reject:
            if position.page is None or position.restarted:
                raise
            position = position.again()  # a cursor that Kirim no longer takes: this number from its start
            listing = self.client.contacts_page(position.number)
        following = position.after(listing.next_cursor, self._numbers.all)
        records = tuple(self._record(contact, position.number) for contact in listing.rows)
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
        )
        for item in items:
            record = item.change and item.change.record
            if record:
                self._numbers.note(record.id, record.fields.get("phone_number_id"))
        return items

    # -- how it is done

    def _record(self, contact: Row, number: str) -> Record:
        """The record a contact states, with the number it was read under.

        Of one that cannot be read nothing is known but its id: it must not keep a whole page back.
        """
        known = {"phone_number_id": number, **contact} if number else contact
        try:
            record = contact_record(clean(known), self._wanted, self._horizon())
        except BadPayload as error:
            contact_id = contact.get("id")
            if not isinstance(contact_id, str) or not contact_id:
                raise Retry("kirim answered with a contact that has no id") from error
            record = Record(Kind.CONTACT, contact_id, external_id=contact_id)
        self._numbers.note(record.id, number)
        return record

    def _horizon(self) -> datetime:
        return self.around.clock() + CLOCKS_APART

    def _each(self, work: Callable[[A], B], inputs: Sequence[A]) -> list[B]:
        """Does the same for each, a few at a time, results in order."""
        if len(inputs) < 2:
            return [work(one) for one in inputs]
        return list(self._pool.map(work, inputs))

    def _contacts_only(self, kind: Kind) -> None:
        if kind not in self.kinds:
            raise Unsupported(f"kirim does not keep a {kind} in step")


def _blamed(error: Reject, wanted: Fields) -> tuple[str, ...]:
    """The fields of ours that an error means; `metadata` means every key of it that we write."""
    return tuple(
        name for name in wanted if name in error.fields or (name.startswith(METADATA) and "metadata" in error.fields)
    )
