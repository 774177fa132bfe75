"""The pool that tenants share: in turns, within their shares, and nothing is forgotten."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait

import pytest

from crmsync.daemon.fair import FairPool

PATIENCE = 10.0


class Desk:
    """Work that a test holds up, and a record of the order in which it began."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.begun: list[str] = []
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.open = False

    def task(self, tenant: str) -> Callable[[], str]:
        def work() -> str:
            with self.changed:
                self.begun.append(tenant)
                self.inside[tenant] += 1
                self.most[tenant] = max(self.most[tenant], self.inside[tenant])
                self.most["all"] = max(self.most["all"], self.inside.total())
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.open, PATIENCE)
                self.inside[tenant] -= 1
                return tenant

        return work

    def until(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= number, PATIENCE)

    def let(self) -> None:
        with self.changed:
            self.open = True
            self.changed.notify_all()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.let()


def test_tenants_are_served_in_turns_however_much_one_has_handed_in(desk: Desk) -> None:
    pool = FairPool(1, 1, "test")
    futures = [pool.submit("large", desk.task("large")) for _ in range(1000)]
    futures += [pool.submit("small", desk.task("small")) for _ in range(3)]
    desk.let()
    wait(futures, PATIENCE)

    assert desk.begun[:7] == ["large", *["large", "small"] * 3]  # the first began before there was anybody else
    assert Counter(desk.begun) == {"large": 1000, "small": 3}
    pool.shutdown(wait=True)


def test_one_tenant_never_gets_more_than_its_share(desk: Desk) -> None:
    pool = FairPool(4, 3, "test")
    for _ in range(20):
        pool.submit("hanging", desk.task("hanging"))
    desk.until(3)
    quick = pool.submit("quick", lambda: "done")

    assert quick.result(PATIENCE) == "done"
    assert desk.begun == ["hanging"] * 3
    desk.let()
    pool.shutdown(wait=True)


def test_all_that_is_handed_in_is_done_within_the_bounds(desk: Desk) -> None:
    desk.open = True
    chance = random.Random(7)
    pool, futures = FairPool(5, 2, "test"), list[Future[str]]()
    tenants = [chance.choice("abcd") for _ in range(500)]

    def hand_in(some: list[str]) -> None:
        futures.extend(pool.submit(tenant, desk.task(tenant)) for tenant in some)

    threads = [threading.Thread(target=hand_in, args=(tenants[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures, PATIENCE)

    assert Counter(future.result() for future in futures) == Counter(tenants)
    assert max(desk.most[tenant] for tenant in "abcd") <= 2
    assert desk.most["all"] <= 5
    pool.shutdown(wait=True)


def test_an_error_reaches_who_waits_and_frees_the_place() -> None:
    pool = FairPool(1, 1, "test")

    def broken() -> None:
        raise ValueError("a fault of ours")

    failed = pool.of("a").submit(broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        failed.result(PATIENCE)
    assert pool.of("a").submit(max, 1, 2).result(PATIENCE) == 2
    pool.shutdown(wait=True)


def test_closing_cancels_what_waits_and_lets_what_runs_go_on(desk: Desk) -> None:
    pool = FairPool(1, 1, "test")
    running, waiting = pool.submit("a", desk.task("a")), pool.submit("a", desk.task("a"))
    desk.until(1)
    pool.close()
    late = pool.submit("b", desk.task("b"))
    desk.let()

    assert running.result(PATIENCE) == "a"
    for given_up in (waiting, late):
        with pytest.raises(CancelledError):
            given_up.result(PATIENCE)
    pool.shutdown(wait=True)
