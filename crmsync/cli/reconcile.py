"""`crmsync reconcile`: do both sides agree? Goes through all records of both, and heals what differs if asked to."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crmsync.cli.meter import Meter
from crmsync.cli.pilot import follow, pilot, seconds_between
from crmsync.cli.reach import JsonOption, TenantArgument, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import find, load
from crmsync.core.compare import Standing
from crmsync.errors import CrmsyncError
from crmsync.flows import reconcile as flow
from crmsync.flows.compare import What

EXIT_TROUBLE = 1
EXIT_DRIFT = 3
EXIT_STOPPED = 130

RECORDS: Mapping[str, str] = {
    What.AGREE: "agree",
    What.DIFFER: "differ in a field",
    What.MISSING_LEFT: "missing in Kirim",
    What.MISSING_RIGHT: "missing in the CRM",
    What.STALE_LINK: "stale links",
    What.IN_FLIGHT: "on their way, not judged",
    What.UNLINKED: "only in the CRM, not linked",
    What.GONE: "gone on both sides, or not to be created",
}
FIELDS: Mapping[str, str] = {
    Standing.AGREE: "agree",
    Standing.KIRIM_RIGHT: "Kirim is right",
    Standing.CRM_RIGHT: "the CRM is right",
    Standing.REFUSED: "refused",
    Standing.LEFT: "left as it is",
    Standing.UNKNOWN: "unknown",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def reconcile(
        tenant: TenantArgument = None,
        heal: Annotated[bool, typer.Option("--heal", help="Have written what differs, as the rules say.")] = False,
        threshold: Annotated[
            int | None, typer.Option(min=0, help="With --heal: if more records differ than this, nothing is healed.")
        ] = None,
        report: Annotated[
            Path | None, typer.Option(dir_okay=False, help="Write the result to this file: .json or .csv.")
        ] = None,
        anew: Annotated[bool, typer.Option("--anew", help="Begin at the start, also where a run was stopped.")] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Compare all records of both sides. Exit code 0: they agree; 3: they do not; 1: it could not be found out."""
        if report is not None and report.suffix not in (".json", ".csv"):
            raise typer.BadParameter("a file that ends in .json or .csv", param_hint="--report")
        configuration = load(find(config, os.environ), environ=os.environ)
        chosen = choose_tenant(configuration, tenant)
        console = Console(stderr=as_json)
        options = flow.Options(heal, threshold)
        with pilot(configuration, chosen) as found:
            id = found.begin(flow.RECONCILE, {**options.document(), "anew": anew})
            _say(console, f"reconcile {chosen.id}: run {id}, in {found.where}")
            with Meter(console, f"reconcile {chosen.id}", None) as meter:
                told = follow(found, id, lambda now: _show(meter, now))
        if report is not None:
            _write(report, told)
        if as_json:
            typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        else:
            _show_result(console, told, chosen.id)
        raise typer.Exit(exit_code(told))


def exit_code(told: Mapping[str, Any]) -> int:
    """What the shell is told of a run."""
    if told["state"] == "stopped":
        return EXIT_STOPPED
    if told["state"] != "done":
        return EXIT_TROUBLE
    return EXIT_DRIFT if left(told) else 0


def left(told: Mapping[str, Any]) -> int:
    """How many records are not as they should be, after healing where that was done."""
    counts = told["counts"]
    if "remaining" in counts:
        return int(counts["remaining"]) + int(counts.get("postponed", 0))
    return int(counts.get("drift", 0))


def _show(meter: Meter, now: Mapping[str, Any]) -> None:
    counts = now["counts"]
    through = int(counts.get("read", 0)) + int(counts.get("fetched", 0))
    trouble = "; ".join(now["trouble"])
    found = int(counts.get("drift", 0))
    meter.show(through, int(counts.get("read", 0)), errors=found, trouble=trouble, last=now["state"] != "running")


def _show_result(console: Console, told: Mapping[str, Any], tenant: str) -> None:
    counts = told["counts"]
    if told["state"] == "stopped":
        _say(console, f"stopped; nothing is lost. To go on within the hour: crmsync reconcile {tenant}{_asked(told)}")
        return
    if told["state"] == "failed":
        _say(console, f"failed: {told['error']}")
        return
    for place, found in sorted(counts.get("report", {}).items()):
        _show_place(console, place, found)
    took = seconds_between(told["began_at"], told["ended_at"])
    _say(
        console,
        f"{counts.get('read', 0):,} records read, {counts.get('fetched', 0):,} asked for by their id,"
        f" {counts.get('compared', 0):,} compared in {took:,.0f} s",
    )
    if told["error"]:
        _say(console, f"not healed: {told['error']}")
    elif "remaining" in counts:
        healed = int(counts.get("drift", 0)) - int(counts["remaining"])
        _say(console, f"{healed:,} healed, {left(told):,} left; crmsync dead list names what cannot be written")
    elif left(told):
        _say(console, f"{left(told):,} are not as they should be: crmsync reconcile {tenant} --heal writes them")
    else:
        _say(console, "both sides agree")


def _show_place(console: Console, place: str, found: Mapping[str, Any]) -> None:
    console.print(f"\n[bold]{escape(place)}[/bold]")
    for what, words in RECORDS.items():
        number = found["records"].get(what, 0)
        if number or what in (What.AGREE, What.DIFFER):
            named = _named(found["samples"].get(what, ()))
            console.print(f"  {number:>10,}  {words}[dim]{escape(named)}[/dim]", highlight=False, soft_wrap=True)
    if not found["fields"]:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("field")
    for words in FIELDS.values():
        table.add_column(words, justify="right")
    for field, numbers in found["fields"].items():
        table.add_row(escape(field), *(f"{numbers.get(standing, 0):,}" for standing in FIELDS))
    console.print(table)
    for what, ids in found["samples"].items():
        if what not in RECORDS:
            console.print(f"  [dim]{escape(what)}{escape(_named(ids))}[/dim]", highlight=False, soft_wrap=True)


def _named(ids: Any) -> str:
    """Ids of a sample: Kirim's where there is one."""
    return f": {', '.join(str(kirim or crm) for kirim, crm in ids)}" if ids else ""


def _asked(told: Mapping[str, Any]) -> str:
    options = told["options"]
    threshold = "" if options["threshold"] is None else f" --threshold {options['threshold']}"
    return (" --heal" if options["heal"] else "") + threshold


def _write(place: Path, told: Mapping[str, Any]) -> None:
    """The report as a file: JSON as it is, or one row for each count."""
    try:
        if place.suffix == ".json":
            place.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
            return
        with place.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("connection", "kind", "field", "finding", "count", "sample"))
            writer.writerows(_rows(told))
    except OSError as error:
        raise CrmsyncError(f"{place} cannot be written: {error.strerror}") from error


def _rows(told: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for place, found in sorted(told["counts"].get("report", {}).items()):
        connection, _, kind = place.rpartition("/")
        for what, number in found["records"].items():
            yield connection, kind, "", what, number, _sample(found["samples"].get(what, ()))
        for field, numbers in found["fields"].items():
            for standing, number in numbers.items():
                yield (
                    connection,
                    kind,
                    field,
                    standing,
                    number,
                    _sample(found["samples"].get(f"{field}: {standing}", ())),
                )


def _sample(ids: Any) -> str:
    return " ".join(str(kirim or crm) for kirim, crm in ids)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
