"""Decides what a request to a webhook endpoint is answered, and stores what proved its origin. Parses nothing.

The rule behind every answer: a delivery that may be real is either committed or answered so that its sender comes
again (503, 429). Only what is clearly a stranger's gets a 4xx, because Kirim takes those as final. What claims to be
a delivery and does not prove it goes to the quarantine, and is looked at again when secrets change.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from crmsync import crash
from crmsync.errors import BadSignature, Doubt, StoreError
from crmsync.flows.alarm import Alarm
from crmsync.flows.belief import Verify, prove
from crmsync.kirim.signature import HEADERS, looks_like_kirim, oddities
from crmsync.model import Rate, WebhookRequest
from crmsync.store.quarantine import Suspect

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to the sender. `word` says why, for the counters; the sender only learns the status."""

    status: int
    word: str
    retry_after: int | None = None
    allow: str | None = None


STORED = Answer(200, "stored")
KNOWN = Answer(200, "known")
STALE_KNOWN = Answer(200, "stale_known")
STRANGER = Answer(401, "stranger")
NOT_FOUND = Answer(404, "not_found")
WRONG_METHOD = Answer(405, "wrong_method", allow="POST")
STRANGE_SIZE = Answer(413, "too_large")
TOO_LARGE = Answer(503, "too_large", retry_after=300)
UNKNOWN_PATH = Answer(503, "unknown_path", retry_after=60)
COMPRESSED = Answer(503, "compressed", retry_after=300)
DRAINING = Answer(503, "draining", retry_after=5)
OVERLOADED = Answer(503, "overloaded", retry_after=2)
STORE_DOWN = Answer(503, "store_unavailable", retry_after=5)
CROSS_TENANT = "cross_tenant"
TOO_FAST = Answer(429, "too_fast", retry_after=1)
STRAYS = Rate(50, 10)
"""Requests for paths that are none that one address may make; more are answered without a look."""
STRAYS_KNOWN = 10_000
"""Addresses that are counted; the one that was heard of longest ago is forgotten for another."""
UNVERIFIED_WAIT = 30
"""Seconds: a wrong secret takes a person to put right."""
ENCODING = b"content-encoding"
COMPARED = Rate(32 * 1024 * 1024, 1)
"""Bytes that are hashed to learn whether a stranger to one tenant is another's: a kindness, and so it has a bound."""


@dataclass(frozen=True, slots=True)
class Source:
    """One webhook endpoint: who may send to it.

    `verify` returns which secret matched or raises `BadSignature`. `looks_like` says whether a request claims to
    come from this platform, by its headers. `evidence` are the headers that `verify` reads. `oddities` names what
    the unsigned headers of a verified request say otherwise than its body; it is counted, and nothing else.
    """

    tenant: str
    name: str
    verify: Verify
    looks_like: Callable[[Headers], bool] = looks_like_kirim
    evidence: frozenset[bytes] = HEADERS
    oddities: Callable[[Headers, bytes], Iterable[str]] = oddities


class Store(Protocol):
    """Where deliveries go: `store.inbox.Inbox`."""

    async def append(self, tenant: str, source: str, body: bytes, received_at: datetime, secret: str) -> bool: ...

    async def knows(self, tenant: str, source: str, body: bytes) -> bool: ...


class Quarantine(Protocol):
    """Where requests go that did not prove themselves: `store.pen.Pen`. Never waits, never fails."""

    def offer(self, suspect: Suspect) -> None: ...


