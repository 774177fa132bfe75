"""An operator wants a contact looked at again: both its records are read, and the pair is decided anew."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from crmsync.flows.tenant import Tenant
from crmsync.model import Kind
from crmsync.store import pairs, records
from crmsync.store.records import KIRIM

CAUSE = "operator:resync"


def resync(tx: Connection, tenant: Tenant, kirim_id: str, now: datetime) -> int:
    """Marks the contact's records to be read again, on Kirim and wherever it is linked; says how many records."""
    linked = {
        pair.connection: pair.crm_id
        for pair in pairs.linked_to(tx, tenant.id, Kind.CONTACT, kirim_id)
        if pair.connection in tenant.connections
    }
    records.mark_stale(tx, tenant.id, KIRIM, Kind.CONTACT, {kirim_id: CAUSE}, now)
    for connection, crm_id in linked.items():
        if crm_id:
            records.mark_stale(tx, tenant.id, connection, Kind.CONTACT, {crm_id: CAUSE}, now)
        records.make_due(tx, tenant.id, connection, Kind.CONTACT, {kirim_id: CAUSE}, now, create=False)
    return 1 + sum(1 for crm_id in linked.values() if crm_id)
