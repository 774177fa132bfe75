"""Proves that bytes were signed by Kirim: a strict header, a constant-time comparison, then freshness.

The header is `t=<unix seconds>,v1=<hex>[,v1=<hex>…]`, one v1 per active secret. Each v1 is the HMAC-SHA256 of
`<t>.<raw body>` under the *whole* secret string, `whsec_` included. Nothing here parses a body.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from crmsync.errors import BadSignature, Doubt

HEADER = b"x-kirim-signature"
OTHER_HEADER = b"x-kirim-signature-256"
"""One page of Kirim's documents names the header so; the value is the same and proves as much."""
HEADERS = frozenset({HEADER, OTHER_HEADER})
TOLERANCE = timedelta(seconds=300)
MOST_CANDIDATES = 16
LONGEST_HEADER = 8192
LARGEST_SEARCHED = 64 * 1024

_USUAL = re.compile(rb"t=([0-9]{9,11})((?:,v1=[0-9a-fA-F]{64}){1,16})").fullmatch
_TIME = re.compile(rb"[0-9]{9,11}").fullmatch
_DIGEST = re.compile(rb"[0-9a-fA-F]{64}").fullmatch
_ATTEMPT = re.compile(rb"[1-9]|1[0-9]").fullmatch
_BLANK = re.compile(rb"\s").search


@dataclass(frozen=True, slots=True)
class Secret:
    """One signing secret. `label` tells it from the others and may be shown; `key` may not."""

    label: str
    key: bytes = field(repr=False)
    _keyed: hmac.HMAC = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.key:
            raise ValueError("an empty signing secret would believe everyone")
        object.__setattr__(self, "_keyed", hmac.new(self.key, digestmod="sha256"))

    def digest(self, message: bytes) -> bytes:
        """The MAC of a message. Unlike `hmac.digest`, a copy keeps the interpreter's lock for short messages.

        Giving it away for 2 µs costs a busy intake a fifth of its throughput.
        """
        mac = self._keyed.copy()
        mac.update(message)
        return mac.digest()

    @classmethod
    def of(cls, text: str) -> Secret:
        """A secret labelled by a short fingerprint, which stays the same whatever place it has in a list."""
        key = text.strip().encode()
        return cls(hashlib.sha256(b"crmsync signing secret\0" + key).hexdigest()[:8], key)


def verify(
    header_values: Sequence[bytes],
    body: bytes,
    secrets: Sequence[Secret],
    received_at: datetime,
    tolerance: timedelta = TOLERANCE,
    oldest: timedelta = timedelta(0),
) -> str:
    """The label of the secret that signed these bytes. Raises `BadSignature`.

    Every secret is tried against every candidate whatever matched before. Age is judged last, so that
    authentic but stale can be told from forged; `oldest` lets what is older than the tolerance pass.
    """
    if not header_values:
        raise BadSignature(Doubt.MISSING)
    stamp, candidates = _read(header_values[0] if len(header_values) == 1 else b",".join(header_values))
    signed = stamp + b"." + body
    matched: str | None = None
    for secret in secrets:
        digest = secret.digest(signed)
        for candidate in candidates:
            if hmac.compare_digest(digest, candidate):
                matched = secret.label
    if matched is None:
        raise BadSignature(Doubt.MISMATCH)
    age = int(received_at.timestamp()) - int(stamp)
    limit = tolerance.total_seconds()
    if age > max(limit, oldest.total_seconds()):
        raise BadSignature(Doubt.STALE)
    if age < -limit:
        raise BadSignature(Doubt.FUTURE)
    return matched


def sign(secret: str, body: bytes, t: int) -> str:
    """The header value Kirim would send for this body: for self-tests and test doubles."""
    mac = hmac.digest(secret.encode(), b"%d.%b" % (t, body), "sha256")
    return f"t={t},v1={mac.hex()}"


def oddities(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> list[str]:
    """What the unsigned headers say otherwise than the signed body. Nothing is decided by it: it is only counted.

    The body is searched, not parsed: every id and type that Kirim names in a header stands in it somewhere.
    """
    found = []
    for name, value in headers:
        if name == b"x-kirim-attempt":
            if not _ATTEMPT(value):
                found.append("odd_attempt")
        elif name.startswith(b"x-kirim-") and len(body) <= LARGEST_SEARCHED and not _borne_out(name, value, body):
            found.append("header_mismatch")
    return found


def _borne_out(name: bytes, value: bytes, body: bytes) -> bool:
    """Whether the body bears out what a header says of it; Meta's bodies do not name the event."""
    if name == b"x-kirim-event-id":
        return bool(value) and b'"%b"' % value in body
    if name == b"x-kirim-event":
        return b'"%b"' % value in body or b'"entry"' in body
    return name != b"x-kirim-source" or value != b"meta" or b'"entry"' in body


def looks_like_kirim(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request claims to be Kirim's. No proof: it only decides how politely it is refused."""
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(b"x-kirim-"):
            return True
        if lower == b"user-agent" and value.lower().startswith(b"kirim-webhook/"):
            return True
    return False


def _read(header: bytes) -> tuple[bytes, list[bytes]]:
    """The time exactly as it was sent, and the digests that are worth comparing."""
    if usual := _USUAL(header):
        stamp, rest = usual.groups()
        return stamp, [bytes.fromhex(digits) for digits in rest.decode("ascii").split(",v1=")[1:]]
    if len(header) > LONGEST_HEADER:
        raise BadSignature(Doubt.MALFORMED)
    stamps: list[bytes] = []
    hexes: list[bytes] = []
    for element in header.split(b","):
        name, equals, value = element.strip(b" \t").partition(b"=")
        if not equals and name:
            raise BadSignature(Doubt.MALFORMED)
        if name == b"t":
            stamps.append(value)
        elif name == b"v1":  # v0 and v2 are not read at all: nobody can talk us into a weaker scheme
            hexes.append(value)
    return _strict(stamps, hexes)


def _strict(stamps: list[bytes], hexes: list[bytes]) -> tuple[bytes, list[bytes]]:
    """One time, 1 to 16 candidates, no white space within. What is no digest drops out alone."""
    if len(stamps) != 1 or not _TIME(stamps[0]) or len(hexes) > MOST_CANDIDATES:
        raise BadSignature(Doubt.MALFORMED)
    if any(_BLANK(candidate) for candidate in hexes):  # bytes.fromhex would skip it
        raise BadSignature(Doubt.MALFORMED)
    digests = [bytes.fromhex(candidate.decode("ascii")) for candidate in hexes if _DIGEST(candidate)]
    if not digests:
        raise BadSignature(Doubt.MALFORMED)
    return stamps[0], digests
