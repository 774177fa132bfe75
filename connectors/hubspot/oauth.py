"""What every request is sent with: a token that stands, or one that OAuth renews every half hour.

https://developers.hubspot.com/changelog/v1-oauth-api-deprecation
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from connectors.hubspot.settings import HubSpotSettings
from connectors.hubspot.values import Row
from crmsync.connecting.tokens import Credential, Lease, Renewed, Standing, lease_of


def credential(
    settings: HubSpotSettings, exchange: Callable[[Mapping[str, str]], Row], clock: Callable[[], datetime]
) -> Credential:
    """The credential that the settings name."""
    if settings.access_token is not None:
        return Standing(settings.access_token.get_secret_value())
    secrets = {"client_secret": settings.client_secret, "refresh_token": settings.refresh_token}
    grant = {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    grant["client_id"] = settings.client_id or ""

    def renew() -> Lease:
        """An answer may bring the refresh token for the next time."""
        asked = clock()
        answer = exchange({"grant_type": "refresh_token", **grant})
        lease = lease_of("HubSpot", answer, asked)
        if isinstance(following := answer.get("refresh_token"), str) and following:
            grant["refresh_token"] = following
        return lease

    return Renewed(renew, clock)
