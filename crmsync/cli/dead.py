"""`crmsync dead …`: what came to a dead end, why, and what to do about it; try it again, or let it be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crmsync import bootstrap
from crmsync.cli.reach import JsonOption, ask_daemon
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, find, load
from crmsync.connecting.pages import portions
from crmsync.errors import StoreError
from crmsync.flows import dead
from crmsync.flows.dead import Action, Outcome
from crmsync.http import wall_clock
from crmsync.store.dead import Wanted

NOT_FOUND = 4
AT_ONCE = 500
"""Letters in one request to the daemon."""
AGO = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
EXAMPLE = "such as 2026-11-20T08:00:00Z, 2026-11-20T15:00:00+07:00, 90m, 12h or 3d"

TenantOption = Annotated[str | None, typer.Option(help="Only this tenant's.")]
PlaceOption = Annotated[
    str | None, typer.Option("--connection", "--source", help="Only of this connection, or “kirim”.")
]
ReasonOption = Annotated[str | None, typer.Option(help="Only of this reason, as the list shows it.")]
SinceOption = Annotated[str | None, typer.Option(help=f"Only since then: {EXAMPLE}.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that match; needed where nothing else is said.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]…", help="As listed; or ctc_…, or a delivery's number.")
]

commands = typer.Typer(
    no_args_is_help=True, help="What came to a dead end: deliveries, items, pairs, readings, entries."
)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(commands, name="dead")


@commands.command(name="list")
def list_(
    config: ConfigOption = None,
    tenant: TenantOption = None,
    place: PlaceOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many are shown, the youngest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the youngest first, and count them by reason."""
    configuration = load(find(config, os.environ), environ=os.environ)
    wanted = _wanted(tenant, place, reason, since)
    told = _read(configuration, lambda tx: dead.overview(tx, wanted, limit))
    if as_json:
        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        _show_list(Console(), told)


@commands.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="As listed; or ctc_…, or a delivery's number.")],
    config: ConfigOption = None,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show personal values as they are.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one: why it is dead, what was sent and answered, its payload, and what to do."""
    configuration = load(find(config, os.environ), environ=os.environ)
    told = _read(configuration, lambda tx: dead.show(tx, name, unmask=unmask))
    if as_json:
        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    elif not told:
        typer.echo(f"{name} is not dead. Is the id right?")
    else:
        for letter in told:
            _show_letter(Console(), letter, masked=not unmask)
    if not told:
        raise typer.Exit(NOT_FOUND)


@commands.command()
def retry(
    names: NamesArgument = None,
    config: ConfigOption = None,
    tenant: TenantOption = None,
    place: PlaceOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    everything: AllOption = False,
    yes: YesOption = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what is named and not dead: its items count as new once more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Try dead letters again, from the beginning. What was known counts as new."""
    _act(Action.RETRY, config, names or [], _wanted(tenant, place, reason, since), everything, yes, force, as_json)


