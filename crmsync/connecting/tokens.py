"""What every request is sent with: a token that stands, or one that is renewed before it ends.

How a token is had (a refresh token, a signed assertion, a client's secret) is the platform's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Protocol

from crmsync.errors import Retry

MARGIN = timedelta(minutes=1)
"""A token that ends so soon is renewed before it is used."""
SHORTEST, LONGEST = 90, 86_400
"""The lives, in seconds, that are believed; for any other the shortest is taken."""


class Credential(Protocol):
    """Where tokens come from."""

    def token(self) -> str:
        """The token for the next request. Raises what keeps it from being had."""

    def renewed(self, refused: str) -> bool:
        """Whether there may be a better token than the one that was refused."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A token, and until when it may be used; None: until it is refused."""

    token: str = field(repr=False)
    until: datetime | None


class Standing:
    """A token that never changes."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self) -> str:
        """Always the same."""
        return self._token

    def renewed(self, refused: str) -> bool:
        """There is no other."""
        return False


class Renewed:
    """Tokens that end. One thread renews, the others wait for it."""

    def __init__(self, renew: Callable[[], Lease], clock: Callable[[], datetime]) -> None:
        self._renew = renew
        self._clock = clock
        self._lock = Lock()
        self._lease: Lease | None = None

    def token(self) -> str:
        """A token with some life left in it."""
        with self._lock:
            lease = self._lease
            if lease is None or (lease.until is not None and self._clock() >= lease.until):
                self._lease = None
                self._lease = lease = self._renew()
            return lease.token

    def renewed(self, refused: str) -> bool:
        """There is: what was refused is not used again."""
        with self._lock:
            if self._lease is not None and self._lease.token == refused:
                self._lease = None
        return True


def lease_of(platform: str, answer: Mapping[str, Any], asked: datetime) -> Lease:
    """The token in the answer of an OAuth endpoint that was asked at a time. Raises `Retry` where there is none."""
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Retry(f"{platform} gave a bad response: no access token")
    life = seconds if type(seconds) is int and SHORTEST <= seconds <= LONGEST else SHORTEST
    return Lease(token, asked + timedelta(seconds=life) - MARGIN)
