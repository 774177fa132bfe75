"""What the documentation names exists, and what exists is named in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from crmsync import cli
from crmsync.config import load
from crmsync.connector import installed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "connectors" / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "config").glob("*")]


def commands() -> dict[str, set[str]]:
    """Every command with its options."""
    group = typer.main.get_command(cli.app)
    return {name: options(command) for name, command in group.commands.items()}  # type: ignore[attr-defined]


def options(command: Any) -> set[str]:
    """The options of a command, or of all commands of a group."""
    own = {option for parameter in command.params for option in parameter.opts}
    return own.union(*(options(inner) for inner in getattr(command, "commands", {}).values()))


def test_every_command_is_in_the_readme() -> None:
    missing = [name for name in commands() if f"`crmsync {name}" not in README]

    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(r"(?:\$ |`|#\s+)crmsync ([a-z]+)((?: [^\s`]+)*)", document.read_text(encoding="utf-8"))
    known = commands()

    for command, rest in named:
        assert command in known, f"{document.name} names crmsync {command}"
        for option in re.findall(r"(--[a-z-]+)", rest):
            assert option in known[command] | {"--help"}, f"{document.name} names crmsync {command} {option}"


@pytest.mark.parametrize("document", DOCUMENTS[:2], ids=lambda path: path.parent.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    named = re.findall(r"`((?:benchmarks|config|connectors|crmsync|scripts|tests)/[\w./]+)`", text)

    for name in linked:
        assert (document.parent / name).exists(), name
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in re.findall(r"make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_connector_is_in_the_list_of_connectors() -> None:
    told = (ROOT / "connectors" / "README.md").read_text(encoding="utf-8").lower()

    for name in installed():
        assert name in told


ENVIRON = {
    "TOKO_KIRIM_API_KEY": "kdv_live_aaaaaaaaaaaaaaaaaaaaaaaa",
    "TOKO_KIRIM_WEBHOOK_SECRET": "whsec_0123456789abcdef0123456789",
    "TOKO_HUBSPOT_TOKEN": "pat-eu1-0123456789",
}


def test_the_examples_in_the_readme_are_configurations(tmp_path: Path) -> None:
    whole, mapping, *further = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    before, _, _ = whole.partition("    contacts:\n")

    for text in (whole, before + mapping, *(whole + section for section in further)):
        (tmp_path / "toko.yaml").write_text(text, encoding="utf-8")
        assert [tenant.id for tenant in load(tmp_path, environ=ENVIRON).tenants] == ["toko"]
