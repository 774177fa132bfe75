"""The YAML keys of a HubSpot connection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from crmsync.connector import ConnectorSettings
from crmsync.model import Rate

OAUTH_REQUESTS = 110
"""In ten seconds, for an app that goes by OAuth."""


class HubSpotSettings(ConnectorSettings):
    """A HubSpot account. The docstrings below the keys are what `crmsync connectors` says about them."""

    model_config = ConfigDict(hide_input_in_errors=True, use_attribute_docstrings=True)

    access_token: SecretStr | None = None
    """A service key, or the token of a private app. Instead of it an app that goes by OAuth has the next three."""
    client_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,100}$")
    """OAuth: the app's id."""
    client_secret: SecretStr | None = None
    """OAuth: the app's secret."""
    refresh_token: SecretStr | None = None
    """OAuth: what the account's administrator was given for the app."""
    client_secrets: tuple[Annotated[SecretStr, Field(min_length=1)], ...] = ()
    """Of the app that sends webhooks; two while one replaces the other. Without any, every webhook is refused."""
    signature_v1: bool = False
    """Believes version 1 of the signature too, which is all that a legacy private app sends. It carries no time."""
    base_url: str = "https://api.hubapi.com"
    """HubSpot's API."""
    external_id: str = Field(default="kirim_contact_id", pattern=r"^[a-z][a-z0-9_]{0,99}$")
    """The contact property that holds the Kirim contact's id."""
    conversation_external_id: str = Field(default="kirim_conversation_id", pattern=r"^[a-z][a-z0-9_]{0,99}$")
    """The ticket property that holds the Kirim conversation's id."""
    portal_id: str | None = Field(default=None, pattern=r"^[0-9]{1,20}$")
    """The account's id: webhooks that speak of another account are then ignored."""
    requests_per_10s: int = Field(default=190, ge=1, le=1_000)
    """190 for Professional and Enterprise, 100 for Free and Starter, 250 with the add-on; at most 110 with OAuth."""
    poll_overlap_seconds: int = Field(default=300, ge=60, le=3_600)
    """How far a question for changes reaches back behind the last one: HubSpot shows them late."""
    timeout_seconds: float = Field(default=30, gt=0, le=120)
    """How long one request may take."""

    def limits(self, documented: Mapping[str, Rate]) -> Mapping[str, Rate]:
        most = self.requests_per_10s if self.refresh_token is None else min(self.requests_per_10s, OAUTH_REQUESTS)
        others = {name: replace(rate, requests=min(rate.requests, most)) for name, rate in documented.items()}
        return {**others, "": Rate(most, 10, rolling=True)}

    @field_validator("access_token", "client_secret", "refresh_token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token.get_secret_value()):
            raise ValueError("expected printable ASCII without spaces")
        return token

    @model_validator(mode="after")
    def _has_one_credential(self) -> Self:
        oauth = (self.client_id, self.client_secret, self.refresh_token)
        if (self.access_token is None) != all(oauth) or (self.access_token and any(oauth)):
            raise ValueError("expected either access_token, or client_id, client_secret and refresh_token")
        return self

    @field_validator("base_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        parts = urlsplit(url)
        more = parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme not in ("https", "http") or not parts.hostname or more:
            raise ValueError("expected https:// and a host, nothing more")
        return url.rstrip("/")
