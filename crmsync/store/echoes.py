"""What we wrote comes back as a change: the echo dies in the view, and is told in the history once for each write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, update

from crmsync.core.views import View
from crmsync.model import Kind
from crmsync.store import history, tables
from crmsync.store.bulk import Bulk, given, keyed
from crmsync.store.history import ECHOED, Entry

_view = tables.View.__table__  # type: ignore[attr-defined]
OWN = ("write:", "lookup:")
"""What causes begin with that are our own doing: the view of a record that we wrote has such a one."""
_HEARD = Bulk(
    lambda insert: update(_view).where(keyed(_view, "tenant", "endpoint", "kind", "id")).values(given("cause"))
)


def is_echo(view: View, cause: str) -> bool:
    """Whether to see nothing new in a record means that what we wrote to it came back, for the first time."""
    return view.cause.startswith(OWN[0]) and not cause.startswith(OWN)


def note(
    connection: Connection,
    tenant: str,
    endpoint: str,
    kind: Kind,
    heard: Sequence[tuple[View, str]],
    now: datetime,
    *,
    ours: bool,
) -> None:
    """What we wrote came back, learned from what: told in the history. `ours` says that it is Kirim."""
    where = {"of_tenant": tenant, "of_endpoint": endpoint, "of_kind": kind.value}
    _HEARD.run(connection, [{**where, "of_id": view.id, "to_cause": f"echo:{cause}"} for view, cause in heard])
    entries = [
        Entry(
            at=now,
            tenant=tenant,
            connection="" if ours else endpoint,
            kind=kind.value,
            kirim_id=view.id if ours else view.external_id or "",
            field="",
            side="kirim" if ours else "crm",
            old=None,
            new=None,
            competing=None,
            rule="echo",
            outcome=ECHOED,
            cause=cause,
            changed_at=view.version,
        )
        for view, cause in heard
        if ours or view.external_id
    ]
    history.add(connection, entries)
