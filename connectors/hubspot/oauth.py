"""What every request is sent with: a token that stands, or one that OAuth renews every half hour.

https://developers.hubspot.com/changelog/v1-oauth-api-deprecation
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol

from connectors.hubspot.settings import HubSpotSettings
from connectors.hubspot.values import Row
from crmsync.errors import Retry

MARGIN = timedelta(minutes=1)
"""A token that ends so soon is renewed before it is used."""
SHORTEST, LONGEST = 90, 86_400


class Credential(Protocol):
    """Where tokens come from."""

    def token(self) -> str:
        """The token for the next request. Raises what keeps it from being had."""

    def renewed(self, refused: str) -> bool:
        """Whether there may be a better token than the one that was refused."""


class Standing:
    """A service key, or the token of a private app."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self) -> str:
        """Always the same."""
        return self._token

    def renewed(self, refused: str) -> bool:
        """There is no other."""
        return False


class Renewed:
    """Access tokens of an app, each had with the refresh token. One thread renews, the others wait for it."""

    def __init__(
        self,
        grant: Mapping[str, str],
        exchange: Callable[[Mapping[str, str]], Row],
        clock: Callable[[], datetime],
    ) -> None:
        self._grant = dict(grant)
        self._exchange = exchange
        self._clock = clock
        self._lock = Lock()
        self._token = ""
        self._until: datetime | None = None

    def token(self) -> str:
        """A token with some life left in it."""
        with self._lock:
            if self._until is None or self._clock() >= self._until:
                self._renew()
            return self._token

    def renewed(self, refused: str) -> bool:
        """There is: what was refused is not used again."""
        with self._lock:
            if self._token == refused:
                self._until = None
        return True

    def _renew(self) -> None:
        asked = self._clock()
        answer = self._exchange({"grant_type": "refresh_token", **self._grant})
        token, seconds = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise Retry("HubSpot gave a bad response: no access token")
        life = seconds if type(seconds) is int and SHORTEST <= seconds <= LONGEST else SHORTEST
        self._token, self._until = token, asked + timedelta(seconds=life) - MARGIN
        if isinstance(following := answer.get("refresh_token"), str) and following:
            self._grant["refresh_token"] = following


def credential(
    settings: HubSpotSettings, exchange: Callable[[Mapping[str, str]], Row], clock: Callable[[], datetime]
) -> Credential:
    """The credential that the settings name."""
    if settings.access_token is not None:
        return Standing(settings.access_token.get_secret_value())
    secrets = {"client_secret": settings.client_secret, "refresh_token": settings.refresh_token}
    grant = {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    return Renewed({"client_id": settings.client_id or "", **grant}, exchange, clock)
