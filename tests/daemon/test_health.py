"""What goes wrong slowly is noticed: a disk that fills up, dead letters that gather, a loop that is late."""

from __future__ import annotations

import asyncio
import time
from collections import namedtuple
from pathlib import Path

import pytest

from crmsync.daemon import health as module
from crmsync.daemon.health import BEAT, GROWING, Health
from crmsync.errors import StoreUnavailable

Usage = namedtuple("Usage", "total used free")
MIB = 1024 * 1024


class Seen:
    """The alerts of a look at a time, and a disk and dead letters to look at."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 500 * MIB
        self.dead = 0
        self.broken = False
        self.kinds: list[str] = []
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(0, 0, self.free))
        self.health = Health(tmp_path, 200, self._count, lambda kind, tenant, text, about="": self.kinds.append(kind))

    def _count(self) -> int:
        if self.broken:
            raise StoreUnavailable("full")
        return self.dead

    def look(self) -> list[str]:
        self.kinds.clear()
        self.health.look()
        return list(self.kinds)


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(tmp_path, monkeypatch)


def test_a_disk_below_its_floor_is_told_and_leaves_no_room(seen: Seen) -> None:
    assert seen.health.has_room
    assert "disk_low" not in seen.look()
    seen.free = 199 * MIB
    assert "disk_low" in seen.look()
    assert not seen.health.has_room
    seen.free = 201 * MIB
    assert "disk_recovered" in seen.look()
    assert seen.health.has_room


def test_dead_letters_that_gather_are_told(seen: Seen) -> None:
    seen.dead = 1000
    assert "dead_letters_growing" not in seen.look()  # they were there before us
    seen.dead += GROWING - 1
    assert "dead_letters_growing" not in seen.look()
    seen.dead += 1
    assert "dead_letters_growing" in seen.look()
    seen.dead = 900
    assert "dead_letters_stopped" in seen.look()


def test_a_store_that_is_down_is_not_the_healths_concern(seen: Seen) -> None:
    seen.broken = True
    assert seen.look() == []


def test_a_database_elsewhere_has_no_disk_here(tmp_path: Path) -> None:
    health = Health(None, 200, lambda: 0, lambda *_: None)
    health.look()

    assert health.has_room
    assert health.free is None


def test_a_loop_that_was_held_up_shows() -> None:
    async def held_up() -> float:
        stopping = asyncio.Event()
        health = Health(None, 200, lambda: 0, lambda *_: None)
        running = asyncio.ensure_future(health.run(stopping))
        await asyncio.sleep(BEAT / 2)
        time.sleep(BEAT * 2)
        while not health.loop_lag:
            await asyncio.sleep(0)
        stopping.set()
        await running
        return health.loop_lag

    assert asyncio.run(held_up()) > BEAT / 2
