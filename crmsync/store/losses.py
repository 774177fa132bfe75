"""Values that cannot be kept as they are: NUL and halves of characters, which no store and no platform takes.

They are left out where a record is observed; here it is written down that they were.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from crmsync.core.views import View
from crmsync.model import Record
from crmsync.store import history
from crmsync.store.history import Entry

CLEANED = "cleaned"
"""The outcome of such a row. Its field is the side's own name of it."""


def note(
    connection: Connection,
    tenant: str,
    endpoint: str,
    raw: Record,
    clean: Record,
    known: View,
    cause: str,
    now: datetime,
) -> None:
    """A row for every field of a record that is not kept as it was seen."""
    ours = endpoint == "kirim"
    kirim_id = raw.id if ours else known.external_id
    if kirim_id is None:
        return
    entries = [
        Entry(
            at=now,
            tenant=tenant,
            connection="" if ours else endpoint,
            kind=raw.kind.value,
            kirim_id=kirim_id,
            field=name,
            side="kirim" if ours else "crm",
            old=None,
            new=clean.fields[name],
            competing=None,
            rule="unstorable",
            outcome=CLEANED,
            cause=cause,
            changed_at=raw.version,
        )
        for name, value in raw.fields.items()
        if clean.fields[name] != value
    ]
    history.add(connection, entries)
