"""`crmsync demo`: the whole product against two emulated platforms, on this machine alone."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
