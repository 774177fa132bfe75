"""The sender of an emulated Kirim: signs, posts, and repeats on Kirim's schedule until a delivery ends.

Any 2xx is success. 3xx, 408, 429, 5xx and no answer are tried again, eight times in all; any other 4xx is final.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random

from crmsync.sandbox.kirim.behaviour import Behaviour
from crmsync.sandbox.kirim.subscriptions import SUCCEEDED, Delivery
from crmsync.sandbox.outbox import Outbox
from crmsync.sandbox.poster import NoAnswer, Poster

SCHEDULE = (0.0, 10.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0)
JITTER = 0.2
ANSWER_SECONDS = 10.0


def sign(secrets: Sequence[str], moment: int, body: bytes) -> str:
    """The value of X-Kirim-Signature: one v1 for each secret, keyed with the whole secret string."""
    message = f"{moment}.".encode() + body
    marks = (hmac.new(secret.encode(), message, hashlib.sha256).hexdigest() for secret in secrets)
    return ",".join([f"t={moment}", *(f"v1={mark}" for mark in marks)])


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A delivery that the receiver answered with 2xx, once for each time it did."""

    delivery_id: str
    event_id: str
    event_type: str
    attempt: int
    at: datetime
    body: bytes


class Sender:
    """Carries deliveries out. Everything it changes about them, it changes under `lock`."""

    def __init__(
        self,
        outbox: Outbox,
        behaviour: Behaviour,
        random: Random,
        now: Callable[[], datetime],
        lock: threading.RLock,
    ) -> None:
        self.acknowledged: list[Acknowledged] = []
        self._outbox = outbox
        self._behaviour = behaviour
        self._random = random
        self._now = now
        self._lock = lock

    def send(self, delivery: Delivery) -> None:
        """Starts a delivery on its way."""
        behaviour = self._behaviour
        held_back = self._random.random() < behaviour.disorder
        delay = self._random.uniform(0, behaviour.disorder_seconds) if held_back else 0.0
        self._outbox.submit(lambda poster: self._attempt(poster, delivery), delay)

    async def _attempt(self, poster: Poster, delivery: Delivery) -> None:
        with self._lock:
            delivery.attempts += 1
            url, headers, attempt = delivery.subscription.url, self._headers(delivery), delivery.attempts
        status, wait = await _post(poster, url, headers, delivery.body)
        with self._lock:
            delivery.response_status = status
            if status is not None and 200 <= status < 300:
                self._succeed(delivery, attempt)
            elif status is not None and 400 <= status < 500 and status not in (408, 429):
                self._bury(delivery)
            else:
                self._repeat(delivery, wait)

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        behaviour, now = self._behaviour, self._now()
        if delivery.signed_at is None or behaviour.resign:
            delivery.signed_at = int(now.timestamp()) + behaviour.signature_skew
        return {
            "Content-Type": "application/json",
            "User-Agent": "kirim-sandbox",
            "X-Kirim-Source": delivery.source,
            "X-Kirim-Event": delivery.event_type,
            "X-Kirim-Event-Id": delivery.event_id,
            "X-Kirim-Delivery-Id": delivery.id,
            "X-Kirim-Attempt": str(delivery.attempts),
            "X-Kirim-Signature": sign(delivery.subscription.active_secrets(now), delivery.signed_at, delivery.body),
        }

    def _succeed(self, delivery: Delivery, attempt: int) -> None:
        delivery.status = SUCCEEDED
        delivery.subscription.failures = 0
        self.acknowledged.append(
            Acknowledged(delivery.id, delivery.event_id, delivery.event_type, attempt, self._now(), delivery.body)
        )
        if self._random.random() < self._behaviour.duplicates:
            self._outbox.submit(lambda poster: self._attempt(poster, delivery))

    def _bury(self, delivery: Delivery) -> None:
        """Ends a delivery; enough in a row switch the subscription off."""
        if delivery.status == SUCCEEDED:
            return
        behaviour, subscription = self._behaviour, delivery.subscription
        delivery.status = behaviour.dead_status
        subscription.failures += 1
        if behaviour.disable_after is not None and subscription.failures >= behaviour.disable_after:
            subscription.status = "disabled"

    def _repeat(self, delivery: Delivery, wait: float) -> None:
        if delivery.status == SUCCEEDED:
            return
        if delivery.attempts >= len(SCHEDULE) or delivery.subscription.status != "active":
            self._bury(delivery)
            return
        jittered = SCHEDULE[delivery.attempts] * self._random.uniform(1 - JITTER, 1 + JITTER)
        delay = max(jittered, wait) * self._behaviour.time_scale
        self._outbox.submit(lambda poster: self._attempt(poster, delivery), delay)


async def _post(poster: Poster, url: str, headers: dict[str, str], body: bytes) -> tuple[int | None, float]:
    """The status and the seconds a Retry-After asks for; no status where no answer came."""
    try:
        answer = await poster.post(url, headers, body, ANSWER_SECONDS)
    except NoAnswer:
        return None, 0.0
    asked = answer.headers.get("retry-after", "") if answer.status == 429 else ""
    return answer.status, float(asked) if asked.isdecimal() else 0.0
