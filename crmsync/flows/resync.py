"""An operator wants a contact looked at again: both its records are read, and the pair is decided anew."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from crmsync.flows.tenant import Tenant, kind_of
from crmsync.store import pairs, records
from crmsync.store.records import KIRIM

CAUSE = "operator:resync"


def resync(tx: Connection, tenant: Tenant, kirim_id: str, now: datetime) -> int:
    """Marks a record of Kirim's, and those it is linked to, to be read again; says how many records."""
    kind = kind_of(kirim_id)
    linked = {
        pair.connection: pair.crm_id
        for pair in pairs.linked_to(tx, tenant.id, kind, kirim_id)
        if pair.connection in tenant.connections
    }
    records.mark_stale(tx, tenant.id, KIRIM, kind, {kirim_id: CAUSE}, now)
    for connection, crm_id in linked.items():
        if crm_id:
            records.mark_stale(tx, tenant.id, connection, kind, {crm_id: CAUSE}, now)
        records.make_due(tx, tenant.id, connection, kind, {kirim_id: CAUSE}, now, create=False)
    return 1 + sum(1 for crm_id in linked.values() if crm_id)
