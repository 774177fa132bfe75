"""A whole CRM in memory with its connector: what the kit and the flows are tested against, and a model for authors.

    crm = MemoryCrm(clock, spelling=Respelling(lower_email=True), index_lag=timedelta(seconds=30))
    connector = crm.connect()

Faults, respelling, index lag, page size and a ledger of effects are in `platform.py`, segments, users and timelines in
`office.py`. Deliveries are JSON, signed with hex HMAC-SHA256 over timestamp, a dot and the body. Needs no pytest.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import SecretStr

from crmsync.connecting.pages import portions
from crmsync.connector import Connector, ConnectorSettings, LogOutcome, Outcome, Surroundings, pick, settled
from crmsync.errors import BadPayload, BadSignature, Doubt, Reject, Retry
from crmsync.http import Budget, Unlimited, classify, retry_after
from crmsync.model import (
    Activity,
    Can,
    Change,
    FieldInfo,
    Fields,
    Item,
    Kind,
    Logged,
    Member,
    Members,
    Page,
    Person,
    Rate,
    Record,
    Ref,
    Segment,
    Value,
    WebhookRequest,
    Write,
    Written,
)
from crmsync.testing.account import SCHEMA, Answer, Effect, Entered, Refused, Respelling, Silent
from crmsync.testing.fake import Delivery, Hooks, Sample
from crmsync.testing.office import Office

__all__ = [
    "SCHEMA",
    "KeylessMemoryConnector",
    "MemoryConnector",
    "MemoryCrm",
    "MemorySettings",
    "Respelling",
    "UpdateOnlyMemoryConnector",
]

T = TypeVar("T")

TIMESTAMP = b"x-memory-timestamp"
SIGNATURE = b"x-memory-signature"
TOLERANCE = timedelta(minutes=5)
OVERLAP = timedelta(minutes=5)
"""How far a new walk through the feed reaches back, for rows that became visible late."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemorySettings(ConnectorSettings):
    """The settings a real connector would have."""

    token: SecretStr = SecretStr("memory-token-7f3a")
    webhook_secrets: tuple[SecretStr, ...] = (
        SecretStr("memory-hook-new-91c2"),
        SecretStr("memory-hook-old-5b0d"),
    )


