"""The table of connectors is what each connector declares."""

from __future__ import annotations

import re
from pathlib import Path

from crmsync.cli.connectors import MEANING, describe, table
from crmsync.connector import installed
from crmsync.model import Can

README = Path(__file__).parents[2] / "connectors" / "README.md"


def test_the_table_is_what_the_command_prints() -> None:
    """Of the connectors in this repository: `crmsync connectors --markdown`."""
    own = [
        describe(name, point) for name, point in sorted(installed().items()) if point.value.startswith("connectors.")
    ]
    text = README.read_text(encoding="utf-8")
    printed = re.search(r"<!-- capabilities -->\n\n(.*?)\n\n<!-- end of capabilities -->", text, re.DOTALL)

    assert printed is not None
    assert [each.missing for each in own if each.missing] == []
    assert printed[1] == table(own), "put between the markers what `crmsync connectors --markdown` prints"


def test_every_capability_is_explained() -> None:
    """One that is added to the interface must be added to the table."""
    assert MEANING.keys() == set(Can)
