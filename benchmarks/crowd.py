"""Many contacts in emulated platforms, and a `crmsync` command between them: no daemon, no webhooks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from harness import Usage

from crmsync.sandbox.kirim.records import Contact, new_id
from crmsync.sandbox.stage import TENANT, Setting, Stage

WRITES = "POST /crm/v3/objects/contacts/batch/upsert"
LOOKUPS = "POST /crm/v3/objects/contacts/batch/read"


class Crowd(Stage):
    """Both platforms and a configuration, for commands of one's own."""

    def __init__(self, folder: Path, setting: Setting, *, read_limit: int | None = None) -> None:
        super().__init__(folder, setting)
        self.kirim.behaviour.read_limit = read_limit

    def __enter__(self) -> Self:
        self.kirim.start()
        self.hubspot.start()
        self._write_configuration("whsec_" + "b" * 32)
        written = self.configuration.read_text()
        fast = "" if self.setting.rate else "    requests_per_10s: 1000\n"
        written = written.replace("    start: live\n", f"    start: live\n{fast}")
        if limit := self.kirim.behaviour.read_limit:
            written = written.replace("read_per_minute: 100000", f"read_per_minute: {limit}")
        self.configuration.write_text(written)
        return self

    def people(self, count: int) -> None:
        """Contacts of Kirim, as if they had always been there."""
        inhabit(self, count)

    def command(self, *words: str) -> Command:
        """Begins a command of ours."""
        return command(self, *words)


def command(stage: Stage, *words: str) -> Command:
    """Begins a command of ours."""
    return Command(stage.folder, [*words, TENANT, "--config", str(stage.configuration)])


def inhabit(stage: Stage, count: int, start: int = 0) -> None:
    """Contacts of Kirim of which no event ever told."""
    workspace = stage.kirim.workspace
    account = next(iter(workspace.accounts.values()))
    began = stage.kirim.clock() - timedelta(days=400)
    for number in range(start, start + count):
        at = began + timedelta(seconds=number)
        workspace.contacts.add(
            Contact(
                new_id(stage.kirim.random, "ctc"),
                account,
                f"+62812{50_000_000 + number:08d}",
                f"Contact {number}",
                f"contact{number}@example.com",
                {"company": f"Company {number}", "city": "Bandung", "title": "Owner"},
                at,
                at,
            )
        )


class Command:
    """A `crmsync` process, with what it used and said."""

    def __init__(self, folder: Path, words: list[str]) -> None:
        self._output = folder / "command.out"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CRMSYNC_")}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *_profiler(), "-m", "crmsync", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self.used = Usage.of(self._process.pid)
        self.began = self.used

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def wait(self, seconds: float, watch: Callable[[Usage], object] = lambda used: None) -> int:
        """Its exit code; what it used is looked at ten times a second."""
        until = time.monotonic() + seconds
        while (code := self._process.poll()) is None:
            if time.monotonic() > until:
                self._process.send_signal(signal.SIGKILL)
                raise TimeoutError(f"not within {seconds:g} seconds:\n{self.output()}")
            try:
                used = Usage.of(self._process.pid)
            except (FileNotFoundError, ProcessLookupError, IndexError):
                continue  # it ends just now
            if used.rss_bytes:
                self.used = used
                watch(used)
            time.sleep(0.1)
        return code

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def interrupt(self) -> None:
        """Ctrl-C, and its end."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)

    def output(self) -> str:
        """What it said."""
        return self._output.read_text(errors="replace")

    def took(self) -> float:
        """Seconds that it says its run lasted; without those of starting Python."""
        began, ended = (re.search(rf'"{name}": "([^"]+)"', self.output()) for name in ("began_at", "ended_at"))
        if began is None or ended is None:
            raise RuntimeError(f"no end:\n{self.output()}")
        return (datetime.fromisoformat(ended[1]) - datetime.fromisoformat(began[1])).total_seconds()


def _profiler() -> list[str]:
    place = os.environ.get("BENCHMARK_PROFILE")
    return ["-m", "cProfile", "-o", place] if place else []
