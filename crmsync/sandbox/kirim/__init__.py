"""An emulator of Kirim: contacts, labels, conversations, webhook subscriptions, and the sender of webhooks.

It follows the documents of both generations; where they disagree or are silent, `Behaviour` offers each reading.
Sending messages, templates and media over REST are left out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from crmsync.sandbox.emulator import Call, Clock, Emulator, Handler, Refusal, Reply, wall_clock
from crmsync.sandbox.kirim.api import RecordsApi
from crmsync.sandbox.kirim.behaviour import Behaviour, Existing, Generation, Metadata
from crmsync.sandbox.kirim.deliveries import Acknowledged, Sender, sign
from crmsync.sandbox.kirim.paging import refuse
from crmsync.sandbox.kirim.records import Account, Contact, User, new_id
from crmsync.sandbox.kirim.subscriptions import EVENTS, Delivery, Subscription, Subscriptions
from crmsync.sandbox.kirim.workspace import Workspace
from crmsync.sandbox.ledger import Effect, Ledger
from crmsync.sandbox.outbox import Outbox

__all__ = [
    "EVENTS",
    "Acknowledged",
    "Behaviour",
    "Delivery",
    "Existing",
    "Generation",
    "KirimEmulator",
    "Metadata",
    "Subscription",
    "sign",
]

KEY = "kdv_live_c2FuZGJveC1rZXktMTIz"
NUMBER = "106540352242922"
LONGEST_IDEMPOTENCY_KEY = 255
_KEY_KEPT = timedelta(hours=24)


class KirimEmulator(Emulator):
    """A Kirim organisation.

    `ledger` has what came in through the API, `human` what the methods below did in the name of a person.
    `acknowledged` has what a receiver of webhooks took.
    """

    def __init__(
        self,
        *,
        key: str = KEY,
        seed: int = 0,
        clock: Clock = wall_clock,
        behaviour: Behaviour | None = None,
        numbers: Sequence[tuple[str, str]] = ((NUMBER, "+62 851-1760-0829"),),
        width: int = 10,
    ) -> None:
        self.outbox = Outbox(width=width)
        super().__init__(seed=seed, clock=clock, background=[self.outbox.serve])
        self.key = key
        self.behaviour = behaviour or Behaviour()
        self.human = Ledger()
        self.organization_id = new_id(self.random, "org")
        self.sender = Sender(self.outbox, self.behaviour, self.random, clock, self.lock)
        self.subscriptions = Subscriptions(
            self.behaviour, self.random, clock, lambda delivery: self.sender.send(delivery)
        )
        self.workspace = Workspace(self.behaviour, self.random, clock, self.subscriptions.publish, numbers)
        self._buckets: dict[str, tuple[float, datetime]] = {}
        self._stored: dict[str, tuple[datetime, str, Reply]] = {}
        self._add_routes()

    # -- what people do in Kirim

    def create_contact(
        self,
        phone_number: str | None,
        *,
        name: str | None = None,
        email: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        number: str | None = None,
        acquisition_source: str = "organic",
    ) -> str:
        """Somebody adds a contact to one of our numbers (the first, unless `number` says which)."""
        with self.lock:
            contact = self.workspace.create_contact(
                self._account(number),
                phone_number,
                name=name,
                email=email,
                metadata=metadata,
                acquisition_source=acquisition_source,
            )
            sent = {"phone_number": phone_number, "name": name, "email": email, "metadata": metadata}
            self._note("create", "contact", contact.id, sent, tuple(sent))
            return contact.id

    def edit_contact(self, contact_id: str, **fields: Any) -> None:
        """Somebody changes name, email, metadata (replaced as a whole) or phone_number; None clears."""
        if unknown := set(fields) - {"name", "email", "metadata", "phone_number"}:
            raise ValueError(f"a contact has no {', '.join(sorted(unknown))}")
        with self.lock:
            changed = self.workspace.change_contact(self._contact(contact_id), fields)
            self._note("update", "contact", contact_id, fields, changed)

    def label(self, contact_id: str, name: str, *, attached: bool = True) -> str:
        """Somebody puts a label on a contact, or takes it off; returns the label's id. It is made if need be."""
        with self.lock:
            label = self.workspace.label_named(name) or self.workspace.create_label(name)
            changed = self.workspace.set_label(self._contact(contact_id), label, attached=attached)
            verb = "attach" if attached else "detach"
            sent = {"label_id": label.id}
            self._note(verb, "contact_label", contact_id, sent, ("labels",) if changed else ())
            return label.id

    def add_user(self, name: str, email: str) -> str:
        """A colleague joins; returns the user id."""
        with self.lock:
            user = User(new_id(self.random, "usr"), name, email)
            self.workspace.users[user.id] = user
            return user.id

    def begin_conversation(self, contact_id: str) -> str:
        """A conversation begins; returns its id."""
        with self.lock:
            return self.workspace.begin_conversation(self._contact(contact_id)).id

    def assign(self, conversation_id: str, user_id: str | None) -> None:
        """Somebody gives a conversation to a user, or to nobody."""
        with self.lock:
            user = None if user_id is None else self.workspace.users[user_id]
            self.workspace.assign(self.workspace.conversations[conversation_id], user)

    def close(self, conversation_id: str, by: str | None = None) -> None:
        """Somebody closes a conversation."""
        self.set_status(conversation_id, "resolved", by)

    def set_status(self, conversation_id: str, status: str, by: str | None = None) -> None:
        """Somebody opens, parks or closes a conversation."""
        with self.lock:
            self.workspace.set_status(self.workspace.conversations[conversation_id], status, by)

    def receive_message(
        self,
        phone_number: str,
        text: str = "",
        *,
        name: str | None = None,
        number: str | None = None,
        content: Mapping[str, Any] | None = None,
    ) -> str:
        """A customer writes; returns the wamid. `content` replaces a plain text by Meta's form of another type."""
        with self.lock:
            said = content or {"type": "text", "text": {"body": text}}
            return self.workspace.receive(self._account(number), phone_number, name, said)

    def send_message(self, contact_id: str, kind: str = "text", *, text: str = "", source: str = "dashboard") -> str:
        """Somebody writes to a customer (message.created); returns the wamid for `message_status`."""
        with self.lock:
            return self.workspace.send(self._contact(contact_id), kind, text, source)

    def message_status(self, wamid: str, status: str) -> None:
        """Meta reports sent, delivered, read or failed."""
        with self.lock:
            self.workspace.report_status(wamid, status)

    # -- what is held

    def get(self, contact_id: str) -> dict[str, Any]:
        """A contact as REST shows it, with the names of its labels."""
        with self.lock:
            contact = self._contact(contact_id)
            names = sorted(self.workspace.labels[one].name for one in contact.labels)
            return {**contact.shown(self.behaviour), "labels": names}

    def all(self) -> dict[str, dict[str, Any]]:
        """Every contact by id."""
        with self.lock:
            return {contact_id: self.get(contact_id) for contact_id in self.workspace.contacts.by_id}

    # -- webhooks

    def subscribe(self, url: str, events: Sequence[str] = EVENTS) -> Subscription:
        """Somebody makes a subscription on the dashboard; its `secret` signs."""
        with self.lock:
            return self.subscriptions.subscribe(url, tuple(events))

    @property
    def acknowledged(self) -> list[Acknowledged]:
        """The deliveries that were answered with 2xx, in order."""
        return list(self.sender.acknowledged)

    def deliveries(self, status: str | None = None) -> list[Delivery]:
        """The deliveries made so far, oldest first."""
        with self.lock:
            every = list(self.subscriptions.deliveries.values())
        return [one for one in every if status in (None, one.status)]

    def idle(self) -> bool:
        """Whether no delivery is waiting or under way."""
        return self.outbox.pending == 0

    def wait_idle(self, timeout: float = 10.0) -> bool:
        """Waits until no delivery is waiting or under way; False if `timeout` seconds were not enough."""
        return self.outbox.wait_idle(timeout)

    # -- what the platform adds to every call

    def admit(self, call: Call) -> None:
        """Key and limits."""
        if call.path == "/v1/health":
            return
        given = call.headers.get("authorization", "")
        if given != f"Bearer {self.key}":
            code = "invalid_api_key" if given else "missing_api_key"
            raise refuse(401, code, "The API key is missing or not valid")
        self._take_token(call)

    def perform(self, handler: Handler, call: Call) -> Reply:
        """Runs a handler once for each idempotency key, and puts the request id into its answer."""
        key = call.headers.get("idempotency-key") if call.method == "POST" else None
        if key is None:
            return self._answered(handler, call)
        if len(key) > LONGEST_IDEMPOTENCY_KEY:
            return self._with_request_id(refuse(400, "invalid_field_value", "Idempotency-Key is too long").reply)
        fingerprint = _fingerprint(call)
        at, stored_print, reply = self._stored.get(key, (None, "", None))
        if reply is not None and at is not None and self.clock() - at < _KEY_KEPT:
            if stored_print != fingerprint:
                reused = refuse(422, "idempotency_key_reuse", "This key was used for another request")
                return self._with_request_id(reused.reply)
            return Reply(reply.status, reply.body, {"Idempotent-Replayed": "true"})
        reply = self._answered(handler, call)
        if reply.status < 500:
            self._stored[key] = (self.clock(), fingerprint, reply)
        return Reply(reply.status, reply.body, {**reply.headers, "Idempotent-Replayed": "false"})

    def finish(self, call: Call, reply: Reply) -> Reply:
        """The request id and the state of the limit."""
        reply = self._with_request_id(reply)
        headers = {"X-Request-Id": _request_id(reply), **self._limit_headers(call), **reply.headers}
        return Reply(reply.status, reply.body, headers)

    def error_body(self, status: int) -> Mapping[str, Any]:
        """Kirim's error envelope."""
        body: Mapping[str, Any] = refuse(status, _CODES.get(status, "internal_error"), "Sandbox fault").reply.body
        return {"error": {**body["error"], "request_id": new_id(self.random, "req")}}

    def not_found(self, call: Call) -> Reply:
        """The answer to an unknown path."""
        return refuse(404, "resource_not_found", "No such route").reply

    # -- inside

    def _account(self, number: str | None) -> Account:
        return self.workspace.accounts[number or next(iter(self.workspace.accounts))]

    def _contact(self, contact_id: str) -> Contact:
        return self.workspace.contacts.by_id[contact_id]

    def _note(self, verb: str, kind: str, record_id: str, sent: Mapping[str, Any], changed: Sequence[str]) -> None:
        self.human.append(Effect(self.clock(), verb, kind, record_id, None, dict(sent), tuple(changed)))

    def _record(
        self,
        verb: str,
        kind: str,
        record_id: str,
        sent: Mapping[str, Any],
        changed: Sequence[str],
        call: Call,
    ) -> None:
        key = call.headers.get("idempotency-key")
        self.ledger.append(Effect(self.clock(), verb, kind, record_id, None, dict(sent), tuple(changed), key))

    def _answered(self, handler: Handler, call: Call) -> Reply:
        try:
            reply = handler(call)
        except Refusal as refusal:
            reply = refusal.reply
        except orjson.JSONDecodeError:
            reply = refuse(400, "invalid_field_value", "The body is not JSON").reply
        return self._with_request_id(reply)

    def _with_request_id(self, reply: Reply) -> Reply:
        body = reply.body
        if not isinstance(body, dict) or _request_id(reply):
            return reply
        request_id = new_id(self.random, "req")
        if "error" in body:
            body = {"error": {**body["error"], "request_id": request_id}}
        else:
            body = {**body, "request_id": request_id}
        return Reply(reply.status, body, reply.headers)

    def _limit_of(self, call: Call) -> tuple[str, int | None]:
        if call.method in ("GET", "HEAD"):
            return "read", self.behaviour.read_limit
        return "write", self.behaviour.write_limit

    def _tokens(self, name: str, limit: int) -> float:
        """What the bucket holds now: it refills by its capacity every minute."""
        held, since = self._buckets.get(name, (float(limit), self.clock()))
        return min(limit, held + (self.clock() - since).total_seconds() * limit / 60)

    def _take_token(self, call: Call) -> None:
        name, limit = self._limit_of(call)
        if limit is None:
            return
        held = self._tokens(name, limit)
        if held < 1:
            wait = math.ceil((1 - held) * 60 / limit)
            raise refuse(429, "rate_limit_exceeded", "Too many requests", headers={"Retry-After": str(wait)})
        self._buckets[name] = (held - 1, self.clock())

    def _limit_headers(self, call: Call) -> dict[str, str]:
        name, limit = self._limit_of(call)
        if limit is None or call.path == "/v1/health":
            return {}
        held = self._tokens(name, limit)
        full = self.clock().timestamp() + (limit - held) * 60 / limit
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(math.floor(held)),
            "X-RateLimit-Reset": str(math.ceil(full)),
        }

    def _me(self, call: Call) -> Reply:
        limits = {
            "tier": "free",
            "write_per_minute": self.behaviour.write_limit or 60,
            "read_per_minute": self.behaviour.read_limit or 600,
        }
        key = {"id": "key_00000000000000000000000000", "object": "api_key", "label": "crmsync"}
        organization = {"id": self.organization_id, "object": "organization", "name": "Sandbox"}
        data = {"organization": organization, "api_key": {**key, "last4": self.key[-4:]}, "rate_limits": limits}
        return Reply(200, {"data": data})

    def _health(self, call: Call) -> Reply:
        return Reply(200, {"status": "ok"})

    def _add_routes(self) -> None:
        api, hooks = RecordsApi(self.workspace, self.behaviour, self._record), self.subscriptions
        subscription, delivery = "/v1/webhook_subscriptions", "/v1/webhook_deliveries"
        rooted: Sequence[tuple[str, str, Handler]] = (
            ("GET", "/v1/health", self._health),
            ("GET", "/v1/me", self._me),
            ("GET", "/v1/accounts", api.list_accounts),
            ("GET", "/v1/labels", api.list_labels),
            ("POST", "/v1/labels", api.create_label),
            ("GET", "/v1/labels/{id}", api.read_label),
            ("PATCH", "/v1/labels/{id}", api.update_label),
            ("DELETE", "/v1/labels/{id}", api.delete_label),
            ("GET", subscription, hooks.list_page),
            ("POST", subscription, hooks.create),
            ("GET", f"{subscription}/{{id}}", hooks.read),
            ("PATCH", f"{subscription}/{{id}}", hooks.update),
            ("DELETE", f"{subscription}/{{id}}", hooks.delete),
            ("GET", f"{subscription}/{{id}}/secrets", hooks.list_secrets),
            ("POST", f"{subscription}/{{id}}/secrets", hooks.create_secret),
            ("DELETE", f"{subscription}/{{id}}/secrets/{{secret_id}}", hooks.delete_secret),
            ("GET", delivery, hooks.list_deliveries),
            ("POST", f"{delivery}/bulk_replay", hooks.bulk_replay),
            ("GET", f"{delivery}/{{id}}", hooks.read_delivery),
            ("POST", f"{delivery}/{{id}}/replay", hooks.replay),
        )
        scoped: Sequence[tuple[str, str, Handler]] = (
            ("GET", "contacts", api.list_contacts),
            ("POST", "contacts", api.create_contact),
            ("POST", "contacts/bulk_label", api.bulk_label),
            ("GET", "contacts/{id}", api.read_contact),
            ("PATCH", "contacts/{id}", api.update_contact),
            ("POST", "contacts/{id}/labels", api.attach_label),
            ("DELETE", "contacts/{id}/labels/{label_id}", api.detach_label),
            ("GET", "conversations", api.list_conversations),
            ("GET", "conversations/{id}", api.read_conversation),
            ("PATCH", "conversations/{id}", api.update_conversation),
        )
        for method, template, handler in rooted:
            self.route(method, template, handler)
        for method, template, handler in scoped:
            self.route(method, f"/v1/{template}", self._org_wide(handler))
            self.route(method, f"/v1/{{number}}/{template}", handler)

    def _org_wide(self, handler: Handler) -> Handler:
        """A path of the first generation, which the second does not have."""
        return lambda call: handler(call) if self.behaviour.org_paths else self.not_found(call)


_CODES = {
    400: "invalid_field_value",
    401: "invalid_api_key",
    403: "forbidden",
    404: "resource_not_found",
    409: "idempotency_in_progress",
    422: "idempotency_key_reuse",
    429: "rate_limit_exceeded",
}


def _fingerprint(call: Call) -> str:
    try:
        body = orjson.dumps(call.json(), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        body = call.body
    return hashlib.sha256(f"{call.method} {call.path}\n".encode() + body).hexdigest()


def _request_id(reply: Reply) -> str:
    body = reply.body if isinstance(reply.body, dict) else {}
    return str(body.get("request_id") or body.get("error", {}).get("request_id") or "")
