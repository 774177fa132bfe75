"""The only place that builds things: configuration in, connected parts out. Here are the clock, chance and threads."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr
from starlette.routing import Route

from crmsync import logs, vitals
from crmsync.config import Configuration, ConnectionConfig, DaemonConfig, Start, TenantConfig, public_url_is_local
from crmsync.connector import Connector, ConnectorSettings, Surroundings
from crmsync.core.decide import Side
from crmsync.core.mapping import Rules
from crmsync.core.messages import Log
from crmsync.core.schedules import SWEEP, Schedules
from crmsync.daemon.alerts import Alerts, Hook
from crmsync.daemon.budgets import TokenBudget
from crmsync.daemon.credentials import Credentials
from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.health import Health
from crmsync.daemon.running import BEGINS, Running
from crmsync.daemon.schedule import Schedule
from crmsync.daemon.tending import SelfTest, Tending
from crmsync.daemon.worker import Worker
from crmsync.errors import StoreError
from crmsync.flows import report
from crmsync.flows.intake import Intake, Source, carries
from crmsync.flows.tenant import Connection, Tenant
from crmsync.http import wall_clock
from crmsync.kirim.endpoint import Kirim
from crmsync.model import ActivityKind, Can, Kind, Rate
from crmsync.outbound import Reach
from crmsync.reload import Reload
from crmsync.renewal import Renewal, close_endpoints
from crmsync.store import segments
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.migrations import migrate
from crmsync.store.pen import Pen
from crmsync.store.records import KIRIM
from crmsync.web import admin, desk, pauses, runs
from crmsync.web import conflicts as web_conflicts
from crmsync.web import segments as web_segments
from crmsync.web.app import Site
from crmsync.web.metrics import Metrics
from crmsync.web.reloading import reloading
from crmsync.web.server import serve

WORKERS = 32
"""Threads that work in lanes. Calls to platforms have threads of their own."""
LOGGED: Mapping[Log, frozenset[ActivityKind]] = {
    Log.OFF: frozenset(),
    Log.EACH: frozenset({ActivityKind.MESSAGE}),
    Log.DIGEST: frozenset({ActivityKind.DIGEST}),
}
"""What is put on timelines, by how messages are logged."""
SHORTEST_GRACE = timedelta(seconds=1)
GRACE = timedelta(seconds=8)
"""How long work on its way may take to end after SIGTERM; what does not is done again at the next start."""

log = structlog.get_logger(__name__)


class Role(StrEnum):
    """What a process does."""

    WEB = "web"
    WORKER = "worker"
    SCHEDULER = "scheduler"


def calm_collector() -> None:
    """What was imported stays anyway: looking through it for cycles again and again took an eighth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def node_name() -> str:
    """This process, as other nodes and the operator may know it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_database(configuration: Configuration, *, exclusive: bool) -> Database:
    """The store; `exclusive` for whoever writes, which on SQLite can be one process only."""
    database = Database.open(configuration.daemon.database, node=node_name(), exclusive=exclusive)
    if exclusive:
        migrate(database)
    return database


def admin_socket(configuration: Configuration) -> Path | None:
    """Where commands reach the running daemon: beside the SQLite file. PostgreSQL needs none."""
    prefix = "sqlite:///"
    url = configuration.daemon.database
    return Path(url.removeprefix(prefix) + ".sock").absolute() if url.startswith(prefix) else None


def sqlite_folder(configuration: Configuration) -> Path | None:
    """Where the SQLite file is; None for PostgreSQL, whose disk is its own affair."""
    beside = admin_socket(configuration)
    return beside.parent if beside else None


class Builder:
    """Makes endpoints out of configuration, with a budget for each credential: those that use the same share it.

    With a database, which must be one to write to, every process that uses it draws from the same budgets.
    """

    def __init__(self, configuration: Configuration, database: Database | None = None) -> None:
        self._credentials = Credentials(database)
        self._daemon = configuration.daemon
        self._reach = reach(configuration)
        self.budgets: dict[tuple[str, str], TokenBudget] = {}

    def kirim(self, tenant: TenantConfig) -> Connector[Any]:
        """Kirim, as this tenant reaches it."""
        wanted = _kirim_fields(tenant)
        return Kirim(tenant.kirim, self._around(tenant, KIRIM, Kirim, tenant.kirim, wanted))

    def connector(self, tenant: TenantConfig, connection: ConnectionConfig) -> Connector[Any]:
        """One CRM of a tenant."""
        kind = connection.connector_class
        wanted = {of: _wanted(rules, Side.CRM) for of, rules in connection.rules.items()}
        logged = LOGGED[connection.messages.log]
        around = self._around(tenant, connection.name, kind, connection.settings, wanted, logged)
        return kind(connection.settings, around)

    def tenant(self, tenant: TenantConfig) -> Tenant:
        """Everything the flows need of a tenant. Its secrets are hidden from the log from here on."""
        logs.hide(secrets_of(tenant))
        connections = {
            each.name: Connection(
                each.name,
                self.connector(tenant, each),
                each.rules,
                each.start is Start.LIVE,
                each.messages,
                each.segments,
                each.brakes,
            )
            for each in tenant.connections
        }
        return Tenant(tenant.id, self.kirim(tenant), connections, tenant.retention)

    def _around(
        self,
        tenant: TenantConfig,
        endpoint: str,
        kind: type[Connector[Any]],
        settings: ConnectorSettings,
        wanted: Mapping[Kind, frozenset[str]],
        activities: frozenset[ActivityKind] = frozenset(),
    ) -> Surroundings:
        budget = self._credentials.budget(f"{tenant.id}/{endpoint}", kind, settings)
        self.budgets[tenant.id, endpoint] = budget
        public = (self._daemon.public_url or f"http://{self._daemon.listen}").rstrip("/")
        url = f"{public}/hooks/{tenant.id}/{endpoint}"
        return Surroundings(tenant.id, endpoint, url, budget, wanted, activities=activities, reach=self._reach)


def reach(configuration: Configuration) -> Reach:
    """Where connections of this process may go."""
    return Reach(configuration.daemon.insecure_targets)


def _kirim_fields(tenant: TenantConfig) -> dict[Kind, frozenset[str]]:
    """What any connection wants to know of Kirim's records."""
    found: dict[Kind, frozenset[str]] = {}
    for connection in tenant.connections:
        for kind, rules in connection.rules.items():
            found[kind] = found.get(kind, frozenset()) | _wanted(rules, Side.KIRIM)
    return found


