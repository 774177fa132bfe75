"""`crmsync segments …`: which segments the CRM has, which labels they manage in Kirim, and walking them now."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crmsync import bootstrap, logs
from crmsync.cli.reach import JsonOption, TenantArgument, ask_daemon, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, TenantConfig, find, load
from crmsync.errors import ConnectorError, CrmsyncError
from crmsync.flows.segments import Segmenting, work_off
from crmsync.http import wall_clock
from crmsync.model import Can
from crmsync.store import segments
from crmsync.store.database import Database

EXIT_TROUBLE = 1
LOOK_AGAIN = 0.2
LabelOption = Annotated[str | None, typer.Option(help="Only this label.")]

commands = typer.Typer(no_args_is_help=True, help="Segments of the CRM, and the labels that they manage in Kirim.")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(commands, name="segments")


@commands.command(name="list")
def list_(tenant: TenantArgument = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the segments that the CRM has, and the label of each that manages one."""
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = choose_tenant(configuration, tenant)
    builder = bootstrap.Builder(configuration)
    found: list[dict[str, Any]] = []
    for each in chosen.connections:
        if Can.SEGMENTS not in each.connector_class.can:
            continue
        connector = builder.connector(chosen, each)
        labels = {rule.segment.casefold(): rule.label for rule in each.segments.values()}
        try:
            for segment in connector.segments():
                label = labels.get(segment.id) or labels.get(segment.name.casefold())
                shown = {"id": segment.id, "name": segment.name, "dynamic": segment.dynamic, "size": segment.size}
                found.append({"connection": each.name, **shown, "label": label})
        except ConnectorError as error:
            raise CrmsyncError(f"{each.name}: {error}") from error
        finally:
            connector.close()
    if as_json:
        typer.echo(orjson.dumps({"segments": found}, option=orjson.OPT_INDENT_2).decode())
        return
    if not found:
        typer.echo("There are no segments.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in ("connection", "id", "name", "kind", "members", "label"):
        table.add_column(column, overflow="fold")
    for one in found:
        size = "" if one["size"] is None else f"{one['size']:,}"
        kind = "dynamic" if one["dynamic"] else "static"
        table.add_row(one["connection"], one["id"], escape(one["name"]), kind, size, escape(one["label"] or ""))
    Console().print(table)


@commands.command()
def show(
    tenant: TenantArgument = None, label: LabelOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show the labels that segments manage: who has them from us, and how the last walk went."""
    configuration = load(find(config, os.environ), environ=os.environ)
    told = _told(configuration, choose_tenant(configuration, tenant).id, label)
    if as_json:
        typer.echo(orjson.dumps({"labels": told}, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(Console(), told)


@commands.command()
def sync(
    tenant: TenantArgument = None,
    label: LabelOption = None,
    allow_removals: Annotated[
        bool, typer.Option("--allow-removals", help="However many lose the label this time.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who would get and lose the label.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the segments now, and give and take their labels. Exit code 1: something is for you to see to."""
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = choose_tenant(configuration, tenant)
    if dry_run:
        told = _dry(configuration, chosen, label)
    else:
        since = _walk(configuration, chosen, label, permitted=allow_removals)
        told = [one for one in _told(configuration, chosen.id, label) if one["done_at"] and one["done_at"] >= since]
    if as_json:
        typer.echo(orjson.dumps({"labels": told}, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(Console(), told)
    if any(one["error"] for one in told):
        raise typer.Exit(EXIT_TROUBLE)


def _walk(configuration: Configuration, tenant: TenantConfig, label: str | None, *, permitted: bool) -> str:
    """Has the labels walked, by the daemon or here, and waits for it; says since when."""
    asked = {"tenant": tenant.id, "label": label, "permitted": permitted}
    answer = ask_daemon(configuration, "POST", "/segments", asked)
    if answer is not None:
        _wait(configuration, tenant.id, label, answer["at"])
        return str(answer["at"])
    logs.configure("error", configuration.daemon.log.format)  # what matters is shown by the command
    with bootstrap.alone(configuration, tenant) as found:
        now = wall_clock()

        def store(tx: Any) -> None:
            for each in tenant.connections:
                segments.configure(tx, tenant.id, each.name, set(each.segments), now)
            segments.ring(tx, tenant.id, now, label=label or "", permitted=permitted)

        found.database.write(store)
        found.wake()
        _wait_on(found.database, tenant.id, label, now.isoformat())
        return now.isoformat()


def _wait(configuration: Configuration, tenant: str, label: str | None, since: str) -> None:
    database = bootstrap.open_database(configuration, exclusive=False)
    try:
        _wait_on(database, tenant, label, since)
    finally:
        database.close()


def _wait_on(database: Database, tenant: str, label: str | None, since: str) -> None:
    began = datetime.fromisoformat(since)
    while True:
        rows = database.read(lambda tx: segments.overview(tx, tenant))
        if all(row.done_at is not None and row.done_at >= began for row in rows if label in (None, row.label)):
            return
        time.sleep(LOOK_AGAIN)


def _dry(configuration: Configuration, tenant: TenantConfig, label: str | None) -> list[dict[str, Any]]:
    builder = bootstrap.Builder(configuration)
    database = bootstrap.open_database(configuration, exclusive=False)
    made = builder.tenant(tenant)
    try:
        found = []
        for each in made.connections.values():
            rules = {name: rule for name, rule in each.segments.items() if label in (None, name)}
            around = Segmenting(database, made, each.name, lambda tx: None, wall_clock, lambda *words: None, dry=True)
            for name, told in work_off(around, rules).items():
                found.append({"connection": each.name, "label": name, "done_at": None, "error": "", **told.document()})
        return found
    except ConnectorError as error:
        raise CrmsyncError(str(error)) from error
    finally:
        database.close()


def _told(configuration: Configuration, tenant: str, label: str | None) -> list[dict[str, Any]]:
    database = bootstrap.open_database(configuration, exclusive=False)
    try:
        rows = database.read(lambda tx: segments.overview(tx, tenant))
    finally:
        database.close()
    return [
        {
            "connection": row.connection,
            "label": row.label,
            "applied_now": row.applied,
            "done_at": row.done_at.isoformat() if row.done_at else None,
            "due_at": row.due_at.isoformat(),
            "error": row.error,
            **row.told,
        }
        for row in rows
        if label in (None, row.label)
    ]


def _show(console: Console, told: Sequence[dict[str, Any]]) -> None:
    if not told:
        console.print("No segment manages a label.")
        return
    for one in told:
        console.print(
            f"[bold]{escape(one['label'])}[/bold]  {escape(one['connection'])}  {escape(one.get('segment', ''))}"
        )
        lines = [
            (one.get("members"), "members"),
            (one.get("attach"), "to get the label"),
            (one.get("detach"), "to lose it"),
            (one.get("applied"), "taken by Kirim"),
            (one.get("skipped_cross_org"), "skipped: not of this organisation"),
            (one.get("skipped_team_mismatch"), "skipped: of another team"),
            (one.get("held_back"), "kept back"),
        ]
        for number, words in lines:
            if number:
                console.print(f"  {number:>10,}  {words}", highlight=False)
        if one.get("unknown"):
            named = ", ".join(one["unknown_sample"])
            console.print(f"  {one['unknown']:>10,}  not in Kirim: {escape(named)}", highlight=False, soft_wrap=True)
        if one["error"]:
            console.print(f"  [yellow]{escape(one['error'])}[/yellow]", highlight=False, soft_wrap=True)
