"""`crmsync conflicts …`: fields that both sides changed or fight over, and what a person decides about one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from crmsync import bootstrap
from crmsync.cli.reach import JsonOption, TenantOption, ask_daemon, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import TenantConfig, find, load
from crmsync.core.decide import Side
from crmsync.flows import conflicts
from crmsync.flows.conflicts import Act, AllRules, Order, Outcome
from crmsync.http import wall_clock

NOT_FOUND = 4
RecordArgument = Annotated[str, typer.Argument(metavar="ID", help="Kirim's id of the record, ctc_… or cnv_….")]
FieldArgument = Annotated[str, typer.Argument(metavar="FIELD", help="The field, as Kirim names it.")]
ConnectionOption = Annotated[str | None, typer.Option(help="The connection; needed where there are several.")]


class ListFirst(TyperGroup):
    """`crmsync conflicts acme` is `crmsync conflicts list acme`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Whatever does not name a command is for `list`."""
        if "--help" not in args and (not args or args[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


commands = typer.Typer(cls=ListFirst, help="Fields that both sides changed, or that go back and forth.")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(commands, name="conflicts")


@commands.command(name="list")
def list_(
    tenant: Annotated[str | None, typer.Argument(metavar="TENANT", help="The tenant; all where none is named.")] = None,
    config: ConfigOption = None,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show personal values as they are.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what both sides changed, with both values and which of them stood, and what is frozen."""
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = [choose_tenant(configuration, tenant)] if tenant else list(configuration.tenants)
    database = bootstrap.open_database(configuration, exclusive=False)
    try:
        told = {
            each.id: database.read(lambda tx, each=each: conflicts.overview(tx, each.id, _rules(each), unmask=unmask))  # type: ignore[misc]
            for each in chosen
        }
    finally:
        database.close()
    if as_json:
        found = [{"tenant": name, **one} for name, rows in told.items() for one in rows]
        typer.echo(orjson.dumps({"conflicts": found}, option=orjson.OPT_INDENT_2).decode())
        return
    for name, rows in told.items():
        _show(Console(), name, rows)
    if any(told.values()) and not unmask:
        Console().print("[dim]personal values are masked; --unmask shows them[/dim]")
    elif not any(told.values()):
        Console().print("Nobody has to look at anything.")


@commands.command()
def keep(
    record: RecordArgument,
    field: FieldArgument,
    side: Annotated[Side | None, typer.Option("--keep", help="Have both sides hold what this side held.")] = None,
    value: Annotated[
        str | None, typer.Option(help="Have both sides hold this; commas part the members of a set.")
    ] = None,
    config: ConfigOption = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide a conflict: both sides get the value, and a frozen field moves again."""
    if (side is None) == (value is None):
        raise typer.BadParameter("say either --keep kirim, --keep crm, or --value", param_hint="--keep")
    _order(config, tenant, connection, record, field, Act.KEEP, side, value, as_json)


@commands.command()
def thaw(
    record: RecordArgument,
    field: FieldArgument,
    config: ConfigOption = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a frozen field move again, by the rules; should the fight go on, it is frozen again."""
    _order(config, tenant, connection, record, field, Act.THAW, None, None, as_json)


def _order(
    config: Path | None,
    tenant: str | None,
    connection: str | None,
    record: str,
    field: str,
    act: Act,
    side: Side | None,
    value: str | None,
    as_json: bool,
) -> None:
    """By the running daemon, or on the store itself where none runs."""
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = choose_tenant(configuration, tenant)
    order = Order(_connection(chosen, connection), record, field, act, side, value)
    answer = ask_daemon(configuration, "POST", "/conflicts", {"tenant": chosen.id, "order": asdict(order)})
    if answer is None:
        database = bootstrap.open_database(configuration, exclusive=True)
        try:
            outcome = conflicts.carry_out(database, chosen.id, _rules(chosen), order, wall_clock)
        finally:
            database.close()
    else:
        outcome = Outcome(**answer)
    if as_json:
        told = {"done": not outcome.refused, "refused": outcome.refused or None}
        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    elif outcome.refused:
        typer.echo(f"{outcome.refused}.", err=True)
    else:
        what = "moves again" if act is Act.THAW else "will be written where it is not held yet"
        typer.echo(f"{field} of {record} {what}.")
    if outcome.refused:
        raise typer.Exit(NOT_FOUND)


def _connection(chosen: TenantConfig, named: str | None) -> str:
    names = sorted(each.name for each in chosen.connections)
    if named is None and len(names) != 1:
        raise typer.BadParameter(f"choose one of {', '.join(names)}", param_hint="--connection")
    if named is not None and named not in names:
        message = f"“{named}” is not configured; there are {', '.join(names)}"
        raise typer.BadParameter(message, param_hint="--connection")
    return named or names[0]


def _rules(tenant: TenantConfig) -> AllRules:
    return {each.name: each.rules for each in tenant.connections}


def _show(console: Console, tenant: str, told: Sequence[dict[str, Any]]) -> None:
    for each in told:
        id, field = escape(each["kirim_id"]), escape(each["field"])
        place = escape(f"{tenant}/{each['connection']}")
        colour = "red" if each["state"] == "frozen" else "yellow"
        console.print(
            f"[bold]{id}[/bold]  {field}  [{colour}]{each['state']}[/{colour}]  {place}  [dim]{each['at']}[/dim]"
        )
        console.print(f"  Kirim {'holds' if each['sequence'] else 'held'} {_value(each['kirim'])}")
        console.print(f"  the CRM {'holds' if each['sequence'] else 'held'} {_value(each['crm'])}")
        for stroke in each["sequence"]:
            where = "Kirim" if stroke["side"] == "kirim" else "the CRM"
            console.print(f"    [dim]{stroke['at']}[/dim]  {where}: {_value(stroke['old'])} → {_value(stroke['new'])}")
        if each["won"]:
            winner = "Kirim's" if each["won"] == "kirim" else "the CRM's"
            console.print(f"  {winner} stood, because the field is owned by: {each['rule']}")
        console.print(f"  [dim]crmsync conflicts keep {id} {field} --keep kirim, --keep crm or --value …[/dim]\n")


def _value(value: Any) -> str:
    if value in (None, "", [], ()):
        return "nothing"
    return escape(", ".join(str(one) for one in value) if isinstance(value, list | tuple) else f"“{value}”")
