"""A day with records that are refused, and records that always fail: what trying again costs of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from support.household import Crm, CrmConnector, Household

from crmsync.connector import Outcome
from crmsync.core.trouble import Reason
from crmsync.daemon.budgets import DAY, RETRIES, Thrift, TokenBudget
from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.worker import Worker
from crmsync.errors import Reject, Retry
from crmsync.flows import dead
from crmsync.model import Kind, Rate, Record, Ref, Write
from crmsync.store import lanes
from crmsync.store.database import Database
from crmsync.store.dead import Wanted
from crmsync.testing.clock import ManualClock

QUOTA = 1000
STEP = timedelta(minutes=2)


class Day:
    """A tenant, a worker that is turned by hand, and a CRM that counts what it is asked."""

    def __init__(self, database: Database) -> None:
        clock = ManualClock()
        self.budget = TokenBudget(
            {"": Rate(100, 1), DAY: Rate(QUOTA, 86_400)}, lambda: clock().timestamp(), self._sleep
        )
        self.refused: set[str] = set()
        self.failing: set[str] = set()
        self.sent: Counter[tuple[str, str]] = Counter()
        day = self

        class Counting(CrmConnector):
            def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
                day.ask()
                return super().fetch(kind, refs)

            def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
                day.ask()
                return [day.answer(super(Counting, self).upsert, kind, write) for write in writes]

        crm = Crm()
        crm.connector = Counting
        self.home = Household(database, crms={"crm": crm}, clock=clock)
        self.clock = clock
        self.worker = Worker(
            database, {"acme": self.home.tenant}, {("acme", "crm"): self.budget}, LocalEngine(1), clock, lambda: 0.5
        )

    def _sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def ask(self) -> None:
        self.budget.take()

    def answer(self, upsert: Any, kind: Kind, write: Write) -> Outcome:
        self.sent[write.external_id, str(sorted(write.fields.items()))] += 1
        if write.external_id in self.refused:
            return Reject("memory answered 400")
        if write.external_id in self.failing:
            return Retry("memory answered 500", ambiguous=True)
        (outcome,) = upsert(kind, [write])
        return outcome  # type: ignore[no-any-return]

    def work(self) -> None:
        """Every lane that has work, until none has."""
        for _ in range(50):
            self.home.arrive_all()
            waiting = self.home.database.read(lambda tx: lanes.waiting(tx, self.clock()))
            if not waiting:
                return
            for one in waiting:
                self.worker._turn(one.lane, lambda tx: None)
        raise AssertionError("it never came to rest")


@pytest.fixture
def day(sqlite_url: str) -> Iterator[Day]:
    database = Database.open(sqlite_url)
    made = Day(database)
    yield made
    made.worker.stop(timedelta(seconds=10))
    database.close()


def test_a_day_of_trouble_costs_a_small_share_of_its_requests(day: Day) -> None:
    ids = [day.home.add(name=f"n{number}", company="c") for number in range(100)]
    day.refused, day.failing = set(ids[:10]), set(ids[10:20])
    well = ids[20:]
    for step in range(timedelta(days=1) // STEP):
        hour = step * STEP // timedelta(hours=1)
        if step * STEP % timedelta(hours=1) == timedelta(0):
            for id in ids[hour % 5 :: 5]:
                day.home.kirim.edit(id, {"company": f"c{hour}"})
        day.work()
        day.clock.advance(STEP)
    share = QUOTA * 0.05

    assert day.budget.retried <= share
    assert share / 2 < day.budget.retried, "the trouble was not great enough to show anything"
    assert day.budget.taken <= QUOTA
    assert {day.sent[key] for key in day.sent if key[0] in day.refused} == {1}
    assert all(day.home.partner(id).fields["company"] == day.home.kirim.record(id).fields["company"] for id in well)
    reasons = {
        letter["reason"] for letter in day.home.database.read(lambda tx: dead.overview(tx, Wanted(), 99))["dead"]
    }
    assert reasons <= {Reason.REFUSED, Reason.UNANSWERED}


def test_without_a_known_quota_nothing_is_held_back() -> None:
    budget = TokenBudget({"": Rate(100, 1)}, lambda: 0.0, lambda seconds: None)
    with budget.retrying():
        for _ in range(30):  # beside what is kept for live work
            budget.take()

    assert (budget.retried, budget.retry_wait()) == (30, timedelta(0))


def test_the_quota_is_learned_from_the_platform_and_no_day_sees_more_than_the_share() -> None:
    now = [0.0]
    budget = TokenBudget({"": Rate(10_000, 1)}, lambda: now[0], lambda seconds: None)
    budget.observe(900, 1000, DAY)
    spent = []
    while now[0] < 3 * 86_400:
        if not Thrift([budget]).wait():
            with Thrift([budget]).spending():
                budget.take()
            spent.append(now[0])
        now[0] += 60

    assert max(sum(1 for at in spent if start <= at < start + 86_400) for start in spent) <= QUOTA * RETRIES
    assert len(spent) >= 2.5 * QUOTA * RETRIES


def test_only_what_is_sent_meanwhile_counts_as_a_retry() -> None:
    budget = TokenBudget({"": Rate(100, 1), DAY: Rate(1000, 86_400)}, lambda: 0.0, lambda seconds: None)
    budget.take()
    with budget.retrying(), budget.retrying():
        budget.take()
    budget.take()

    assert (budget.taken, budget.retried) == (3, 1)