def _wanted(rules: Rules, side: Side) -> frozenset[str]:
    """The fields that rules look at."""
    lenses = [rule.left if side is Side.KIRIM else rule.right for rule in rules.fields]
    matched = {match.kirim if side is Side.KIRIM else match.crm for match in rules.match}
    return frozenset(name for lens in lenses for name in lens.names) | matched


def kept(configuration: Configuration) -> list[str]:
    """The tenants whose subscriptions are looked after: without a public address we do not know which are ours."""
    return [tenant.id for tenant in configuration.tenants] if configuration.daemon.public_url else []


def schedules(configuration: Configuration) -> dict[str, Schedules]:
    """What is done by the clock, per tenant. Who is not looked after has no deliveries asked for again."""
    found = {tenant.id: tenant.schedules for tenant in configuration.tenants}
    for id in found.keys() - set(kept(configuration)):
        crons = {name: cron for name, cron in found[id].crons.items() if name != SWEEP}
        found[id] = replace(found[id], crons=crons)
    return found


def sources(tenants: Iterable[Tenant]) -> list[Source]:
    """The webhook endpoints of tenants: Kirim, and every CRM that sends webhooks."""
    found = []
    for tenant in tenants:
        found.append(Source(tenant.id, KIRIM, tenant.kirim.verify))
        for connection in tenant.connections.values():
            if Can.WEBHOOKS in connection.connector.can:
                headers = connection.connector.signature_headers
                verify = connection.connector.verify
                found.append(
                    Source(tenant.id, connection.name, verify, carries(*headers), frozenset(headers), _no_oddities)
                )
    return found


def _no_oddities(headers: object, body: bytes) -> tuple[str, ...]:
    return ()


def delivery_limits(configuration: Configuration) -> dict[str, Rate]:
    """How many deliveries a second are taken in of a tenant, where that is bounded."""
    return {
        tenant.id: Rate(tenant.deliveries_per_second, 1)
        for tenant in configuration.tenants
        if tenant.deliveries_per_second
    }


