"""`crmsync plan` shows every write that would be made, to the field; `crmsync apply` has exactly those made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from crmsync import bootstrap
from crmsync.cli.meter import Meter
from crmsync.cli.pilot import follow, pilot
from crmsync.cli.reach import JsonOption, TenantArgument, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, TenantConfig, find, load
from crmsync.core.masking import masked
from crmsync.core.plan import Action, Surprise
from crmsync.errors import CrmsyncError
from crmsync.flows import plan as flow
from crmsync.store import plans

EXIT_TROUBLE = 1
EXIT_MOVED = 3
EXIT_STOPPED = 130
FORMAT = 1
SHOWN = 5

RECORDS: Mapping[str, str] = {
    Action.CREATE: "created in the CRM",
    Action.ADOPT: "records of the CRM linked, and given the Kirim id",
    Action.UPDATE: "changed",
    Action.CHOOSE: "left until a person chooses their record: crmsync match list",
}
SURPRISES: Mapping[str, str] = {
    Surprise.OVERWRITE: "values replaced by others",
    Surprise.CLEAR: "values emptied",
    Surprise.REMOVAL: "sets that lose members",
}
ConnectionOption = Annotated[str | None, typer.Option(help="The connection; needed where there are several.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(plan)
    app.command()(apply)


def plan(
    tenant: TenantArgument = None,
    connection: ConnectionOption = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Save the plan here, for `crmsync apply`.")] = None,
    config: ConfigOption = None,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show personal values as they are.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the writes that would be made now, counted and by example. Writes nothing anywhere."""
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = choose_tenant(configuration, tenant)
    name = _connection(chosen, connection)
    console = Console(stderr=as_json)
    with pilot(configuration, chosen) as found:
        id = found.begin(flow.PLAN, flow.Options(name).document())
        with Meter(console, f"plan {chosen.id}/{name}", None) as meter:
            told = follow(found, id, lambda now: _meter(meter, now, "read"))
    if told["state"] != "done":
        raise CrmsyncError(f"the plan was not finished: {told['error'] or told['state']}")
    items = _items(configuration, id)
    if out is not None:
        _save(out, chosen.id, name, told, items)
        _say(console, f"saved in {out}; it holds personal data: crmsync apply {out}")
    if as_json:
        report = {"tenant": chosen.id, "connection": name, "counts": told["counts"], "items": items}
        typer.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(console, told["counts"], items, unmask=unmask)


