"""The tick and the turns: asks the tables which lanes have work, and works in them.

A tick cannot be lost as a bell can; a wake-up only makes the next one come sooner. Every error that a turn can
raise ends here, and here is the one place that catches everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from time import monotonic, thread_time
from typing import Any

import structlog
from sqlalchemy import Connection

from crmsync import crash
from crmsync.core.budget import Priority
from crmsync.core.messages import Log
from crmsync.core.retry import rest
from crmsync.daemon.alerts import Alert, nobody
from crmsync.daemon.budgets import Thrift, TokenBudget, asking
from crmsync.daemon.engine import NEAR, Engine
from crmsync.daemon.fair import FairPool
from crmsync.daemon.suspension import Suspensions
from crmsync.errors import ConnectorError, Fenced, Retry, StoreError, Suspend, Throttled
from crmsync.flows import messages, segments
from crmsync.flows.applying import apply
from crmsync.flows.away import Away
from crmsync.flows.braking import Brakes, Free
from crmsync.flows.observe import observe
from crmsync.flows.poll import poll
from crmsync.flows.reread import reread
from crmsync.flows.segments import Segmenting
from crmsync.flows.sync import sync
from crmsync.flows.tenant import Connection as Connected
from crmsync.flows.tenant import Tenant
from crmsync.flows.work import Surroundings
from crmsync.logs import place
from crmsync.store import lanes
from crmsync.store.database import Database
from crmsync.store.lanes import NEEDS_ENDPOINT, Fence, Lane, Waiting, Work
from crmsync.store.records import KIRIM, Rank

IDLE = 1.0
"""Seconds between two ticks when nothing rings."""
SOON = 0.05
"""Seconds to the next tick while something waits for its window to pass."""
SHORTEST = 0.01
SHARE = 4
"""A tick is followed by a pause of at least so many times the processor time it took: never more than a fifth."""
TURN = 1.0
"""Seconds for which a turn goes on while there is more to do."""
CALLS = 48
"""Calls to platforms that may be on their way at once, over all lanes."""
CALLS_OF_ONE = 12
"""How many of them may be one tenant's: three connections at full speed."""

WANTS: Mapping[Work, Callable[[Connected], bool]] = {
    Work.SYNC: lambda connection: connection.live,
    Work.BULK: lambda connection: connection.live,
    Work.APPLY: lambda connection: not connection.live,
    Work.LOG: lambda connection: connection.live and connection.messages.log is not Log.OFF,
    Work.SEGMENTS: lambda connection: connection.live and bool(connection.segments),
}
"""What a connection has to be like for the work that is done on CRMs only."""

RANKS: Mapping[Work, Rank] = {Work.SYNC: Rank.LIVE, Work.BULK: Rank.RUN}
"""Which of the due pairs a lane writes."""

CLASSES: Mapping[Work, Priority] = {Work.RUN: Priority.BACKFILL, Work.SEGMENTS: Priority.RECONCILE}
"""The class of what is sent in a lane, where it is not live. A batch of records has one of its own."""

Tend = Callable[[Tenant, Work, Fence], None]
"""A turn of `Work.WATCH`, `SWEEP` or `RETENTION`."""
Walk = Callable[[Tenant, str, Fence, Callable[[float], bool]], None]
"""A turn of `Work.RUN`. The last one pauses, and says whether the worker is to stop."""
TENDING = frozenset({Work.WATCH, Work.SWEEP, Work.RETENTION})

log = structlog.get_logger(__name__)


