"""What the tests of connectors share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.salesforce_org import connect, prepared_org

from connectors.salesforce import Salesforce
from crmsync.sandbox.salesforce import SalesforceEmulator


@pytest.fixture
def org() -> Iterator[SalesforceEmulator]:
    with prepared_org() as org:
        yield org


@pytest.fixture
def salesforce(org: SalesforceEmulator) -> Iterator[Salesforce]:
    connector = connect(org)
    yield connector
    connector.close()
