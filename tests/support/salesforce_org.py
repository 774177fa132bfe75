"""An emulated Salesforce org as a connector meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from connectors.salesforce import Salesforce
from crmsync.connector import Surroundings
from crmsync.http import Unlimited
from crmsync.model import CONTACT_LINK, ActivityKind, Kind
from crmsync.sandbox.emulator import Exchange
from crmsync.sandbox.salesforce import SalesforceEmulator
from crmsync.testing.loopback import LOOPBACK

CONSUMER, SECRET = "3MVG9sandbox.consumer", "sandbox-consumer-secret"
WANTED = {
    Kind.CONTACT: frozenset({"FirstName", "LastName", "Email", "Phone", "LeadSource"}),
    Kind.CONVERSATION: frozenset({"Subject", "Status", "OwnerId", CONTACT_LINK}),
}


@contextmanager
def prepared_org(**options: Any) -> Iterator[SalesforceEmulator]:
    """An org in which everything is prepared."""
    with SalesforceEmulator(**options) as org:
        org.prepare()
        yield org


def connect(
    org: SalesforceEmulator,
    wanted: Any = None,
    *,
    budget: Any = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    reach: Any = LOOPBACK,
    **settings: Any,
) -> Salesforce:
    """A connector to an org."""
    credential = {} if "private_key" in settings else {"consumer_secret": SECRET}
    keys = {"consumer_key": CONSUMER, **credential, "login_url": org.url, "timeout_seconds": 5, **settings}
    around = Surroundings(
        "acme",
        "salesforce",
        "https://sync.example.com/hooks/acme/salesforce",
        budget or Unlimited(),
        WANTED if wanted is None else wanted,
        clock=clock,
        reach=reach,
        activities=frozenset(ActivityKind),
    )
    return Salesforce(Salesforce.Settings.model_validate(keys), around)


def seen_by(org: SalesforceEmulator) -> list[Exchange]:
    """Every exchange from now on."""
    seen: list[Exchange] = []
    org.on_exchange.append(seen.append)
    return seen
