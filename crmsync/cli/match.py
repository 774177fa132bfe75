"""`crmsync match …`: contacts that several records of the CRM may be. A person decides, here or in a spreadsheet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from crmsync import bootstrap
from crmsync.cli.reach import JsonOption, TenantOption, ask_daemon, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, find, load
from crmsync.errors import CrmsyncError
from crmsync.flows import desk
from crmsync.flows.desk import Decision, Outcome
from crmsync.http import wall_clock

NOT_FOUND = 4
ContactArgument = Annotated[str, typer.Argument(metavar="CONTACT", help="Kirim's id, ctc_….")]
RecordArgument = Annotated[str, typer.Argument(metavar="RECORD", help="The CRM's id of the record.")]
ConnectionOption = Annotated[str | None, typer.Option(help="The connection; needed where there are several.")]

commands = typer.Typer(no_args_is_help=True, help="Contacts that several records of the CRM may be.")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(commands, name="match")


@commands.command(name="list")
def list_(
    config: ConfigOption = None,
    tenant: TenantOption = None,
    refused: Annotated[bool, typer.Option("--refused", help="Those that were refused instead.")] = False,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show personal values as they are.")] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a file to decide in, for `crmsync match import`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List contacts whose record a person has to choose, with what both sides hold."""
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = choose_tenant(configuration, tenant).id
    database = bootstrap.open_database(configuration, exclusive=False)
    try:
        told = database.read(lambda tx: desk.overview(tx, chosen, unmask=unmask, refused=refused))
    finally:
        database.close()
    if as_csv:
        typer.echo(desk.to_csv(told), nl=False)
    elif as_json:
        typer.echo(orjson.dumps({"candidates": told}, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(Console(), told, masked=not unmask, refused=refused)


@commands.command()
def accept(
    contact: ContactArgument,
    record: RecordArgument,
    config: ConfigOption = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a contact is a record: they are linked, and kept in step from now on."""
    _decide(config, tenant, connection, contact, record, accepted=True, as_json=as_json)


@commands.command()
def refuse(
    contact: ContactArgument,
    record: RecordArgument,
    config: ConfigOption = None,
    tenant: TenantOption = None,
    connection: ConnectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a contact is not a record. It is remembered; when all are refused, a new record is made."""
    _decide(config, tenant, connection, contact, record, accepted=False, as_json=as_json)


@commands.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `crmsync match list --csv` wrote, with decisions filled in.")],
    config: ConfigOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry out the decisions of a file; rows without one stay on the desk."""
    configuration = load(find(config, os.environ), environ=os.environ)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CrmsyncError(f"{file}: cannot be read as UTF-8 text ({type(error).__name__})") from error
    decisions = desk.of_csv(text, str(file))
    _carry_out(configuration, choose_tenant(configuration, tenant).id, decisions, as_json)


def _decide(
    config: Path | None,
    tenant: str | None,
    connection: str | None,
    contact: str,
    record: str,
    *,
    accepted: bool,
    as_json: bool,
) -> None:
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = choose_tenant(configuration, tenant)
    names = [each.name for each in chosen.connections]
    if connection is None and len(names) != 1:
        raise typer.BadParameter(f"choose one of {', '.join(sorted(names))}", param_hint="--connection")
    if connection is not None and connection not in names:
        raise typer.BadParameter(
            f"“{connection}” is not configured; there are {', '.join(sorted(names))}", param_hint="--connection"
        )
    _carry_out(configuration, chosen.id, [Decision(connection or names[0], contact, record, accepted)], as_json)


def _carry_out(configuration: Configuration, tenant: str, decisions: Sequence[Decision], as_json: bool) -> None:
    """By the running daemon, or on the store itself where none runs."""
    body = {"tenant": tenant, "decisions": [asdict(decision) for decision in decisions]}
    answer = ask_daemon(configuration, "POST", "/match", body)
    if answer is None:
        database = bootstrap.open_database(configuration, exclusive=True)
        try:
            outcome = desk.carry_out(database, tenant, decisions, wall_clock)
        finally:
            database.close()
    else:
        outcome = Outcome(**answer)
    if as_json:
        typer.echo(orjson.dumps(asdict(outcome), option=orjson.OPT_INDENT_2).decode())
    else:
        if outcome.done or not outcome.left:
            typer.echo(f"{outcome.done} decision{'' if outcome.done == 1 else 's'} carried out.")
        for what, why in outcome.left.items():
            typer.echo(f"{what}: {why}.")
    if outcome.left:
        raise typer.Exit(NOT_FOUND)


def _show(console: Console, told: Sequence[dict[str, Any]], *, masked: bool, refused: bool) -> None:
    if not told:
        console.print("Nothing was refused." if refused else "Nobody has to choose anything.")
        return
    for (connection, contact), group in groupby(told, key=lambda each: (each["connection"], each["kirim_id"])):
        several = list(group)
        console.print(f"[bold]{escape(contact)}[/bold]  {escape(connection)}  {_held(several[0]['kirim'])}")
        for each in several:
            console.print(f"  {escape(each['crm_id']):<14} by {escape(each['found_by'])}  {_held(each['crm'])}")
        if not refused:
            console.print(
                f"  [dim]crmsync match accept {escape(contact)} {escape(several[0]['crm_id'])}, or refuse[/dim]"
            )
        console.print()
    if masked:
        console.print("[dim]personal values are masked; --unmask shows them[/dim]")


def _held(fields: dict[str, Any]) -> str:
    shown = (f"{name}: {value}" for name, value in sorted(fields.items()) if value not in (None, "", []))
    return escape(", ".join(shown))
