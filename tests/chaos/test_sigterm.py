"""SIGTERM under load: what was promised stands, nobody is cut off in the middle, and the daemon ends by itself."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from support.chaos.herald import CUT, SILENT
from support.chaos.world import World

ROUNDS = 8
EVENTS = 400
PATIENCE = 60.0


def test_a_daemon_that_is_told_to_stop_keeps_its_promises_and_cuts_nobody_off(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "world").mkdir()
    with World(tmp_path / "world", database_url, contacts=500, rate=800) as world:
        for _ in range(ROUNDS):
            world.people.allow(EVENTS)
            wanted, until = world.promises.events + EVENTS // 4, time.monotonic() + PATIENCE
            world.start()
            while world.promises.events < wanted:
                assert world.alive(), world.log
                assert time.monotonic() < until, world.log
                time.sleep(0.01)
            assert world.end(signal.SIGTERM) == 0, world.log
        world.start()
        findings = world.judged()

        assert findings.clean, f"{findings}\n{world.log}"
        assert world.promises.answers[CUT] == world.promises.answers[SILENT] == 0, dict(world.promises.answers)
