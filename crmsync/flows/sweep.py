"""Has Kirim send again what it gave up: dead deliveries of our subscription, by windows of time, until none is left.

The original of a replay stays dead at Kirim, so what was asked for is remembered. What dies again is asked for a few
times more and then left, and said. Kirim keeps deliveries for 30 days: what may be gone is said too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from crmsync.errors import Reject
from crmsync.flows.kept import Alert, Kept
from crmsync.kirim.client import BULK_LIMIT, KirimClient
from crmsync.kirim.reading import moment
from crmsync.kirim.subscription import Subscription, of_url
from crmsync.kirim.wire import Row
from crmsync.store import chores
from crmsync.store.chores import Replayed
from crmsync.store.database import Database
from crmsync.store.lanes import Fence, Work

STATUSES = ("dead", "failed")
"""Kirim's documents use either for a delivery that was given up."""
TIMES = 3
"""How often the same event is asked for; who wants more says so (`afresh`)."""
TOGETHER = BULK_LIMIT * 9 // 10
"""Deliveries in one window; others that were made in the same seconds must fit too."""
EDGE = timedelta(seconds=1)
"""By how much a window is wider than what it is to hold: times may be cut to seconds, bounds in or out."""
NAMELESS_PAUSE = timedelta(days=1)
"""Where Kirim names neither an event nor what a delivery repeats, its repetition cannot be recognised."""
KEPT_FOR = timedelta(days=30)
LAST_TRY = timedelta(hours=38)
"""How long after it was made a delivery may be given up."""
PASSES = 10


@dataclass(frozen=True, slots=True)
class Dead:
    """A delivery that Kirim gave up. `times` is how often its event was asked for already.

    `nameless`: Kirim tells neither its event nor whether it repeats another.
    """

    id: str
    status: str
    created_at: datetime | None
    event: str
    repeats: str
    nameless: bool = False
    done: bool = False
    times: int = 0


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found and did.

    `stopped` says why nothing could be done, empty otherwise. `purged` is the stretch of time of which deliveries may
    have died and been forgotten by Kirim before anybody asked for them.
    """

    dead: int = 0
    replayed: int = 0
    calls: int = 0
    given_up: int = 0
    purged: tuple[datetime, datetime] | None = None
    stopped: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "dead": self.dead,
            "replayed": self.replayed,
            "calls": self.calls,
            "given_up": self.given_up,
            "purged": [moment.isoformat(timespec="seconds") for moment in self.purged] if self.purged else None,
            "stopped": self.stopped,
        }


def chore(database: Database, kept: Kept, fence: Fence, clock: Callable[[], datetime], alert: Alert) -> None:
    """One sweep as the daemon does it: tells what a person should know, and notes what came of it."""
    taken = database.read(lambda tx: chores.read(tx, kept.tenant, Work.SWEEP))
    try:
        swept = sweep(database, kept, fence, clock, afresh=taken.state.get("afresh") is True)
    except Reject as error:
        swept = Swept(stopped=str(error))
    for kind, text in _news(swept):
        alert(kind, kept.tenant, text)

    def finish(tx: Any) -> None:
        fence(tx)
        now_due = chores.read(tx, kept.tenant, Work.SWEEP)
        again = now_due.due_at != taken.due_at and now_due.state.get("afresh") is True  # asked for while we were at it
        chores.finish(tx, taken, {"swept": swept.to_json(), **({"afresh": True} if again else {})}, clock())

    database.write(finish)


def sweep(
    database: Database, kept: Kept, fence: Fence, clock: Callable[[], datetime], *, afresh: bool = False
) -> Swept:
    """Asks for everything that is dead, until a look finds nothing left to ask for.

    `afresh` gives those another chance that died again too often. Stops where it is when the budget is used up
    (`Throttled`) or Kirim fails; what was asked for until then is not asked for again.
    """
    found = of_url(kept.client, kept.hook_url)
    if not found:
        return Swept(stopped="there is no subscription for our address")
    if not found[0].is_active:
        return Swept(stopped=f"the subscription is switched off ({found[0].status})")
    work = _Sweep(database, kept.tenant, kept.client, found[0], fence, clock)
    last = database.read(lambda tx: chores.read(tx, kept.tenant, Work.SWEEP)).done_at
    swept = Swept(purged=_purged(last or found[0].created_at, clock()))
    for _ in range(PASSES):
        dead = work.dead()
        left = [one for one in dead if not one.done and (afresh or one.times < TIMES)]
        given_up = sum(1 for one in dead if not one.done) - len(left)
        swept = replace(swept, dead=max(swept.dead, len(dead)), given_up=given_up)
        if not left:
            break
        for status in STATUSES:
            for group in _groups([one for one in dead if one.status == status], {one.id for one in left}):
                replayed, calls = work.replay(group)
                swept = replace(swept, replayed=swept.replayed + replayed, calls=swept.calls + calls)
        afresh = False
    return swept


def made_at(row: Row) -> datetime | None:
    """When a delivery in Kirim's list was made."""
    return moment(row.get("created_at"))