@dataclass(slots=True)
class Daemon:
    """The long-running process, put together and not yet started."""

    configuration: Configuration
    roles: frozenset[Role]
    path: Path | None = None
    """Where the configuration came from; without it no change of it is noticed."""

    async def run(self) -> bool:
        """Runs until SIGTERM or SIGINT, then drains; says whether all work on its way came to an end.

        Nothing is acknowledged that is not committed, from the first moment to the last.
        """
        stopping = asyncio.Event()
        _on_signals(stopping)
        with ExitStack() as closing:
            database = open_database(self.configuration, exclusive=True)
            closing.callback(database.close)
            builder = Builder(self.configuration, database)
            tenants = {each.id: builder.tenant(each) for each in self.configuration.tenants}
            closing.callback(lambda: close_endpoints(tenants.values()))
            _manage_labels(database, tenants.values())
            alerts = _alerts(self.configuration, closing)
            hold = database.hold("worker")
            engine, tending = LocalEngine(WORKERS, hold), Tending(database, wall_clock, alerts.alert)
            worker = Worker(
                database,
                tenants,
                builder.budgets,
                engine,
                wall_clock,
                random.random,
                tending.turn,
                alerts.alert,
                Running(database.patient(), wall_clock, alerts.alert).turn,
            )
            if Role.WORKER in self.roles:
                if not hold.ensure():
                    raise StoreError("another crmsync works on this database; start this one with --roles web")
                closing.callback(hold.release)
                worker.start()
            if Role.SCHEDULER in self.roles:
                schedule = Schedule(
                    database,
                    self._polls(),
                    node_name(),
                    wall_clock,
                    worker.wake,
                    kept(self.configuration),
                    tenants=tenants,
                    schedules=schedules(self.configuration),
                )
                schedule.start()
                closing.callback(schedule.stop)
            if Role.WEB in self.roles and self.configuration.daemon.public_url:
                test = SelfTest(tenants, wall_clock, lambda: uuid.uuid4().hex, alerts.alert)
                test.start()
                closing.callback(test.stop)
            calm_collector()
            left = await self._serve(closing, database, tenants, builder, worker, alerts, stopping)
            ended = worker.stop(left)
            if not ended:
                closing.pop_all()  # a call to a platform hangs, and closing would wait for it
                alerts.stop(0.2)
                database.close()
        log.info("stopped", all_ended=ended)
        return ended

    async def _serve(
        self,
        closing: ExitStack,
        database: Database,
        tenants: dict[str, Tenant],
        builder: Builder,
        worker: Worker,
        alerts: Alerts,
        stopping: asyncio.Event,
    ) -> timedelta:
        """Serves until told to stop and drained; says how much of the grace is left."""
        inbox = Inbox(database)
        inbox.on_commit = lambda sources: worker.wake()
        pen = Pen(database, wall_clock)
        limits = delivery_limits(self.configuration)
        intake = Intake(inbox, sources(tenants.values()), pen, limits=limits, alert=alerts.alert)
        daemon = self.configuration.daemon
        health = Health(
            sqlite_folder(self.configuration),
            daemon.disk_floor_mb,
            lambda: database.read(report.dead_letters),
            alerts.alert,
        )
        renewal = Renewal(
            self.configuration, tenants, builder.tenant, sources, delivery_limits, database, intake, pen, worker.wake
        )
        closing.callback(renewal.close)
        serving: list[Coroutine[Any, Any, Any]] = [_drained(worker, stopping), health.run(stopping)]
        reload = self._reload(renewal)

        def live() -> dict[str, Any]:
            process = vitals.process(database, worker, health, alerts, draining=stopping.is_set())
            loaded = reload.status() if reload else None
            told = vitals.live(node_name(), intake, builder.budgets, pen, loaded)
            return {**told, "process": process}

        metrics = Metrics(database, wall_clock, live)
        if reload is not None:
            serving.append(reload.run(stopping))
        path = admin_socket(self.configuration)
        if path is not None:
            routes = [
                Route("/metrics", metrics.answer),
                *runs.routes(database, tenants, BEGINS, worker.wake, wall_clock),
                *desk.routes(database, worker.wake, wall_clock),
                *web_conflicts.routes(database, tenants, worker.wake, wall_clock),
                *web_segments.routes(database, worker.wake, wall_clock),
                *([Route("/reload", reloading(reload.now), methods=["POST"])] if reload else []),
                *pauses.routes(database, worker.wake, wall_clock, alerts.alert),
            ]
            planned = schedules(self.configuration)
            application = admin.application(
                database, tenants, worker.wake, wall_clock, live, routes=routes, schedules=planned
            )
            serving.append(serve(application, f"unix:{path}", stopping))
        if daemon.metrics not in (None, daemon.listen):
            serving.append(serve(metrics.application(), str(daemon.metrics), stopping))
        if Role.WEB in self.roles:
            site = Site(
                intake, database, wall_clock, routes=_metrics(daemon, metrics), has_room=lambda: health.has_room
            )
            listen = str(daemon.listen)
            serving += [serve(site, listen, stopping, draining=site.drain), renewal.look_again(stopping)]
            log.info("listening", address=listen, tenants=len(tenants), roles=sorted(role.value for role in self.roles))
        stopped_at, *_ = await asyncio.gather(*serving)
        await asyncio.wait([asyncio.ensure_future(pen.settled())], timeout=SHORTEST_GRACE.total_seconds())
        return max(SHORTEST_GRACE, GRACE - timedelta(seconds=time.monotonic() - stopped_at))

    def _reload(self, renewal: Renewal) -> Reload | None:
        """Watches the files, and listens for SIGHUP."""
        if self.path is None:
            return None
        reload = Reload(self.path, self.configuration, renewal.apply, wall_clock)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.ask)
        return reload

    def _polls(self) -> dict[tuple[str, str, Kind], timedelta]:
        return {
            (tenant.id, connection.name, kind): connection.poll
            for tenant in self.configuration.tenants
            for connection in tenant.connections
            for kind in connection.rules
            if connection.poll and Can.CHANGES in connection.connector_class.can
        }


