"""An emulator of HubSpot: contacts, tickets, timelines, associations, lists, owners, OAuth, webhooks.

REST under /crm/v3 and /crm/v4 and their dated twins. Nothing here was copied from HubSpot; it follows the documented
behaviour and, where that is silent or was seen to differ, offers every reading as a switch (`Behaviour`).
"""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from crmsync.sandbox.emulator import Call, Clock, Emulator, Handler, Refusal, Reply, wall_clock
from crmsync.sandbox.hubspot.api import ObjectsApi
from crmsync.sandbox.hubspot.associations import Associations, AssociationsApi
from crmsync.sandbox.hubspot.behaviour import Behaviour, Partial
from crmsync.sandbox.hubspot.directory import Owners, Pipelines, Stage, Tokens
from crmsync.sandbox.hubspot.lists import Lists
from crmsync.sandbox.hubspot.objects import BY_NAME, OBJECTS, TICKETS, ObjectType
from crmsync.sandbox.hubspot.properties import Properties
from crmsync.sandbox.hubspot.records import (
    Happening,
    Problem,
    Record,
    Records,
    Respelling,
    Source,
    milliseconds,
)
from crmsync.sandbox.hubspot.routes import TOKENS, account_routes, object_routes
from crmsync.sandbox.hubspot.search import Index
from crmsync.sandbox.hubspot.webhooks import Acknowledged, Webhooks, sign, sign_version_1
from crmsync.sandbox.ledger import Effect, Ledger
from crmsync.sandbox.outbox import Outbox

__all__ = [
    "Acknowledged",
    "Behaviour",
    "HubSpotEmulator",
    "Partial",
    "Problem",
    "Respelling",
    "Stage",
    "sign",
    "sign_version_1",
]

TOKEN = "pat-eu1-sandbox"
_DATED = (
    (re.compile(r"/crm/(objects|properties|lists|owners|pipelines)/2026-0[39](/|\Z)"), r"/crm/v3/\1\2"),
    (re.compile(r"/crm/associations/2026-0[39]/"), "/crm/v4/associations/"),
    (re.compile(r"/oauth/2026-0[39]/token\Z"), TOKENS),
)
_WINDOW = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Table:
    """Everything of one kind of object."""

    of: ObjectType
    properties: Properties
    records: Records
    index: Index
    key: str
    """The property that the ledger shows as a record's external id."""