def _purged(since: datetime | None, now: datetime) -> tuple[datetime, datetime] | None:
    """Of which time deliveries may be forgotten that died after somebody swept last."""
    oldest = now - KEPT_FOR
    return None if since is None or since >= oldest else (since - LAST_TRY, oldest)


def _news(swept: Swept) -> Iterator[tuple[str, str]]:
    """What people should know; who is told that it lasts is the alert's business."""
    if swept.stopped:
        yield "sweep_stopped", f"dead deliveries cannot be asked for: {swept.stopped}"
        return
    yield "sweep_resumed", "dead deliveries can be asked for"
    if swept.given_up:
        text = f"{swept.given_up} deliveries died again after {TIMES} replays and are left alone"
        yield "sweep_stuck", f"{text}; when the cause is gone, run crmsync webhooks sweep"
    else:
        yield "sweep_unstuck", "no delivery is left that died again and again"
    if swept.purged is not None:
        yield "sweep_purged", purge_text(swept.purged)


def purge_text(purged: tuple[datetime, datetime]) -> str:
    """What Kirim's forgetting may have cost."""
    start, end = purged
    return (
        f"nobody swept for more than {KEPT_FOR.days} days: what died between {start:%Y-%m-%d %H:%M} and"
        f" {end:%Y-%m-%d %H:%M} UTC is purged at Kirim; contacts are read again, other events of that time may be lost"
    )


@dataclass(slots=True)
class _Group:
    """Dead deliveries of one status in a row, in order of time; `left` are the ids of those to be asked for."""

    rows: Sequence[Dead]
    left: frozenset[str] = field(default_factory=frozenset)

    def wanted(self) -> list[Dead]:
        return [row for row in self.rows if row.id in self.left]

    def halves(self) -> list[_Group]:
        """Two windows instead of one, where time tells the rows apart."""
        middle = len(self.rows) // 2
        first, second = self.rows[:middle], self.rows[middle:]
        if not first or first[-1].created_at == second[0].created_at == self.rows[0].created_at:
            return []
        return [_Group(part, self.left) for part in (first, second)]


def _groups(rows: Sequence[Dead], left: set[str]) -> Iterator[_Group]:
    """Windows of time that one call can take, around what is left to ask for.

    A window may hold others only as long as they are not more: they come again needlessly.
    """
    wanted = frozenset(left)
    window: list[Dead] = []
    gap: list[Dead] = []
    spare = 0  # how many more of those that are left than of others the window holds
    for row in sorted((row for row in rows if row.created_at is not None), key=lambda row: (row.created_at, row.id)):
        if row.id not in left:
            gap.append(row)
            continue
        if window and (len(gap) > spare + 1 or len(window) + len(gap) + 1 > TOGETHER):
            yield _Group(window, wanted)
            window, spare = [], 0
        elif window:
            window += gap
            spare -= len(gap)
        gap = []
        window.append(row)
        spare += 1
    if window:
        yield _Group(window, wanted)
    yield from (_Group([row], wanted) for row in rows if row.created_at is None and row.id in left)


