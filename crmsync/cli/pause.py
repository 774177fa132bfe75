"""`crmsync pause` and `crmsync resume`: stop a kind of write on a connection, and let it go on."""

from __future__ import annotations

import os
from typing import Annotated, Any

import orjson
import typer

from crmsync import bootstrap
from crmsync.cli.reach import JsonOption, ask_daemon, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, TenantConfig, find, load
from crmsync.core.brakes import ALL
from crmsync.flows import pausing
from crmsync.flows.pausing import CLASSES
from crmsync.http import wall_clock

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant.")]
ConnectionArgument = Annotated[
    str | None,
    typer.Argument(metavar="[CONNECTION]", help="The connection; else all of them.", show_default=False),
]
ClassArgument = Annotated[
    str | None, typer.Argument(metavar="[CLASS]", help=f"{', '.join(CLASSES)}; by default all.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""

    @app.command()
    def pause(
        tenant: TenantArgument,
        connection: ConnectionArgument = None,
        kind: ClassArgument = None,
        reason: Annotated[str, typer.Option(help="Why, for others to see.")] = "",
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Stop a kind of write, or all of them. What is told and read is still taken in, and what is due stays due."""
        configuration = load(find(config, os.environ), environ=os.environ)
        chosen = choose_tenant(configuration, tenant)
        names, what = _meant(chosen, connection, kind)
        body = {"tenant": chosen.id, "connections": names, "class": what, "reason": reason}
        told = _carry_out(configuration, "pause", body)
        if as_json:
            typer.echo(orjson.dumps({"paused": told}, option=orjson.OPT_INDENT_2).decode())
            return
        for each in told:
            by = "by you" if each["by"] == pausing.OPERATOR else "by a brake"
            typer.echo(f"{each['tenant']}/{each['connection']}: {each['class']} is paused, {by}.")

    @app.command()
    def resume(
        tenant: TenantArgument,
        connection: ConnectionArgument = None,
        kind: ClassArgument = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Let go on what was paused, by you or by a brake. Brakes begin to count anew."""
        configuration = load(find(config, os.environ), environ=os.environ)
        chosen = choose_tenant(configuration, tenant)
        names, what = _meant(chosen, connection, kind)
        told = _carry_out(configuration, "resume", {"tenant": chosen.id, "connections": names, "class": what})
        if as_json:
            typer.echo(orjson.dumps({"resumed": told}, option=orjson.OPT_INDENT_2).decode())
            return
        for each in told:
            typer.echo(f"{each['tenant']}/{each['connection']}: {each['class']} goes on.")
        if not told:
            typer.echo("Nothing of that was paused.")


def _meant(tenant: TenantConfig, connection: str | None, kind: str | None) -> tuple[list[str], str]:
    """The connections and the kind; a kind alone means all connections."""
    names = [each.name for each in tenant.connections]
    if kind is None and connection in CLASSES and connection not in names:
        connection, kind = None, connection
    if connection is not None and connection not in names:
        raise typer.BadParameter(
            f"“{connection}” is not configured; there are {', '.join(sorted(names))}", param_hint="CONNECTION"
        )
    if kind is not None and kind not in CLASSES:
        raise typer.BadParameter(f"“{kind}” is none of {', '.join(CLASSES)}", param_hint="CLASS")
    return ([connection] if connection else names), kind or ALL


def _carry_out(configuration: Configuration, act: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """By the running daemon, or on the store itself where none runs."""
    answer = ask_daemon(configuration, "POST", f"/{act}", body)
    if answer is not None:
        return list(answer[f"{act}d" if act.endswith("e") else act])
    database = bootstrap.open_database(configuration, exclusive=True)
    try:
        tenant, names, what = body["tenant"], body["connections"], body["class"]
        if act == "pause":
            return pausing.pause(database, tenant, names, what, body["reason"], wall_clock)
        return pausing.resume(database, tenant, names, what, wall_clock)
    finally:
        database.close()