def apply(
    file: Annotated[Path, typer.Argument(help="What `crmsync plan --out` saved.")],
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have the writes of a saved plan made, each only if it would still be the same. Exit code 3: some were not."""
    configuration = load(find(config, os.environ), environ=os.environ)
    head, items = _load(file)
    chosen = choose_tenant(configuration, head["tenant"])
    name = _connection(chosen, head["connection"])
    wanted = [item for item in items if item["action"] != Action.CHOOSE]
    console = Console(stderr=as_json)
    _show(console, head["counts"], (), unmask=False)
    if not yes and not typer.confirm(f"Write these {len(wanted)} records?", err=as_json):
        raise typer.Abort
    asked = {"connection": name, "items": [[item["kind"], item["kirim_id"], item["fingerprint"]] for item in wanted]}
    with pilot(configuration, chosen) as found:
        id = found.begin(flow.APPLY, asked)
        with Meter(console, f"apply {chosen.id}/{name}", len(wanted)) as meter:
            told = follow(found, id, lambda now: _meter(meter, now, "done"))
    counts = told["counts"]
    left = _read(configuration, lambda tx: [_trouble(row) for row in plans.troubles(tx, id, SHOWN)])
    if as_json:
        report = {"tenant": chosen.id, "connection": name, "state": told["state"], "counts": counts, "left": left}
        typer.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _say(console, f"{counts.get('done', 0):,} records written")
        for state, words in (("moved", "changed since the plan was made, and not written"), ("failed", "refused")):
            if counts.get(state):
                _say(console, f"{counts[state]:,} {words}")
        for each in left:
            _say(console, f"  {each['kirim_id']}: {each['error']}")
    if told["state"] == "stopped":
        raise typer.Exit(EXIT_STOPPED)
    if told["state"] != "done":
        raise typer.Exit(EXIT_TROUBLE)
    if counts.get("moved") or counts.get("failed"):
        raise typer.Exit(EXIT_MOVED)


def _connection(tenant: TenantConfig, named: str | None) -> str:
    names = sorted(each.name for each in tenant.connections)
    if named is None and len(names) == 1:
        return names[0]
    if named is None:
        raise typer.BadParameter(f"choose one of {', '.join(names)}", param_hint="--connection")
    if named not in names:
        raise typer.BadParameter(
            f"“{named}” is not configured; there are {', '.join(names)}", param_hint="--connection"
        )
    return named


def _meter(meter: Meter, now: Mapping[str, Any], name: str) -> None:
    counts = now["counts"]
    done = int(counts.get(name, 0))
    errors = int(counts.get("failed", 0)) + int(counts.get("moved", 0))
    meter.show(done, done, errors=errors, trouble="; ".join(now["trouble"]), last=now["state"] != "running")


def _read(configuration: Configuration, work: Any) -> Any:
    database = bootstrap.open_database(configuration, exclusive=False)
    try:
        return database.read(work)
    finally:
        database.close()


def _items(configuration: Configuration, run: int) -> list[dict[str, Any]]:
    return list(_read(configuration, lambda tx: list(plans.items(tx, run))))


def _trouble(row: Any) -> dict[str, Any]:
    return {"kind": row.kind, "kirim_id": row.kirim_id, "state": row.state, "error": row.error}


def _save(place: Path, tenant: str, connection: str, told: Mapping[str, Any], items: Iterable[Any]) -> None:
    """One line for the whole, then one for each record. Only its owner may read it."""
    head = {
        "crmsync_plan": FORMAT,
        "tenant": tenant,
        "connection": connection,
        "made_at": told["ended_at"],
        "counts": told["counts"],
    }
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            for line in (head, *items):
                file.write(orjson.dumps(line) + b"\n")
    except OSError as error:
        raise CrmsyncError(f"{place} cannot be written: {error.strerror}") from error


def _load(place: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The head and the items of a saved plan. Raises `CrmsyncError` naming the line that is wrong."""
    try:
        lines = place.read_bytes().splitlines()
    except OSError as error:
        raise CrmsyncError(f"{place} cannot be read: {error.strerror}") from error
    read: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        needed = {"kind", "kirim_id", "fingerprint", "action"} if read else {"crmsync_plan", "tenant", "connection"}
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict) or not needed <= found.keys():
            raise CrmsyncError(f"{place}:{number}: this is no line of a plan; `crmsync plan --out` writes one")
        read.append(found)
    if not read or read[0]["crmsync_plan"] != FORMAT:
        raise CrmsyncError(f"{place}:1: this is no plan that this version can apply; make it anew")
    return read[0], read[1:]


def _show(console: Console, counts: Mapping[str, Any], items: Sequence[dict[str, Any]], *, unmask: bool) -> None:
    records, fields, surprises = (counts.get(name, {}) for name in ("records", "fields", "surprises"))
    if not records:
        _say(console, "nothing would be written: both sides agree, as far as they are known")
        return
    for action, words in RECORDS.items():
        if records.get(action):
            console.print(f"  {records[action]:>10,}  {words}", highlight=False)
    for surprise, words in SURPRISES.items():
        if surprises.get(surprise):
            console.print(f"  [yellow]{surprises[surprise]:>10,}  {words}[/yellow]", highlight=False)
    for field, number in sorted(fields.items()):
        console.print(f"  [dim]{number:>10,}  {escape(field)}[/dim]", highlight=False)
    for item in items[:SHOWN]:
        _show_item(console, item, unmask=unmask)
    if len(items) > SHOWN:
        _say(console, f"\nand {len(items) - SHOWN:,} more records")
    if items and not unmask:
        console.print("[dim]personal values are masked; --unmask shows them[/dim]")


def _show_item(console: Console, item: Mapping[str, Any], *, unmask: bool) -> None:
    console.print(f"\n[bold]{escape(item['kirim_id'])}[/bold]  {escape(item['action'])} {item['crm_id'] or ''}")
    for write in item["writes"]:
        now, then = (value if unmask else masked(value, "value") for value in (write["now"], write["then"]))
        _say(console, f"  {write['to']}.{write['field']}: {now!r} → {then!r}  ({write['why']})")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
