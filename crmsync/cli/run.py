"""`crmsync run`: the daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from crmsync import bootstrap
from crmsync.bootstrap import Role
from crmsync.config import find, load
from crmsync.web.server import run as run_loop

ConfigOption = Annotated[
    Path | None, typer.Option(help="A file or folder; else CRMSYNC_CONFIG, config/ or crmsync.yaml.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def run(
        config: ConfigOption = None,
        roles: Annotated[str, typer.Option(help="What this process does, comma-separated.")] = "web,worker,scheduler",
    ) -> None:
        """Run the daemon until SIGTERM."""
        chosen = _roles(roles)
        path = find(config, os.environ)
        configuration = load(path, environ=os.environ)
        bootstrap.configure_logs(configuration)
        if not run_loop(bootstrap.Daemon(configuration, chosen, path).run()):
            os._exit(0)  # a call to a platform hangs; its thread would keep the process for as long


def _roles(text: str) -> frozenset[Role]:
    named = [name.strip() for name in text.split(",") if name.strip()]
    known = [role.value for role in Role]
    for name in named:
        if name not in known:
            raise typer.BadParameter(f"“{name}” is no role; choose from {', '.join(known)}", param_hint="--roles")
    return frozenset(Role(name) for name in named) or frozenset(Role)