class Worker:
    """Works in the lanes of every tenant of this node. Without `tend` subscriptions are not looked after, without
    `walk` no run goes on.
    """

    def __init__(
        self,
        database: Database,
        tenants: Mapping[str, Tenant],
        budgets: Mapping[tuple[str, str], TokenBudget],
        engine: Engine,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
        tend: Tend | None = None,
        alert: Alert = nobody,
        walk: Walk | None = None,
    ) -> None:
        self.tick_seconds = 0.0
        self.ticks = 0
        self._tend = tend
        self._walk = walk
        self._alert = alert
        self._suspensions = Suspensions(database, clock, chance, alert)
        self._database = database
        self._tenants = tenants
        self._budgets = budgets
        self._engine = engine
        self._clock = clock
        self._chance = chance
        self._calls = FairPool(CALLS, CALLS_OF_ONE, "call")
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick_until_stopped, name="tick", daemon=True)
        self._resting: set[Lane] = set()
        self._brakes: dict[tuple[str, str], Brakes] = {}
        self._away: dict[tuple[str, str], Away] = {}
        self._store_failed = False

    def start(self) -> None:
        """Begins to tick."""
        self._resting = {Lane(row.tenant, row.endpoint, Work(row.work)) for row in self._database.read(lanes.states)}
        self._suspensions.start()
        self._engine.run(self._turn)
        self._ticker.start()

    def wake(self) -> None:
        """Something may be due now."""
        self._rung.set()

    def drain(self) -> None:
        """Begins no more work."""
        self._stopping.set()
        self._rung.set()

    def stop(self, timeout: timedelta) -> bool:
        """Begins no more work and waits for what is on its way; says whether all of it came to an end."""
        self.drain()
        crash.point("drain.begun")
        if self._ticker.is_alive():
            self._ticker.join(timeout.total_seconds())
        ended = self._engine.stop(timeout.total_seconds())
        self._calls.shutdown(wait=ended)
        crash.point("drain.ended")
        return ended

    def _tick_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._rung.clear()
            started, used = monotonic(), thread_time()
            again = self._tick()
            self.tick_seconds = monotonic() - started
            self.ticks += 1
            pause = max(SHORTEST, SHARE * (thread_time() - used))  # waiting for its turn costs nobody anything
            self._stopping.wait(pause)
            self._rung.wait(max(0.0, again - pause))

    def _tick(self) -> float:
        """Submits the lanes that are ready; says how many seconds the next tick may take to come."""
        try:
            now = self._clock()
            waiting = self._database.read(lambda tx: lanes.waiting(tx, now))
        except StoreError as error:
            log.warning("store_unavailable", reason=str(error))
            self._store_failed = True
            self._alert("store_unavailable", "", f"{error}; senders are told to come again")
            return IDLE
        if self._store_failed:
            self._store_failed = False
            self._alert("store_recovered", "", "the store takes and gives data again")
        mine = [work for work in waiting if self._concerns(work.lane)]
        ready = [work.lane for work in mine if self._ready(work, now)]
        self._engine.submit(ready)
        return SOON if len(ready) < len(mine) else IDLE

    def _concerns(self, lane: Lane) -> bool:
        """Whether the lane is of a tenant and an endpoint that are configured, and may do this work."""
        tenant = self._tenants.get(lane.tenant)
        if tenant is None or (lane.endpoint != KIRIM and lane.endpoint not in tenant.connections):
            return False
        if lane.work in TENDING:
            return self._tend is not None
        if lane.work is Work.RUN:
            return self._walk is not None
        wants = WANTS.get(lane.work)
        return wants is None or (lane.endpoint in tenant.connections and wants(tenant.connections[lane.endpoint]))

    def _ready(self, work: Waiting, now: datetime) -> bool:
        """What goes to a platform in batches waits for company while the budget is tight, until a batch is full."""
        if work.lane.work not in (Work.SYNC, Work.BULK, Work.REREAD):
            return True
        if work.count >= self._tenants[work.lane.tenant].endpoint(work.lane.endpoint).batch_size:
            return True
        budget = self._budgets.get((work.lane.tenant, work.lane.endpoint))
        return budget is None or now - work.oldest >= budget.window()

    def _turn(self, lane: Lane, fence: Fence) -> None:
        """One turn in a lane. Whatever goes wrong, the lane rests and everything else goes on."""
        try:
            if lane in self._resting and self._database.read(lambda tx: lanes.resting(tx, lane, self._clock())):
                return  # a tick looked before the turn ended that put the lane to rest
            if self._suspensions.keeps_back(lane):
                return
            crash.point("lane.turn")
            with asking(CLASSES.get(lane.work, Priority.LIVE)):
                self._work(lane, fence)
            if lane in self._resting:
                self._database.write(lambda tx: lanes.well(tx, lane))
                self._resting.discard(lane)
                log.info("lane_recovered", lane=str(lane))
        except Fenced:
            log.warning("lane_lost", lane=str(lane))
        except StoreError as error:
            log.warning("store_unavailable", lane=str(lane), reason=str(error))
            self._stopping.wait(SOON)
        except Suspend as error:
            self._suspend(lane, error)
        except ConnectorError as error:
            self._rest(lane, error)
        except Exception as error:  # a fault of ours in one lane must not stop the others
            log.error("lane_failed", lane=str(lane), error=type(error).__name__, at=place(error))
            own = Throttled if lane.work in NEAR else Retry  # what is to blame rests by itself: the lane goes on soon
            self._rest(lane, own("internal error, see the log"))
        finally:
            self.wake()

    def _thrift(self, lane: Lane) -> Thrift:
        """Writing needs both ends."""
        ends = {lane.endpoint, KIRIM} if lane.work in (Work.SYNC, Work.BULK, Work.LOG) else {lane.endpoint}
        return Thrift([budget for end in ends if (budget := self._budgets.get((lane.tenant, end))) is not None])

    def _work(self, lane: Lane, fence: Fence) -> None:
        tenant = self._tenants[lane.tenant]
        if lane.work is Work.OBSERVE:
            observe(self._database, tenant, lane.endpoint, fence, self._clock)
        elif lane.work is Work.REREAD:
            reread(self._database, tenant, lane.endpoint, fence, self._clock, self._thrift(lane))
        elif lane.work is Work.POLL:
            poll(self._database, tenant, lane.endpoint, fence, self._clock)
        elif lane.work is Work.PROBE:
            self._suspensions.probe(tenant, lane.endpoint, fence)
        elif lane.work is Work.RUN:
            if self._walk is not None:
                self._walk(tenant, lane.endpoint, fence, self._stopping.wait)
        elif lane.work in TENDING:
            if self._tend is not None:
                self._tend(tenant, lane.work, fence)
        else:
            self._work_on_crm(tenant, lane, fence)

    def _work_on_crm(self, tenant: Tenant, lane: Lane, fence: Fence) -> None:
        connection = tenant.connections[lane.endpoint]
        if lane.work is Work.SEGMENTS:
            segments.work_off(
                Segmenting(self._database, tenant, connection.name, fence, self._clock, self._alert),
                connection.segments,
            )
            return
        failures = self._database.read(lambda tx: lanes.failures(tx, lane)) if lane in self._resting else 0
        waits, careful = self._waits_for(lane)
        thrift = self._thrift(lane)
        around = Surroundings(
            self._database.patient() if lane.work is Work.BULK else self._database,
            tenant,
            connection,
            fence,
            self._clock,
            self._chance,
            failures,
            waits,
            careful,
            thrift,
            going=self._going(),
            brakes=self._brakes_of(lane) if lane.work in RANKS else Free(),
            rank=RANKS.get(lane.work),
            away=self._away.setdefault((lane.tenant, lane.endpoint), Away()),
            pause=lambda seconds: not self._stopping.wait(seconds),
        )
        if lane.work is Work.LOG:
            messages.log(around, connection.messages)
        elif lane.work is Work.APPLY:
            apply(around)
        else:
            sync(around, self._calls.of(lane.tenant))

    def _brakes_of(self, lane: Lane) -> Brakes:
        """One object for each connection: batches that are on their way at once count together."""
        limits = self._tenants[lane.tenant].connections[lane.endpoint].brakes
        key = (lane.tenant, lane.endpoint)
        if key not in self._brakes:
            self._brakes[key] = Brakes(self._database, *key, limits, self._clock, self._alert)
        return self._brakes[key]

    def _going(self) -> Callable[[], bool]:
        """Whether a turn that begins now may go on, when it is asked."""
        until = monotonic() + TURN
        return lambda: monotonic() < until and not self._stopping.is_set()

    def _waits_for(self, lane: Lane) -> tuple[Suspend | None, bool]:
        """Why nothing can be written to Kirim, and whether to be careful with who only just came back."""
        own = self._suspensions.of(lane.tenant, lane.endpoint)
        kirim = self._suspensions.of(lane.tenant, KIRIM)
        waits = Suspend(kirim.reason, endpoint=KIRIM) if kirim is not None and not kirim.trial else None
        return waits, own is not None or kirim is not None

    def _suspend(self, lane: Lane, error: Suspend) -> None:
        """The endpoint's lanes rest until a probe goes well. The watch and the sweep rest alone."""
        if not error.endpoint and lane.work not in NEEDS_ENDPOINT:
            self._rest(lane, error)
            return
        try:
            self._suspensions.begin(lane.tenant, error.endpoint or lane.endpoint, error)
        except StoreError as trouble:
            log.warning("store_unavailable", lane=str(lane), reason=str(trouble))

    def _rest(self, lane: Lane, error: ConnectorError) -> None:
        """The lane waits as long as the error asks for; a suspended one is shown to people, and probed."""
        suspended = str(error) if isinstance(error, Suspend) else ""

        def store(tx: Connection) -> datetime:
            attempts = lanes.failures(tx, lane) + 1
            until = self._clock() + rest(error, attempts, self._chance())
            lanes.rest(tx, lane, until, suspended)
            return until

        try:
            until = self._database.write(store)
        except StoreError as trouble:
            log.warning("store_unavailable", lane=str(lane), reason=str(trouble))
            return
        self._resting.add(lane)
        told: dict[str, Any] = {"lane": str(lane), "reason": str(error), "until": until.isoformat(timespec="seconds")}
        log.warning("lane_suspended" if suspended else "lane_rests", **told)
