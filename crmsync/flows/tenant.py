"""What the flows know of a tenant: its endpoints and the rules between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crmsync.connector import Connector
from crmsync.core.mapping import Rules
from crmsync.model import Kind
from crmsync.store.records import KIRIM


@dataclass(frozen=True, slots=True)
class Connection:
    """One CRM of a tenant. Unless it is `live` it observes and decides, and writes nothing on either side."""

    name: str
    connector: Connector[Any]
    rules: Mapping[Kind, Rules]
    live: bool


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer: Kirim, and the CRMs that are kept in step with it."""

    id: str
    kirim: Connector[Any]
    connections: Mapping[str, Connection]

    def endpoint(self, name: str) -> Connector[Any]:
        """Kirim or a CRM, by the name used in the store. Raises KeyError for a name that is not configured."""
        return self.kirim if name == KIRIM else self.connections[name].connector

    def followers(self, kind: Kind) -> list[str]:
        """The connections that map this kind of record."""
        return [connection.name for connection in self.connections.values() if kind in connection.rules]
