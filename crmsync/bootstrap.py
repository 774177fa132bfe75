"""The only place that builds things: configuration in, connected parts out. Here are the clock, chance and threads."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from crmsync import logs
from crmsync.config import Configuration, ConnectionConfig, Start, TenantConfig
from crmsync.connector import Connector, ConnectorSettings, Surroundings
from crmsync.daemon.budgets import TokenBudget
from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.schedule import Schedule
from crmsync.daemon.worker import Worker
from crmsync.errors import StoreError
from crmsync.flows.intake import Intake, Source, carries
from crmsync.flows.tenant import Connection, Tenant
from crmsync.http import wall_clock
from crmsync.kirim.endpoint import Kirim
from crmsync.model import Can, Kind, Rate
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.migrations import migrate
from crmsync.store.records import KIRIM
from crmsync.web import admin
from crmsync.web.app import Site
from crmsync.web.server import serve

WORKERS = 8
"""Threads that work in lanes. Calls to platforms have threads of their own."""
GRACE = timedelta(seconds=8)
"""How long work on its way may take to end after SIGTERM; what does not is done again at the next start."""

log = structlog.get_logger(__name__)


class Role(StrEnum):
    """What a process does."""

    WEB = "web"
    WORKER = "worker"
    SCHEDULER = "scheduler"


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


class Builder:
    """Makes endpoints out of configuration, each with a budget of its own."""

    def __init__(self, configuration: Configuration) -> None:
        self._daemon = configuration.daemon
        self.budgets: dict[tuple[str, str], TokenBudget] = {}

    def kirim(self, tenant: TenantConfig) -> Connector[Any]:
        """Kirim, as this tenant reaches it."""
        wanted = {Kind.CONTACT: _kirim_fields(tenant)}
        return Kirim(tenant.kirim, self._around(tenant, KIRIM, Kirim, tenant.kirim, wanted))

    def connector(self, tenant: TenantConfig, connection: ConnectionConfig) -> Connector[Any]:
        """One CRM of a tenant."""
        kind = connection.connector_class
        wanted = {of: frozenset(rule.crm for rule in rules.fields) for of, rules in connection.rules.items()}
        return kind(connection.settings, self._around(tenant, connection.name, kind, connection.settings, wanted))

    def tenant(self, tenant: TenantConfig) -> Tenant:
        """Everything the flows need of a tenant."""
        connections = {
            each.name: Connection(each.name, self.connector(tenant, each), each.rules, each.start is Start.LIVE)
            for each in tenant.connections
        }
        return Tenant(tenant.id, self.kirim(tenant), connections)

    def _around(
        self,
        tenant: TenantConfig,
        endpoint: str,
        kind: type[Connector[Any]],
        settings: ConnectorSettings,
        wanted: Mapping[Kind, frozenset[str]],
    ) -> Surroundings:
        documented = {"": kind.rate, **kind.buckets}
        limits = settings.limits(documented)
        fixed = frozenset(name for name, rate in limits.items() if documented.get(name) != rate)
        budget = self.budgets.setdefault((tenant.id, endpoint), TokenBudget(limits, time.monotonic, time.sleep, fixed))
        public = (self._daemon.public_url or f"http://{self._daemon.listen}").rstrip("/")
        return Surroundings(tenant.id, endpoint, f"{public}/hooks/{tenant.id}/{endpoint}", budget, wanted)


def _kirim_fields(tenant: TenantConfig) -> frozenset[str]:
    return frozenset(
        rule.kirim for connection in tenant.connections for rules in connection.rules.values() for rule in rules.fields
    )


def sources(tenants: Iterable[Tenant]) -> list[Source]:
    """The webhook endpoints of tenants: Kirim, and every CRM that sends webhooks."""
    found = []
    for tenant in tenants:
        found.append(Source(tenant.id, KIRIM, tenant.kirim.verify))
        for connection in tenant.connections.values():
            if Can.WEBHOOKS in connection.connector.can:
                claims = carries(*connection.connector.signature_headers)
                found.append(Source(tenant.id, connection.name, connection.connector.verify, claims))
    return found


@dataclass(slots=True)
class Daemon:
    """The long-running process, put together and not yet started."""

    configuration: Configuration
    roles: frozenset[Role]

    async def run(self) -> bool:
        """Runs until SIGTERM or SIGINT, then drains; says whether all work on its way came to an end.

        Nothing is acknowledged that is not committed, from the first moment to the last.
        """
        stopping = asyncio.Event()
        _on_signals(stopping)
        builder = Builder(self.configuration)
        with ExitStack() as closing:
            database = open_database(self.configuration, exclusive=True)
            closing.callback(database.close)
            tenants = {each.id: builder.tenant(each) for each in self.configuration.tenants}
            for tenant in tenants.values():
                for endpoint in (tenant.kirim, *(each.connector for each in tenant.connections.values())):
                    closing.callback(endpoint.close)
            hold = database.hold("worker")
            worker = Worker(database, tenants, builder.budgets, LocalEngine(WORKERS, hold), wall_clock, random.random)
            if Role.WORKER in self.roles:
                if not hold.ensure():
                    raise StoreError("another crmsync works on this database; start this one with --roles web")
                closing.callback(hold.release)
                worker.start()
            if Role.SCHEDULER in self.roles:
                schedule = Schedule(database, self._polls(), node_name(), wall_clock, worker.wake)
                schedule.start()
                closing.callback(schedule.stop)
            await self._serve(database, tenants, builder.budgets, worker, stopping)
            ended = worker.stop(GRACE)
        log.info("stopped", all_ended=ended)
        return ended

    async def _serve(
        self,
        database: Database,
        tenants: Mapping[str, Tenant],
        budgets: Mapping[tuple[str, str], TokenBudget],
        worker: Worker,
        stopping: asyncio.Event,
    ) -> None:
        inbox = Inbox(database)
        inbox.on_commit = lambda sources: worker.wake()
        limits = {
            tenant.id: Rate(tenant.deliveries_per_second, 1)
            for tenant in self.configuration.tenants
            if tenant.deliveries_per_second
        }
        intake = Intake(inbox, sources(tenants.values()), limits=limits)

        async def drain_worker() -> None:
            await stopping.wait()
            worker.drain()

        serving = [drain_worker()]
        path = admin_socket(self.configuration)
        if path is not None:
            application = admin.application(database, tenants, worker.wake, wall_clock, lambda: _live(intake, budgets))
            serving.append(serve(application, f"unix:{path}", stopping))
        if Role.WEB in self.roles:
            site = Site(intake, database, wall_clock)
            listen = str(self.configuration.daemon.listen)
            serving.append(serve(site, listen, stopping, draining=site.drain))
            log.info("listening", address=listen, tenants=len(tenants), roles=sorted(role.value for role in self.roles))
        await asyncio.gather(*serving)

    def _polls(self) -> dict[tuple[str, str], timedelta]:
        return {
            (tenant.id, connection.name): connection.poll
            for tenant in self.configuration.tenants
            for connection in tenant.connections
            if connection.poll and Can.CHANGES in connection.connector_class.can
        }


def _live(intake: Intake, budgets: Mapping[tuple[str, str], TokenBudget]) -> dict[str, Any]:
    """What the process knows and the store does not: answers given, and what is left of the budgets."""
    return {
        "running": node_name(),
        "answers": [
            {"tenant": tenant, "source": source, "answer": word, "count": count}
            for (tenant, source, word), count in sorted(intake.counts.items())
        ],
        "budgets": [
            {"tenant": tenant, "endpoint": endpoint, "left": round(budget.ample(), 3), "requests": budget.taken}
            for (tenant, endpoint), budget in sorted(budgets.items())
        ],
    }


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
