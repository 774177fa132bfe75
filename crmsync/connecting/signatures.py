"""What every proof of a webhook's origin needs: several secrets at once, in constant time, and an age."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from datetime import timedelta

from crmsync.errors import BadSignature, Doubt


def matching(secrets: Collection[str], given: bytes, sign: Callable[[bytes], bytes]) -> str:
    """The secret that signs like this. Every one is tried, so that the time it takes tells nothing."""
    found = [secret for secret in secrets if hmac.compare_digest(sign(secret.encode()), given)]
    if not found:
        raise BadSignature(Doubt.MISMATCH)
    return found[0]


def check_age(age: timedelta, tolerance: timedelta) -> None:
    """Raises `BadSignature` for what was signed too long ago, or by a clock ahead of ours. To be asked last."""
    if abs(age) > tolerance:
        raise BadSignature(Doubt.STALE if age > timedelta(0) else Doubt.FUTURE)


def label(secret: str) -> str:
    """Tells a secret from the others, wherever it stands among them, and may be shown."""
    return hashlib.sha256(b"crmsync client secret\0" + secret.encode()).hexdigest()[:8]
