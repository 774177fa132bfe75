"""The table of connectors tells what each connector declares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crmsync.connector import installed
from crmsync.model import Can, Rate

README = Path(__file__).parents[2] / "connectors" / "README.md"


def column(name: str) -> dict[str, str]:
    """What the table says of one connector, by the first column."""
    lines = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[header.index(name)] for row in rows}


def told(rate: Rate, what: str) -> str:
    return f"{rate.requests} {what} in {rate.seconds:g} s"


@pytest.mark.parametrize("name", installed())
def test_the_table_is_true(name: str) -> None:
    connector = installed()[name].load()
    said = column(name)
    marks = {match[1]: words for row, words in said.items() if (match := re.match(r"`([A-Z_]+)`", row))}

    assert {mark for mark, words in marks.items() if words.startswith("yes")} == {can.name for can in connector.can}
    assert marks.keys() == {can.name for can in Can}
    assert said["batch"] == str(connector.batch_size)
    assert said["documented limit"].startswith(told(connector.rate, "requests"))
    assert said["records"].split(", ") == sorted(f"{kind}s" for kind in connector.kinds)