class HubSpotEmulator(Emulator):
    """A HubSpot account.

    `ledger` has what came in through the API, `human` what the methods below did in the name of a user.
    `external_id` and `conversation_external_id` name the properties that the ledger shows as external ids. `contacts`,
    `properties` and `index` are those of contacts; the other kinds of objects are in `tables`.
    """

    def __init__(
        self,
        *,
        token: str = TOKEN,
        seed: int = 0,
        clock: Clock = wall_clock,
        behaviour: Behaviour | None = None,
        external_id: str = "kirim_contact_id",
        conversation_external_id: str = "kirim_conversation_id",
        webhook_url: str | None = None,
        client_secret: str = "sandbox-client-secret",
        app_id: int = 4242,
        portal_id: int = 777,
    ) -> None:
        self.outbox = Outbox(width=10)
        super().__init__(seed=seed, clock=clock, background=[self.outbox.serve])
        self.external_id = external_id
        self.behaviour = behaviour or Behaviour()
        self.human = Ledger()
        self.app_id = app_id
        self.tokens = Tokens(token, self.now)
        self.owners = Owners(self.now)
        self.pipelines = Pipelines(self.now)
        keys = {"contact": external_id, "ticket": conversation_external_id}
        self.tables = {of.name: self._table(of, keys.get(of.name, "kirim_key"), portal_id) for of in OBJECTS}
        self.contacts, self.properties, self.index = (
            self.tables["contact"].records,
            self.tables["contact"].properties,
            self.tables["contact"].index,
        )
        records = {name: table.records for name, table in self.tables.items()}
        self.lists = Lists(records, self.now)
        self.associations = Associations(records, self.behaviour, self.now, self._happened, self._associated)
        self.webhooks = Webhooks(self.outbox, self.behaviour, self.random, self.now, app_id=app_id, portal_id=portal_id)
        self.configure_webhooks(webhook_url, client_secret)
        self._user = Source("CRM_UI", "userId:9001")
        self._api = Source("INTEGRATION", str(app_id))
        self._recent: deque[datetime] = deque()
        self._searches: deque[datetime] = deque()
        self._today = 0
        links = AssociationsApi(self.associations, records, self.behaviour, self.now, self._api)
        objects = [(each.of, self._records_api(each), each.properties) for each in self.tables.values()]
        for method, template, handler in (
            *(route for of, api, properties in objects for route in object_routes(of, api, properties)),
            *account_routes(links, self.lists, self.owners, self.pipelines, self.tokens),
        ):
            self.route(method, template, self._guarded(handler))

    def _table(self, of: ObjectType, key: str, portal_id: int) -> Table:
        judges = [self.owners.judge, *([self.pipelines.judge] if of is TICKETS else [])]

        def judge(held: Mapping[str, str], written: Mapping[str, str]) -> list[tuple[str, str, str]]:
            return [complaint for each in judges for complaint in each(held, written)]

        properties = Properties(self.now, of.built_in, of.group)
        records = Records(
            of, properties, self.behaviour.respelling, self.now, self._happened, judge=judge, portal_id=portal_id
        )
        return Table(of, properties, records, Index(properties, self.now), key)

    @property
    def token(self) -> str:
        """The access token that stands; "" where there is only OAuth."""
        return self.tokens.standing or ""

    @token.setter
    def token(self, token: str) -> None:
        self.tokens.standing = token or None

    def now(self) -> datetime:
        """The time, in HubSpot's precision."""
        return milliseconds(self.clock())

    # -- what a user does in HubSpot

    def create_contact(self, **properties: str) -> str:
        """A user creates a contact; returns its record id. Raises `Problem` as the form would."""
        return self.create("contact", **properties)

    def create(self, kind: str, /, **properties: str) -> str:
        """A user creates a record of some kind; returns its id."""
        with self.lock:
            self._configure_records()
            table = self._of(kind)
            record = table.records.create(properties, self._user)
            self._write_down(self.human, table, "create", record, properties, tuple(properties), None)
            return str(record.id)

    def edit(self, record_id: str, **properties: str) -> None:
        """A user changes a record; an empty string clears."""
        with self.lock:
            table, record = self._known(record_id)
            changed = table.records.update(record, properties, self._user)
            self._write_down(self.human, table, "update", record, properties, changed, None)

    def merge(self, primary: str, other: str) -> str:
        """A user merges two records; returns the survivor's id, by default a new one."""
        with self.lock:
            table, record = self._known(primary)
            survivor = table.records.merge(record, self._known(other)[1], self._user)
            self._write_down(self.human, table, "merge", survivor, {"merged": [primary, other]}, (), None)
            return str(survivor.id)

    def archive(self, record_id: str) -> None:
        """A user deletes a record (restorable for a while)."""
        with self.lock:
            table, record = self._known(record_id)
            table.records.archive(record, self._user)
            self._write_down(self.human, table, "archive", record, {}, (), None)

    def restore(self, record_id: str) -> None:
        """A user takes a record out of the recycle bin."""
        with self.lock:
            table, record = self._known(record_id)
            table.records.restore(record, self._user)
            self._write_down(self.human, table, "restore", record, {}, (), None)

    def link(self, record_id: str, other_id: str) -> None:
        """A user makes two records belong together."""
        with self.lock:
            (table, record), (to, other) = self._known(record_id), self._known(other_id)
            self.associations.link(table.of, record, to.of, other, self._user)

    def unlink(self, record_id: str, other_id: str) -> None:
        """A user parts two records."""
        with self.lock:
            (table, record), (to, other) = self._known(record_id), self._known(other_id)
            self.associations.unlink(table.of, record, to.of, other, self._user)

    def linked(self, record_id: str, kind: str = "contact") -> list[str]:
        """The ids of the records of some kind that belong to a record."""
        with self.lock:
            table, record = self._known(record_id)
            return [str(number) for number in self.associations.of(table.of, record, BY_NAME[kind])]

    def get(self, record_id: str) -> dict[str, str]:
        """What a record holds: the properties that are not empty."""
        with self.lock:
            return dict(self._known(record_id)[1].properties)

    def all(self, kind: str = "contact", *, archived: bool = False) -> dict[str, dict[str, str]]:
        """Every record of some kind by id."""
        with self.lock:
            records = sorted(self._of(kind).records.by_id.items())
            return {str(number): dict(one.properties) for number, one in records if one.archived == archived}

    def by_external_id(self, external_id: str, kind: str = "contact") -> list[str]:
        """The record ids whose external-id property has this value. More than one would be a duplicate."""
        key = self._of(kind).key
        return [number for number, held in self.all(kind).items() if held.get(key) == external_id]

    # -- webhooks

    def configure_webhooks(self, url: str | None, client_secret: str | None = None) -> None:
        """Where events are posted; None for nowhere."""
        self.webhooks.url = url
        if client_secret is not None:
            self.webhooks.secret = client_secret

    @property
    def acknowledged(self) -> list[Acknowledged]:
        """The webhook events that the receiver answered with 2xx."""
        return list(self.webhooks.acknowledged)

    def wait_idle(self, timeout: float = 10.0) -> bool:
        """Waits until no webhook is waiting to be posted."""
        return self.outbox.wait_idle(timeout)

    # -- what the platform adds to every call

    def rewrite(self, path: str) -> str:
        """Dated versions are the same operations under another prefix."""
        for dated, plain in _DATED:
            path = dated.sub(plain, path)
        return path

    def admit(self, call: Call) -> None:
        """Token, scopes and limits."""
        if call.route == TOKENS:
            return
        if not self.tokens.opens(call.headers.get("authorization")):
            raise Refusal(Reply(401, self.error_body(401)))
        if self.behaviour.missing_scopes:
            raise Refusal(Reply(403, self.error_body(403)))
        self._configure_records()
        self._count(call)

    def finish(self, call: Call, reply: Reply) -> Reply:
        """Limit headers, which search answers lack."""
        limit = self.behaviour.rate_limit
        if limit is None or call.route.endswith("/search"):
            return reply
        headers = {
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Max": str(limit),
            "X-HubSpot-RateLimit-Remaining": str(max(0, limit - len(self._recent))),
        }
        if self.behaviour.daily_limit is not None:
            headers["X-HubSpot-RateLimit-Daily"] = str(self.behaviour.daily_limit)
            headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(max(0, self.behaviour.daily_limit - self._today))
        return Reply(reply.status, reply.body, {**headers, **reply.headers})

    def error_body(self, status: int) -> Mapping[str, Any]:
        """HubSpot's error body."""
        category, message = _ERRORS.get(status, ("INTERNAL_ERROR", "There was a problem with the request"))
        if status == 429:
            return self._limited("TEN_SECONDLY_ROLLING")
        return {"status": "error", "message": message, "correlationId": self._correlation_id(), "category": category}

    # -- inside

    def _limited(self, policy: str) -> Mapping[str, Any]:
        return {
            "status": "error",
            "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": self._correlation_id(),
            "policyName": policy,
        }

    def _correlation_id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _count(self, call: Call) -> None:
        """Refuses a request over a limit. Every request counts, refused ones too; searches to a limit of their own."""
        now = self.clock()
        behaviour, search = self.behaviour, call.route.endswith("/search")
        self._today += 1
        if not search:
            self._recent.append(now)
        _forget(self._recent, now - _WINDOW)
        if behaviour.daily_limit is not None and self._today > behaviour.daily_limit:
            raise Refusal(Reply(429, self._limited("DAILY")))
        if behaviour.rate_limit is not None and len(self._recent) > behaviour.rate_limit:
            raise Refusal(Reply(429, self._limited("TEN_SECONDLY_ROLLING")))
        if search and behaviour.search_rate is not None:
            _forget(self._searches, now - timedelta(seconds=1))
            if len(self._searches) >= behaviour.search_rate:
                raise Refusal(Reply(429, self._limited("SECONDLY")))
            self._searches.append(now)

    def _configure_records(self) -> None:
        """Hands on the switches that the records obey."""
        for table in self.tables.values():
            table.records.respelling = self.behaviour.respelling
            table.records.merge_keeps_primary = self.behaviour.merge_keeps_primary
            table.records.archived_keeps_unique = self.behaviour.archived_keeps_unique

    def _of(self, kind: str) -> Table:
        return self.tables[BY_NAME[kind].name]

    def _known(self, record_id: str) -> tuple[Table, Record]:
        """A record of whatever kind: no two have the same id."""
        self._configure_records()
        for table in self.tables.values():
            if (record := table.records.find(record_id)) is not None:
                return table, record
        raise LookupError(f"no record {record_id}")

    def _happened(self, happening: Happening) -> None:
        if not self.tables[happening.of.name].records.rehearsing:
            self.webhooks.report(happening)

    def _associated(
        self, verb: str, of: ObjectType, record: Record, to: ObjectType, other: Record, source: Source, new: bool
    ) -> None:
        external = record.properties.get(self.tables[of.name].key)
        changed = (to.name,) if new else ()
        effect = Effect(self.now(), verb, of.name, str(record.id), external, {to.name: str(other.id)}, changed)
        (self.human if source == self._user else self.ledger).append(effect)

    def applied(
        self, kind: str, verb: str, record: Record, sent: Mapping[str, Any], changed: Sequence[str], trace: str | None
    ) -> None:
        """Takes note of a write that came in through the API."""
        table = self._of(kind)
        if not table.records.rehearsing:
            self._write_down(self.ledger, table, verb, record, sent, changed, trace)

    def _write_down(
        self,
        ledger: Ledger,
        table: Table,
        verb: str,
        record: Record,
        sent: Mapping[str, Any],
        changed: Sequence[str],
        trace: str | None,
    ) -> None:
        """Writes the ledger and the search index."""
        external, number = record.properties.get(table.key), str(record.id)
        ledger.append(Effect(self.now(), verb, table.of.name, number, external, dict(sent), tuple(changed), trace))
        for gone in record.absorbed:
            table.index.remove(gone)
        if record.archived or record.id not in table.records.by_id:
            table.index.remove(record.id)
        else:
            table.index.update(record, self.behaviour.index_lag)

    def _records_api(self, table: Table) -> ObjectsApi:
        note = partial(self.applied, table.of.name)
        return ObjectsApi(
            table.records, table.index, self.behaviour, self.random, self.now, self._api, note, self.associations
        )

    def _guarded(self, handler: Handler) -> Handler:
        """Turns what a handler raises into HubSpot's error body."""

        def guarded(call: Call) -> Reply:
            try:
                return handler(call)
            except Problem as problem:
                refused = problem
            except (ValueError, KeyError, AttributeError):
                refused = Problem(400, "VALIDATION_ERROR", "Invalid input JSON")
            body = {
                "status": "error",
                "message": refused.message,
                "correlationId": self._correlation_id(),
                "category": refused.category,
                "context": refused.context,
                "errors": refused.errors,
            }
            return Reply(refused.status, {name: value for name, value in body.items() if value})

        return guarded


_ERRORS = {
    400: ("VALIDATION_ERROR", "Invalid request"),
    401: ("INVALID_AUTHENTICATION", "Authentication credentials not found."),
    403: ("MISSING_SCOPES", "This app hasn't been granted all required scopes to make this call."),
    404: ("OBJECT_NOT_FOUND", "resource not found"),
    429: ("RATE_LIMITS", "You have reached your secondly limit."),
}


def _forget(times: deque[datetime], before: datetime) -> None:
    while times and times[0] <= before:
        times.popleft()
