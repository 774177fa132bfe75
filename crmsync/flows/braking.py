"""The brakes of one connection at work: what a flush may send, what is withheld, and the pause once a limit is reached.

What is on its way counts at once; what was written is counted with its effects, so that a killed process forgets none.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import structlog
from sqlalchemy import Connection as Transaction

from crmsync.core.brakes import Brake, Limits, admitted, judge, kinds, without
from crmsync.core.decide import Decision, Side
from crmsync.model import Written
from crmsync.store import brakes
from crmsync.store.brakes import Pause
from crmsync.store.database import Database

if TYPE_CHECKING:
    from crmsync.flows.work import Work

BY_BRAKE = "brake"
"""Who paused what a limit was reached of."""
RUN = "run:"
LINKED_FOR = timedelta(minutes=1)
"""How long the number of linked records is believed: shares need not be exact."""

Alert = Callable[[str, str, str, str], None]

log = structlog.get_logger(__name__)


class Braking(Protocol):
    """What a flush needs of brakes."""

    def holding(self, works: Sequence[Work]) -> AbstractContextManager[None]:
        """Takes out of the decisions what must not be sent; what may be counts as sent until the block ends."""

    def note(self, tx: Transaction, works: Sequence[Work], now: datetime) -> None:
        """Counts what was written, where it is stored."""


class Free:
    """No limits, and nothing paused: what a person approved of, or a test."""

    def holding(self, works: Sequence[Work]) -> AbstractContextManager[None]:
        """Everything may go."""
        return nullcontext()

    def note(self, tx: Transaction, works: Sequence[Work], now: datetime) -> None:
        """Nobody counts."""


class Brakes:
    """Of one connection; one object for all its flushes, from any thread."""

    def __init__(
        self, database: Database, tenant: str, name: str, limits: Limits, clock: Callable[[], datetime], alert: Alert
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._name = name
        self._limits = limits
        self._clock = clock
        self._alert = alert
        self._away: Counter[tuple[str, Brake]] = Counter()
        self._linked: tuple[datetime, int] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def holding(self, works: Sequence[Work]) -> Iterator[None]:
        """See `Braking`."""
        asked = [(scope(work), _kinds(work)) for work in works]
        if not any(wanted for _, wanted in asked):
            yield
            return
        with self._lock:  # two flushes must not take the same room
            paused, room = self._database.read(lambda tx: self._room(tx, asked))
            judgement = judge(asked, room, paused)
            going = Counter(admitted(asked, judgement.withheld))
            self._away.update(going)
            for of, brake in sorted(judgement.reached):
                self._reached(of, brake)
        try:
            for work, withheld in zip(works, judgement.withheld, strict=True):
                work.withheld = withheld
                work.decision = without(work.decision, withheld, creates=work.crm is None)
            yield
        finally:
            with self._lock:
                self._away.subtract(going)

    def note(self, tx: Transaction, works: Sequence[Work], now: datetime) -> None:
        """See `Braking`."""
        touched = Counter((scope(work), brake) for work in works for brake in work.touched)
        brakes.note(tx, self._tenant, self._name, touched, now)

    def _room(
        self, tx: Transaction, asked: Sequence[tuple[str, frozenset[Brake]]]
    ) -> tuple[frozenset[Brake], Mapping[tuple[str, Brake], int | None]]:
        now = self._clock()
        names = brakes.paused(tx, self._tenant, self._name)
        wanted = {(of, brake) for of, several in asked for brake in several}
        scopes = {of for of, _ in wanted}
        used = brakes.used(tx, self._tenant, self._name, scopes, now - self._limits.window)
        room = {}
        for of, brake in wanted:
            limit = self._limits.of[brake]
            linked = self._count_linked(tx, now) if limit.share is not None else 0
            sent = used.get((of, brake.value), 0) + self._away[of, brake]
            room[of, brake] = limit.room(sent, linked, run=bool(of))
        return frozenset(brake for brake in Brake if brake.value in names), room

    def _count_linked(self, tx: Transaction, now: datetime) -> int:
        if self._linked is None or now - self._linked[0] > LINKED_FOR:
            self._linked = now, brakes.linked(tx, self._tenant, self._name)
        return self._linked[1]

    def _reached(self, of: str, brake: Brake) -> None:
        """The kind of write is paused from here on, for whatever asks for it."""
        limit, minutes = self._limits.of[brake], round(self._limits.window.total_seconds() / 60)
        most = limit.in_run if of else limit.in_window
        span = f"in {of.replace(':', ' ')}" if of else f"within {minutes} minutes"
        share = f", or {limit.share:.0%} of the linked records" if limit.share is not None else ""
        reason = f"the limit of {most} records {span}{share} is reached"
        pause = Pause(self._tenant, self._name, brake.value, self._clock(), BY_BRAKE, reason)
        if self._database.write(lambda tx: brakes.begin(tx, pause)):
            log.warning("brake_reached", tenant=self._tenant, connection=self._name, what=brake.value, reason=reason)
        cure = f"look why, then: crmsync resume {self._tenant} {self._name} {brake.value}"
        text = f"{self._name}: {brake.value.replace('_', ' ')} is paused, {reason}; {cure}"
        self._alert("brake_reached", self._tenant, text, f"{self._name}/{brake.value}")


def scope(work: Work) -> str:
    """The run that a pair is due because of; empty for anything else."""
    return work.pair.cause if work.pair.cause.startswith(RUN) else ""


def _kinds(work: Work) -> frozenset[Brake]:
    return frozenset() if work.held else kinds(work.decision, creates=work.crm is None)


def touched(work: Work) -> frozenset[Brake]:
    """The kinds of write that a platform accepted."""
    sides = {side for side in Side if isinstance(work.outcomes.get(side), Written)}
    if not sides:
        return frozenset()
    done = Decision(tuple(step for step in work.decision.steps if step.to in sides))
    return kinds(done, creates=work.crm is None)
