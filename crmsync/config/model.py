"""The configuration as the rest of crmsync sees it: frozen, typed, complete. No behaviour beyond that of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from crmsync.connector import Connector, ConnectorSettings
from crmsync.core.brakes import Limits
from crmsync.core.mapping import Rules
from crmsync.core.messages import Logging
from crmsync.core.schedules import Schedules
from crmsync.core.segments import Rule
from crmsync.errors import Problem
from crmsync.flows.retention import Retention
from crmsync.kirim.settings import KirimSettings
from crmsync.model import Kind


class Start(StrEnum):
    """How a connection begins its life."""

    PLAN = "plan"  # observes and shows what it would write
    LIVE = "live"  # writes


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How much is logged, and in which shape."""

    level: str = "info"
    format: str = "json"


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What concerns the process, whatever tenants it serves.

    `insecure_targets` are `host:port` that may be plain http or private: test systems only. `metrics` None answers
    on `listen`, to this machine only.
    """

    database: str = field(default="sqlite:///crmsync.db", repr=False)
    listen: Address = Address("127.0.0.1", 8080)
    public_url: str | None = None
    insecure_targets: frozenset[str] = frozenset()
    log: LogConfig = LogConfig()
    alert_url: str | None = field(default=None, repr=False)
    disk_floor_mb: int = 200
    metrics: Address | None = None


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """One CRM of one tenant. `poll` is None where changes are never asked for."""

    name: str
    connector: str
    connector_class: type[Connector[Any]]
    settings: ConnectorSettings
    start: Start
    poll: timedelta | None
    rules: Mapping[Kind, Rules]
    messages: Logging
    segments: Mapping[str, Rule]
    brakes: Limits


@dataclass(frozen=True, slots=True)
class TenantConfig:
    """One customer of Kirim with its CRMs. `file` is where it was read from.

    `deliveries_per_second` bounds what is taken in; None takes whatever comes.
    """

    id: str
    file: str
    timezone: ZoneInfo
    region: str | None
    deliveries_per_second: int | None
    kirim: KirimSettings
    connections: tuple[ConnectionConfig, ...]
    schedules: Schedules
    retention: Retention


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that was configured. `warnings` are usable but unwise settings."""

    daemon: DaemonConfig
    tenants: tuple[TenantConfig, ...]
    warnings: tuple[Problem, ...] = ()
