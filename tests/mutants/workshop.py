"""Makes a copy of the product, breaks one thing in it, and lets named tests judge the copy in a process of their own.

The copies shadow the installed package. The tree itself is never touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("crmsync", "connectors", "tests")
PATIENCE = 120.0
"""Seconds after which a broken build that hangs counts as not caught."""
ACCIDENTS = frozenset(
    {
        "AttributeError",
        "ImportError",
        "IndentationError",
        "ModuleNotFoundError",
        "NameError",
        "SyntaxError",
        "TypeError",
    }
)
"""What a build raises that does not run at all: that proves nothing about the invariant."""
INHERITED = ("PYTEST_", "COV_", "COVERAGE_", "CRMSYNC_")
LINE = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED) (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A build that breaks one invariant, by replacing one text in one file, and the tests that have to notice."""

    name: str
    breaks: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Trial:
    """How the named tests judged a build."""

    outcomes: Mapping[str, str]
    errors: Mapping[str, str]
    seconds: float
    output: str

    def with_outcome(self, outcome: str) -> list[str]:
        """The tests that ended so."""
        return [test for test, ended in self.outcomes.items() if ended == outcome]


class OutOfDate(Exception):
    """The text that a mutant replaces is not there exactly once."""


def mutated(mutant: Mutant, source: str) -> str:
    """The broken source. Raises `OutOfDate`, and `SyntaxError` for a build that could not even be compiled."""
    found = source.count(mutant.old)
    if found != 1:
        raise OutOfDate(f"the mutant no longer applies: update it ({mutant.file} has its text {found} times)")
    broken = source.replace(mutant.old, mutant.new)
    compile(broken, mutant.file, "exec")
    return broken


class Workshop:
    """A snapshot of the tree as it is now, and the builds that are made of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._snapshot = folder / "as-it-is"
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__", "mutants")
            shutil.copytree(ROOT / name, self._snapshot / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", self._snapshot)

    def try_as_it_is(self, tests: Sequence[str]) -> Trial:
        """The control: the same tests on the build that is not broken."""
        return self._try(None, "control", tests)

    def try_mutant(self, mutant: Mutant) -> Trial:
        """The tests that a mutant names, on the build that it breaks."""
        return self._try(mutant, re.sub(r"\W+", "-", mutant.name), mutant.caught_by)

    def _try(self, mutant: Mutant | None, name: str, tests: Sequence[str]) -> Trial:
        build = self._folder / name
        shutil.copytree(self._snapshot, build, copy_function=os.link)
        try:
            if mutant is not None:
                broken = mutated(mutant, (build / mutant.file).read_text(encoding="utf-8"))
                (build / mutant.file).unlink()  # it is one file with the snapshot's
                (build / mutant.file).write_text(broken, encoding="utf-8")
            return _judged(build, tests)
        finally:
            shutil.rmtree(build, ignore_errors=True)


def _judged(build: Path, tests: Sequence[str]) -> Trial:
    command = [sys.executable, "-m", "pytest", "-q", "-rpfEs", "-p", "no:cacheprovider", "--tb=short"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED)}
    environ |= {"PYTHONPATH": str(build), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "400"}
    began = monotonic()
    try:
        done = subprocess.run(
            [*command, f"--basetemp={build / 'temporary'}", *tests],
            cwd=build,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Trial(dict.fromkeys(tests, "hung"), {}, monotonic() - began, f"no end within {PATIENCE:.0f} seconds")
    outcomes, errors = _read(tests, done.stdout)
    return Trial(outcomes, errors, monotonic() - began, done.stdout)


def _read(tests: Sequence[str], output: str) -> tuple[dict[str, str], dict[str, str]]:
    """Each test's outcome by pytest's summary, the worst one where it has several cases; and what it raised."""
    outcomes = dict.fromkeys(tests, "unknown")
    errors: dict[str, str] = {}
    for outcome, told in LINE.findall(output):
        test = next((test for test in tests if told == test or told.startswith((f"{test} - ", f"{test}["))), None)
        if test is None:
            continue
        if outcomes[test] == "unknown" or outcome != "PASSED":
            outcomes[test] = outcome.lower()
        if outcome == "FAILED":
            errors[test] = told.partition(" - ")[2].split(":")[0].strip()
    return outcomes, errors
