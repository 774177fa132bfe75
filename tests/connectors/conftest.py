"""What the tests of connectors share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import hubspot_account, salesforce_org

from connectors.hubspot import HubSpot
from connectors.salesforce import Salesforce
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.salesforce import SalesforceEmulator


@pytest.fixture
def account() -> Iterator[HubSpotEmulator]:
    with hubspot_account.prepared_account() as emulator:
        yield emulator


@pytest.fixture
def hubspot(account: HubSpotEmulator) -> Iterator[HubSpot]:
    connector = hubspot_account.connect(account)
    yield connector
    connector.close()


@pytest.fixture
def org() -> Iterator[SalesforceEmulator]:
    with salesforce_org.prepared_org() as org:
        yield org


@pytest.fixture
def salesforce(org: SalesforceEmulator) -> Iterator[Salesforce]:
    connector = salesforce_org.connect(org)
    yield connector
    connector.close()
