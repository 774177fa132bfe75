"""What the flows know of a tenant: its endpoints and the rules between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from types import MappingProxyType
from typing import Any

from crmsync.connector import Connector
from crmsync.core.brakes import Limits
from crmsync.core.mapping import Rules
from crmsync.core.messages import Log, Logging
from crmsync.core.segments import Rule
from crmsync.flows.retention import Retention
from crmsync.model import Kind
from crmsync.store.records import KIRIM

NINETY_DAYS = Retention()
NO_LOG = Logging(Log.OFF, UTC)
NO_SEGMENTS: Mapping[str, Rule] = MappingProxyType({})


def kind_of(kirim_id: str) -> Kind:
    """What a record of Kirim's is, by its id."""
    return Kind.CONVERSATION if kirim_id.startswith("cnv_") else Kind.CONTACT


@dataclass(frozen=True, slots=True)
class Connection:
    """One CRM of a tenant. Unless it is `live` it observes and decides, and writes nothing on either side.

    `segments` are the rules by the label that each manages.
    """

    name: str
    connector: Connector[Any]
    rules: Mapping[Kind, Rules]
    live: bool
    messages: Logging = NO_LOG
    segments: Mapping[str, Rule] = field(default_factory=lambda: NO_SEGMENTS)
    brakes: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer: Kirim, and the CRMs that are kept in step with it."""

    id: str
    kirim: Connector[Any]
    connections: Mapping[str, Connection]
    retention: Retention = NINETY_DAYS

    def endpoint(self, name: str) -> Connector[Any]:
        """Kirim or a CRM, by the name used in the store. Raises KeyError for a name that is not configured."""
        return self.kirim if name == KIRIM else self.connections[name].connector

    @property
    def logging(self) -> Mapping[str, Logging]:
        """How messages are logged, by connection; those that log none are missing."""
        return {each.name: each.messages for each in self.connections.values() if each.messages.log is not Log.OFF}

    def followers(self, kind: Kind) -> list[str]:
        """The connections that map this kind of record."""
        return [connection.name for connection in self.connections.values() if kind in connection.rules]
