"""The webhooks of an emulated HubSpot account: arrays of events, signed (version 3), repeated until they are taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

import orjson

from crmsync.sandbox.hubspot.behaviour import Behaviour
from crmsync.sandbox.hubspot.records import Happening
from crmsync.sandbox.outbox import Outbox
from crmsync.sandbox.poster import NoAnswer, Poster

LARGEST_DELIVERY = 100
MOST_ATTEMPTS = 11
ANSWER_SECONDS = 5.0
_DECODED = ("%3A", "%2F", "%3F", "%40", "%21", "%24", "%27", "%28", "%29", "%2A", "%2C", "%3B")


def sign(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """The value of X-HubSpot-Signature-v3."""
    for code in _DECODED:
        url = url.replace(code, bytes.fromhex(code[1:]).decode())
    message = method.encode() + url.encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def sign_version_1(secret: str, body: bytes) -> str:
    """The value of X-HubSpot-Signature that a legacy private app sends."""
    return hashlib.sha256(secret.encode() + body).hexdigest()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One event for which the receiver answered 2xx."""

    event: dict[str, Any]
    at: datetime


class Webhooks:
    """Gathers events for a moment, posts them, and repeats what was not taken. Off while `url` is None."""

    def __init__(
        self,
        outbox: Outbox,
        behaviour: Behaviour,
        random: Random,
        now: Callable[[], datetime],
        *,
        app_id: int,
        portal_id: int,
    ) -> None:
        self.url: str | None = None
        self.secret = ""
        self.acknowledged: list[Acknowledged] = []
        self.lost: list[dict[str, Any]] = []
        self._outbox = outbox
        self._behaviour = behaviour
        self._random = random
        self._now = now
        self._app_id = app_id
        self._portal_id = portal_id
        self._gathered: deque[dict[str, Any]] = deque()
        self._event_ids = itertools.count(100)
        self._flushing = False

    def report(self, happening: Happening) -> None:
        """Has a happening posted."""
        if self.url is None:
            return
        event = self._event(happening)
        self._gathered.append(event)
        if self._random.random() < self._behaviour.webhook_duplicates:
            self._gathered.append(event)
        if not self._flushing:
            self._flushing = True
            self._outbox.submit(self._flush, self._behaviour.webhook_delay)

    def _event(self, happening: Happening) -> dict[str, Any]:
        subject = "object" if self._behaviour.webhook_generic else happening.of.name
        return {
            "eventId": next(self._event_ids),
            "subscriptionId": 1 + len(happening.type),
            "portalId": self._portal_id,
            "appId": self._app_id,
            "occurredAt": int(happening.at.timestamp() * 1000),
            "subscriptionType": f"{subject}.{happening.type}",
            "attemptNumber": 0,
            "objectId": happening.record.id,
            "objectTypeId": happening.of.id,
            "changeSource": happening.source.change_source,
            "sourceId": happening.source.source_id,
            **happening.details,
        }

    def _signed(self, url: str, body: bytes, timestamp: str) -> dict[str, str]:
        if self._behaviour.webhook_version_1:
            return {"X-HubSpot-Signature": sign_version_1(self.secret, body), "X-HubSpot-Signature-Version": "v1"}
        signature = sign(self.secret, "POST", url, body, timestamp)
        return {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": timestamp}

    async def _flush(self, poster: Poster) -> None:
        self._flushing = False
        events = [self._gathered.popleft() for _ in range(len(self._gathered))]
        if self._random.random() < self._behaviour.webhook_disorder:
            self._random.shuffle(events)
        for start in range(0, len(events), LARGEST_DELIVERY):
            await self._post(poster, events[start : start + LARGEST_DELIVERY], 0)

    async def _post(self, poster: Poster, events: list[dict[str, Any]], attempt: int) -> None:
        if self.url is None:
            return
        body = orjson.dumps([{**event, "attemptNumber": attempt} for event in events])
        timestamp = str(int(self._now().timestamp() * 1000))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "HubSpot Connect 2.0 (sandbox)",
            **self._signed(self.url, body, timestamp),
        }
        try:
            taken = (await poster.post(self.url, headers, body, ANSWER_SECONDS)).is_success
        except NoAnswer:
            taken = False
        if taken:
            now = self._now()
            self.acknowledged.extend(Acknowledged(event, now) for event in events)
        elif attempt + 1 < MOST_ATTEMPTS:
            self._outbox.submit(
                lambda again: self._post(again, events, attempt + 1), self._behaviour.webhook_retry * 2**attempt
            )
        else:
            self.lost.extend(events)
