"""Kirim's API as calls, with the paths of both its generations. Resources stay plain objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from crmsync.errors import Reject
from crmsync.http import Budget, wall_clock
from crmsync.kirim.settings import KirimSettings, Paths
from crmsync.kirim.wire import PAGE_LIMIT, Listing, Row, Wire, given
from crmsync.outbound import PUBLIC, Reach

BULK_LIMIT = 1000
_NOWHERE = ("", ".", "..")
"""What is no id, and would name another place if it stood in a path."""

_CONTACT_ID = re.compile(r"ctc_[0-9A-HJKMNP-TV-Z]{26}").fullmatch


@dataclass(frozen=True, slots=True)
class Limits:
    """What the organisation may send per minute."""

    read_per_minute: int
    write_per_minute: int


@dataclass(frozen=True, slots=True)
class BulkLabelled:
    """What became of a bulk labelling. Who was skipped is not said, only how many."""

    applied: int
    skipped_cross_org: int
    skipped_team_mismatch: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a bulk replay put into Kirim's queue; `capped` says that there was more."""

    enqueued: int
    capped: bool


class KirimClient:
    """One organisation's API. Safe to use from several threads."""

    def __init__(
        self,
        settings: KirimSettings,
        budget: Budget,
        clock: Callable[[], datetime] = wall_clock,
        reach: Reach = PUBLIC,
    ) -> None:
        self._phone_paths = settings.paths is Paths.PHONE
        key = settings.api_key.get_secret_value()
        self._wire = Wire(settings.base_url, key, budget, clock, settings.timeout_seconds, reach)

    def close(self) -> None:
        """Lets go of the connections."""
        self._wire.close()

    # -- the account

    def me(self) -> Row:
        """The organisation, the key and its limits."""
        return self._wire.one("GET", "me")

    def limits(self) -> Limits | None:
        """The rate limits of the organisation's tier; None if the answer names none."""
        limits = self.me().get("rate_limits")
        read, write = (
            (limits.get("read_per_minute"), limits.get("write_per_minute"))
            if isinstance(limits, dict)
            else (None, None)
        )
        return Limits(read, write) if isinstance(read, int) and isinstance(write, int) else None

    def accounts(self, *, connected_only: bool = True) -> Sequence[Row]:
        """The organisation's WhatsApp numbers. Older hosts do not have this call: `Reject`."""
        params = {} if connected_only else {"status": "all"}
        return tuple(self._wire.walk(lambda cursor: self._wire.page("accounts", params, cursor, limit=None)))

    # -- contacts; `number` is a phone_number_id, of no matter with organisation paths

    def contacts_page(
        self,
        number: str,
        cursor: str | None = None,
        *,
        phone: str | None = None,
        search: str | None = None,
        limit: int = PAGE_LIMIT,
    ) -> Listing:
        """One page of a number's contacts. A cursor belongs to the filters it was given for."""
        return self._wire.page(self._scoped(number, "contacts"), given(phone=phone, search=search), cursor, limit=limit)

    def contacts(self, number: str, *, phone: str | None = None, search: str | None = None) -> Iterator[Row]:
        """Every contact of a number, page after page."""
        return self._wire.walk(lambda cursor: self.contacts_page(number, cursor, phone=phone, search=search))

    def contact(self, number: str, contact_id: str) -> Row | None:
        """One contact; None if this number has none of that id, or if nothing can have such an id."""
        if contact_id in _NOWHERE:
            return None
        absent = (404,) if _CONTACT_ID(contact_id) else (400, 404)
        return self._wire.find(self._scoped(number, "contacts", contact_id), absent=absent)

    def create_contact(self, number: str, body: Row, *, idempotency_key: str | None = None) -> Row:
        """Makes a contact; `phone_number` is required."""
        return self._wire.one("POST", self._scoped(number, "contacts"), body, idempotency_key)

    def patch_contact(self, number: str, contact_id: str, body: Row) -> Row | None:
        """Changes name, email or metadata; the contact as it is then, or None if there is none."""
        return self._wire.find(self._scoped(number, "contacts", contact_id), "PATCH", body)

    # -- labels

    def labels(self) -> Iterator[Row]:
        """Every label of the organisation."""
        return self._wire.walk(lambda cursor: self._wire.page("labels", {}, cursor))

    def create_label(
        self,
        name: str,
        *,
        color: str | None = None,
        team_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Row:
        """Makes a label. `team_id` is needed only where the organisation has several teams."""
        return self._wire.one("POST", "labels", given(name=name, color=color, team_id=team_id), idempotency_key)

    def attach_label(self, number: str, contact_id: str, label_id: str, *, idempotency_key: str | None = None) -> None:
        """Puts a label on a contact; on it already is no error."""
        path = self._scoped(number, "contacts", contact_id, "labels")
        self._wire.answer("POST", path, body={"label_id": label_id}, idempotency_key=idempotency_key)

    def detach_label(self, number: str, contact_id: str, label_id: str) -> None:
        """Takes a label off a contact; not on it is no error."""
        self._wire.find(self._scoped(number, "contacts", contact_id, "labels", label_id), "DELETE")

    def bulk_label(
        self,
        number: str,
        contact_ids: Sequence[str],
        label_id: str,
        *,
        attach: bool,
        idempotency_key: str | None = None,
    ) -> BulkLabelled:
        """Puts a label on up to 1,000 contacts, or takes it off, in one write."""
        if len(contact_ids) > BULK_LIMIT:
            raise ValueError(f"at most {BULK_LIMIT} contacts in one call")
        if not contact_ids:
            return BulkLabelled(0, 0, 0)
        operation = "attach" if attach else "detach"
        body = {"contact_ids": list(contact_ids), "label_id": label_id, "operation": operation}
        answer = self._wire.one("POST", self._scoped(number, "contacts", "bulk_label"), body, idempotency_key)
        return BulkLabelled(
            _count(answer, "applied"),
            _count(answer, "skipped_cross_org"),
            _count(answer, "skipped_team_mismatch"),
        )

    # -- conversations

    def conversations_page(
        self,
        number: str,
        cursor: str | None = None,
        *,
        status: str | None = None,
        contact_id: str | None = None,
        limit: int = PAGE_LIMIT,
    ) -> Listing:
        """One page of a number's conversations, the latest message first."""
        filters = given(status=status, contact_id=contact_id)
        return self._wire.page(self._scoped(number, "conversations"), filters, cursor, limit=limit)

    def conversations(self, number: str, *, status: str | None = None, contact_id: str | None = None) -> Iterator[Row]:
        """Every conversation of a number, page after page."""
        return self._wire.walk(
            lambda cursor: self.conversations_page(number, cursor, status=status, contact_id=contact_id)
        )

    def conversation(self, number: str, conversation_id: str) -> Row | None:
        """One conversation; None if this number has none of that id."""
        return self._wire.find(self._scoped(number, "conversations", conversation_id))

    def patch_conversation(self, number: str, conversation_id: str, body: Row) -> Row | None:
        """Changes `status` or `assigned_to` (null for nobody); None if there is no such conversation."""
        return self._wire.find(self._scoped(number, "conversations", conversation_id), "PATCH", body)

    # -- webhook subscriptions, their secrets, and what was delivered

    def subscriptions(self) -> Iterator[Row]:
        """Every webhook subscription of the organisation."""
        return self._wire.walk(lambda cursor: self._wire.page("webhook_subscriptions", {}, cursor))

    def subscription(self, subscription_id: str) -> Row | None:
        """One subscription; None if there is none."""
        return self._wire.find(_path("webhook_subscriptions", subscription_id))

    def create_subscription(
        self,
        url: str,
        events: Sequence[str],
        *,
        description: str | None = None,
        idempotency_key: str | None = None,
    ) -> Row:
        """Subscribes an https address. The answer's `initial_secret` is shown this once and never again."""
        body = {"url": url, "events": list(events), **given(description=description)}
        return self._wire.one("POST", "webhook_subscriptions", body, idempotency_key)

    def patch_subscription(self, subscription_id: str, body: Row) -> Row | None:
        """Changes `url`, `events`, `description` or `status` (`active` switches it on again)."""
        return self._wire.find(_path("webhook_subscriptions", subscription_id), "PATCH", body)

    def delete_subscription(self, subscription_id: str) -> None:
        """Ends a subscription; one that is gone is no error."""
        self._wire.find(_path("webhook_subscriptions", subscription_id), "DELETE")

    def create_secret(
        self,
        subscription_id: str,
        *,
        expires_in_hours: int | None = None,
        idempotency_key: str | None = None,
    ) -> Row:
        """A further signing secret, in plain text this once."""
        path = _path("webhook_subscriptions", subscription_id, "secrets")
        return self._wire.one("POST", path, given(expires_in_hours=expires_in_hours), idempotency_key)

    def secrets(self, subscription_id: str) -> Iterator[Row]:
        """Its signing secrets, without their text. Not every host has this call: `Reject`."""
        path = _path("webhook_subscriptions", subscription_id, "secrets")
        return self._wire.walk(lambda cursor: self._wire.page(path, {}, cursor))

    def delete_secret(self, subscription_id: str, secret_id: str) -> None:
        """Stops signing with a secret; one that is gone is no error."""
        self._wire.find(_path("webhook_subscriptions", subscription_id, "secrets", secret_id), "DELETE")

    def deliveries_page(self, subscription_id: str, cursor: str | None = None, *, status: str | None = None) -> Listing:
        """One page of its deliveries. Ask for `dead` and for `failed`: the documents use both."""
        return self._wire.page("webhook_deliveries", given(subscription_id=subscription_id, status=status), cursor)

    def deliveries(self, subscription_id: str, *, status: str | None = None) -> Iterator[Row]:
        """Every delivery of a subscription, page after page."""
        return self._wire.walk(lambda cursor: self.deliveries_page(subscription_id, cursor, status=status))

    def replay(self, delivery_id: str, *, idempotency_key: str | None = None) -> Row:
        """Has one delivery sent again, as a new delivery."""
        path = _path("webhook_deliveries", delivery_id, "replay")
        return self._wire.one("POST", path, None, idempotency_key)

    def bulk_replay(
        self,
        subscription_id: str,
        *,
        status: str = "dead",
        event_type: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> Replayed:
        """Has up to 1,000 deliveries sent again; page by time."""
        body = given(
            subscription_id=subscription_id,
            status=status,
            event_type=event_type,
            created_after=_stamp(created_after),
            created_before=_stamp(created_before),
        )
        answer = self._wire.one("POST", "webhook_deliveries/bulk_replay", body, idempotency_key)
        return Replayed(_count(answer, "enqueued"), answer.get("capped") is True)

    def _scoped(self, number: str, *parts: str) -> str:
        return _path(number, *parts) if self._phone_paths else _path(*parts)


def _path(*parts: str) -> str:
    if any(part in _NOWHERE for part in parts):
        raise Reject("kirim has no such id")
    return "/".join(quote(part, safe="") for part in parts)


def _count(answer: Row, name: str) -> int:
    value = answer.get(name)
    return value if isinstance(value, int) else 0


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
