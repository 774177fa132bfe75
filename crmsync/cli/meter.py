"""Shows how far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY = 5.0
WINDOW = 30.0
"""Seconds over which the present rate is measured."""


class Meter:
    """A context manager. `total` is None where nobody knows how many records there are."""

    def __init__(self, console: Console, title: str, total: int | None) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._line_at = 0.0
        self._seen: deque[tuple[float, int]] = deque()
        self._trouble = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task(self._title, total=self._total, told="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, read: int, *, errors: int = 0, trouble: str = "", last: bool = False) -> None:
        """`done` records are through with everything, `read` were looked at."""
        now = time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        if trouble and trouble != self._trouble:
            self._console.print(trouble, markup=False, highlight=False, soft_wrap=True)
        self._trouble = trouble
        if self._bar is not None:
            total = max(self._total, read) if self._total is not None else None
            self._bar.update(self._task, completed=done, total=total, told=self._words(done, read, errors))
        elif last or now - self._line_at >= LINE_EVERY:
            self._line_at = now
            self._console.print(
                f"{self._title}: {self._words(done, read, errors)}", markup=False, highlight=False, soft_wrap=True
            )

    def _words(self, done: int, read: int, errors: int) -> str:
        rate = self.rate()
        of = f" of {max(self._total, read):,}" if self._total is not None else ""
        words = [f"{done:,}{of} done", f"{read:,} read", f"{rate:,.0f}/s"]
        if self._total is not None and rate > 0 and done < self._total:
            words.append(f"{_clock((self._total - done) / rate)} left")
        words.append(f"{errors:,} in trouble")
        return ", ".join(words)

    def rate(self) -> float:
        """Records a second, lately."""
        (began, before), (now, done) = self._seen[0], self._seen[-1]
        return max(0.0, (done - before) / (now - began)) if now > began else 0.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
