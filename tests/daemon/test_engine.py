"""The local engine keeps what every engine has to keep."""

from __future__ import annotations

import pytest
from support.engines import PATIENCE, EngineContract, Turns, lane

from crmsync.daemon.engine import Engine, LocalEngine
from crmsync.store.database import Database


class TestLocalEngine(EngineContract):
    """One process, a set of lanes, a pool of threads."""

    @pytest.fixture
    def database(self, sqlite_url: str):
        opened = Database.open(sqlite_url)
        yield opened
        opened.close()

    def make_engine(self, database: Database) -> Engine:
        return LocalEngine(4)


def test_it_says_which_lanes_are_busy() -> None:
    engine, turns = LocalEngine(2), Turns()
    engine.run(turns)
    engine.submit([lane("a"), lane("b"), lane("c")])
    turns.until(lambda: len(turns.begun) == 2)

    assert engine.busy() == {lane("a"), lane("b"), lane("c")}
    turns.let()
    assert engine.stop(PATIENCE)
    assert engine.busy() == frozenset()


def test_lanes_that_wait_for_a_thread_are_left_when_it_stops() -> None:
    engine, turns = LocalEngine(1), Turns()
    engine.run(turns)
    engine.submit([lane("a"), lane("b")])
    turns.until(lambda: len(turns.begun) == 1)
    assert not engine.stop(0.01)
    turns.let()
    engine.stop(PATIENCE)

    assert turns.begun == [lane("a")]
