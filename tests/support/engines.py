"""What every engine has to keep, whatever hands out its lanes. Subclass `EngineContract` and make an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from crmsync.daemon.engine import Engine
from crmsync.errors import Fenced
from crmsync.store.database import Database
from crmsync.store.lanes import Fence, Lane, Work

PATIENCE = 10.0
"""Seconds after which a test fails rather than hangs."""


def lane(name: str = "one") -> Lane:
    return Lane("acme", name, Work.SYNC)


class Turns:
    """A handler that a test holds up and lets go on, lane by lane."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.begun: list[Lane] = []
        self.ended: list[Lane] = []
        self.inside: list[Lane] = []
        self.crowded = False
        self.fences: list[Fence] = []
        self.open: set[str] = set()
        self.everything_open = False
        self.failing = False

    def __call__(self, lane: Lane, fence: Fence) -> None:
        with self.changed:
            self.crowded = self.crowded or lane in self.inside
            self.inside.append(lane)
            self.begun.append(lane)
            self.fences.append(fence)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.everything_open or lane.endpoint in self.open, PATIENCE)
            self.inside.remove(lane)
            self.ended.append(lane)
            self.changed.notify_all()
        if self.failing:
            raise RuntimeError("a fault of ours")

    def let(self, *names: str) -> None:
        """Those lanes go on, or all of them."""
        with self.changed:
            self.open |= set(names)
            self.everything_open = self.everything_open or not names
            self.changed.notify_all()

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE)


class EngineContract:
    """Correctness rests on the fence; the rest is what keeps the work going."""

    def make_engine(self, database: Database) -> Engine:
        raise NotImplementedError

    @pytest.fixture
    def engine(self, database: Database):
        engine = self.make_engine(database)
        yield engine
        engine.stop(PATIENCE)

    @pytest.fixture
    def turns(self):
        turns = Turns()
        yield turns
        turns.let()

    def ticking(self, engine: Engine, lanes: list[Lane], turns: Turns, condition: Callable[[], bool]) -> None:
        """Submits again and again, as the tick does, until something is so."""
        for _ in range(int(PATIENCE * 100)):
            engine.submit(lanes)
            with turns.changed:
                if turns.changed.wait_for(condition, 0.01):
                    return
        raise AssertionError("it never came to be")

    def test_submitting_is_idempotent(self, engine: Engine, turns: Turns) -> None:
        engine.run(turns)
        for _ in range(50):
            engine.submit([lane(), lane()])
        turns.until(lambda: len(turns.begun) == 1)
        engine.submit([lane()])
        turns.let()
        turns.until(lambda: bool(turns.ended))

        assert not turns.crowded
        assert len(turns.begun) <= 2  # one in the lane, and at most one that waited its turn

    def test_no_lane_ever_has_two_workers(self, engine: Engine, turns: Turns) -> None:
        turns.everything_open = True
        engine.run(turns)
        lanes = [lane(name) for name in "abc"]
        threads = [threading.Thread(target=lambda: [engine.submit(lanes) for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.ticking(engine, lanes, turns, lambda: len(turns.ended) >= 3)

        assert not turns.crowded

    def test_lanes_do_not_wait_for_each_other(self, engine: Engine, turns: Turns) -> None:
        engine.run(turns)
        engine.submit([lane("slow")])
        turns.until(lambda: lane("slow") in turns.begun)
        turns.let("quick")
        engine.submit([lane("quick")])
        turns.until(lambda: lane("quick") in turns.ended)

        assert lane("slow") not in turns.ended

    def test_a_handler_that_fails_frees_its_lane(self, engine: Engine, turns: Turns) -> None:
        turns.everything_open = turns.failing = True
        engine.run(turns)
        engine.submit([lane()])
        turns.until(lambda: len(turns.ended) == 1)
        self.ticking(engine, [lane()], turns, lambda: len(turns.ended) >= 2)

    def test_what_is_submitted_during_a_turn_is_worked_on_after_a_later_tick(
        self, engine: Engine, turns: Turns
    ) -> None:
        engine.run(turns)
        engine.submit([lane()])
        turns.until(lambda: len(turns.begun) == 1)
        engine.submit([lane()])
        turns.let()
        self.ticking(engine, [lane()], turns, lambda: len(turns.begun) >= 2)

    def test_what_is_submitted_before_it_runs_is_worked_on_after_a_later_tick(
        self, engine: Engine, turns: Turns
    ) -> None:
        turns.everything_open = True
        engine.submit([lane()])
        engine.run(turns)
        self.ticking(engine, [lane()], turns, lambda: bool(turns.ended))

    def test_the_fence_holds_during_the_turn(self, engine: Engine, turns: Turns, database: Database) -> None:
        engine.run(turns)
        engine.submit([lane()])
        turns.until(lambda: len(turns.fences) == 1)

        database.write(turns.fences[0])

    def test_the_fence_refuses_once_the_lane_was_left(self, engine: Engine, turns: Turns, database: Database) -> None:
        engine.run(turns)
        engine.submit([lane()])
        turns.let()
        turns.until(lambda: len(turns.ended) == 1)
        engine.stop(PATIENCE)

        with pytest.raises(Fenced):
            database.write(turns.fences[0])

    def test_the_fence_refuses_although_another_turn_is_in_the_lane(
        self, engine: Engine, turns: Turns, database: Database
    ) -> None:
        turns.let("one")
        engine.run(turns)
        engine.submit([lane()])
        turns.until(lambda: len(turns.ended) == 1)
        with turns.changed:
            turns.open.clear()
        self.ticking(engine, [lane()], turns, lambda: len(turns.fences) == 2)

        with pytest.raises(Fenced):
            database.write(turns.fences[0])
        database.write(turns.fences[1])

    def test_stopping_waits_for_the_turns_that_are_under_way(self, engine: Engine, turns: Turns) -> None:
        engine.run(turns)
        engine.submit([lane()])
        turns.until(lambda: len(turns.begun) == 1)
        threading.Timer(0.05, turns.let).start()

        assert engine.stop(PATIENCE)
        assert turns.ended == [lane()]

    def test_stopping_in_vain_says_so(self, engine: Engine, turns: Turns) -> None:
        engine.run(turns)
        engine.submit([lane()])
        turns.until(lambda: len(turns.begun) == 1)

        assert not engine.stop(0.01)
        turns.let()

    def test_a_stopped_engine_hands_out_nothing(self, engine: Engine, turns: Turns) -> None:
        turns.everything_open = True
        engine.run(turns)
        assert engine.stop(PATIENCE)
        engine.submit([lane()])

        assert engine.stop(PATIENCE)
        assert turns.begun == []
