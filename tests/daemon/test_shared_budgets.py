"""One budget for one credential: over connections, over processes on one store, and over restarts."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from crmsync.bootstrap import Builder
from crmsync.config import load
from crmsync.core.budget import Priority
from crmsync.daemon.budgets import LEASE, Shared, TokenBudget, asking
from crmsync.errors import StoreUnavailable, Throttled
from crmsync.flows import quotas, report
from crmsync.model import Rate
from crmsync.store import budgets
from crmsync.store.database import Database
from crmsync.testing.clock import ManualClock

LIMIT = Rate(20, 10)


class Process:
    """What one process has: a budget of its own that draws from the store."""

    def __init__(self, database: Database, clock: ManualClock, rate: Rate = LIMIT, credential: str = "one") -> None:
        self.clock = clock
        self.ledger = Shared(database, credential)
        self.ledger.users["acme/crm"] = 100
        limits = {"": rate, "search": Rate(4, 10)}
        self.budget = TokenBudget(limits, lambda: clock().timestamp(), self.sleep, ledger=self.ledger)

    def sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def send(self, most: int, who: Priority = Priority.LIVE, bucket: str = "") -> int:
        """Sends as many as may go now, up to so many; nobody waits."""
        sent = 0
        with asking(who), self.budget._lock:
            while sent < most and self.budget._pause(bucket) <= 0:
                sent += 1
        return sent


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_whoever_was_refused_asks_again_when_there_may_be_something_and_others_ask_all_the_while(
    database: Database, clock: ManualClock
) -> None:
    process = Process(database, clock)
    assert process.send(30, Priority.BACKFILL) < 20
    before = database.commits
    for _ in range(5):
        assert process.send(1, Priority.BACKFILL) == 0
    assert database.commits == before

    assert process.send(1) == 1
    clock.advance(timedelta(seconds=-30))  # somebody puts the clock back
    assert process.send(1, Priority.BACKFILL) == 0
    assert database.commits > before + 1


def test_two_processes_share_one_limit(database: Database, clock: ManualClock) -> None:
    one, other = Process(database, clock), Process(database, clock)

    assert one.send(12) + other.send(30) == 20
    assert (one.send(5), other.send(5)) == (0, 0)
    clock.advance(timedelta(seconds=2))
    assert other.send(30) + one.send(30) == 4


def test_whoever_is_told_to_wait_tells_the_others(database: Database, clock: ManualClock) -> None:
    one, other = Process(database, clock), Process(database, clock)
    one.budget.hold(timedelta(seconds=30))

    assert (other.send(1), other.send(1, bucket="search")) == (0, 0)
    with pytest.raises(Throttled) as caught:
        other.budget.take()
    assert caught.value.after == pytest.approx(timedelta(seconds=30), abs=timedelta(seconds=0.01))
    clock.advance(timedelta(seconds=31))
    assert (other.send(1), one.send(1)) == (1, 1)


def test_a_bucket_that_is_held_is_held_for_all_and_alone(database: Database, clock: ManualClock) -> None:
    one, other = Process(database, clock), Process(database, clock)
    one.budget.hold(timedelta(seconds=5), "search")

    assert (other.send(1, bucket="search"), other.send(1)) == (0, 1)


def test_a_restart_forgets_neither_what_was_sent_nor_when_to_come_again(database: Database, clock: ManualClock) -> None:
    before = Process(database, clock)
    assert before.send(20) == 20
    before.budget.hold(timedelta(minutes=5))
    after = Process(database, clock)

    assert after.send(1) == 0
    clock.advance(timedelta(minutes=5, seconds=1))
    assert after.send(100) == 20


def test_what_a_platform_says_reaches_the_others(database: Database, clock: ManualClock) -> None:
    one, other = Process(database, clock), Process(database, clock)
    assert one.send(1) == 1
    one.budget.observe(3, 20)
    assert one.send(1) == 1

    assert other.send(10) == 2


def test_another_credential_has_a_budget_of_its_own(database: Database, clock: ManualClock) -> None:
    assert Process(database, clock).send(99) == 20
    assert Process(database, clock, credential="two").send(99) == 20


def test_a_limit_that_was_configured_anew_is_in_force_and_gives_nothing_away(
    database: Database, clock: ManualClock
) -> None:
    assert Process(database, clock).send(18) == 18
    after = Process(database, clock, Rate(40, 10))

    assert after.send(99) == 2
    clock.advance(timedelta(seconds=1))
    assert after.send(99) == 4


def test_a_backfill_in_one_process_leaves_room_for_live_work_in_another(database: Database, clock: ManualClock) -> None:
    walking, living = Process(database, clock, Rate(600, 10)), Process(database, clock, Rate(600, 10))
    sent: Counter[str] = Counter()
    for _ in range(100):
        clock.advance(timedelta(seconds=0.1))
        sent["backfill"] += walking.send(1_000, Priority.BACKFILL)
        assert living.send(3) == 3
        sent["live"] += 3

    assert sent["live"] == 300
    assert sent["backfill"] + sent["live"] >= 0.95 * 600


def test_whoever_sends_much_draws_for_a_moment_and_what_is_not_used_lapses(
    database: Database, clock: ManualClock
) -> None:
    busy = Process(database, clock, Rate(6_000, 60))
    before = database.commits
    assert busy.send(500) == 500
    assert database.commits - before <= 500 / (100 * LEASE) + 10
    clock.advance(timedelta(seconds=5))
    ((limit, held),) = [each for each in database.read(budgets.every) if each[0].bucket == ""]
    assert limit.users == {"acme/crm": 100}
    assert 0 <= 6_000 - 500 - held.tokens <= 100 * LEASE


def test_without_the_store_nothing_is_sent(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(database, clock)

    def gone(work: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(database, "write", gone)
    with pytest.raises(Throttled):
        process.budget.take()


def test_use_and_what_is_to_come_are_told(database: Database, clock: ManualClock) -> None:
    process = Process(database, clock)
    for _ in range(60):
        process.send(1)
        process.send(1, Priority.BACKFILL)
        clock.advance(timedelta(seconds=1))
    told = database.read(lambda tx: quotas.overview(tx, clock(), {"acme/crm": 5_000}))
    ((main,), whole) = (
        [each for each in told if each["bucket"] == ""],
        database.read(lambda tx: report.status(tx, clock())),
    )

    assert main["endpoints"] == ["acme/crm"]
    assert (main["requests"], main["seconds"], main["per_second"], main["held_until"]) == (20, 10.0, 2.0, None)
    assert main["sent"] == {"live": 60, "retry": 0, "reconcile": 0, "backfill": 60}
    assert main["by_class"]["live"] == main["by_class"]["backfill"] > 0.3
    assert 0.3 < main["used"] <= 1
    assert 10 < main["done_in_seconds"] <= 25
    assert [each["bucket"] for each in whole["quotas"]] == [""]


CONFIGURATION = """
tenant: acme
kirim: { api_key: "${KEY}", webhook_secrets: ["${SECRET}"], phone_number_ids: ["106540352242933"] }
connections:
  one: { connector: hubspot, access_token: "${TOKEN}", contacts: { fields: { phone_number: phone } } }
  two: { connector: hubspot, access_token: "${TOKEN}", contacts: { fields: { phone_number: phone } } }
  three: { connector: hubspot, access_token: "${OTHER}", contacts: { fields: { phone_number: phone } } }
