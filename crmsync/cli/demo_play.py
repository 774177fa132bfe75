"""The demonstration itself: the stage, the story, what is shown of it, and the folder it leaves behind or not."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import orjson
import typer
from rich.console import Console

from crmsync.cli.demo_view import LivePanel, PlainLines, Silence, View, show_verdict
from crmsync.sandbox.stage import Setting, Stage, StageFailed
from crmsync.sandbox.story import Plan, Story
from crmsync.sandbox.verdict import Verdict

EXIT_FAILED = 1
EXIT_NOT_AGREED = 3
REFRESH = 0.125


def play(plan: Plan, *, as_json: bool, keep: bool) -> None:
    """The demonstration, from the empty folder to the exit code."""
    console = Console(stderr=as_json)
    with _folder(keep=keep) as folder, _terminable():
        try:
            verdict, busiest = _perform(folder, plan, _view(console, plan, silent=as_json))
        except StageFailed as failure:
            for line in failure.log:
                console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
            typer.echo(f"crmsync: {failure}", err=True)
            raise typer.Exit(EXIT_FAILED) from failure
        _tell(console, verdict, as_json=as_json)
        if keep:
            _show_kept(console, folder, busiest)
    if not verdict.agreed:
        raise typer.Exit(EXIT_NOT_AGREED)


def _view(console: Console, plan: Plan, *, silent: bool) -> View:
    if silent:
        return Silence()
    return LivePanel(console, plan) if console.is_terminal else PlainLines(console, plan)


def _perform(folder: Path, plan: Plan, view: View) -> tuple[Verdict, str]:
    """The verdict of a whole story, and the contact that has most to tell."""
    with view, Stage(folder, Setting(seed=plan.seed, crm=plan.crm)) as stage, ThreadPoolExecutor(1, "story") as pool:
        story = Story(stage, plan)
        playing = pool.submit(story.play)
        try:
            while not playing.done():
                view.update(story, story.watch.look())
                time.sleep(REFRESH)
        finally:
            story.give_up()
        playing.result()
        view.update(story, story.watch.look())
        return story.verdict(), story.busiest()


def _tell(console: Console, verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(orjson.dumps(verdict.to_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
        sys.stdout.flush()
    else:
        show_verdict(console, verdict)
    if not verdict.agreed:
        for finding in verdict.findings:
            console.print(f"  {finding}", style="dim", highlight=False, markup=False, soft_wrap=True)
        typer.echo(f"crmsync: the demonstration failed: {', '.join(verdict.complaints())}", err=True)


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """A folder of our own, gone at the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="crmsync-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM end the command as Ctrl-C does, so that the daemon and the folder do not stay behind."""

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_kept(console: Console, folder: Path, busiest: str) -> None:
    configuration = folder / "demo.yaml"
    console.print("Kept. Ask the daemon's files why things are as they are:", highlight=False)
    for command in (f"explain {busiest}", "status"):
        console.print(f"  crmsync {command} --config {configuration}", style="cyan", highlight=False, soft_wrap=True)
    console.print(f"  less {folder / 'daemon.log'}", style="cyan", highlight=False, soft_wrap=True)
