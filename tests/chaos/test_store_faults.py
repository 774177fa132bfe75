"""A store that cannot take anything: deliveries are put off in time, nothing is lost, and the cure needs no restart."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chaos.world import World

BEFORE = 100
"""Events that are promised before something breaks."""
FAULT_SECONDS = 4.0
"""Longer than a request waits for its commit."""
ANSWER_SECONDS = 5.0
"""The sender's own time-out, half of Kirim's. An answer is meant to come within two; a machine may be busy."""
PATIENCE = 60.0
MEGABYTE = 1024 * 1024

SMALL = '''
"""Makes the database as small as it is, or as large as it likes, whenever a file says so."""
import os, sqlite3

FILE, ORDER = os.environ["SMALL_DATABASE"], os.environ["SMALL_ORDER"]


class Connection(sqlite3.Connection):
    small = False

    def obey(self):
        ordered = os.path.exists(ORDER)
        if ordered != self.small:
            self.small = ordered
            super().execute(f"PRAGMA max_page_count={1 if ordered else 1073741823}").close()

    def execute(self, *arguments):
        self.obey()
        return super().execute(*arguments)

    def cursor(self, *arguments, **options):
        self.obey()
        return super().cursor(*arguments, **options)


def connect(*arguments, **options):
    if str(arguments[0]) == FILE:
        options["factory"] = Connection
    return real(*arguments, **options)


real, sqlite3.connect = sqlite3.connect, connect
'''
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


def survives(world: World, injure: Callable[[], object], cure: Callable[[], object]) -> None:
    """A daemon under load whose store breaks and is mended: all are answered, nothing is lost, nothing is restarted."""
    promises = world.promises
    world.courier.answer_seconds = ANSWER_SECONDS
    world.start()
    assert world.wait_until_listening(), world.log
    world.people.allow(10 * BEFORE)
    awaited(world, lambda: promises.events >= BEFORE)

    promises.answers.clear()
    promises.slowest.clear()
    injure()
    try:
        awaited(world, lambda: promises.answers[503] >= 10)
        time.sleep(FAULT_SECONDS)
    finally:
        cure()
    before = promises.events
    awaited(world, lambda: promises.events > before)
    world.people.allow(BEFORE)

    findings = world.judged()
    assert findings.clean, f"{findings}\n{world.log}"
    assert promises.answers.keys() <= {200, 429, 503}, f"{dict(promises.slowest)}\n{world.log}"
    assert world.end(signal.SIGTERM) == 0, world.log


def awaited(world: World, fact: Callable[[], bool]) -> None:
    """Waits until it is so, as long as the daemon lives."""
    until = time.monotonic() + PATIENCE
    while not fact():
        assert world.alive(), world.log
        assert time.monotonic() < until, f"{dict(world.promises.answers)}\n{world.log}"
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a world keeps its files."""
    (tmp_path / "world").mkdir()
    return tmp_path / "world"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root; a database that may not grow is tested all the same")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_sqlite_that_may_not_grow(sqlite_url: str, folder: Path) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    order = folder / "small"
    (folder / "sitecustomize.py").write_text(SMALL)
    with World(folder, sqlite_url, contacts=300, rate=300) as world:
        world.environ = {"PYTHONPATH": str(folder), "SMALL_DATABASE": path, "SMALL_ORDER": str(order)}
        survives(world, order.touch, order.unlink)


def test_a_full_disk(small_disk: Path, sqlite_template: Path, folder: Path) -> None:
    shutil.copy(sqlite_template, small_disk / "store.db")
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(MEGABYTE // 16))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - how far the loop got is not known

    with World(folder, f"sqlite:///{small_disk}/store.db", contacts=300, rate=300) as world:
        survives(world, fill, ballast.unlink)


def test_a_file_that_another_process_locks(sqlite_url: str, folder: Path) -> None:
    locking: list[subprocess.Popen[str]] = []

    def lock() -> None:
        program = [sys.executable, "-c", LOCK, sqlite_url.removeprefix("sqlite:///")]
        locking.append(subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert locking[0].stdout is not None
        assert locking[0].stdout.readline() == "locked\n"

    with World(folder, sqlite_url, contacts=300, rate=300) as world:
        survives(world, lock, lambda: locking[0].communicate(timeout=PATIENCE))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_that_stops_and_comes_back(postgres: Any, postgresql_url: str, folder: Path, mode: str) -> None:
    if not postgres.can_stop:
        pytest.skip("the server was given: it is not ours to stop")
    with World(folder, postgresql_url, contacts=300, rate=300) as world:
        survives(world, lambda: postgres.stop(mode), postgres.start)
