"""Takes up other secrets in a running process: new endpoints in place of the old, then a second look at the quarantine.

An endpoint that was replaced is let go of later: work that began with it ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import structlog

from crmsync.config import Configuration, TenantConfig
from crmsync.connector import Connector
from crmsync.errors import StoreError
from crmsync.flows.intake import Intake, Source
from crmsync.flows.quarantine import look_again
from crmsync.flows.tenant import Tenant
from crmsync.model import Rate
from crmsync.store.database import Database
from crmsync.store.pen import Pen

LET_GO_AFTER = 600.0
AGAIN_AFTER = 5.0

log = structlog.get_logger(__name__)


class Renewal:
    """Belongs to one event loop. `tenants` is shared with whoever works for them, and changed in place."""

    def __init__(
        self,
        configuration: Configuration,
        tenants: dict[str, Tenant],
        build: Callable[[TenantConfig], Tenant],
        sources: Callable[[Iterable[Tenant]], Sequence[Source]],
        limits: Callable[[Configuration], dict[str, Rate]],
        database: Database,
        intake: Intake,
        pen: Pen,
        wake: Callable[[], None],
    ) -> None:
        self._configuration = configuration
        self._tenants = tenants
        self._build = build
        self._sources = sources
        self._limits = limits
        self._database = database
        self._intake = intake
        self._pen = pen
        self._wake = wake
        self._retired: list[tuple[float, Tenant]] = []
        self._due = asyncio.Event()
        self._due.set()  # the secrets may have changed while nothing ran

    async def apply(self, configuration: Configuration) -> None:
        """From the next request on, this is what counts."""
        known = {tenant.id: tenant for tenant in self._configuration.tenants}
        changed = [tenant for tenant in configuration.tenants if tenant != known.get(tenant.id)]
        built = await asyncio.to_thread(lambda: {tenant.id: self._build(tenant) for tenant in changed})
        now = time.monotonic()
        self._retired += [(now, self._tenants[id]) for id in built if id in self._tenants]
        self._tenants.update(built)
        self._configuration = configuration
        self._intake.configure(self._sources(self._tenants.values()), self._limits(configuration))
        self._due.set()
        await asyncio.to_thread(self._let_go, now - LET_GO_AFTER)

    async def look_again(self, stopping: asyncio.Event) -> None:
        """Looks at the quarantine at the start and after every change, until told to stop."""
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                due = asyncio.ensure_future(self._due.wait())
                await asyncio.wait([stop, due], return_when=asyncio.FIRST_COMPLETED)
                due.cancel()
                if not stopping.is_set() and not await self._looked():
                    await asyncio.wait([stop], timeout=AGAIN_AFTER)
        finally:
            stop.cancel()

    def close(self) -> None:
        """Lets go of what was replaced."""
        self._let_go(time.monotonic())

    async def _looked(self) -> bool:
        self._due.clear()
        with contextlib.suppress(TimeoutError):  # what was refused just before the change is to be seen, too
            await asyncio.wait_for(asyncio.shield(self._pen.settled()), AGAIN_AFTER)
        verifiers = {(source.tenant, source.name): source.verify for source in self._sources(self._tenants.values())}
        try:
            outcome = await asyncio.to_thread(look_again, self._database, verifiers)
        except StoreError as error:
            log.warning("store_unavailable", work="quarantine", reason=str(error))
            self._due.set()
            return False
        if outcome.promoted or outcome.known:
            log.info("quarantine_promoted", taken_in=outcome.promoted, known=outcome.known, kept=outcome.kept)
            self._wake()
        return True

    def _let_go(self, before: float) -> None:
        old = [tenant for at, tenant in self._retired if at <= before]
        self._retired = [(at, tenant) for at, tenant in self._retired if at > before]
        close_endpoints(old)


def close_endpoints(tenants: Iterable[Tenant]) -> None:
    """Lets go of the connections of tenants; one that fails does not keep the others."""
    with ExitStack() as closing:
        for tenant in tenants:
            endpoints: list[Connector[Any]] = [tenant.kirim, *(each.connector for each in tenant.connections.values())]
            for endpoint in endpoints:
                closing.callback(endpoint.close)
