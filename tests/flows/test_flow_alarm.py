"""The alarm rings by rate, says what to do once a minute, and ends when deliveries prove themselves again."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from crmsync.errors import Doubt
from crmsync.flows.alarm import ADVICE, Alarm


class World:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.told: list[tuple[str, str, str]] = []
        self.alarm = Alarm(lambda: self.now, lambda *told: self.told.append(told))

    def fail(self, reason: str = "mismatch") -> bool:
        """Whether the alarm is on after another failure."""
        self.alarm.failed("acme", "kirim", reason)
        return self.on

    def succeed(self) -> bool:
        self.alarm.succeeded("acme", "kirim")
        return self.on

    @property
    def on(self) -> bool:
        return bool(self.alarm.active())


@pytest.fixture
def world() -> World:
    return World()


def test_one_failure_among_successes_is_nothing(world: World) -> None:
    for _ in range(20):
        world.succeed()
        assert not world.fail()
        world.now += 40


def test_three_within_a_minute_ring(world: World) -> None:
    world.succeed()
    assert [world.fail(), world.fail(), world.fail()] == [False, False, True]


def test_one_where_nothing_right_came_for_a_minute_rings(world: World) -> None:
    world.succeed()
    world.now += 60
    assert world.fail()


def test_a_first_failure_right_after_the_start_is_nothing_yet(world: World) -> None:
    assert not world.fail()
    world.now += 60
    assert world.fail()


def test_it_ends_when_right_ones_come_and_few_fail(world: World) -> None:
    for _ in range(3):
        world.fail()
    assert world.succeed()
    world.now += 60
    assert not world.succeed()
    assert [kind for kind, _, _ in world.told] == ["signature_failing", "signature_recovered"]


def test_it_ends_by_itself_when_nothing_comes_any_more_and_begins_anew(world: World) -> None:
    world.now += 60
    assert world.fail()
    world.now += 599
    assert world.on
    world.now += 1
    assert not world.on
    world.succeed()
    assert not world.fail()


def test_it_is_said_once_a_minute_for_each_reason(world: World) -> None:
    world.now += 60
    with capture_logs() as lines:
        for _ in range(100):
            world.fail()
        world.fail("missing_signature")
        world.now += 60
        world.fail()
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("signature_failing", "mismatch"),
        ("signature_failing", "missing_signature"),
        ("signature_failing", "mismatch"),
    ]
    assert all(line["advice"] for line in lines)


def test_one_endpoints_alarm_is_not_anothers(world: World) -> None:
    world.now += 60
    world.fail()
    world.alarm.failed("other", "kirim", "stale")
    world.alarm.succeeded("other", "kirim")
    world.now += 60
    world.alarm.succeeded("other", "kirim")
    assert [alarm["tenant"] for alarm in world.alarm.active()] == ["acme"]


def test_there_is_advice_for_every_doubt() -> None:
    assert {doubt.value for doubt in Doubt} | {"cross_tenant", "compressed"} <= ADVICE.keys()
