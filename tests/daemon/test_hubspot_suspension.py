"""HubSpot's own ways of saying no, from a worker that really ticks to an emulator that really answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.household import Household

from connectors.hubspot import HubSpot
from crmsync.connector import Surroundings
from crmsync.core.mapping import FieldRule, Owner, Rules
from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.suspension import TRIAL
from crmsync.daemon.worker import Worker
from crmsync.flows.tenant import Connection
from crmsync.http import Unlimited
from crmsync.model import FieldType, Kind
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.store import suspensions
from crmsync.store.database import Database
from crmsync.store.suspensions import Suspension
from crmsync.testing.loopback import LOOPBACK

PATIENCE = 20.0
RULES = Rules(
    Kind.CONTACT,
    (FieldRule("name", "firstname", Owner.KIRIM), FieldRule("email", "email", Owner.KIRIM, FieldType.EMAIL)),
)
DAILY = {
    "status": "error",
    "message": "You have reached your daily limit.",
    "errorType": "RATE_LIMIT",
    "policyName": "DAILY",
}
SCOPES = {
    "status": "error",
    "message": "This app hasn't been granted all required scopes",
    "category": "MISSING_SCOPES",
    "errors": [{"message": "scopes", "context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}],
}


class Node:
    """One tenant between Kirim in memory and HubSpot on loopback."""

    def __init__(self, database: Database, hubspot: HubSpotEmulator) -> None:
        self.home = Household(database)
        self.home.clock.at = datetime.now(UTC)
        self.hubspot = hubspot
        settings = HubSpot.Settings.model_validate({"access_token": hubspot.token, "base_url": hubspot.url})
        wanted = {Kind.CONTACT: frozenset({"firstname", "email"})}
        around = Surroundings("acme", "crm", "https://x", Unlimited(), wanted, self.home.clock, LOOPBACK)
        self.connector = HubSpot(settings, around)
        connection = Connection("crm", self.connector, {Kind.CONTACT: RULES}, live=True)
        tenant = replace(self.home.tenant, connections={"crm": connection})
        self.kinds: list[str] = []
        self.worker = Worker(
            database, {"acme": tenant}, {}, LocalEngine(4), self.home.clock, lambda: 0.5, alert=self._alert
        )
        self._pause = threading.Event()

    def _alert(self, kind: str, tenant: str, text: str, about: str = "") -> None:
        self.kinds.append(kind)

    def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(int(PATIENCE / 0.02)):
            if condition():
                return
            self.home.arrive_all()
            self.worker.wake()
            self._pause.wait(0.02)
        raise AssertionError("it never came to be")

    def suspended(self) -> Suspension | None:
        return self.home.database.read(lambda tx: suspensions.read(tx, "acme", "crm"))

    def probes(self) -> int:
        found = self.suspended()
        return found.probes if found else 0


@pytest.fixture
def node(sqlite_url: str) -> Iterator[Node]:
    database = Database.open(sqlite_url)
    with HubSpotEmulator() as hubspot:
        hubspot.properties.define("kirim_contact_id", unique=True)
        made = Node(database, hubspot)
        yield made
        assert made.worker.stop(timedelta(seconds=PATIENCE))
        made.connector.close()
    database.close()


@pytest.mark.parametrize(
    ("fault", "said", "after"),
    [
        (Fault.error(401), "access token is wrong, expired or revoked", timedelta(minutes=1)),
        (Fault.error(403, body=SCOPES), "missing scope", timedelta(minutes=1)),
        (Fault.error(429, body=DAILY), "day's requests of the account are used up", timedelta(hours=1)),
        (Fault.error(429, body=DAILY, after=600), "day's requests", timedelta(minutes=10)),
    ],
    ids=["expired", "scope", "daily", "daily_until"],
)
def test_it_rests_says_why_and_comes_back(node: Node, fault: Fault, said: str, after: timedelta) -> None:
    node.hubspot.faults.outage(fault)
    id = node.home.add(name="Ana", email="ana@example.com")
    node.worker.start()
    node.until(node.suspended)
    found = node.suspended()
    assert found is not None
    assert said in found.reason
    assert found.look_at == found.since + after
    later = node.home.add(name="Budi")
    node.until(lambda: later in node.home.due() and node.home.view("kirim", later))

    calls = node.hubspot.calls.total()
    node.home.clock.advance(after - timedelta(seconds=1))
    ticks = node.worker.ticks
    node.until(lambda: node.worker.ticks > ticks + 5)
    assert node.hubspot.calls.total() == calls

    node.home.clock.advance(timedelta(seconds=1))
    node.until(lambda: node.probes() == 1)
    assert node.hubspot.calls.total() == calls + 1
    node.hubspot.faults.recover()
    node.home.clock.advance(after)
    node.until(lambda: node.hubspot.by_external_id(id) and node.hubspot.by_external_id(later))
    node.home.clock.advance(TRIAL)
    node.until(lambda: node.suspended() is None)

    assert node.home.row(id).error == ""
    assert node.kinds[-1] == "connection_recovered"


def test_no_attempt_is_used_up_by_an_account_that_cannot_be_used(node: Node) -> None:
    node.hubspot.faults.outage(Fault.error(401))
    id = node.home.add(name="Ana")
    node.worker.start()
    node.until(node.suspended)
    for _ in range(15):
        before = node.probes()
        node.home.clock.advance(timedelta(minutes=1))
        node.until(lambda n=before: node.probes() > n)  # type: ignore[misc]
    row = node.home.row(id)

    assert (row.parked, row.failures) == (False, 0)