"""


def test_connections_with_the_same_token_share_a_budget(database: Database, tmp_path: Path) -> None:
    pytest.importorskip("hubspot", reason="the tenant uses the HubSpot connector")
    (tmp_path / "acme.yaml").write_text(CONFIGURATION)
    tokens = {"TOKEN": "pat-eu1-0123456789abcdef", "OTHER": "pat-eu1-fedcba9876543210"}
    environ = {"KEY": "kdv_test_" + "a" * 24, "SECRET": "whsec_" + "b" * 28, **tokens}
    configuration = load(tmp_path / "acme.yaml", environ=environ)
    builder = Builder(configuration, database)
    tenant = builder.tenant(configuration.tenants[0])
    try:
        kept = {name: builder.budgets["acme", name] for name in ("kirim", "one", "two", "three")}
        assert kept["one"] is kept["two"]
        assert len({id(budget) for budget in kept.values()}) == 3
        kept["two"].hold(timedelta(seconds=60))
        with pytest.raises(Throttled):
            kept["one"].take()
        stored = database.read(budgets.every)
    finally:
        for endpoint in (tenant.kirim, *(each.connector for each in tenant.connections.values())):
            endpoint.close()

    assert {tuple(sorted(limit.users)) for limit, _ in stored} == {("acme/one", "acme/two")}
    assert not any(token in str(stored) for token in tokens.values())
