"""Which endpoints use the same credential: they share one budget, whatever they are called and whose they are."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from crmsync.connector import Connector, ConnectorSettings
from crmsync.daemon.budgets import Shared, TokenBudget
from crmsync.store.database import Database


class Credentials:
    """The budgets of one process. With a database, to be written to, all processes that use it share them."""

    def __init__(self, database: Database | None = None) -> None:
        self._database = database
        self._known: dict[str, tuple[TokenBudget, Shared | None]] = {}

    def budget(self, name: str, kind: type[Connector[Any]], settings: ConnectorSettings) -> TokenBudget:
        """The budget of the endpoint `name` (`tenant/name`). Who uses a credential first says what its limits are."""
        digest = credential(name, kind, settings)
        if digest not in self._known:
            documented = {"": kind.rate, **kind.buckets}
            limits = settings.limits(documented)
            fixed = frozenset(bucket for bucket, rate in limits.items() if documented.get(bucket) != rate)
            shared = Shared(self._database.forgetful(), digest) if self._database else None
            clock = time.time if shared else time.monotonic
            self._known[digest] = TokenBudget(limits, clock, time.sleep, fixed, shared), shared
        budget, ledger = self._known[digest]
        if ledger is not None:
            ledger.users[name] = kind.batch_size
        return budget


def credential(name: str, kind: type[Connector[Any]], settings: ConnectorSettings) -> str:
    """What tells a credential from others, and does not tell it."""
    parts = [kind.name, *(settings.credential() or [name])]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
