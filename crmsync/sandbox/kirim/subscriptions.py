"""Webhook subscriptions, their secrets, and the deliveries made of each event."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.kirim.behaviour import Behaviour
from crmsync.sandbox.kirim.paging import page, read_cursor, refuse
from crmsync.sandbox.kirim.records import new_id, stamp

EVENTS = (
    "message.received",
    "message.status",
    "message.created",
    "message.sent",
    "conversation.assigned",
    "conversation.closed",
    "contact.created",
    "contact.updated",
)
LARGEST_REPLAY = 1000
KEPT = timedelta(days=30)
SUCCEEDED = "succeeded"
PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret; `text` is the whole string, `whsec_` included."""

    id: str
    text: str
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(slots=True)
class Subscription:
    """Where events go. `failures` counts dead deliveries since the last one that succeeded."""

    id: str
    url: str
    events: tuple[str, ...]
    created_at: datetime
    description: str | None = None
    status: str = "active"
    secrets: list[Secret] = field(default_factory=list)
    failures: int = 0

    @property
    def secret(self) -> str:
        """The newest secret."""
        return self.secrets[-1].text

    def active_secrets(self, now: datetime) -> list[str]:
        """The secrets that sign just now."""
        return [one.text for one in self.secrets if one.expires_at is None or one.expires_at > now]


@dataclass(slots=True)
class Delivery:
    """One event on its way to one subscription."""

    id: str
    subscription: Subscription
    event_type: str
    event_id: str
    source: str
    body: bytes
    created_at: datetime
    status: str = PENDING
    attempts: int = 0
    response_status: int | None = None
    replayed_from: str | None = None
    signed_at: int | None = None


