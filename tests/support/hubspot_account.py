"""An emulated HubSpot account as a connector meets it: every exchange has to keep to HubSpot's published contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from support.hubspot_spec import checked_hubspot

from connectors.hubspot import HubSpot
from crmsync.connector import Surroundings
from crmsync.http import Unlimited
from crmsync.model import CONTACT_LINK, ActivityKind, Kind, Write
from crmsync.sandbox.emulator import Exchange
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.testing.loopback import LOOPBACK

TOKEN = "pat-eu1-sandbox"
WANTED = {
    Kind.CONTACT: frozenset({"firstname", "email", "phone"}),
    Kind.CONVERSATION: frozenset({"subject", "content", "hs_pipeline_stage", "hubspot_owner_id", CONTACT_LINK}),
}
NEW = {"subject": "WhatsApp", "hs_pipeline": "0", "hs_pipeline_stage": "1"}
"""What a new ticket needs."""


@contextmanager
def prepared_account(**options: Any) -> Iterator[HubSpotEmulator]:
    """An account in which everything is prepared."""
    with checked_hubspot(**{"token": TOKEN, **options}) as account:
        account.properties.define("kirim_contact_id", unique=True)
        account.tables["ticket"].properties.define("kirim_conversation_id", unique=True)
        account.tables["note"].properties.define("kirim_key")
        for name in ("kirim_key", "kirim_status"):
            account.tables["communication"].properties.define(name)
        yield account


def connect(
    account: HubSpotEmulator,
    wanted: Any = None,
    *,
    budget: Any = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    activities: frozenset[ActivityKind] = frozenset(ActivityKind),
    hook_url: str = "https://sync.example.com/hooks/acme/hubspot",
    **settings: Any,
) -> HubSpot:
    """A connector to an account."""
    credential = {} if "client_id" in settings else {"access_token": TOKEN}
    keys = {**credential, "base_url": account.url, "timeout_seconds": 5, **settings}
    around = Surroundings(
        "acme",
        "hubspot",
        hook_url,
        budget or Unlimited(),
        WANTED if wanted is None else wanted,
        clock=clock,
        reach=LOOPBACK,
        activities=activities,
    )
    return HubSpot(HubSpot.Settings.model_validate(keys), around)


def ticket(number: int, **fields: Any) -> Write:
    """A new conversation's ticket."""
    return Write(f"cnv_{number}", {**NEW, "subject": f"T{number}", **fields})


def sent_to(account: HubSpotEmulator, path: str) -> list[Any]:
    """The bodies of requests to a path, as they arrive from now on."""
    seen: list[Any] = []

    def look(exchange: Exchange) -> None:
        if exchange.call.path.endswith(path):
            seen.append(exchange.call.json())

    account.on_exchange.append(look)
    return seen
