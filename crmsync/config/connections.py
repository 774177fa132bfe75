"""The `connections:` of a tenant: finds each connector, checks its settings and what it is asked to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, metadata
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from crmsync.config.checks import Found
from crmsync.config.kinds import KindReader
from crmsync.config.model import ConnectionConfig
from crmsync.config.sections import BrakeSection, BrakesSection, ConnectionSection, identifier
from crmsync.config.source import Document, KeyPath
from crmsync.config.validate import Findings
from crmsync.config.words import did_you_mean, key_names
from crmsync.connector import Connector
from crmsync.core.brakes import Brake, Limit, Limits
from crmsync.errors import ConfigError, Problem
from crmsync.model import Can

ConnectorClass = type[Connector[Any]]
Connectors = Mapping[str, Callable[[], ConnectorClass]]
"""How to get at each connector that is installed, by name."""

RESERVED = frozenset({"poll", "lookup", "write", "refused", "operator", "run", "message"})
"""What a cause in the history begins with, where it is no connection."""
SHARED_KEYS = frozenset(key_names(ConnectionSection))


class _NoConnector(Exception):
    """Why there is no connector of a name, for the operator."""


@dataclass(frozen=True, slots=True)
class ConnectionReader:
    """Reads the connections of one file.

    `owned` collects which Kirim fields each connection decides, `labels` which labels its segments manage.
    """

    document: Document
    findings: Findings
    connectors: Connectors
    region: str | None
    zone: ZoneInfo
    owned: list[tuple[str, Found]]
    labels: list[tuple[str, Found]]

    def read(self, name: str) -> tuple[ConnectionConfig | None, ConnectorClass | None]:
        """The connection, if nothing is wrong with it, and its connector, if it was found."""
        path: KeyPath = ("connections", name)
        self._check_name(name, path)
        section = self.findings.section(self.document, path, ConnectionSection, only=True)
        if not isinstance(self.document.at(path), dict):
            return None, None
        kind = self.document.at((*path, "connector")) or name
        connector = self._connector(path, kind) if isinstance(kind, str) else None
        kinds = self._kinds(path, connector)
        rules, messages, segments = kinds.rules(), kinds.messages(), kinds.segments()
        self.owned.extend((name, found) for found in kinds.owned)
        self.labels.extend((name, Found(self.document, (*path, "segments"), label)) for label in segments)
        if connector is None:
            return None, None
        settings = self.findings.section(self.document, path, connector.Settings, SHARED_KEYS)
        if section is None or settings is None or rules is None:
            return None, connector
        poll = self._poll(path, section, connector)
        mapped = MappingProxyType(rules)
        found = ConnectionConfig(
            name,
            kind,
            connector,
            settings,
            section.start,
            poll,
            mapped,
            messages,
            MappingProxyType(segments),
            _limits(section.brakes),
        )
        return found, connector

    def _kinds(self, path: KeyPath, connector: ConnectorClass | None) -> KindReader:
        if connector is None:
            return KindReader(self.document, self.findings, path, self.region, self.zone)
        return KindReader(
            self.document,
            self.findings,
            path,
            self.region,
            self.zone,
            connector.name,
            connector.kinds,
            connector.can,
        )

    def _check_name(self, name: str, path: KeyPath) -> None:
        try:
            identifier(name)
        except ValueError as error:
            self.findings.problem(self.document, path, f"a connection's name {error}")
        if name == "kirim":
            message = "a connection cannot be called kirim: its webhook address is Kirim's own"
            self.findings.problem(self.document, path, message)
        if name in RESERVED:
            message = f"a connection cannot be called {name}: the history calls something else so"
            self.findings.problem(self.document, path, message)

    def _connector(self, path: KeyPath, kind: str) -> ConnectorClass | None:
        where = (*path, "connector") if "connector" in self.document.at(path) else path
        try:
            return find(self.connectors, kind)
        except _NoConnector as error:
            self.findings.problem(self.document, where, str(error))
            return None

    def _poll(self, path: KeyPath, section: ConnectionSection, connector: ConnectorClass) -> timedelta | None:
        if not section.poll_seconds:
            return None
        if Can.CHANGES in connector.can:
            return timedelta(seconds=section.poll_seconds)
        if "poll_seconds" in section.model_fields_set:
            message = f"the connector {connector.name} cannot be asked for changes; leave the key out"
            self.findings.problem(self.document, (*path, "poll_seconds"), message)
        return None


def _limits(section: BrakesSection) -> Limits:
    """The brakes as they were configured."""
    named: Mapping[Brake, BrakeSection] = {
        Brake.CREATE: section.creates,
        Brake.OVERWRITE: section.overwrites,
        Brake.CLEAR: section.clears,
        Brake.LABEL_REMOVAL: section.label_removals,
    }
    of = {brake: Limit(one.most_in_run, one.most_in_window, one.most_share) for brake, one in named.items()}
    return Limits(timedelta(minutes=section.window_minutes), MappingProxyType(of))


def find(connectors: Connectors, kind: str) -> ConnectorClass:
    """The connector of a name, imported now: a package that is not installed shows here."""
    if kind not in connectors:
        have = ", ".join(sorted(connectors)) or "none"
        raise _NoConnector(f"there is no connector {kind}; installed: {have}{did_you_mean(kind, connectors)}")
    try:
        connector = connectors[kind]()
    except ImportError as error:
        needed = f"the Python package {error.name}" if error.name else "a Python package"
        cure = f"install crmsync[{kind}]" if kind in _extras() else "install it"
        raise _NoConnector(f"the connector {kind} needs {needed}, which is not installed; {cure}") from error
    except AttributeError as error:
        raise _NoConnector(f"the connector {kind} is installed, but its class is missing") from error
    clash = SHARED_KEYS & key_names(connector.Settings).keys()
    if clash:
        raise _NoConnector(f"the connector {kind} uses the reserved key {', '.join(sorted(clash))}")
    return connector


def find_connector(connectors: Connectors, kind: str) -> ConnectorClass:
    """The connector of a name. Raises `ConfigError` where there is none that can be used."""
    try:
        return find(connectors, kind)
    except _NoConnector as error:
        raise ConfigError([Problem("crmsync", 0, "", str(error))]) from None


def _extras() -> list[str]:
    """What can be installed with crmsync itself."""
    try:
        return metadata("crmsync").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []


def owned_twice(owned: list[tuple[str, Found]]) -> list[Problem]:
    """Kirim fields whose value two connections of a tenant would both decide."""
    first: dict[str, tuple[str, Found]] = {}
    problems = []
    for connection, found in owned:
        other, earlier = first.setdefault(found.value, (connection, found))
        if other != connection:
            message = (
                f"the CRM of only one connection can own {found.value}: {other} owns it at {earlier};"
                " write owner: kirim in one of them"
            )
            problems.append(found.problem(message))
    return problems


def managed_twice(labels: list[tuple[str, Found]]) -> list[Problem]:
    """Labels that segments of two connections would both give and take."""
    first: dict[str, tuple[str, Found]] = {}
    problems = []
    for connection, found in labels:
        other, earlier = first.setdefault(found.value, (connection, found))
        if other != connection:
            message = f"the label {found.value} is managed by a segment of {other} already, at {earlier}"
            problems.append(found.problem(message))
    return problems