class Bucket:
    """A token bucket: `rate.requests` at once, refilled over `rate.seconds`."""

    __slots__ = ("_filled_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.requests)
        self._filled_at = now

    def take(self, now: float, tokens: int = 1) -> bool:
        """Whether there are so many tokens left to take."""
        gained = (now - self._filled_at) * self._rate.requests / self._rate.seconds
        self._tokens = min(float(self._rate.requests), self._tokens + gained)
        self._filled_at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True


class Intake:
    """The gate of every webhook endpoint. Belongs to one event loop.

    `counts` has (tenant, source, word) → answers; what no endpoint was found for counts under empty names. `odd` counts
    verified requests whose unsigned headers contradict their body.
    """

    def __init__(
        self,
        store: Store,
        sources: Iterable[Source],
        quarantine: Quarantine,
        *,
        limits: Mapping[str, Rate] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        alert: Callable[[str, str, str], None] = lambda kind, tenant, text: None,
    ) -> None:
        self.draining = False
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.odd: Counter[tuple[str, str, str]] = Counter()
        self.alarm = Alarm(monotonic, alert)
        self._store = store
        self._quarantine = quarantine
        self._comparing = Bucket(COMPARED, monotonic())
        self._monotonic = monotonic
        self._sources: dict[tuple[str, str], Source] = {}
        self._buckets: dict[str, Bucket] = {}
        self._strays: OrderedDict[str, Bucket] = OrderedDict()
        self.configure(sources, limits or {})

    def configure(self, sources: Iterable[Source], limits: Mapping[str, Rate]) -> None:
        """Takes up other endpoints, secrets and limits (deliveries per tenant), from the next request on."""
        self._sources = {(source.tenant, source.name): source for source in sources}
        self._buckets = {tenant: Bucket(rate, self._monotonic()) for tenant, rate in limits.items()}

    def find(self, tenant: str, name: str) -> Source | None:
        """The endpoint of a path."""
        return self._sources.get((tenant, name))

    def unknown_path(self, headers: Headers, address: str = "") -> Answer:
        """No endpoint there: perhaps a configuration lost it, so a delivery must not be refused for good."""
        if not self._may_stray(address):
            return self._counted(None, TOO_FAST)
        if not looks_like_kirim(headers):
            return self._counted(None, NOT_FOUND)
        self.alarm.say("unknown_hook", reason=UNKNOWN_PATH.word)
        return self._counted(None, UNKNOWN_PATH)

    def _may_stray(self, address: str) -> bool:
        now = self._monotonic()
        bucket = self._strays.pop(address, None) or Bucket(STRAYS, now)
        self._strays[address] = bucket
        if len(self._strays) > STRAYS_KNOWN:
            self._strays.popitem(last=False)
        return bucket.take(now)

    def not_offered(self, source: Source) -> Answer:
        """What some platforms ask of an endpoint, and this one does not do."""
        return self._counted(source, NOT_FOUND)

    def too_large(self, source: Source, headers: Headers) -> Answer:
        """A body over the limit."""
        if not source.looks_like(headers):
            return self._counted(source, STRANGE_SIZE)
        length = next((value for name, value in headers if name == b"content-length"), b"unknown").decode("latin-1")
        self.alarm.say(
            "delivery_too_large", tenant=source.tenant, source=source.name, reason=TOO_LARGE.word, bytes=length[:20]
        )
        return self._counted(source, TOO_LARGE)

    def overloaded(self, source: Source) -> Answer:
        """More bodies at once than there is memory for."""
        return self._counted(source, OVERLOADED)

    def before_body(self, source: Source, method: str, headers: Headers) -> Answer | None:
        """What can be said before the body is read; None to read it."""
        if method != "POST":
            return self._counted(source, WRONG_METHOD)
        return self._counted(source, DRAINING) if self.draining else None

    async def receive(self, source: Source, request: WebhookRequest) -> Answer:
        """The answer to a whole request; 200 only after the commit."""
        if _is_compressed(request.headers) and source.looks_like(request.headers):
            return self._counted(source, self._kept(source, request, COMPRESSED))
        try:
            secret = prove(source.verify, request)
        except BadSignature as doubt:
            return self._counted(source, await self._doubted(source, request, doubt))
        self.alarm.succeeded(source.tenant, source.name)
        for word in source.oddities(request.headers, request.body):
            self.odd[source.tenant, source.name, word] += 1
        bucket = self._buckets.get(source.tenant)
        if bucket is not None and not bucket.take(self._monotonic()):
            return self._counted(source, TOO_FAST)
        crash.point("hook.verified")
        try:
            new = await self._store.append(source.tenant, source.name, request.body, request.received_at, secret)
        except StoreError:
            return self._counted(source, STORE_DOWN)
        return self._counted(source, STORED if new else KNOWN)

    async def _doubted(self, source: Source, request: WebhookRequest, doubt: BadSignature) -> Answer:
        reason = doubt.doubt.value
        if doubt.authentic:
            try:
                if await self._store.knows(source.tenant, source.name, request.body):
                    return STALE_KNOWN
            except StoreError:
                return STORE_DOWN
        elif not source.looks_like(request.headers):
            return STRANGER
        elif doubt.doubt is Doubt.MISMATCH and self._is_anothers(source, request):
            reason = CROSS_TENANT
        return self._kept(source, request, Answer(503, reason, UNVERIFIED_WAIT), proved=doubt.authentic)

    def _kept(self, source: Source, request: WebhookRequest, answer: Answer, *, proved: bool = False) -> Answer:
        """Into the quarantine, with nothing but what a second look needs."""
        headers = tuple((name, value) for name, value in request.headers if name in source.evidence or name == ENCODING)
        kept = replace(request, headers=headers)
        self._quarantine.offer(Suspect(source.tenant, source.name, answer.word, kept, proved))
        self.alarm.failed(source.tenant, source.name, answer.word)
        return answer

    def _is_anothers(self, source: Source, request: WebhookRequest) -> bool:
        """Whether another tenant's endpoint would have believed this; it goes to nobody all the same."""
        for other in self._sources.values():
            if other.name != source.name or other.tenant == source.tenant:
                continue
            if not self._comparing.take(self._monotonic(), len(request.body) + 1024):
                return False
            try:
                prove(other.verify, request)
            except BadSignature as doubt:
                if not doubt.authentic:
                    continue
            return True
        return False

    def _counted(self, source: Source | None, answer: Answer) -> Answer:
        self.counts[(source.tenant, source.name, answer.word) if source else ("", "", answer.word)] += 1
        return answer


def carries(*names: bytes) -> Callable[[Headers], bool]:
    """A `looks_like` for platforms that are known by a header of theirs, such as the signature's."""
    wanted = frozenset(name.lower() for name in names)
    return lambda headers: any(name.lower() in wanted for name, _ in headers)


def _is_compressed(headers: Headers) -> bool:
    return any(name == ENCODING and value.strip().lower() != b"identity" for name, value in headers)
