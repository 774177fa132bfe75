"""The shape of the house: who may import whom, where time and catch-alls may be, how large things may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = [path for name in ("crmsync", "connectors") for path in sorted((ROOT / name).rglob("*.py"))]
CLOCK_EDGES = (
    "crmsync/bootstrap.py",
    "crmsync/http.py",
    "crmsync/kirim/endpoint.py",
    "crmsync/sandbox/",
    "crmsync/cli/",
)
"""Where the present may be asked for. Everything else is handed a clock."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code() -> Iterator[tuple[str, ast.Module]]:
    for path in PACKAGES:
        yield name_of(path), ast.parse(path.read_text(encoding="utf-8"))


def test_imports_keep_to_the_rules_in_pyproject() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_edges_ask_for_the_present() -> None:
    asking = [
        name
        for name, tree in code()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("now", "utcnow", "today")
        and isinstance(node.value, ast.Name)
        and node.value.id in ("datetime", "date")
        and not name.startswith(CLOCK_EDGES)
    ]

    assert sorted(set(asking)) == []


def test_everything_is_caught_in_one_place_only() -> None:
    catching = [
        name
        for name, tree in code()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        and not name.startswith(("crmsync/sandbox/", "crmsync/testing/"))
    ]

    handing_on = {"crmsync/store/postgresql.py", "crmsync/store/writer.py"}  # to whoever waits for the transaction
    assert set(catching) - handing_on == {"crmsync/daemon/worker.py"}


def test_only_the_sync_flow_writes_records() -> None:
    calling = {
        name
        for name, tree in code()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "upsert"
        and not name.startswith(("crmsync/testing/", "crmsync/sandbox/", "connectors/"))
    }

    assert calling == {"crmsync/flows/sync.py"}


@pytest.mark.parametrize("path", PACKAGES, ids=name_of)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    if path.name != "__init__.py" or path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PACKAGES, ids=name_of)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 520


@pytest.mark.parametrize("path", PACKAGES, ids=name_of)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    if "migrations" in path.parts:
        pytest.skip("a migration is a list of tables")
    too_long = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 70
    ]

    assert too_long == []


def test_nothing_tracked_names_a_registry_or_a_download_address() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if files.returncode != 0:
        pytest.skip("not a git checkout")
    addresses = re.compile(r"--(extra-)?index-url|files\.python" r"hosted|registry\.npm" r"js")
    naming = [
        name
        for name in files.stdout.split()
        if (ROOT / name).is_file() and addresses.search((ROOT / name).read_text(encoding="utf-8", errors="replace"))
    ]

    assert naming == ["tests/test_architecture.py"] or naming == []


def test_every_locked_dependency_has_a_hash() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        pinned = re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8").strip())

        assert all("--hash=sha256:" in entry for entry in pinned)
        assert not any("http" in line and "://" in line for entry in pinned for line in entry.splitlines())
