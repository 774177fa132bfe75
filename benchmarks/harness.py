"""What the end-to-end benchmarks share: a stage with a real daemon, its processor time and memory, and figures."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crmsync.sandbox.stage import Setting, Stage

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def staged(setting: Setting) -> Iterator[Stage]:
    """A stage in a temporary folder. What the daemon logged is shown if something goes wrong."""
    with tempfile.TemporaryDirectory(prefix="crmsync-benchmark-") as folder, Stage(Path(folder), setting) as stage:
        try:
            yield stage
        except BaseException:
            print("\n".join(stage.log_tail()))
            raise


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far."""

    at: float
    cpu_seconds: float
    rss_bytes: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Read from /proc: Linux only."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(time.monotonic(), (int(fields[11]) + int(fields[12])) / TICKS, pages * PAGE)

    def core_share(self, earlier: Usage) -> float:
        """The part of one core used since then."""
        return (self.cpu_seconds - earlier.cpu_seconds) / (self.at - earlier.at)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:g} seconds")
        time.sleep(0.02)


def create(stage: Stage, count: int, start: int = 0) -> list[str]:
    """Contacts in Kirim, each of which is an event on its way to the daemon; their ids."""
    return [
        stage.kirim.create_contact(
            f"+62812{50_000_000 + number:08d}",
            name=f"Contact {number}",
            email=f"contact{number}@example.com",
            metadata={"company": f"Company {number}", "city": "Bandung"},
        )
        for number in range(start, start + count)
    ]


def linked(stage: Stage, count: int, seconds: float) -> list[str]:
    """Contacts that exist on both sides, with nothing left to do."""
    ids: list[str] = []
    while len(ids) < count:
        ids += create(stage, min(500, count - len(ids)), len(ids))
        wait_for(partial(_has_records, stage, len(ids)), seconds, "contacts are linked")
    settle(stage, seconds)
    return ids


def _has_records(stage: Stage, count: int) -> bool:
    return len(stage.hubspot.contacts.by_id) >= count


def settle(stage: Stage, seconds: float) -> None:
    """Waits until nothing is on its way, and half a second more."""
    seen, since, until = (-1, -1), time.monotonic(), time.monotonic() + seconds
    while time.monotonic() - since < 0.5:
        now = (len(stage.hubspot.ledger), len(stage.kirim.ledger))
        if now != seen or not stage.kirim.idle() or stage.hubspot.outbox.pending:
            seen, since = now, time.monotonic()
        if time.monotonic() > until:
            raise TimeoutError("the platforms did not become quiet")
        time.sleep(0.02)


def figure(name: str, value: str, target: str = "", met: bool | None = None) -> None:
    """One line of the result."""
    judged = "" if met is None else ("  met" if met else "  MISSED")
    print(f"{name:<44} {value:>14}   {target}{judged}", flush=True)
