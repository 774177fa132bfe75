"""What there is to walk through for a tenant, and who is concerned by what is found there."""

from __future__ import annotations

from dataclasses import dataclass

from crmsync.flows.tenant import Tenant
from crmsync.model import Can, Kind
from crmsync.store.records import KIRIM

CRM = "crm"
"""Stands for every CRM of a tenant, where a source is named."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One kind of record on one endpoint."""

    endpoint: str
    kind: Kind


def legs(tenant: Tenant, source: str) -> tuple[Leg, ...]:
    """What there is to walk: every kind that is mapped and that the endpoint can list. Kinds in one fixed order."""
    if source == KIRIM:
        return tuple(
            Leg(KIRIM, kind)
            for kind in Kind
            if kind in tenant.kirim.kinds and tenant.followers(kind) and Can.CHANGES in tenant.kirim.can
        )
    return tuple(
        Leg(name, kind)
        for name, connection in tenant.connections.items()
        if source in (CRM, name) and Can.CHANGES in connection.connector.can
        for kind in Kind
        if kind in connection.rules and kind in connection.connector.kinds
    )


def concerned(tenant: Tenant, source: str) -> list[str]:
    """The connections that a walk makes work for, and that are not only planned."""
    named = {leg.endpoint for leg in legs(tenant, source)}
    kinds = {leg.kind for leg in legs(tenant, source)}
    return [
        name
        for name, connection in tenant.connections.items()
        if connection.live and (source == KIRIM or name in named) and kinds & connection.rules.keys()
    ]
