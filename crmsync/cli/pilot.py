"""How a command gets a run done: by the daemon that runs here, by a node elsewhere, or by this process alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from crmsync import bootstrap, logs
from crmsync.bootstrap import Alone
from crmsync.cli.reach import ask_daemon
from crmsync.config import Configuration, TenantConfig
from crmsync.daemon.running import BEGINS
from crmsync.errors import ConnectorError, CrmsyncError
from crmsync.flows.progress import progress
from crmsync.http import wall_clock
from crmsync.store import runs

LOOK_AGAIN = 0.5
"""Seconds between two looks."""
LOOKING = 0.03
"""The share of the time that looking may take: what is still to be done is counted each time."""
FINAL = frozenset({"done", "failed", "stopped"})


class Pilot(Protocol):
    """Begins a run, tells how it goes, and stops it."""

    where: str

    def begin(self, kind: str, options: Mapping[str, Any]) -> int:
        """The number of the run. Raises `CrmsyncError` where it is refused."""

    def look(self, id: int) -> dict[str, Any]:
        """How it goes."""

    def stop(self, id: int) -> None:
        """It stops where it is, and can go on."""


class Beside:
    """The daemon that runs here does the work."""

    where = "the running daemon"

    def __init__(self, configuration: Configuration, tenant: str) -> None:
        self._configuration = configuration
        self._tenant = tenant

    def begin(self, kind: str, options: Mapping[str, Any]) -> int:
        asked = {"tenant": self._tenant, "kind": kind, "options": options}
        told = self._ask("POST", "/runs", asked)
        if "refused" in told:
            raise CrmsyncError(told["refused"])
        return int(told["id"])

    def look(self, id: int) -> dict[str, Any]:
        return dict(self._ask("GET", f"/runs/{id}"))

    def stop(self, id: int) -> None:
        self._ask("POST", f"/runs/{id}/stop")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        told = ask_daemon(self._configuration, method, path, body)
        if told is None:
            raise CrmsyncError("the daemon is gone; the run goes on when it starts again, or when this command does")
        return told


class Here:
    """The store is at hand: this process works, or watches another node work."""

    def __init__(self, alone: Alone) -> None:
        self._alone = alone
        self.where = "this process" if alone.works else "another node"

    def begin(self, kind: str, options: Mapping[str, Any]) -> int:
        tenant = self._alone.tenant
        try:
            run = self._alone.database.write(lambda tx: BEGINS[kind](tx, tenant, options, wall_clock()))
        except ConnectorError as error:
            raise CrmsyncError(str(error)) from error
        self._alone.wake()
        return run.id

    def look(self, id: int) -> dict[str, Any]:
        run = self._alone.database.read(lambda tx: runs.find(tx, id))
        if run is None:
            raise CrmsyncError(f"there is no run {id}")
        return self._alone.database.read(lambda tx: progress(tx, self._alone.tenant, run, wall_clock()))

    def stop(self, id: int) -> None:
        self._alone.database.write(lambda tx: runs.stop(tx, id, wall_clock()))


@contextmanager
def pilot(configuration: Configuration, tenant: TenantConfig) -> Iterator[Pilot]:
    """Whoever can do it."""
    if ask_daemon(configuration, "GET", "/status") is not None:
        yield Beside(configuration, tenant.id)
        return
    logs.configure("error", configuration.daemon.log.format)  # what matters is shown by the command
    with bootstrap.alone(configuration, tenant) as found:
        yield Here(found)


def follow(pilot: Pilot, id: int, told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Waits for the end of a run, telling how it goes. Ctrl-C stops the run where it is."""
    try:
        while True:
            began = time.monotonic()
            now = pilot.look(id)
            if now["state"] in FINAL:
                break
            told(now)
            time.sleep(max(LOOK_AGAIN, (time.monotonic() - began) / LOOKING))
    except KeyboardInterrupt:
        pilot.stop(id)
        now = pilot.look(id)
    told(now)
    return now


def seconds_between(began: str, ended: str) -> float:
    """How long something took, by two moments in ISO 8601."""
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
