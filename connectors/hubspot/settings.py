"""The YAML keys of a HubSpot connection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator

from crmsync.connector import ConnectorSettings
from crmsync.model import Rate


class HubSpotSettings(ConnectorSettings):
    """A HubSpot account. The token is a service key, or the token of a private app."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: SecretStr = Field(min_length=1)
    client_secret: SecretStr | None = Field(default=None, min_length=1)
    """Of the app that sends webhooks. Without it every webhook is refused, and changes are found by polling."""
    base_url: str = "https://api.hubapi.com"
    external_id: str = Field(default="kirim_contact_id", pattern=r"^[a-z][a-z0-9_]{0,99}$")
    portal_id: str | None = Field(default=None, pattern=r"^[0-9]{1,20}$")
    """The account's id: webhooks that speak of another account are then ignored."""
    requests_per_10s: int = Field(default=190, ge=1, le=1_000)
    """190 for Professional and Enterprise, 100 for Free and Starter, 250 with the API add-on."""
    poll_overlap_seconds: int = Field(default=300, ge=60, le=3_600)
    timeout_seconds: float = Field(default=30, gt=0, le=120)

    def limits(self, documented: Mapping[str, Rate]) -> Mapping[str, Rate]:
        return {**documented, "": Rate(self.requests_per_10s, 10, rolling=True)}

    @field_validator("access_token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[\x21-\x7e]+", token.get_secret_value()):
            raise ValueError("expected printable ASCII without spaces")
        return token

    @field_validator("base_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        parts = urlsplit(url)
        loopback = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
        more = parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment
        if not (parts.scheme == "https" or loopback) or not parts.hostname or more:
            raise ValueError("expected https:// and a host, nothing more (http:// only for this machine)")
        return url.rstrip("/")
