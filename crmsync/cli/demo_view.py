"""How a demonstration looks: a live panel in a terminal, plain lines elsewhere, and the verdict in both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType
from typing import Protocol, Self

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from crmsync.sandbox.story import Phase, Plan, Story
from crmsync.sandbox.verdict import Verdict
from crmsync.sandbox.watch import Glance

WIDTH = 78
BARS = " ▁▂▃▄▅▆▇█"
SPARKS = 46


class View(Protocol):
    """Somebody who watches a story. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, story: Story, glance: Glance) -> None:
        """What can be seen now."""


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, story: Story, glance: Glance) -> None:
        """Nothing."""


class PlainLines:
    """A line for each chapter and each few seconds, for logs and pipes."""

    EVERY = 2.0

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._phase: Phase | None = None
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._say(
            f"starting Kirim, {self._plan.title} and the daemon on this machine,"
            f" {self._plan.contacts:,} contacts to come"
        )
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, story: Story, glance: Glance) -> None:
        """A line if there is something to say."""
        now = time.monotonic()
        if story.phase is not self._phase:
            self._phase = story.phase
            self._say(f"{story.phase}")
        elif now - self._said >= self.EVERY:
            kirim, crm = glance.kirim, glance.crm
            self._say(
                f"  {kirim.acknowledged + crm.acknowledged:,} events taken, {crm.writes:,} writes to"
                f" {story.crm.title} and {kirim.writes:,} to Kirim, {_apart(glance)}"
            )

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self._console.print(f"{_clock(self._said - self._began)}  {line}", highlight=False, soft_wrap=True)


class LivePanel:
    """The chapters, the counters of both sides, and how far apart they are, redrawn in place."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(self._frame(Text(f"starting Kirim, {plan.title} and the daemon …")), console=console)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, story: Story, glance: Glance) -> None:
        """Redraws."""
        done = story.quiet_at is not None and story.settled
        content = Group(
            self._chapters(story, done=done),
            Text(),
            _sides(glance, self._plan.title),
            Text(),
            _sparkline(tuple(story.watch.history), glance),
        )
        self._live.update(self._frame(content))

    def _frame(self, content: RenderableType) -> Panel:
        return Panel(
            content,
            title="[bold]crmsync demo[/bold]",
            title_align="left",
            subtitle=f"[dim]{self._plan.contacts:,} contacts · {_clock(time.monotonic() - self._began)}[/dim]",
            subtitle_align="right",
            border_style="cyan",
            box=ROUNDED,
            padding=(1, 2),
            width=WIDTH,
        )

    def _chapters(self, story: Story, *, done: bool) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(width=41)
        table.add_column(style="dim")
        for phase in Phase:
            mark: RenderableType = Text("○", style="dim")
            style = "dim"
            if phase in story.began:
                current = phase is story.phase and not (phase is Phase.QUIET and done)
                mark = self._spinner if current else Text("✔", style="green")
                style = "bold" if current else ""
            table.add_row(mark, Text(phase.value, style=style), _note(phase, story) if phase in story.began else "")
        return table


def _note(phase: Phase, story: Story) -> Text:
    """What is worth saying about a chapter that has begun."""
    match phase:
        case Phase.ARRIVE:
            return Text(f"{story.newcomers:,} contacts")
        case Phase.EDIT:
            return Text(f"{story.edits:,} edits")
        case Phase.DISORDER:
            return Text(f"{story.late_events:,} old events again" if story.late_events else "")
        case Phase.OUTAGE if story.down:
            return Text(f"{story.crm.title} answers 503", style="bold red")
        case Phase.OUTAGE if story.outage:
            return Text(f"it was {(story.outage[1] - story.outage[0]).total_seconds():.1f} s")
        case Phase.QUIET if story.quiet_at:
            return Text("watched that it stays quiet" if story.ended else "watching that it stays quiet")
    return Text()


def _sides(glance: Glance, title: str) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    table.add_column("", width=28)
    for name in ("Kirim", title):
        table.add_column(name, justify="right", width=10)
    kirim, crm = glance.kirim, glance.crm
    rows = (
        ("records", kirim.records, crm.records),
        ("done by people", kirim.edits, crm.edits),
        ("events acknowledged", kirim.acknowledged, crm.acknowledged),
        ("events on their way", kirim.pending, crm.pending),
        ("writes by crmsync", kirim.writes, crm.writes),
        ("API calls by crmsync", kirim.calls, crm.calls),
    )
    for name, *numbers in rows:
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def _sparkline(history: Sequence[int], glance: Glance) -> Text:
    """How many fields were apart from the beginning until now, the worst of each stretch, and how many are now."""
    stretches = min(SPARKS, len(history))
    edges = [place * len(history) // stretches for place in range(stretches + 1)]
    worst = [max(history[start:end]) for start, end in pairwise(edges)]
    top = max([*worst, 1])
    bars = "".join(BARS[-(-value * (len(BARS) - 1) // top)] for value in worst)
    style = "green" if glance.apart == 0 else "yellow" if glance.lag < 1 else "red"
    return Text.assemble((f"{bars:<{SPARKS}}", style), "  ", (_apart(glance), style))


def _apart(glance: Glance) -> str:
    if glance.apart == 0:
        return "all agreed"
    return f"{glance.apart:,} apart, lag {glance.lag:.1f} s"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def show_verdict(console: Console, verdict: Verdict) -> None:
    """The verdict, in a panel."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column()
    for figure, said, good in _figures(verdict):
        table.add_row(Text(figure, style="" if good is None else "green" if good else "red"), said)
    end = "[bold green]Agreed[/bold green]" if verdict.agreed else "[bold red]Not agreed[/bold red]"
    foot = Text("Read from the two platforms alone, not from crmsync's own database.", style="dim")
    console.print(
        Panel(
            Group(table, Text(), foot),
            title=end,
            title_align="left",
            border_style="green" if verdict.agreed else "red",
            box=ROUNDED,
            padding=(1, 2),
            width=WIDTH,
        )
    )


def _figures(verdict: Verdict) -> Sequence[tuple[str, str, bool | None]]:
    """A figure, what it is, and whether it is good; None where it is neither."""
    v = verdict
    return (
        (f"{v.contacts:,}", f"contacts, each one record in {v.crm}", None),
        (
            f"{v.fields_agreed:,}",
            f"of {v.fields_compared:,} fields agree, on what their owners said last",
            v.fields_agreed == v.fields_compared,
        ),
        (
            f"{v.events_lost:,}",
            f"of {v.events_acknowledged + v.crm_events_acknowledged:,} events lost",
            not v.events_lost,
        ),
        (f"{v.duplicates:,}", "duplicates", not v.duplicates),
        (f"{v.echo_writes:,}", f"echoes among {v.crm_writes + v.kirim_writes:,} writes", not v.echo_writes),
        (f"{v.restored:,}", "values restored to what their owner says", None),
        (f"{v.crm_calls:,}", f"{v.crm} calls ({v.crm_write_calls:,} wrote {v.crm_writes:,} records)", None),
        (f"{v.kirim_calls:,}", f"Kirim calls ({v.kirim_write_calls:,} wrote)", None),
        (
            _ms(v.p50_ms),
            f"from an edit to its effect, for half of {v.edits_measured:,}; {_ms(v.p95_ms)} for 95 %",
            None,
        ),
        (f"{v.outage_seconds:.1f} s", f"of outage, made up for {v.recovery_seconds:.1f} s after its end", None),
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"