class Subscriptions:
    """The REST interface of subscriptions and deliveries. `send` starts a delivery on its way."""

    def __init__(
        self,
        behaviour: Behaviour,
        random: Random,
        now: Callable[[], datetime],
        send: Callable[[Delivery], None],
    ) -> None:
        self.by_id: dict[str, Subscription] = {}
        self.deliveries: dict[str, Delivery] = {}
        self._behaviour = behaviour
        self._random = random
        self._now = now
        self._send = send

    def publish(self, event_type: str, event_id: str, source: str, body: bytes) -> None:
        """Makes a delivery for every active subscription that selected the event."""
        for subscription in self.by_id.values():
            if subscription.status == "active" and event_type in subscription.events:
                self._start(Delivery("", subscription, event_type, event_id, source, body, self._now()))

    def subscribe(self, url: str, events: tuple[str, ...] = EVENTS, description: str | None = None) -> Subscription:
        """Makes a subscription with its first secret."""
        made = Subscription(new_id(self._random, "wbs"), url, events, self._now(), description)
        made.secrets.append(self._new_secret(None))
        self.by_id[made.id] = made
        return made

    # -- REST: subscriptions

    def create(self, call: Call) -> Reply:
        """POST /v1/webhook_subscriptions"""
        asked = _object(call)
        url, events = self._checked_url(asked.get("url")), _checked_events(asked.get("events"))
        made = self.subscribe(url, events, asked.get("description"))
        return Reply(201, {"data": {**self._shown(made), "initial_secret": made.secret}})

    def list_page(self, call: Call) -> Reply:
        """GET /v1/webhook_subscriptions"""
        return self._page(call, list(self.by_id.values()), (), self._shown)

    def read(self, call: Call) -> Reply:
        """GET /v1/webhook_subscriptions/{id}"""
        return Reply(200, {"data": self._shown(self._known(call))})

    def update(self, call: Call) -> Reply:
        """PATCH /v1/webhook_subscriptions/{id}"""
        known, asked = self._known(call), _object(call)
        url = self._checked_url(asked["url"]) if "url" in asked else known.url
        events = _checked_events(asked["events"]) if "events" in asked else known.events
        status = asked.get("status", known.status)
        if status not in ("active", "disabled", "paused"):
            raise refuse(400, "invalid_field_value", "status is unknown", param="status")
        if status == "active" and known.status != "active":
            known.failures = 0
        known.url, known.events, known.status = url, events, status
        known.description = asked.get("description", known.description)
        return Reply(200, {"data": self._shown(known)})

    def delete(self, call: Call) -> Reply:
        """DELETE /v1/webhook_subscriptions/{id}"""
        known = self._known(call)
        known.status = "disabled"
        del self.by_id[known.id]
        return Reply(200, {"data": {"id": known.id, "object": "webhook_subscription", "deleted": True}})

    # -- REST: secrets

    def create_secret(self, call: Call) -> Reply:
        """POST /v1/webhook_subscriptions/{id}/secrets"""
        known, asked = self._known(call), _object(call)
        hours = asked.get("expires_in_hours")
        if hours is not None and (not isinstance(hours, int) or hours < 1):
            raise refuse(400, "invalid_field_value", "expires_in_hours is invalid", param="expires_in_hours")
        ends = None if hours is None else self._now() + timedelta(hours=hours)
        if self._behaviour.expiring_secret == "previous":
            known.secrets = [Secret(one.id, one.text, one.created_at, one.expires_at or ends) for one in known.secrets]
            ends = None
        made = self._new_secret(ends)
        known.secrets.append(made)
        return Reply(201, {"data": {**self._secret_shown(made), "secret": made.text}})

    def list_secrets(self, call: Call) -> Reply:
        """GET /v1/webhook_subscriptions/{id}/secrets"""
        if self._behaviour.secrets_shown == "nowhere":
            raise refuse(404, "resource_not_found", "No such route")
        shown = [self._secret_shown(one) for one in self._known(call).secrets]
        return Reply(200, {"data": shown, "has_more": False, "next_cursor": None})

    def delete_secret(self, call: Call) -> Reply:
        """DELETE /v1/webhook_subscriptions/{id}/secrets/{secret_id}"""
        known, secret_id = self._known(call), call.params["secret_id"]
        kept = [one for one in known.secrets if one.id != secret_id]
        if len(kept) == len(known.secrets):
            raise refuse(404, "resource_not_found", "No such secret")
        if not kept:
            raise refuse(409, "last_secret", "A subscription needs a secret")
        known.secrets = kept
        return Reply(200, {"data": {"id": secret_id, "object": "webhook_secret", "deleted": True}})

    # -- REST: deliveries

    def list_deliveries(self, call: Call) -> Reply:
        """GET /v1/webhook_deliveries"""
        filters = ("subscription_id", "status", "event_type")
        rows = [one for one in self._kept() if _asked_for(call, one)]
        return self._page(call, rows, filters, self._delivery_shown)

    def read_delivery(self, call: Call) -> Reply:
        """GET /v1/webhook_deliveries/{id}"""
        return Reply(200, {"data": self._delivery_shown(self._known_delivery(call))})

    def replay(self, call: Call) -> Reply:
        """POST /v1/webhook_deliveries/{id}/replay"""
        original = self._known_delivery(call)
        made = self._again(original)
        shown = {"id": made.id, "object": "webhook_delivery", "replayed_from": original.id, "status": made.status}
        return Reply(200, {"data": shown})

    def bulk_replay(self, call: Call) -> Reply:
        """POST /v1/webhook_deliveries/bulk_replay"""
        asked = _object(call)
        if asked.get("subscription_id") not in self.by_id:
            raise refuse(404, "resource_not_found", "No such subscription", param="subscription_id")
        status = asked.get("status", "dead")
        if status not in ("dead", "failed"):
            raise refuse(400, "invalid_field_value", "status must be dead or failed", param="status")
        after, before = _moment(asked, "created_after"), _moment(asked, "created_before")
        chosen = [
            one
            for one in self._kept()
            if one.subscription.id == asked["subscription_id"]
            and one.status == status
            and asked.get("event_type") in (None, one.event_type)
            and (after is None or one.created_at > after)
            and (before is None or one.created_at < before)
        ]
        for one in chosen[:LARGEST_REPLAY]:
            self._again(one)
        enqueued = min(len(chosen), LARGEST_REPLAY)
        return Reply(200, {"data": {"enqueued": enqueued, "capped": len(chosen) > LARGEST_REPLAY}})

    # -- inside

    def _start(self, delivery: Delivery) -> Delivery:
        delivery.id = new_id(self._random, "wbd")
        self.deliveries[delivery.id] = delivery
        self._send(delivery)
        return delivery

    def _again(self, old: Delivery) -> Delivery:
        """A new delivery of the same event. The original stays as it is."""
        return self._start(
            Delivery(
                "",
                old.subscription,
                old.event_type,
                old.event_id,
                old.source,
                old.body,
                self._now(),
                replayed_from=old.id,
            )
        )

    def _kept(self) -> list[Delivery]:
        oldest = self._now() - KEPT
        return [one for one in self.deliveries.values() if one.created_at >= oldest]

    def _known(self, call: Call) -> Subscription:
        known = self.by_id.get(call.params["id"])
        if known is None:
            raise refuse(404, "resource_not_found", "No such subscription")
        return known

    def _known_delivery(self, call: Call) -> Delivery:
        known = self.deliveries.get(call.params["id"])
        if known is None:
            raise refuse(404, "resource_not_found", "No such delivery")
        return known

    def _new_secret(self, ends: datetime | None) -> Secret:
        text = "whsec_" + base64.urlsafe_b64encode(self._random.randbytes(24)).decode()
        return Secret(new_id(self._random, "sec"), text, self._now(), ends)

    def _checked_url(self, url: Any) -> str:
        schemes = ("https://", "http://") if self._behaviour.allow_http else ("https://",)
        if not isinstance(url, str) or not url.startswith(schemes):
            raise refuse(400, "invalid_webhook_url", "The URL must begin with https://", param="url")
        return url

    def _page(
        self, call: Call, rows: list[Any], filters: tuple[str, ...], shown: Callable[[Any], dict[str, Any]]
    ) -> Reply:
        start = read_cursor(call, filters)
        rest = rows
        if start is not None:
            places = [one.id for one in rows]
            rest = rows[places.index(start[0]) + 1 :] if start[0] in places else []
        return page(call, rest, filters, lambda one: [one.id], shown)

    def _shown(self, one: Subscription) -> dict[str, Any]:
        behaviour = self._behaviour
        secrets = {"secrets": [self._secret_shown(secret) for secret in one.secrets]}
        return {
            "id": one.id,
            "object": "webhook_subscription",
            "url": one.url,
            "events": list(one.events),
            "description": one.description,
            "status": one.status,
            **(secrets if behaviour.secrets_shown == "embedded" else {}),
            "created_at": stamp(one.created_at, behaviour),
        }

    def _secret_shown(self, one: Secret) -> dict[str, Any]:
        behaviour = self._behaviour
        times = {"created_at": stamp(one.created_at, behaviour), "expires_at": stamp(one.expires_at, behaviour)}
        return {"id": one.id, "object": "webhook_secret", **times}

    def _delivery_shown(self, one: Delivery) -> dict[str, Any]:
        named = {"event_id": one.event_id, "replayed_from": one.replayed_from}
        return {
            "id": one.id,
            "object": "webhook_delivery",
            "subscription_id": one.subscription.id,
            "event_type": one.event_type,
            **({} if self._behaviour.bare_deliveries else named),
            "status": one.status,
            "attempts": one.attempts,
            "response_status": one.response_status,
            "created_at": stamp(one.created_at, self._behaviour),
        }


def _asked_for(call: Call, one: Delivery) -> bool:
    held = {"subscription_id": one.subscription.id, "status": one.status, "event_type": one.event_type}
    return all(call.param(name) in ("", value) for name, value in held.items())


def _object(call: Call) -> dict[str, Any]:
    asked = call.json() or {}
    if not isinstance(asked, dict):
        raise refuse(400, "invalid_field_value", "The body must be an object")
    return asked


def _moment(asked: dict[str, Any], name: str) -> datetime | None:
    if asked.get(name) is None:
        return None
    try:
        moment = datetime.fromisoformat(asked[name])
    except (TypeError, ValueError):
        raise refuse(400, "invalid_field_value", f"{name} is no time", param=name) from None
    if moment.tzinfo is None:
        raise refuse(400, "invalid_field_value", f"{name} has no time zone", param=name)
    return moment


def _checked_events(events: Any) -> tuple[str, ...]:
    if not isinstance(events, list) or not events or set(events) - set(EVENTS):
        raise refuse(400, "invalid_field_value", "events must name known events", param="events")
    return tuple(dict.fromkeys(events))
