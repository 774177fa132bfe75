"""An emulator of HubSpot's contacts: REST under /crm/v3 and its dated twins, search, properties, webhooks.

Nothing here was copied from HubSpot; it follows the documented behaviour and, where that is silent or was seen to
differ, offers every reading as a switch (`Behaviour`). Other objects and associations are left out.
"""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from crmsync.sandbox.emulator import Call, Clock, Emulator, Handler, Refusal, Reply, wall_clock
from crmsync.sandbox.hubspot.behaviour import Behaviour, Partial
from crmsync.sandbox.hubspot.contacts import ContactsApi
from crmsync.sandbox.hubspot.properties import Properties
from crmsync.sandbox.hubspot.records import (
    Contact,
    Contacts,
    Happening,
    Problem,
    Respelling,
    Source,
    milliseconds,
)
from crmsync.sandbox.hubspot.search import Index
from crmsync.sandbox.hubspot.webhooks import Acknowledged, Webhooks, sign
from crmsync.sandbox.ledger import Effect, Ledger
from crmsync.sandbox.outbox import Outbox

__all__ = ["Acknowledged", "Behaviour", "HubSpotEmulator", "Partial", "Problem", "Respelling", "sign"]

TOKEN = "pat-eu1-sandbox"
_DATED = re.compile(r"/crm/(objects|properties)/2026-0[39](/|\Z)")
_WINDOW = timedelta(seconds=10)


