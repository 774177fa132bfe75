"""Keeps a running process in step with its configuration, on SIGHUP and when a file changes, without a restart.

Decides nothing about what is live (`config.live`) and builds nothing: `apply` is whoever composed the process. A
configuration with mistakes changes nothing; it is logged, and shown until it is right.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from crmsync.config import Configuration, Step, load, step, watched
from crmsync.errors import ConfigError, CrmsyncError

EVERY = 2.0
"""Seconds between two looks at the files."""

Stamp = tuple[int, int, int, int]

log = structlog.get_logger(__name__)


class Reload:
    """Belongs to one event loop; reads files in a thread."""

    def __init__(
        self,
        path: Path,
        running: Configuration,
        apply: Callable[[Configuration], Awaitable[None]],
        clock: Callable[[], datetime],
        *,
        environ: Mapping[str, str] = os.environ,
        every: float = EVERY,
        read: Callable[..., Configuration] = load,
    ) -> None:
        self.running = running
        self.problems: tuple[str, ...] = ()
        self.waiting: tuple[str, ...] = ()
        self.loaded = 0
        self.failed = 0
        self._loaded_at: datetime | None = None
        self._path = path
        self._apply = apply
        self._clock = clock
        self._environ = environ
        self._every = every
        self._read = read
        self._asked = asyncio.Event()
        self._looking = asyncio.Lock()
        self._stamps: dict[Path, Stamp | None] = {}

    def ask(self) -> None:
        """Reads the files again soon, changed or not. Any number of calls together is one."""
        self._asked.set()

    async def now(self) -> dict[str, list[str]]:
        """Reads the files at once. `problems` are why nothing was taken up; `changed` is what was."""
        async with self._looking:
            taken = await self._look_again(await asyncio.to_thread(stamps, self._path))
        return {
            "problems": list(self.problems),
            "changed": list(taken.changed) if taken else [],
            "needs_restart": list(self.waiting),
        }

    def status(self) -> dict[str, Any]:
        """How the latest attempt went."""
        return {
            "config_error": list(self.problems),
            "needs_restart": list(self.waiting),
            "loaded": self.loaded,
            "failed": self.failed,
            "loaded_at": self._loaded_at.isoformat(timespec="seconds") if self._loaded_at else None,
        }

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks at the files until told to stop. The first look reads them: they may have changed since the start."""
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set():
                asked = asyncio.ensure_future(self._asked.wait())
                await asyncio.wait([stop, asked], timeout=self._every, return_when=asyncio.FIRST_COMPLETED)
                asked.cancel()
                if not stopping.is_set():
                    await self._look()
        finally:
            stop.cancel()

    async def _look(self) -> None:
        async with self._looking:
            now = await asyncio.to_thread(stamps, self._path)
            if now != self._stamps or self._asked.is_set():
                self._asked.clear()
                await self._look_again(now)

    async def _look_again(self, now: dict[Path, Stamp | None]) -> Step | None:
        self._stamps = now  # taken before reading: what changes meanwhile is seen the next time
        try:
            taken = await self._taken()
        except CrmsyncError as error:
            problems = error.problems if isinstance(error, ConfigError) else (error,)
            self._refused(tuple(str(problem) for problem in problems))
            return None
        self._tell(taken)
        return taken

    async def _taken(self) -> Step:
        """Reads and takes up what is found. Whatever goes wrong is a `CrmsyncError`: the process must not die of it."""
        try:
            taken = step(self.running, await asyncio.to_thread(self._read, self._path, environ=self._environ))
            if taken.refused:
                raise CrmsyncError(taken.refused)
            if taken.changed:
                await self._apply(taken.configuration)
                self.running = taken.configuration
        except CrmsyncError:
            raise
        except Exception as error:
            raise CrmsyncError(f"the configuration cannot be taken up ({type(error).__name__})") from error
        return taken

    def _tell(self, taken: Step) -> None:
        self.problems = ()
        self.loaded += 1
        self._loaded_at = self._clock()
        if taken.changed:
            log.info("configuration_reloaded", changed=taken.changed)
        if taken.waiting and taken.waiting != self.waiting:
            log.warning("configuration_needs_a_restart", keys=taken.waiting)
        self.waiting = taken.waiting

    def _refused(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        self.failed += 1
        log.error("configuration_refused", problems=problems, advice="the configuration before it stays in force")


def stamps(path: Path) -> dict[Path, Stamp | None]:
    """What tells one version of each file from the next; None for a file that is not there."""
    return {file: _stamp(file) for file in watched(path)}


def _stamp(path: Path) -> Stamp | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size
