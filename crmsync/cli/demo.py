"""`crmsync demo`: the whole product between two emulated platforms, on this machine alone.

Starts Kirim, a CRM and a real daemon on the loopback interface, lets people work on both sides, and ends with a
verdict from what the two platforms then hold. Nothing leaves the machine, nothing stays on it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Crm(StrEnum):
    """The CRMs that there are emulators of."""

    HUBSPOT = "hubspot"
    SALESFORCE = "salesforce"


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def demo(
        contacts: Annotated[int, typer.Option(min=1, max=20_000, help="How many contacts arrive.")] = 200,
        seconds: Annotated[float, typer.Option(min=4, max=3600, help="How long people work.")] = 15.0,
        seed: Annotated[int, typer.Option(help="Which story: the same seed, the same people and edits.")] = 1,
        crm: Annotated[Crm, typer.Option(help="Which CRM is emulated.")] = Crm.HUBSPOT,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
        keep: Annotated[bool, typer.Option("--keep", help="Keep the daemon's files, to look into afterwards.")] = False,
    ) -> None:
        """Show crmsync at work between an emulated Kirim and an emulated CRM. Exit code: 0 agreed, 3 not."""
        from crmsync.cli.demo_play import play  # the emulators are nothing that a daemon should carry about
        from crmsync.sandbox.story import Plan

        play(Plan(contacts, seconds, seed, crm.value), as_json=as_json, keep=keep)
