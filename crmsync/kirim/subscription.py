"""A webhook subscription as Kirim shows it: where it sends, whether it does, and what it signs with.

Kirim's documents show the secrets within the subscription, beside it, or not at all; each reading is taken. `None`
means that Kirim does not say. A secret's text is shown once, when it is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from crmsync.errors import Reject, Retry
from crmsync.kirim.client import KirimClient
from crmsync.kirim.reading import moment
from crmsync.kirim.wire import Row

ACTIVE = "active"
PAUSED = "paused"
"""Switched off by a person: the only state but `active` that nobody else may end."""

CORE_EVENTS = (
    "contact.created",
    "contact.updated",
    "conversation.assigned",
    "conversation.closed",
    "message.received",
    "message.status",
)
"""What every generation of the documents has."""
EVENT_LISTS = (
    (*CORE_EVENTS, "message.created", "message.sent"),
    (*CORE_EVENTS, "message.created"),
    CORE_EVENTS,
)
"""What to subscribe to, the widest first: each generation refuses the names it does not know."""

_PLAIN = ("initial_secret", "secret", "plaintext", "value", "key", "text")


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """One of the secrets that deliveries are signed with. Its text is not shown."""

    id: str
    created_at: datetime | None = None
    expires_at: datetime | None = None

    def signs(self, now: datetime) -> bool:
        """Whether it is still in use."""
        return self.expires_at is None or self.expires_at > now


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription. `events` and `secrets` are None where Kirim does not show them."""

    id: str
    url: str
    status: str
    events: tuple[str, ...] | None = None
    secrets: tuple[SigningSecret, ...] | None = None
    created_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether Kirim sends."""
        return self.status == ACTIVE

    def missing_events(self) -> tuple[str, ...]:
        """What every generation of Kirim can send and this subscription does not ask for."""
        return () if self.events is None else tuple(name for name in CORE_EVENTS if name not in self.events)


def read(row: Row) -> Subscription:
    """A subscription out of Kirim's words. Raises `Retry` for one without an id."""
    id = row.get("id")
    if not isinstance(id, str) or not id:
        raise Retry("kirim answered with a subscription that has no id")
    events = row.get("events")
    return Subscription(
        id,
        str(row.get("url") or ""),
        str(row.get("status") or ACTIVE).lower(),
        tuple(str(name) for name in events) if isinstance(events, list) else None,
        _secrets(row.get("secrets")),
        moment(row.get("created_at")),
    )


def every(client: KirimClient) -> list[Subscription]:
    """All subscriptions of the organisation."""
    return [read(row) for row in client.subscriptions()]


def of_url(client: KirimClient, url: str) -> list[Subscription]:
    """The subscriptions that send to an address of ours, an active one first, with their secrets if shown."""
    found = [whole(client, one) for one in every(client) if same_address(one.url, url)]
    return sorted(found, key=lambda one: not one.is_active)


def whole(client: KirimClient, one: Subscription) -> Subscription:
    """The same with its secrets, asked for where the list did not show them."""
    if one.secrets is not None:
        return one
    row = client.subscription(one.id)
    if row is not None and (secrets := _secrets(row.get("secrets"))) is not None:
        return replace(one, secrets=secrets)
    try:
        return replace(one, secrets=_secrets(list(client.secrets(one.id))))
    except Reject:
        return one  # this host has no such call


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are one, however they are spelled."""
    return _normal(one) == _normal(other)


def plain_secret(row: Row) -> str | None:
    """The text of a secret in the answer that shows it this once, whatever the field is called."""
    inner = row.get("secret")
    places = [row, inner] if isinstance(inner, dict) else [row]
    for place in places:
        for name in _PLAIN:
            value = place.get(name)
            if isinstance(value, str) and value.startswith("whsec_"):
                return value.strip()
    return None


def secret_id(row: Row) -> str | None:
    """The id of the secret that an answer is about."""
    for value in (row.get("id"), row.get("secret_id"), *(one.id for one in _secrets(row.get("secrets")) or ())):
        if isinstance(value, str) and value.startswith("sec_"):
            return value
    return None


def _secrets(rows: Any) -> tuple[SigningSecret, ...] | None:
    return tuple(_read_secrets(rows)) if isinstance(rows, list) else None


def _read_secrets(rows: list[Any]) -> Iterator[SigningSecret]:
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("id"), str) and row["id"]:
            yield SigningSecret(row["id"], moment(row.get("created_at")), moment(row.get("expires_at")))


def _normal(url: str) -> tuple[str, str, int | None, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return url, "", None, ""
    return parts.scheme.lower(), (parts.hostname or "").lower(), port, parts.path.rstrip("/")