@dataclass(frozen=True, slots=True)
class Alone:
    """One tenant and its store, without a daemon's web side. `works` says whether this process does the work."""

    database: Database
    tenant: Tenant
    wake: Callable[[], None]
    works: bool


@contextmanager
def alone(configuration: Configuration, chosen: TenantConfig) -> Iterator[Alone]:
    """Works off what is due for one tenant, as long as nobody else does; on PostgreSQL another node may."""
    with ExitStack() as closing:
        database = open_database(configuration, exclusive=True)
        closing.callback(database.close)
        builder = Builder(configuration, database)
        tenant = builder.tenant(chosen)
        closing.callback(lambda: close_endpoints([tenant]))
        hold = database.hold("worker")
        if not hold.ensure():
            yield Alone(database, tenant, lambda: None, works=False)
            return
        closing.callback(hold.release)
        alerts = _alerts(configuration, closing)
        worker = Worker(
            database,
            {tenant.id: tenant},
            builder.budgets,
            LocalEngine(WORKERS, hold),
            wall_clock,
            random.random,
            alert=alerts.alert,
            walk=Running(database.patient(), wall_clock, alerts.alert).turn,
        )
        calm_collector()
        worker.start()
        closing.callback(lambda: worker.stop(GRACE))
        yield Alone(database, tenant, worker.wake, works=True)


def _manage_labels(database: Database, tenants: Iterable[Tenant]) -> None:
    """The labels that segments manage are known to the store: one that is new is walked at once."""
    managed = [(tenant.id, each.name, set(each.segments)) for tenant in tenants for each in tenant.connections.values()]

    def store(tx: Any) -> None:
        for tenant, name, labels in managed:
            segments.configure(tx, tenant, name, labels, wall_clock())

    database.write(store)


def _alerts(configuration: Configuration, closing: ExitStack) -> Alerts:
    """Alerts as they are configured, begun."""
    url = configuration.daemon.alert_url
    hook = Hook(url, reach(configuration)) if url else None
    alerts = Alerts(hook.post if hook else None)
    if hook:
        closing.callback(hook.close)
    alerts.start()
    closing.callback(alerts.stop)
    return alerts


async def _drained(worker: Worker, stopping: asyncio.Event) -> float:
    """Begins no more work once told to stop; says when that was."""
    await stopping.wait()
    worker.drain()
    return time.monotonic()


def _metrics(daemon: DaemonConfig, metrics: Metrics) -> list[Route]:
    """What `listen` serves of the metrics. Behind a proxy on this machine everybody looks local: nothing then."""
    if daemon.metrics == daemon.listen:
        return [Route("/metrics", metrics.answer)]
    if daemon.metrics is None and (not daemon.public_url or public_url_is_local(daemon.public_url)):
        return [Route("/metrics", metrics.answer_locally)]
    return []


def _on_signals(stopping: asyncio.Event) -> None:
    """The first signal drains, a second one ends the process: being killed is a supported way to stop."""

    def stop() -> None:
        if stopping.is_set():
            os._exit(130)
        log.info("stopping")
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def configure_logs(configuration: Configuration) -> None:
    """Logging as the configuration has it."""
    logs.configure(configuration.daemon.log.level, configuration.daemon.log.format)
    password = urlsplit(configuration.daemon.database).password
    logs.hide(str(secret) for secret in (configuration.daemon.alert_url, password) if secret)


def secrets_of(tenant: TenantConfig) -> Iterator[str]:
    """Everything in a tenant's settings that must not be shown."""
    for settings in (tenant.kirim, *(connection.settings for connection in tenant.connections)):
        for value in dict(settings).values():
            for each in value if isinstance(value, tuple | list) else (value,):
                if isinstance(each, SecretStr):
                    yield each.get_secret_value()
