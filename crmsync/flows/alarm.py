"""Notices that an endpoint's deliveries fail to prove themselves, and says so, with what to do: by rate, not each time.

Anybody can send a forged request; a few in a row, or one where nothing right comes, is worth a look either way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import structlog

WINDOW = 60.0
MANY = 3
OVER_AFTER = 600.0
"""Seconds without another failure after which an alarm ends although nothing right came."""
AGAIN_AFTER = 60.0
"""Seconds in which the same thing is said once."""

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "missing_signature": "the request has the platform's headers but no signature: let the proxy in front of"
        " crmsync pass the signature header on",
        "malformed": "the signature header cannot be read: look for a proxy that changes headers; a forger is possible",
        "mismatch": "no configured secret matches: compare them with those of the subscription, add the missing one;"
        " what came meanwhile is taken in as soon as it is there. If all is in place, somebody is forging",
        "stale": "signed rightly, but too long ago: compare this machine's clock (NTP) and look for a queue in between;"
        " kirim.accept_stale_hours lets late deliveries in",
        "future": "signed rightly, but in our future: this machine's clock is behind (NTP)",
        "cross_tenant": "signed with another tenant's secret: the addresses of two tenants were mixed up at the sender",
        "compressed": "the body came compressed: switch off compression of requests in the proxy",
        "too_large": "the body is over the limit: it is not kept, and its sender gives up after about 31 hours",
        "unknown_path": "a delivery for an address that is not configured: a tenant or connection may have been lost",
    }
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Endpoint:
    """How the latest requests of one endpoint went."""

    succeeded_at: float
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=MANY))
    since: float | None = None
    reason: str = ""
    total: int = 0


class Alarm:
    """Belongs to one event loop. `failed` and `succeeded` are told every outcome.

    `alert` calls for people: kind, tenant, text. It is called as often as trouble is met, at most once a minute.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        alert: Callable[[str, str, str], None] = lambda kind, tenant, text: None,
    ) -> None:
        self._alert = alert
        self._monotonic = monotonic
        self._endpoints: dict[tuple[str, str], _Endpoint] = {}
        self._said: dict[tuple[str, ...], float] = {}
        self._began = monotonic()

    def succeeded(self, tenant: str, source: str) -> None:
        """A delivery proved itself."""
        now = self._monotonic()
        endpoint = self._endpoints.get((tenant, source))
        if endpoint is None:
            endpoint = self._endpoints[tenant, source] = _Endpoint(now)
        endpoint.succeeded_at = now
        if endpoint.since is not None and not self._many(endpoint, now):
            endpoint.since = None
            log.info("signature_recovered", tenant=tenant, source=source)
            self._alert("signature_recovered", tenant, f"Deliveries of {source} prove themselves again.")

    def failed(self, tenant: str, source: str, reason: str) -> None:
        """A request that claimed to be a delivery did not prove itself."""
        now = self._monotonic()
        endpoint = self._endpoints.setdefault((tenant, source), _Endpoint(self._began))
        if endpoint.since is not None and now - endpoint.failures[-1] >= OVER_AFTER:
            endpoint.since = None
        endpoint.failures.append(now)
        endpoint.reason = reason
        endpoint.total += 1
        if endpoint.since is None and (self._many(endpoint, now) or now - endpoint.succeeded_at >= WINDOW):
            endpoint.since = now
        if endpoint.since is not None:
            self.say("signature_failing", tenant=tenant, source=source, reason=reason)

    def say(self, event: str, *, reason: str, **about: Any) -> None:
        """Logs with advice, once a minute for the same event, reason and endpoint."""
        now = self._monotonic()
        key = (event, reason, str(about.get("tenant", "")), str(about.get("source", "")))
        if now - self._said.get(key, -AGAIN_AFTER) >= AGAIN_AFTER:
            self._said[key] = now
            log.warning(event, **about, reason=reason, advice=ADVICE[reason])
            self._alert(event, str(about.get("tenant", "")), " ".join((str(about.get("source", "")), ADVICE[reason])))

    def active(self) -> list[dict[str, Any]]:
        """The alarms that are on."""
        now = self._monotonic()
        return [
            {
                "alarm": "signature_failing",
                "tenant": tenant,
                "source": source,
                "reason": endpoint.reason,
                "failures": endpoint.total,
                "seconds": round(now - endpoint.since),
                "advice": ADVICE[endpoint.reason],
            }
            for (tenant, source), endpoint in sorted(self._endpoints.items())
            if endpoint.since is not None and now - endpoint.failures[-1] < OVER_AFTER
        ]

    def _many(self, endpoint: _Endpoint, now: float) -> bool:
        return len(endpoint.failures) == MANY and now - endpoint.failures[0] < WINDOW