class MemoryConnector(Connector[MemorySettings]):
    """Speaks to a `MemoryCrm` as a connector speaks to its platform."""

    name: ClassVar[str] = "memory"
    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind)
    can: ClassVar[frozenset[Can]] = frozenset(
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
            Can.BULK,
        }
    )
    Settings: ClassVar[type[ConnectorSettings]] = MemorySettings
    batch_size: ClassVar[int] = 20
    rate: ClassVar[Rate] = Rate(100, 1)

    def __init__(self, settings: MemorySettings, around: Surroundings, crm: Office) -> None:
        super().__init__(settings, around)
        self.crm = crm

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        """The schema of the account."""
        return self._call(lambda: self.crm.describe(kind))

    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        """Whatever `MemoryCrm(missing=…)` named."""
        return self._call(lambda: self.crm.lacks(make=not plan_only))

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        """One request; a batch that is refused as a whole is halved."""
        return settled(writes, lambda part: self._send(kind, part))

    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        """The platform takes its time, and then as many requests as ever."""
        if writes and not pause(1.0):
            raise Retry("the load was given up", ambiguous=True)
        several = portions(writes, self.batch_size)
        return [outcome for some in several for outcome in settled(some, lambda part: self._send(kind, part))]

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        """One request."""
        found = [self._translated(seen) for seen in self._call(lambda: self.crm.read(kind, refs))]
        by_id = {name: record for record in found for name in (record.id, *record.aliases)}
        by_key = {record.external_id: record for record in found}
        return [by_id.get(ref.id or "") or by_key.get(ref.external_id or "") for ref in refs]

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """The platform compares without regard to case."""
        found: dict[str, list[Record]] = {}
        for record in self._call(lambda: self.crm.search(kind, field, values)):
            found.setdefault(str(record.fields.get(field)).casefold(), []).append(self._translated(record))
        return {value: tuple(found.get(value.casefold(), ())) for value in values}

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        """Walks by version and id; the next walk begins where this one began, and some minutes earlier."""
        place = _Place.read(cursor) if cursor else _Place(since or EPOCH)
        if place.began is None:
            start = place.at - OVERLAP if cursor else place.at
            place = _Place(start, "", self.crm.now())
        records, more = self._call(lambda: self.crm.page(kind, (place.at, place.id)))
        if more and records:
            after = replace(place, at=records[-1].version or place.at, id=records[-1].id)
        else:
            after = _Place(place.began or place.at)
        return Page(tuple(self._translated(record) for record in records), str(after), more)

    def count(self, kind: Kind) -> int | None:
        """The platform tells."""
        return self._call(lambda: self.crm.total(kind))

    def people(self) -> Sequence[Person]:
        """One request."""
        return self._call(self.crm.people)

    def segments(self) -> Sequence[Segment]:
        """One request."""
        return self._call(self.crm.segments)

    def members(self, segment: str, cursor: str | None = None) -> Members:
        """By the members' ids; the cursor is the last one seen."""
        page, more = self._call(lambda: self.crm.segment_page(segment, cursor or ""))
        found = tuple(Member(record.id, record.external_id) for record in page)
        return Members(found, found[-1].id if found else cursor or "", more)

    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        """Entries in doubt are looked for beside their contacts; then one request makes and changes all."""
        doubtful = {each.key: each.contact for each in activities if each.doubtful and not each.id}
        found = self._call(lambda: self.crm.entries(set(doubtful.values()))) if doubtful else ()
        known = {key: id for id, key in found if key in doubtful}
        entries = [replace(each, id=each.id or known.get(each.key)) for each in activities]
        return settled(entries, self._enter)

    def verify(self, request: WebhookRequest) -> str:
        """Checks the headers' form, then the code against each secret, then the age."""
        stamps, codes = request.header(TIMESTAMP), request.header(SIGNATURE)
        if not stamps or not codes:
            raise BadSignature(Doubt.MISSING)
        if len(stamps) + len(codes) > 2 or not re.fullmatch(rb"[0-9]{9,11}", stamps[0]):
            raise BadSignature(Doubt.MALFORMED)
        for number, secret in enumerate(self.settings.webhook_secrets):
            if hmac.compare_digest(signature(secret, stamps[0], request.body), codes[0]):
                self._check_age(int(stamps[0]), request.received_at)
                return str(number)
        raise BadSignature(Doubt.MISMATCH)

    def parse(self, body: bytes) -> Sequence[Item]:
        """`{"changes": [...]}`; an entry that cannot be read becomes an item that says so."""
        try:
            entries = orjson.loads(body)["changes"]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            raise BadPayload("no changes") from None
        if not isinstance(entries, list):
            raise BadPayload("no changes")
        return [self._item(entry) for entry in entries]

    def _call(self, request: Callable[[], T]) -> T:
        self.around.budget.take()
        try:
            return request()
        except Refused as refused:
            wait = retry_after(refused.retry_after, self.crm.now())
            if wait is not None:
                self.around.budget.hold(wait)
            raise classify(self.name, refused.status, after=wait) from refused
        except Silent as silent:
            raise Retry(f"{self.name} gave no whole answer ({silent})", ambiguous=True) from silent

    def _send(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        answers = self._call(lambda: self.crm.write(kind, writes, create=Can.CREATE in self.can))
        verdicts = {answer.external_id: answer for answer in answers}
        return [self._outcome(verdicts.get(write.external_id)) for write in writes]

    def _enter(self, entries: Sequence[Activity]) -> Sequence[LogOutcome]:
        answers = {answer.key: answer for answer in self._call(lambda: self.crm.enter(entries))}
        return [self._logged(answers.get(entry.key)) for entry in entries]

    def _logged(self, answer: Entered | None) -> LogOutcome:
        if answer is None:
            return Retry(f"{self.name} said nothing about this entry", ambiguous=True)
        if answer.status >= 400:
            return Reject(f"{self.name} answered {answer.status}")
        return Logged(answer.id, created=answer.created)

    def _outcome(self, answer: Answer | None) -> Outcome:
        if answer is None:
            return Retry(f"{self.name} said nothing about this row", ambiguous=True)
        if answer.status >= 400:
            return Reject(f"{self.name} answered {answer.status}", answer.guilty, answer.candidate)
        record = self._translated(answer.record) if answer.record else None
        return Written(record, answer.created, answer.refused)

    def _translated(self, record: Record) -> Record:
        wanted = self.around.wanted.get(record.kind)
        return record if wanted is None else replace(record, fields=pick(record.fields, wanted))

    def _check_age(self, stamp: int, received_at: datetime) -> None:
        age = received_at - datetime.fromtimestamp(stamp, UTC)
        if age > TOLERANCE:
            raise BadSignature(Doubt.STALE)
        if age < -TOLERANCE:
            raise BadSignature(Doubt.FUTURE)

    def _item(self, entry: Any) -> Item:
        try:
            return self._readable(entry)
        except (KeyError, TypeError, ValueError, OverflowError):
            key = sha256(orjson.dumps(entry)).hexdigest()
            return Item(key, "unreadable", reason="unreadable")

    def _readable(self, entry: Any) -> Item:
        key, type, at = _text(entry["key"]), _text(entry["type"]), _time(entry["at"])
        subject, _, verb = type.partition(".")
        if subject not in set(Kind):
            return Item(key, type, reason="ignored", at=at)
        kind, id = Kind(subject), _text(entry["id"])
        record = None
        if "fields" in entry:
            external_id = entry.get("external_id")
            record = Record(
                kind,
                id,
                {_text(name): _value(value) for name, value in entry["fields"].items()},
                _time(entry["version"]),
                external_id if external_id is None else _text(external_id),
            )
        change = Change(
            kind,
            id,
            self._translated(record) if record else None,
            deleted=verb == "deleted",
            partial=entry.get("partial") is True,
        )
        return Item(key, type, change, at=at, origin=str(entry.get("origin", "")))


class UpdateOnlyMemoryConnector(MemoryConnector):
    """A platform whose records only people make."""

    can: ClassVar[frozenset[Can]] = MemoryConnector.can - {Can.CREATE, Can.BULK}
    load = Connector.load


class KeylessMemoryConnector(MemoryConnector):
    """A platform that does not keep the external id unique: goes with `MemoryCrm(unique_key=False)`."""

    can: ClassVar[frozenset[Can]] = MemoryConnector.can - {Can.NATIVE_UPSERT}


class MemoryCrm(Office):
    """A platform that also rings hooks, and makes the connector that speaks to it. Serves as a `FakeCrm`."""

    connector: type[MemoryConnector] = MemoryConnector
    settings = MemorySettings()
    hooks_say_values = True
    """False: deliveries name the record only."""

    _rung = 0

    def connect(
        self,
        *,
        tenant: str = "acme",
        connection: str = "memory",
        wanted: Mapping[Kind, frozenset[str]] | None = None,
        budget: Budget | None = None,
    ) -> MemoryConnector:
        """A connector to this account; reads every field unless told which."""
        url = f"https://sync.example/hooks/{tenant}/{connection}"
        around = Surroundings(tenant, connection, url, budget or Unlimited(), wanted or {})
        return self.connector(self.settings, around, self)

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def sample(self) -> Sample:
        """What the kit may use."""
        return Sample(
            text="name",
            other="company",
            email="email",
            phone="phone",
            read_only="created_at",
            refused=("stage", "nonsense"),
            find_by="email",
            several_pages=3 * self.page_size + 1,
            conversation={"subject": "Order"},
        )

    @property
    def hooks(self) -> Hooks:
        """Two headers, a signed time."""
        return Hooks((TIMESTAMP, SIGNATURE), secrets=len(self.settings.webhook_secrets))

    @property
    def secrets(self) -> Sequence[str]:
        """Never to be shown."""
        hidden = (self.settings.token, *self.settings.webhook_secrets)
        return [secret.get_secret_value() for secret in hidden]

    def sign(self, body: bytes, age: timedelta = timedelta(0), secret: int = 0) -> WebhookRequest:
        """The request that would bring this body now, signed that long ago."""
        stamp = str(int((self.now() - age).timestamp())).encode()
        code = signature(self.settings.webhook_secrets[secret], stamp, body)
        headers = ((b"content-type", b"application/json"), (TIMESTAMP, stamp), (SIGNATURE, code))
        return WebhookRequest("POST", "/hooks/acme/memory", headers, body, self.now())

    def take_hooks(self) -> Sequence[bytes]:
        """The bodies that were rung since the last call, one per effect that changed something, oldest first."""
        with self._lock:
            effects, start = self.ledger[self._rung :], self._rung
            self._rung = len(self.ledger)
        return [self._ring(number, effect) for number, effect in enumerate(effects, start) if _is_news(effect)]

    def deliveries(self) -> Sequence[Delivery]:
        """One of each type."""
        at = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
        stamp = at.isoformat()
        values: Fields = {"name": "Ana", "company": None, "tags": ("vip", "new")}
        base = {"key": "k1", "kind": "contact", "id": "m000001", "at": stamp, "origin": "person"}
        stated = {**base, "external_id": "ctc_1", "version": stamp, "fields": {**values}}
        record = Record(Kind.CONTACT, "m000001", values, at, "ctc_1")
        hint = Change(Kind.CONTACT, "m000001")
        return [
            Delivery("created", _body({**stated, "type": "contact.created"}), (replace(hint, record=record),)),
            Delivery("hint", _body({**base, "type": "contact.updated"}), (hint,)),
            Delivery("deleted", _body({**base, "type": "contact.deleted"}), (replace(hint, deleted=True),)),
            Delivery("other", _body({**base, "type": "campaign.sent"}), ()),
            Delivery("empty", _body(), ()),
        ]

    def _ring(self, number: int, effect: Effect) -> bytes:
        verb = {"create": "created", "delete": "deleted"}.get(effect.operation, "updated")
        record = effect.after
        entry: dict[str, Any] = {
            "key": f"evt-{number}",
            "type": f"{record.kind}.{verb}",
            "id": record.id,
            "at": effect.at.isoformat(),
            "origin": "api" if effect.by_api else "person",
        }
        told = {
            "external_id": record.external_id,
            "version": (record.version or effect.at).isoformat(),
            "fields": dict(effect.changed),
        }
        known = effect.before.aliases if effect.before else ()
        gone = [id for id in record.aliases if id not in known]
        lost = [{**entry, "key": f"evt-{number}-{id}", "type": f"{record.kind}.merged", "id": id} for id in gone]
        states = self.hooks_say_values and verb != "deleted"
        return _body(entry | told if states else entry, *lost)


def _is_news(effect: Effect) -> bool:
    """Whether a hook is rung: not for a write that changed nothing."""
    before, after = effect.before, effect.after
    return before is None or replace(before, version=after.version) != after


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a walk through the feed stands. `began` is None between two walks."""

    at: datetime
    id: str = ""
    began: datetime | None = None

    @classmethod
    def read(cls, cursor: str) -> _Place:
        at, id, began = cursor.split("|")
        return cls(datetime.fromisoformat(at), id, datetime.fromisoformat(began) if began else None)

    def __str__(self) -> str:
        return "|".join((self.at.isoformat(), self.id, self.began.isoformat() if self.began else ""))


def signature(secret: SecretStr, stamp: bytes, body: bytes) -> bytes:
    """The code of a body that was signed at a time."""
    return hmac.new(secret.get_secret_value().encode(), stamp + b"." + body, sha256).hexdigest().encode()


def _body(*entries: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"changes": entries})


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("text expected")
    return value


def _time(value: Any) -> datetime:
    return datetime.fromisoformat(_text(value)).astimezone(UTC)


def _value(value: Any) -> Value:
    if isinstance(value, list):
        return tuple(_text(part) for part in value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError("no value of a field")
