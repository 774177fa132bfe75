"""The killer: one life of the daemon after the other, each ended by SIGKILL or at a named point, under load.

Which points there are is asked of `crmsync.crash`; one that this file knows nothing of is met under plain load or not
at all, and then the run says so.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from support.chaos.checker import Findings
from support.chaos.world import World

from crmsync import crash

ELSEWHERE = {
    "rotate.": "the command that rotates secrets: its own tests end it there",
    "subscribe.": "the command that subscribes: its own tests end it there",
    "backfill.": "a run that a person begins: its own tests end it there",
    "reconcile.": "a run that a person begins, too",
    "segment.": "segments as labels: walked once an hour, or when a person asks",
    "apply.": "what a person approves of: on connections that only plan, and this world's is live",
}
"""Points that no daemon of this world comes to, by how they begin."""
POSTGRESQL_ONLY = frozenset({"inbox.inserted"})
SQLITE_ONLY = frozenset({"store.closing", "dead.changing", "dead.changed"})
"""Here the daemon does what `crmsync dead` asks for; on PostgreSQL the command does it itself."""
FIRST = ("migrate.step", "migrate.done")
"""Points of the first start, on an empty database."""
LAST = frozenset({"drain.begun", "drain.ended", "store.closing"})
"""Points on the way out, after SIGTERM."""
NTH = {
    "hook.": 150,
    "observe.parse": 150,
    "inbox.": 15,
    "sync.": 3,
    "observe.dying": 1,
    "quarantine.": 1,
    "dead.": 1,
    "log.asking": 1,
    "log.": 3,
}
"""The time that a life ends when it comes to a point is drawn from so many; from two where nothing is said here."""
PATIENCE = 60.0
"""Seconds in which a life has to come to its named point."""
TICK, MORE = 0.2, 100
EARLY = 0.3
"""The share of random deaths that may come in the middle of the start."""
RANDOM = "at random"


def named_points(dialect: str) -> list[str]:
    """The points that are to be met on this kind of database, those of the first start first."""
    others = SQLITE_ONLY if dialect == "postgresql" else POSTGRESQL_ONLY
    points = [point for point in crash.POINTS if not point.startswith(tuple(ELSEWHERE)) and point not in others]
    return sorted(points, key=lambda point: point not in FIRST)


@dataclass(slots=True)
class Figures:
    """What a run came to."""

    kills: Counter[str] = field(default_factory=Counter)
    unmet: list[str] = field(default_factory=list)
    """Named points that a life did not come to in time; it was killed all the same."""
    strange: list[str] = field(default_factory=list)
    """Ends that nobody ordered."""
    starts: list[float] = field(default_factory=list)
    """Seconds from the start of a process to its listening."""
    seconds: float = 0.0
    findings: Findings = field(default_factory=Findings)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong, and every death was as it was ordered."""
        return self.findings.clean and not self.unmet and not self.strange

    def __str__(self) -> str:
        return f"{self.findings}\nunmet: {self.unmet}\nstrange: {self.strange}"


class Killer:
    """Lets `events` happen over `kills` lives, and then one more that nobody ends."""

    def __init__(self, world: World, *, events: int, kills: int, points: Sequence[str], seed: int = 1) -> None:
        if len(points) > kills:
            raise ValueError(f"{len(points)} points need as many kills")
        self.figures = Figures()
        self._world = world
        self._random = Random(seed)
        self._left = events
        self._lives = self._plan(kills, points)

    def run(self, tell: Callable[[int], object] = lambda done: None) -> Figures:
        """All of it, to the verdict. `tell` is told after each death how many there were."""
        began = time.monotonic()
        for number, point in enumerate(self._lives):
            self._allow(max(0, self._left) // (len(self._lives) + 1 - number))
            self._live(point)
            tell(number + 1)
        self._allow(max(0, self._left))
        self._world.start()
        self.figures.findings = self._world.judged()
        self.figures.seconds = time.monotonic() - began
        code = self._world.end(signal.SIGTERM)
        if code:
            self.figures.strange.append(f"exit code {code} after SIGTERM")
        return self.figures

    def _plan(self, kills: int, points: Sequence[str]) -> list[str]:
        """Every named point once, the rest at random, in any order but for the first start."""
        first = [point for point in points if point in FIRST]
        others = [point for point in points if point not in FIRST]
        others += [RANDOM] * (kills - len(points))
        self._random.shuffle(others)
        return first + others

    def _live(self, point: str) -> None:
        world, figures = self._world, self.figures
        began = time.monotonic()
        if point == RANDOM:
            world.start()
            if self._random.random() < EARLY:
                time.sleep(self._random.uniform(0.2, 1.2))
            elif world.wait_until_listening():
                figures.starts.append(time.monotonic() - began)
                time.sleep(self._random.uniform(0.005, 0.5))
            self._ended(point, world.end(signal.SIGKILL), -signal.SIGKILL)
            return
        before = world.promises.events
        world.start(self._armed(point))
        if point not in FIRST and world.wait_until_listening():
            figures.starts.append(time.monotonic() - began)
        self._provoke(point)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._ended(point, world.ended(TICK), crash.STATUS)
                return
            if not world.people.busy:  # the load goes on until it has done its work
                self._allow(MORE)
        figures.unmet.append(f"{point}, though {world.promises.events - before} events were acknowledged meanwhile")
        self._ended(point, world.end(signal.SIGKILL), -signal.SIGKILL)

    def _allow(self, events: int) -> None:
        self._left -= events
        self._world.people.allow(events)

    def _armed(self, point: str) -> str:
        """The point, and how often it is come to before it is the last."""
        if point in FIRST or point in LAST:
            return point
        most = next((times for start, times in NTH.items() if point.startswith(start)), 2)
        return f"{point}:{self._random.randint(1, most)}"

    def _provoke(self, point: str) -> None:
        """What has to happen in the world for a life to come to this point."""
        world = self._world
        if not world.people.busy:
            self._allow(MORE)
        if point in LAST:
            time.sleep(self._random.uniform(0.1, 0.4))
            if world.alive() and world.process is not None:
                world.process.send_signal(signal.SIGTERM)
        elif point == "observe.dying":
            world.people.blot()
            world.people.blot()
        elif point == "log.asking":
            world.people.stranger_writes()
        elif point.startswith("dead."):
            self._retry_dead_letters()
        elif point.startswith("quarantine"):
            before = world.promises.answers[503]
            world.replace_secret()
            until = time.monotonic() + PATIENCE
            while world.promises.answers[503] < before + 3 and time.monotonic() < until:
                time.sleep(0.02)
            world.tell_secret()

    def _retry_dead_letters(self) -> None:
        """Somebody asks for it until the daemon has come to it: the letter has to be written and to be found dead."""
        self._world.people.blot()
        until = time.monotonic() + PATIENCE
        while self._world.alive() and time.monotonic() < until:
            self._world.command("dead", "retry", "--all", "--yes")

    def _ended(self, point: str, code: int, expected: int) -> None:
        self.figures.kills[point] += 1
        if code != expected:
            self.figures.strange.append(f"exit code {code} in a life that was to end {point}")