@dataclass(slots=True)
class _Sweep:
    """One subscription being swept."""

    database: Database
    tenant: str
    client: KirimClient
    subscription: Subscription
    fence: Fence
    clock: Callable[[], datetime]

    def dead(self) -> list[Dead]:
        """Everything that Kirim gave up and still remembers, with what we know about it."""
        found: dict[str, Dead] = {}
        refused: list[Reject] = []
        for status in STATUSES:
            try:
                for row in self.client.deliveries(self.subscription.id, status=status):
                    one = self._read(row, status)
                    if one is not None:
                        found.setdefault(one.id, one)
            except Reject as error:  # it knows only the other name
                refused.append(error)
        if len(refused) == len(STATUSES):
            raise refused[0]
        return self._known(list(found.values()))

    def _read(self, row: Row, status: str) -> Dead | None:
        """A row of Kirim's list; None for one that does not belong there, whatever was asked for."""
        id, shown = row.get("id"), row.get("status", status)
        if not isinstance(id, str) or not id or shown not in STATUSES:
            return None
        if row.get("subscription_id", self.subscription.id) != self.subscription.id:
            return None
        # Statuses of one message share the id of the message: that names no event.
        event = row.get("event_id")
        named = isinstance(event, str) and event.startswith("evt_")
        repeats = row.get("replayed_from")
        return Dead(
            id,
            shown,
            made_at(row),
            str(event) if named else "",
            repeats if isinstance(repeats, str) else "",
            nameless=not named and "replayed_from" not in row,
        )

    def _known(self, rows: Sequence[Dead]) -> list[Dead]:
        """The rows with what we remember of them."""
        ids = {row.id for row in rows} | {row.repeats for row in rows if row.repeats}
        asked = self.database.read(lambda tx: chores.asked(tx, self.tenant, ids))
        events = {row.event for row in rows if row.event}
        often = self.database.read(lambda tx: chores.asked_for_events(tx, self.tenant, events))
        last = self.database.read(lambda tx: chores.last_nameless(tx, self.tenant))
        early = last is not None and self.clock() - last < NAMELESS_PAUSE
        found = []
        for row in rows:
            # What was made since we asked last may be the repetition that we asked for.
            waits = (
                row.nameless and early and last is not None and row.created_at is not None and row.created_at >= last
            )
            times = max(asked.get(row.repeats, 0), often.get(row.event, 0))
            found.append(replace(row, done=row.id in asked or waits, times=times))
        return found

    def replay(self, group: _Group) -> tuple[int, int]:
        """Asks for the rows of a window; how many that were, and in how many calls."""
        wanted = group.wanted()
        if len(wanted) == 1 or group.rows[0].created_at is None:
            return self._one_by_one(wanted)
        first, last = group.rows[0].created_at, group.rows[-1].created_at
        answer = self.client.bulk_replay(
            self.subscription.id,
            status=group.rows[0].status,
            created_after=None if first is None else first - EDGE,
            created_before=None if last is None else last + EDGE,
            idempotency_key=_key(self.subscription.id, wanted),
        )
        calls = 1
        if answer.capped:
            parts = group.halves()
            told = [self.replay(part) for part in parts if part.wanted()] or [self._one_by_one(wanted)]
            return sum(count for count, _ in told), calls + sum(more for _, more in told)
        if not answer.enqueued:  # it reads the bounds otherwise than we do
            replayed, more = self._one_by_one(wanted)
            return replayed, calls + more
        self._note(wanted)
        return len(wanted), calls

    def _one_by_one(self, rows: Sequence[Dead]) -> tuple[int, int]:
        replayed = 0
        for row in rows:
            try:
                self.client.replay(row.id, idempotency_key=_key(self.subscription.id, [row]))
                replayed += 1
            except Reject:  # forgotten meanwhile, or not to be repeated: no use in asking again
                pass
            self._note([row])
        return replayed, len(rows)

    def _note(self, rows: Sequence[Dead]) -> None:
        """Remembers what was asked for, at once: what follows may fail."""
        replayed = [
            Replayed(row.id, chores.NAMELESS if row.nameless else row.event, min(row.times + 1, TIMES)) for row in rows
        ]

        def note(tx: Any) -> None:
            self.fence(tx)
            chores.note(tx, self.tenant, replayed, self.clock())

        self.database.write(note)


def _key(subscription: str, rows: Sequence[Dead]) -> str:
    """The same for the same deliveries: if we die before it is noted, Kirim answers and does not send twice."""
    digest = hashlib.sha256(subscription.encode())
    for row in rows:
        digest.update(b"\0" + row.id.encode())
    return digest.hexdigest()