class HubSpotEmulator(Emulator):
    """A HubSpot account with contacts.

    `ledger` has what came in through the API, `human` what the methods below did in the name of a user.
    `external_id` names the property that the ledger shows as a record's external id.
    """

    def __init__(
        self,
        *,
        token: str = TOKEN,
        seed: int = 0,
        clock: Clock = wall_clock,
        behaviour: Behaviour | None = None,
        external_id: str = "kirim_contact_id",
        webhook_url: str | None = None,
        client_secret: str = "sandbox-client-secret",
        app_id: int = 4242,
        portal_id: int = 777,
    ) -> None:
        self.outbox = Outbox(width=10)
        super().__init__(seed=seed, clock=clock, background=[self.outbox.serve])
        self.token = token
        self.external_id = external_id
        self.behaviour = behaviour or Behaviour()
        self.human = Ledger()
        self.app_id = app_id
        self.properties = Properties(self.now)
        self.contacts = Contacts(
            self.properties, self.behaviour.respelling, self.now, self._happened, portal_id=portal_id
        )
        self.index = Index(self.properties, self.now)
        self.webhooks = Webhooks(self.outbox, self.behaviour, self.random, self.now, app_id=app_id, portal_id=portal_id)
        self.configure_webhooks(webhook_url, client_secret)
        self._user = Source("CRM_UI", "userId:9001")
        self._recent: deque[datetime] = deque()
        self._searches: deque[datetime] = deque()
        self._today = 0
        self._routes_of_contacts()

    def now(self) -> datetime:
        """The time, in HubSpot's precision."""
        return milliseconds(self.clock())

    # -- what a user does in HubSpot

    def create_contact(self, **properties: str) -> str:
        """A user creates a contact; returns its record id. Raises `Problem` as the form would."""
        with self.lock:
            self._configure_records()
            contact = self.contacts.create(properties, self._user)
            self._note(self.human, "create", contact, properties, tuple(properties), None)
            return str(contact.id)

    def edit(self, record_id: str, **properties: str) -> None:
        """A user changes a contact; an empty string clears."""
        with self.lock:
            contact = self._known(record_id)
            changed = self.contacts.update(contact, properties, self._user)
            self._note(self.human, "update", contact, properties, changed, None)

    def merge(self, primary: str, other: str) -> str:
        """A user merges two contacts; returns the survivor's record id, by default a new one."""
        with self.lock:
            self._configure_records()
            survivor = self.contacts.merge(self._known(primary), self._known(other), self._user)
            self._note(self.human, "merge", survivor, {"merged": [primary, other]}, (), None)
            return str(survivor.id)

    def archive(self, record_id: str) -> None:
        """A user deletes a contact (restorable for a while)."""
        with self.lock:
            self._configure_records()
            contact = self._known(record_id)
            self.contacts.archive(contact, self._user)
            self._note(self.human, "archive", contact, {}, (), None)

    def get(self, record_id: str) -> dict[str, str]:
        """What a contact holds: the properties that are not empty."""
        with self.lock:
            return dict(self._known(record_id).properties)

    def all(self, *, archived: bool = False) -> dict[str, dict[str, str]]:
        """Every contact by record id."""
        with self.lock:
            contacts = sorted(self.contacts.by_id.items())
            return {str(number): dict(one.properties) for number, one in contacts if one.archived == archived}

    def by_external_id(self, external_id: str) -> list[str]:
        """The record ids whose external-id property has this value. More than one would be a duplicate."""
        return [number for number, held in self.all().items() if held.get(self.external_id) == external_id]

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
        return _DATED.sub(r"/crm/v3/\1\2", path)

    def admit(self, call: Call) -> None:
        """Token, scopes and limits."""
        if call.headers.get("authorization") != f"Bearer {self.token}":
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
        """Refuses a request over a limit. Every request counts, refused ones too."""
        now = self.clock()
        self._today += 1
        self._recent.append(now)
        _forget(self._recent, now - _WINDOW)
        behaviour = self.behaviour
        if behaviour.daily_limit is not None and self._today > behaviour.daily_limit:
            raise Refusal(Reply(429, self._limited("DAILY")))
        if behaviour.rate_limit is not None and len(self._recent) > behaviour.rate_limit:
            raise Refusal(Reply(429, self._limited("TEN_SECONDLY_ROLLING")))
        if call.route.endswith("/search") and behaviour.search_rate is not None:
            _forget(self._searches, now - timedelta(seconds=1))
            if len(self._searches) >= behaviour.search_rate:
                raise Refusal(Reply(429, self._limited("SECONDLY")))
            self._searches.append(now)

    def _configure_records(self) -> None:
        """Hands on the switches that the records obey."""
        self.contacts.respelling = self.behaviour.respelling
        self.contacts.merge_keeps_primary = self.behaviour.merge_keeps_primary
        self.contacts.archived_keeps_unique = self.behaviour.archived_keeps_unique

    def _known(self, record_id: str) -> Contact:
        self._configure_records()
        contact = self.contacts.find(record_id)
        if contact is None:
            raise LookupError(f"no contact {record_id}")
        return contact

    def _happened(self, happening: Happening) -> None:
        if self.contacts.rehearsing:
            return
        self.webhooks.report(happening)

    def _record(
        self, verb: str, contact: Contact, sent: Mapping[str, Any], changed: Sequence[str], trace: str | None
    ) -> None:
        if not self.contacts.rehearsing:
            self._note(self.ledger, verb, contact, sent, changed, trace)

    def _note(
        self,
        ledger: Ledger,
        verb: str,
        contact: Contact,
        sent: Mapping[str, Any],
        changed: Sequence[str],
        trace: str | None,
    ) -> None:
        """Writes the ledger and the search index."""
        external = contact.properties.get(self.external_id)
        ledger.append(Effect(self.now(), verb, "contact", str(contact.id), external, dict(sent), tuple(changed), trace))
        for number in contact.absorbed:
            self.index.remove(number)
        if contact.archived or contact.id not in self.contacts.by_id:
            self.index.remove(contact.id)
        else:
            self.index.update(contact, self.behaviour.index_lag)

    def _routes_of_contacts(self) -> None:
        api = ContactsApi(
            self.contacts,
            self.index,
            self.behaviour,
            self.random,
            self.now,
            Source("INTEGRATION", str(self.app_id)),
            self._record,
        )
        contacts, properties = "/crm/v3/objects/contacts", "/crm/v3/properties/contacts"
        routes: Sequence[tuple[str, str, Handler]] = (
            ("GET", contacts, api.list_page),
            ("POST", contacts, api.create),
            ("POST", f"{contacts}/merge", api.merge),
            ("POST", f"{contacts}/gdpr-delete", api.erase),
            ("POST", f"{contacts}/search", api.search),
            ("POST", f"{contacts}/batch/read", api.batch_read),
            ("POST", f"{contacts}/batch/create", api.batch_create),
            ("POST", f"{contacts}/batch/update", api.batch_update),
            ("POST", f"{contacts}/batch/upsert", api.batch_upsert),
            ("POST", f"{contacts}/batch/archive", api.batch_archive),
            ("GET", f"{contacts}/{{id}}", api.read),
            ("PATCH", f"{contacts}/{{id}}", api.update),
            ("DELETE", f"{contacts}/{{id}}", api.archive),
            ("GET", properties, self.properties.list_all),
            ("POST", properties, self.properties.create),
            ("GET", f"{properties}/groups", self.properties.list_groups),
            ("POST", f"{properties}/groups", self.properties.create_group),
            ("GET", f"{properties}/{{name}}", self.properties.read),
            ("DELETE", f"{properties}/{{name}}", self.properties.delete),
        )
        for method, template, handler in routes:
            self.route(method, template, self._guarded(handler))

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