@commands.command()
def drop(
    names: NamesArgument = None,
    config: ConfigOption = None,
    tenant: TenantOption = None,
    place: PlaceOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    everything: AllOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say that dead letters are right as they are: shown no more, kept all the same, and noted in the history."""
    _act(Action.DROP, config, names or [], _wanted(tenant, place, reason, since), everything, yes, False, as_json)


def _act(
    action: Action,
    config: Path | None,
    names: Sequence[str],
    wanted: Wanted,
    everything: bool,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    configuration = load(find(config, os.environ), environ=os.environ)
    if names and (everything or not wanted.anything):
        raise typer.BadParameter("name letters, or say which with options; not both", param_hint="ID")
    if not names:
        names = _read(configuration, lambda tx: dead.names(tx, wanted))
        if wanted.anything and not (everything and yes):
            raise typer.BadParameter(
                f"would {action} {_letters(len(names))}; name some, choose with an option, or add --all --yes",
                param_hint="ID",
            )
    outcome = _carry_out(configuration, action, names, force)
    if as_json:
        typer.echo(orjson.dumps(asdict(outcome), option=orjson.OPT_INDENT_2).decode())
    else:
        _say(action, outcome)
    if outcome.unknown:
        raise typer.Exit(NOT_FOUND)


def _read(configuration: Configuration, work: Any) -> Any:
    database = bootstrap.open_database(configuration, exclusive=False)
    try:
        return database.read(work)
    finally:
        database.close()


def _carry_out(configuration: Configuration, action: Action, names: Sequence[str], force: bool) -> Outcome:
    """By the running daemon, or on the store itself where none runs."""
    outcome = Outcome()
    for some in portions(names, AT_ONCE):
        answer = ask_daemon(configuration, "POST", "/dead", {"action": action, "names": some, "force": force})
        part = _directly(configuration, action, some, force) if answer is None else Outcome(**answer)
        outcome = Outcome(
            outcome.done + part.done,
            outcome.names + part.names,
            {**outcome.left, **part.left},
            outcome.unknown + part.unknown,
        )
    return outcome


def _directly(configuration: Configuration, action: Action, names: Sequence[str], force: bool) -> Outcome:
    database = bootstrap.open_database(configuration, exclusive=True)
    try:
        return dead.act(database, action, names, wall_clock, force=force)
    except StoreError as error:
        raise StoreError(f"{error}; if a daemon runs elsewhere on this file, ask on its machine") from error
    finally:
        database.close()


def _wanted(tenant: str | None, place: str | None, reason: str | None, since: str | None) -> Wanted:
    return Wanted(tenant, place, reason, _moment(since, wall_clock()) if since else None)


def _moment(text: str, now: datetime) -> datetime:
    """A time of the past: absolute with a zone, or so long ago."""
    ago = re.fullmatch(r"([0-9]{1,6})([mhd])", text.strip())
    if ago:
        return now - int(ago[1]) * AGO[ago[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"“{text}” is no time; write one {EXAMPLE}", param_hint="--since") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"“{text}” names no time zone; write one {EXAMPLE}", param_hint="--since")
    if moment > now:
        raise typer.BadParameter(f"“{text}” is still to come; write one {EXAMPLE}", param_hint="--since")
    return moment.astimezone(UTC)


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


def _say(action: Action, outcome: Outcome) -> None:
    said = "will be tried again" if action is Action.RETRY else "dropped"
    if outcome.done or not (outcome.left or outcome.unknown):
        typer.echo(f"{_letters(outcome.done)} {said}.")
    for name, word in outcome.left.items():
        typer.echo(
            f"{name} is not dead, it is {word}: nothing to do." if word != "no longer kept" else f"{name}: {word}."
        )
    for name in outcome.unknown:
        typer.echo(f"{name} is not known. Is the id right?")


def _show_list(console: Console, told: dict[str, Any]) -> None:
    if not told["total"]:
        console.print("Nothing is dead.")
        return
    for row in told["counts"]:
        console.print(
            f"{row['count']:>7}  {escape(row['tenant'])}/{escape(row['place'])}  {row['form']}  {row['reason']}"
        )
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in ("since", "reason", "id", "what"):
        table.add_column(column, overflow="fold")
    for letter in told["dead"]:
        since = datetime.fromisoformat(letter["since"])
        what = letter["error"] or letter["about"] or f"{letter['tenant']}/{letter['place']}"
        table.add_row(f"{since:%Y-%m-%d %H:%M:%S}", letter["reason"], escape(letter["id"]), escape(what))
    console.print(table)
    if told["total"] > len(told["dead"]):
        console.print(f"[dim]and {told['total'] - len(told['dead'])} more: --limit shows them[/dim]")


def _show_letter(console: Console, letter: dict[str, Any], *, masked: bool) -> None:
    console.print(f"[bold]{escape(letter['id'])}[/bold]  {escape(letter['tenant'])}/{escape(letter['place'])}")
    lines = {
        "reason": letter["reason"],
        "since": letter["since"],
        "error": letter["error"],
        "record": letter["record"],
        "received": letter["received_at"],
        "attempts": letter["attempts"],
    }
    for label, value in lines.items():
        if value:
            console.print(f"  {label:<9} {escape(str(value))}")
    for request in letter["requests"]:
        console.print(
            f"  sent      {escape(', '.join(request['fields_sent']) or 'a question')} to {escape(request['to'])}"
        )
        for line in _answer(request):
            console.print(f"            {escape(line)}")
    console.print(f"  payload   {escape(orjson.dumps(letter['payload'], option=orjson.OPT_INDENT_2).decode())}")
    if masked:
        console.print("            [dim]personal values are masked; --unmask shows them[/dim]")
    console.print(f"  [bold]advice[/bold]    {escape(letter['advice'])}\n")


def _answer(request: dict[str, Any]) -> Iterable[str]:
    yield f"answered: {request['answer']}"
    if request["fields_refused"]:
        yield f"refused: {', '.join(request['fields_refused'])}"
    if request["in_the_way"]:
        yield f"in the way: record {request['in_the_way']}"
