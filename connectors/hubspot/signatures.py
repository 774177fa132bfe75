"""Proving that a webhook comes from HubSpot, over its raw bytes and the public address.

Version 3 of the signature, and version 1 where the settings allow it: that one carries no time, so that anyone who
has seen a request can repeat it. All they gain is that a record is read again.

https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection
from datetime import timedelta

from crmsync.connecting.signatures import check_age, label, matching
from crmsync.connecting.values import EPOCH
from crmsync.errors import BadSignature, Doubt
from crmsync.model import WebhookRequest

TOLERANCE = timedelta(minutes=5)
SIGNATURE = re.compile(rb"[A-Za-z0-9+/]{43}=")
SIGNATURE_1 = re.compile(rb"[0-9a-f]{64}")
MILLISECONDS = re.compile(rb"[0-9]{12,14}")
ESCAPES = re.compile(rb"%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def check_signature(request: WebhookRequest, url: str, secrets: Collection[str], *, version_1: bool = False) -> str:
    """The label of the secret with which the request was signed for `url`, lately. Raises `BadSignature`."""
    signatures = request.header(b"x-hubspot-signature-v3")
    stamps = request.header(b"x-hubspot-request-timestamp")
    if version_1 and not signatures:
        return _check_version_1(request, secrets)
    if not signatures or not stamps:
        raise BadSignature(Doubt.MISSING)
    if len(signatures) > 1 or len(stamps) > 1:
        raise BadSignature(Doubt.MALFORMED)
    if not SIGNATURE.fullmatch(signatures[0]) or not MILLISECONDS.fullmatch(stamps[0]):
        raise BadSignature(Doubt.MALFORMED)
    method = request.method.upper().encode("utf-8", "surrogatepass")
    signed = b"".join((method, _signed_address(url, request.path), request.body, stamps[0]))
    secret = matching(secrets, base64.b64decode(signatures[0]), lambda key: hmac.digest(key, signed, "sha256"))
    age = request.received_at - (EPOCH + timedelta(milliseconds=int(stamps[0])))
    check_age(age, TOLERANCE)
    return label(secret)


def _check_version_1(request: WebhookRequest, secrets: Collection[str]) -> str:
    signatures = request.header(b"x-hubspot-signature")
    if not signatures:
        raise BadSignature(Doubt.MISSING)
    if len(signatures) > 1 or not SIGNATURE_1.fullmatch(signatures[0]):
        raise BadSignature(Doubt.MALFORMED)
    given = bytes.fromhex(signatures[0].decode())
    return label(matching(secrets, given, lambda key: hashlib.sha256(key + request.body).digest()))


def _signed_address(url: str, path: str) -> bytes:
    """The public URL with the query as it was sent. HubSpot signs it with these escapes undone, and no others."""
    _, mark, query = path.partition("?")
    address = f"{url}{mark}{query}".encode("utf-8", "surrogatepass")
    return ESCAPES.sub(lambda escape: bytes.fromhex(escape[1].decode()), address)
