"""The points at which a test may end the process: all named, all in the code, and harmless unless asked for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crmsync import crash

ROOT = Path(__file__).parent.parent


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, since the variable is read when the module is."""
    return subprocess.run(
        [sys.executable, "-c", f"from crmsync import crash\n{code}"],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def points() -> list[str]:
    """The name at every call of `crash.point`."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "crmsync").rglob("*.py"))]
    return [
        node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "crash.point"
    ]


def test_every_point_is_named_once_and_is_in_the_code_once() -> None:
    assert sorted(points()) == sorted(crash.POINTS)


def test_a_point_does_nothing_unless_it_is_asked_for() -> None:
    assert run("crash.point('lane.turn'); print('on')").stdout == "on\n"


def test_the_process_ends_the_nth_time_without_any_clean_up() -> None:
    ended = run(
        "import atexit; atexit.register(print, 'cleaned')\n"
        "for time in range(5):\n crash.point('sync.stored'); crash.point('lane.turn'); print(time, flush=True)",
        CRMSYNC_CRASH_AT="lane.turn:3",
    )

    assert (ended.returncode, ended.stdout) == (crash.STATUS, "0\n1\n")


def test_only_what_contains_the_text_counts() -> None:
    ended = run(
        "for body in (b'good', b'poison', b'good', b'poison'):\n"
        " crash.point('observe.parse', body); print(body.decode(), flush=True)",
        CRMSYNC_CRASH_AT="observe.parse:2",
        CRMSYNC_CRASH_ON="poison",
    )

    assert (ended.returncode, ended.stdout) == (crash.STATUS, "good\npoison\ngood\n")


@pytest.mark.parametrize("wrong", ["nowhere", "lane.turn:often", "nowhere:2"])
def test_a_point_that_does_not_exist_is_refused_rather_than_never_met(wrong: str) -> None:
    ended = run("print('on')", CRMSYNC_CRASH_AT=wrong)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "names no point" in ended.stderr
