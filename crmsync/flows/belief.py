"""Asks an endpoint whether it believes a request. One that falls over instead of answering believes nobody."""

from __future__ import annotations

from collections.abc import Callable

from crmsync.errors import BadSignature, Doubt
from crmsync.model import WebhookRequest

Verify = Callable[[WebhookRequest], str]


def prove(verify: Verify, request: WebhookRequest) -> str:
    """Which secret matched. Raises `BadSignature` and nothing else."""
    try:
        return verify(request)
    except BadSignature:
        raise
    except Exception as error:  # a connector is anybody's code, and the bytes are anybody's too
        raise BadSignature(Doubt.MALFORMED) from error
