"""`crmsync status`, `explain` and `resync`: how things stand, why a field holds its value, look again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crmsync import bootstrap
from crmsync.cli.reach import JsonOption, TenantOption, ask_daemon, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, TenantConfig, find, load
from crmsync.errors import StoreError
from crmsync.flows import report
from crmsync.flows.explain import FieldStory, PairStory, explain
from crmsync.flows.resync import resync
from crmsync.flows.tenant import kind_of
from crmsync.flows.unmapped import Assigning, assigning
from crmsync.http import wall_clock
from crmsync.model import Value

NOT_FOUND = 4


def register(app: typer.Typer) -> None:
    """Adds the commands."""

    @app.command()
    def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Show lag, what is due or parked, rates, and what is suspended."""
        configuration = load(find(config, os.environ), environ=os.environ)
        told = _status(configuration)
        if as_json:
            typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        else:
            _show_status(Console(), told, configuration)

    @app.command(name="explain")
    def explain_(
        contact: Annotated[str, typer.Argument(metavar="CTC_ID", help="The contact's Kirim id, ctc_…")],
        field: Annotated[str | None, typer.Option(help="Only this Kirim field.")] = None,
        tenant: TenantOption = None,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Tell why each field of a contact holds its value."""
        configuration = load(find(config, os.environ), environ=os.environ)
        chosen = choose_tenant(configuration, tenant)
        kind = kind_of(contact)
        rules = {each.name: each.rules[kind] for each in chosen.connections if kind in each.rules}
        database = bootstrap.open_database(configuration, exclusive=False)
        try:
            stories = database.read(lambda tx: explain(tx, chosen.id, contact, rules, field))
        finally:
            database.close()
        if as_json:
            told = {"tenant": chosen.id, "contact": contact, "connections": [asdict(story) for story in stories]}
            typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        else:
            _show_stories(Console(), contact, stories)
        if not stories:
            raise typer.Exit(NOT_FOUND)

    @app.command(name="resync")
    def resync_(
        contact: Annotated[str, typer.Argument(metavar="CTC_ID", help="The contact's Kirim id, ctc_…")],
        tenant: TenantOption = None,
        config: ConfigOption = None,
    ) -> None:
        """Have a contact read again on both sides, and decided anew."""
        configuration = load(find(config, os.environ), environ=os.environ)
        chosen = choose_tenant(configuration, tenant)
        marked = _resync(configuration, chosen, contact)
        typer.echo(f"{marked} record{'s' if marked != 1 else ''} of {contact} will be read again.")


def _status(configuration: Configuration) -> dict[str, Any]:
    live = ask_daemon(configuration, "GET", "/status")
    if live is not None:
        return dict(live)
    database = bootstrap.open_database(configuration, exclusive=False)
    try:
        planned, users = bootstrap.schedules(configuration), _assigning(configuration)
        told = database.read(lambda tx: report.status(tx, wall_clock(), planned, users))
        return {**told, "running": None}
    finally:
        database.close()


def _assigning(configuration: Configuration) -> list[Assigning]:
    return [
        found
        for tenant in configuration.tenants
        for each in tenant.connections
        for found in assigning(tenant.id, each.name, each.rules.values(), each.connector_class.can)
    ]


def _resync(configuration: Configuration, tenant: TenantConfig, contact: str) -> int:
    live = ask_daemon(configuration, "POST", "/resync", {"tenant": tenant.id, "id": contact})
    if live is not None:
        return int(live["records"])
    database = bootstrap.open_database(configuration, exclusive=True)
    try:
        built = bootstrap.Builder(configuration).tenant(tenant)
        return database.write(lambda tx: resync(tx, built, contact, wall_clock()))
    except StoreError as error:
        raise StoreError(f"{error}; if a daemon runs elsewhere on this file, ask on its machine") from error
    finally:
        database.close()


def _show_status(console: Console, told: dict[str, Any], configuration: Configuration) -> None:
    minutes = told["recent_seconds"] // 60
    running = f"running as {told['running']}" if told.get("running") else "no daemon answers here"
    console.print(f"[bold]crmsync[/bold]  {escape(str(running))}  [dim]{told['at']}[/dim]\n")
    modes = {(tenant.id, each.name): each.start for tenant in configuration.tenants for each in tenant.connections}
    _table(
        console,
        ["source", "received", "pending", "dead", "lag"],
        [
            [_place(r, "source"), r["received_recently"], r["pending"], r["dead"], _seconds(r["lag_seconds"])]
            for r in told["sources"]
        ],
        "no delivery has come in yet",
    )
    _show_doubts(console, told)
    written = {(r["tenant"], r["connection"], r["side"]): r["fields"] for r in told["written_recently"]}
    _table(
        console,
        ["connection", "mode", "linked", "due", "parked", "lag", "→ CRM", "→ Kirim"],
        [
            [
                _place(r, "connection"),
                modes.get((r["tenant"], r["connection"]), "removed"),
                f"{r['linked']}/{r['pairs']}",
                r["due"],
                r["parked"],
                _seconds(r["lag_seconds"]),
                written.get((r["tenant"], r["connection"], "crm"), 0),
                written.get((r["tenant"], r["connection"], "kirim"), 0),
            ]
            for r in told["connections"]
        ],
        "no contact has been seen yet",
    )
    console.print(f"[dim]received, → CRM and → Kirim (fields written): in the last {minutes} minutes[/dim]")
    _show_quotas(console, told["quotas"])
    _show_schedules(console, told["schedules"])
    for subscription in told["subscriptions"]:
        _show_subscription(console, subscription)
    for pair in told["parked"]:
        console.print(f"[red]parked[/red]  {_place(pair, 'connection')} {pair['id']}: {escape(pair['error'])}")
    _show_disagreement(console, told)
    for run in told["runs"]:
        if run["state"] in ("running", "stopped"):
            read = f"{run['counts'].get('read', 0):,} records read"
            name = f"{run['tenant']}: {run['kind']}, run {run['id']}"
            console.print(f"[yellow]{run['state']}[/yellow]  {escape(name)}, {run['phase']}, {read}")
    for one in told["suspended"]:
        what = escape(f"{one['tenant']}/{one['endpoint']}")
        if one["on_trial"]:
            console.print(f"[yellow]on trial[/yellow]  {what}: works again, was suspended since {one['since']}")
        else:
            console.print(f"[red]suspended[/red]  {what} since {one['since']}: {escape(one['reason'])}")
    for one in told["paused"]:
        _show_pause(console, one)
    for rest in told["resting"]:
        what = f"{rest['tenant']}/{rest['endpoint']} ({rest['work']})"
        if rest["suspended"]:
            console.print(f"[red]suspended[/red]  {escape(what)}: {escape(rest['suspended'])}")
        else:
            console.print(
                f"[yellow]resting[/yellow]  {escape(what)}: {rest['failures']} failures, until {rest['until']}"
            )


def _show_disagreement(console: Console, told: dict[str, Any]) -> None:
    """Where both sides do not agree and people may want to know why."""
    for row in told["connections"]:
        if row["unlinked"]:
            what = f"{row['unlinked']} records were deleted there: their contacts stay without, until they are restored"
            console.print(f"[yellow]unlinked[/yellow]  {_place(row, 'connection')}: {what}")
    for one in told["conflicts"]:
        what = f"{one['open']} open, {one['frozen']} frozen; `crmsync conflicts` shows them"
        console.print(f"[yellow]conflicts[/yellow]  {_place(one, 'connection')}: {what}")
    for one in told.get("unmapped", ()):
        _show_unmapped(console, one)


def _show_unmapped(console: Console, one: dict[str, Any]) -> None:
    """Kirim's users whom the CRM does not know, what becomes of what is theirs, and what to do."""
    who = [f"{name} ({user['id']})" if (name := user["email"] or user["name"]) else user["id"] for user in one["users"]]
    more = one["count"] - len(who)
    theirs = f"goes to {one['otherwise']}" if one["otherwise"] else f"is not written to {one['field']}"
    what = f"{one['count']:,} of Kirim's users unknown there; what is theirs {theirs}"
    cure = "give each a user there with the same e-mail, or name them under users of assignee"
    console.print(f"[yellow]unmapped[/yellow]  {_place(one, 'connection')}: {escape(what)}")
    console.print(f"  {escape(', '.join(who))}{f' and {more:,} more' if more else ''}; [dim]{cure}[/dim]")


def _show_pause(console: Console, one: dict[str, Any]) -> None:
    what = f"{one['tenant']}/{one['connection']}: {one['class']}, since {one['since']} by {one['by']}"
    why = f", {one['reason']}" if one["reason"] else ""
    cure = f"crmsync resume {one['tenant']} {one['connection']} {one['class']}"
    held = f"{one['held']:,} held back; " if one["held"] else ""
    console.print(f"[yellow]paused[/yellow]  {escape(what + why)}; {held}[dim]{escape(cure)}[/dim]")


def _show_doubts(console: Console, told: dict[str, Any]) -> None:
    """What did not prove itself, and a configuration that is not in force: only where there is something to say."""
    if told["quarantine"]:
        _table(
            console,
            ["quarantine", "reason", "requests", "KiB", "oldest"],
            [
                [_place(r, "source"), r["reason"], r["rows"], -(-r["bytes"] // 1024), _seconds(r["age_seconds"])]
                for r in told["quarantine"]
            ],
            "",
        )
    for alarm in told.get("alarms", ()):
        what = f"{_place(alarm, 'source')}: {alarm['reason']}, {alarm['failures']} times; {alarm['advice']}"
        console.print(f"[red]{alarm['alarm']}[/red]  {escape(what)}")
    configuration = told.get("configuration") or {}
    for problem in configuration.get("config_error", ()):
        console.print(f"[red]configuration refused[/red]  {escape(problem)}")
    if configuration.get("needs_restart"):
        keys = ", ".join(configuration["needs_restart"])
        console.print(f"[yellow]needs a restart[/yellow]  {escape(keys)}")


def _show_quotas(console: Console, told: Sequence[dict[str, Any]]) -> None:
    """What is used of each limit, by whom, and until when what is due will be done."""
    rows = [
        [
            f"{', '.join(each['endpoints'])} {each['bucket']}".rstrip(),
            f"{each['requests']:,} in {_span(each['seconds'])}",
            f"{each['left']:.0%}",
            ", ".join(f"{name} {rate:.1f}/s" for name, rate in each["by_class"].items() if rate >= 0.05),
            f"held until {each['held_until']}" if each["held_until"] else _seconds(each["done_in_seconds"]),
        ]
        for each in told
    ]
    if rows:
        _table(console, ["budget", "limit", "left", "sent lately", "due takes"], rows, "")


def _span(seconds: float) -> str:
    """A stretch of time as limits are told."""
    words: dict[float, str] = {60: "a minute", 3600: "an hour", 86400: "a day"}
    return words.get(seconds, f"{seconds:g} s")


def _show_schedules(console: Console, told: Sequence[dict[str, Any]]) -> None:
    """When each comes again, and how it went the last time."""
    rows = [
        [_place(each, "schedule"), each["cron"], each["next"] or "", each["last"] or "", _outcome(each)]
        for each in told
    ]
    if rows:
        _table(console, ["schedule", "when", "next", "last", "outcome"], rows, "")


def _outcome(told: dict[str, Any]) -> str:
    return ": ".join(word for word in (told["outcome"], told["detail"]) if word)


def _show_subscription(console: Console, told: dict[str, Any]) -> None:
    colour = "green" if told["status"] == "active" else "red"
    name = f"{told['tenant']}/kirim subscription {told['subscription'] or ''}".rstrip()
    console.print(f"[{colour}]{escape(told['status'])}[/{colour}]  {escape(name)} [dim]seen {told['at']}[/dim]")
    for finding in told["findings"]:
        console.print(f"[yellow]look[/yellow]  {told['tenant']}/kirim: {escape(finding['text'])}")


def _place(row: dict[str, Any], key: str) -> str:
    return f"{row['tenant']}/{row[key]}"


def _table(console: Console, columns: list[str], rows: list[list[Any]], empty: str) -> None:
    if not rows:
        console.print(f"[dim]{empty}[/dim]\n")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)
    console.print()


def _seconds(lag: float) -> str:
    return str(timedelta(seconds=round(lag))) if lag >= 60 else f"{lag:.1f} s"


def _show_stories(console: Console, contact: str, stories: list[PairStory]) -> None:
    if not stories:
        console.print(f"{escape(contact)} has not been seen. Is the id right, and the tenant?")
        return
    for story in stories:
        place = f"record {story.crm_id}" if story.crm_id else "no record yet"
        console.print(f"[bold]{escape(contact)}[/bold] and [bold]{escape(story.connection)}[/bold], {escape(place)}")
        if story.unlinked:
            console.print(f"  [yellow]unlinked:[/yellow] {escape(story.error)}")
        elif story.error:
            console.print(
                f"  [red]parked:[/red] {escape(story.error)}" if not story.due else f"  {escape(story.error)}"
            )
        for field in story.fields:
            _show_field(console, field, story.connection)
        console.print()


def _show_field(console: Console, field: FieldStory, connection: str) -> None:
    owner = {"kirim": "Kirim", "crm": connection, "latest": "whoever was later", "union": "both"}[field.owner]
    mark = "[green]agreed[/green]" if field.agreed else "[yellow]differ[/yellow]"
    if field.frozen:
        mark += "   [red]frozen[/red]"
    heading = f"\n  [bold]{escape(field.field)}[/bold] ↔ {escape(field.crm_field)}"
    console.print(f"{heading}   {mark}   [dim]owned by {escape(owner)}[/dim]")
    console.print(
        f"    Kirim holds {escape(_value(field.kirim))}, {escape(connection)} holds {escape(_value(field.crm))}"
    )
    if field.frozen:
        console.print("    It went back and forth: crmsync conflicts shows how, and thaws it.")
    for entry in field.entries:
        console.print(f"    [dim]{entry.at:%Y-%m-%d %H:%M:%S}[/dim]  {escape(entry.sentence)}")


def _value(value: Value) -> str:
    if value is None or value in ("", ()):
        return "nothing"
    return ", ".join(value) if isinstance(value, tuple) else f"“{value}”"
