"""`crmsync reload`: a running daemon takes up its changed configuration, and says what it took and what has to wait."""

from __future__ import annotations

import os

import orjson
import typer

from crmsync.cli.reach import JsonOption, ask_daemon
from crmsync.cli.run import ConfigOption
from crmsync.config import find, load
from crmsync.errors import CrmsyncError

NOT_FOUND, REFUSED = 4, 78


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(reload)


def reload(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Have the running daemon read its configuration anew. Exit code 78: it has mistakes, and the old one stays."""
    configuration = load(find(config, os.environ), environ=os.environ)
    told = ask_daemon(configuration, "POST", "/reload")
    if told is None and configuration.daemon.database.startswith("postgresql"):
        raise CrmsyncError("daemons on PostgreSQL have no socket here: send each of them SIGHUP")
    if as_json:
        typer.echo(orjson.dumps(told or {"running": False}, option=orjson.OPT_INDENT_2).decode())
    elif told is None:
        typer.echo("No daemon is running; its next start reads the configuration.", err=True)
    else:
        _show(told)
    if told is None:
        raise typer.Exit(NOT_FOUND)
    if told["problems"]:
        raise typer.Exit(REFUSED)


def _show(told: dict[str, list[str]]) -> None:
    for problem in told["problems"]:
        typer.echo(f"crmsync: {problem}", err=True)
    if told["problems"]:
        typer.echo("The configuration before it stays in force.", err=True)
        return
    typer.echo(f"Taken up: {', '.join(told['changed'])}" if told["changed"] else "Nothing to take up has changed.")
    if told["needs_restart"]:
        typer.echo(f"In force after a restart: {', '.join(told['needs_restart'])}")
