"""Tells people that something needs them: a line in the log, and a message to a webhook that speaks as Slack's do.

`Alerts.alert` may be called from any thread and as often as trouble is met; it never waits and never fails. What lasts
is told again after an hour, its end once. Nothing is kept over a restart.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Protocol

import structlog

from crmsync.errors import ConnectorError, Retry
from crmsync.http import Http, Unlimited, classify
from crmsync.outbound import Reach

AGAIN = timedelta(hours=1)
FLAPPING = timedelta(minutes=5)
"""What comes back sooner than this after it was told is not told anew at once."""
QUEUE = 100
"""Messages that may wait for the webhook; more are dropped and counted."""
LONGEST = 2_000
TRIES = 3
PAUSE = 2.0
"""Seconds before a message is sent again; they double."""

ENDS: Mapping[str, str] = MappingProxyType(
    {
        "connection_recovered": "connection_suspended",
        "signature_recovered": "signature_failing",
        "subscription_recovered": "subscription_disabled",
        "subscription_found": "subscription_missing",
        "secret_known": "secret_unknown",
        "secret_lasting": "secret_expiring",
        "sweep_resumed": "sweep_stopped",
        "sweep_unstuck": "sweep_stuck",
        "self_test_passed": "self_test_failed",
        "disk_recovered": "disk_low",
        "dead_letters_stopped": "dead_letters_growing",
        "store_recovered": "store_unavailable",
        "brake_released": "brake_reached",
    }
)
"""Which kind tells the end of which. An end is told only to whom the beginning was."""

log = structlog.get_logger(__name__)


class Alert(Protocol):
    """How the daemon calls for people; `Alerts.alert` is the real one. `text` holds no personal datum."""

    def __call__(self, kind: str, tenant: str, text: str, about: str = "") -> None: ...


def nobody(kind: str, tenant: str, text: str, about: str = "") -> None:
    """An alert that goes nowhere."""


Post = Callable[[str], None]
"""Sends one text to the webhook, or raises."""


@dataclass(slots=True)
class _Alarm:
    on: bool = False
    told: bool = False  # since it is on
    told_at: float = float("-inf")


class Alerts:
    """One process's alerts. Without `post` they are only logged; with it, `start` before, `stop` after.

    `counts` says what became of messages: sent, dropped, failed.
    """

    def __init__(self, post: Post | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._post = post
        self._monotonic = monotonic
        self._alarms: dict[tuple[str, str, str], _Alarm] = {}
        self._lock = threading.Lock()
        self._queue: queue.Queue[str | None] = queue.Queue(QUEUE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="alerts", daemon=True)

    def alert(self, kind: str, tenant: str, text: str, about: str = "") -> None:
        """Tells it, unless it was told lately. `about` keeps apart what may go wrong several times in one tenant."""
        told = self._over((ENDS[kind], tenant, about)) if kind in ENDS else self._begun((kind, tenant, about))
        if not told:
            return
        level = log.info if kind in ENDS else log.warning
        level("alert", kind=kind, tenant=tenant, **({"about": about} if about else {}), text=text)
        if self._post is not None:
            self._enqueue(f"crmsync {kind.replace('_', ' ')} ({tenant or 'all tenants'}): {text}"[:LONGEST])

    def active(self) -> list[tuple[str, str, str]]:
        """The alarms that are on: kind, tenant, and what it is about."""
        with self._lock:
            return sorted(key for key, alarm in self._alarms.items() if alarm.on)

    def start(self) -> None:
        """Begins to send."""
        if self._post is not None:
            self._thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """Sends what waits, if that is quick."""
        if not self._thread.is_alive():
            return
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout)

    def _begun(self, key: tuple[str, str, str]) -> bool:
        now = self._monotonic()
        with self._lock:
            alarm = self._alarms.setdefault(key, _Alarm())
            alarm.on = True
            if now - alarm.told_at < (AGAIN if alarm.told else FLAPPING).total_seconds():
                return False
            alarm.told, alarm.told_at = True, now
            return True

    def _over(self, key: tuple[str, str, str]) -> bool:
        with self._lock:
            alarm = self._alarms.get(key)
            told = alarm is not None and alarm.told
            if alarm is not None:
                alarm.on = alarm.told = False
            return told

    def _enqueue(self, text: str) -> None:
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            self.counts["dropped"] += 1

    def _deliver(self) -> None:
        while (text := self._queue.get()) is not None:
            self.counts["sent" if self._sent(text) else "failed"] += 1

    def _sent(self, text: str) -> bool:
        """Whether the webhook took it. A refusal is final; who cannot be reached is tried again."""
        assert self._post is not None  # noqa: S101  the thread is started for nothing else
        for attempt in range(TRIES):
            try:
                self._post(text)
            except Retry as error:
                trouble: ConnectorError = error
            except ConnectorError as error:
                trouble = error
                break
            else:
                return True
            if self._stopping.wait(PAUSE * 2**attempt):
                break
        log.warning("alert_not_sent", reason=str(trouble))
        return False


class Hook:
    """A Slack-compatible webhook: takes a text as `{"text": …}`."""

    def __init__(self, url: str, reach: Reach) -> None:
        self._url = url
        self._http = Http("the alert webhook", "", {}, Unlimited(), reach=reach)

    def post(self, text: str) -> None:
        """Sends once. Raises `ConnectorError`."""
        response = self._http.send("POST", self._url, body={"text": text})
        if not response.is_success:
            raise classify(self._http.platform, response.status_code)

    def close(self) -> None:
        """Lets go of the connection."""
        self._http.close()
