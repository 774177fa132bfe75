"""Posts a delivery of our own through the public address, signed like Kirim's: does the way in work, with each secret?

It finds a wrong path, a proxy that strips the signature or rewrites bodies, TLS and DNS trouble. The event is of a type
that nobody knows, so it is kept and means nothing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import httpx
import orjson

from crmsync.errors import ConnectorError
from crmsync.flows.kept import SELF_TEST
from crmsync.http import Http, Unlimited
from crmsync.kirim.secrets import FileSecret
from crmsync.kirim.signature import HEADER, Secret, sign
from crmsync.outbound import Reach, target

TIMEOUT = httpx.Timeout(5)

WORDS = {
    401: "the address reaches something that does not take it for a delivery",
    403: "something in front refuses it",
    404: "the address leads nowhere: is the path passed on unchanged?",
    405: "the address reaches something that takes no POST",
    413: "a proxy refuses even small bodies",
    429: "the tenant's rate is used up",
    502: "the proxy does not reach crmsync",
    503: "crmsync did not take it: the signature header or the body was changed on the way, or crmsync is not ready",
    504: "the proxy does not reach crmsync",
}


@dataclass(frozen=True, slots=True)
class Tested:
    """How one secret fared; `trouble` is empty if all is well. `name` may be shown."""

    name: str
    trouble: str


def self_test(
    hook_url: str, secrets: Sequence[FileSecret], clock: Callable[[], datetime], new_id: Callable[[], str]
) -> Iterator[Tested]:
    """One delivery for each secret."""
    wire = _wire(hook_url)
    path = urlsplit(hook_url).path
    try:
        for secret in secrets:
            name = secret.id or Secret.of(secret.key).label
            yield Tested(name, _one(wire, path, secret, clock(), new_id()))
    finally:
        wire.close()


def answers(public_url: str) -> bool:
    """Whether a daemon of ours is at an address."""
    wire = _wire(public_url)
    try:
        answer = wire.send("GET", f"{urlsplit(public_url).path.rstrip('/')}/livez")
    except ConnectorError:
        return False
    finally:
        wire.close()
    return answer.status_code == 200 and answer.content == b"alive"


def _wire(url: str) -> Http:
    """Connections to our own address, which may be a private one as seen from here."""
    parts = urlsplit(url)
    own = target(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    base = f"{parts.scheme}://{parts.netloc}"
    return Http("the public address", base, {}, Unlimited(), timeout=TIMEOUT, reach=Reach(allowed=frozenset({own})))


def _one(wire: Http, path: str, secret: FileSecret, now: datetime, id: str) -> str:
    """What is wrong; empty if nothing is."""
    event = {"id": f"evt_selftest_{id}", "type": SELF_TEST, "created_at": now.isoformat(timespec="seconds"), "data": {}}
    body = orjson.dumps(event)
    headers = {
        HEADER.decode(): sign(secret.key, body, int(now.timestamp())),
        "X-Kirim-Source": "kirim",
        "X-Kirim-Event": SELF_TEST,
        "X-Kirim-Event-Id": event["id"],
        "User-Agent": "crmsync-selftest",
    }
    try:
        answer = wire.send("POST", path, body=orjson.Fragment(body), headers={k: str(v) for k, v in headers.items()})
    except ConnectorError as error:
        return _unreached(error)
    if answer.status_code == 200:
        return ""
    if 300 <= answer.status_code < 400:
        return f"answered {answer.status_code}: it redirects, and Kirim follows no redirect"
    return f"answered {answer.status_code}: {WORDS.get(answer.status_code, 'that is not crmsync')}"


def _unreached(error: ConnectorError) -> str:
    """Why no answer came, in the order in which a connection is made."""
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "its name cannot be resolved (DNS)"
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not valid (TLS): {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection can be made ({cause.reason})"
    if any(isinstance(cause, httpx.TimeoutException) for cause in causes):
        return "no answer came in time"
    if any(isinstance(cause, httpx.ConnectError) for cause in causes):
        return "nobody listens there"
    return "the connection was cut before an answer"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        waiting += [cause for cause in one.args if isinstance(cause, BaseException)]
