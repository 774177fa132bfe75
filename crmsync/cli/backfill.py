"""`crmsync backfill`: everything that one side holds is looked at, and what differs is brought to agreement."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from crmsync import bootstrap
from crmsync.cli.meter import Meter
from crmsync.cli.pilot import follow, pilot, seconds_between
from crmsync.cli.reach import JsonOption, TenantArgument, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, TenantConfig, find, load
from crmsync.errors import StoreError
from crmsync.flows import backfill as flow
from crmsync.flows.forecast import Forecast, forecast
from crmsync.flows.legs import CRM, legs
from crmsync.flows.tenant import Tenant
from crmsync.http import wall_clock
from crmsync.renewal import close_endpoints
from crmsync.store.database import Database
from crmsync.store.records import KIRIM

EXIT_FAILED = 1
EXIT_STOPPED = 130


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def backfill(
        tenant: TenantArgument = None,
        source: Annotated[
            str, typer.Option("--from", help="kirim, crm for every CRM, or the name of a connection.")
        ] = KIRIM,
        since: Annotated[
            datetime | None, typer.Option(help="Only what changed since then; UTC, or with an offset.", formats=FORMATS)
        ] = None,
        limit: Annotated[int | None, typer.Option(min=1, help="So many records at most.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and compare; store and write nothing.")] = False,
        anew: Annotated[bool, typer.Option("--anew", help="Begin at the start, also where a run was stopped.")] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Walk through all that one side holds, and bring what differs to agreement. Resumes where it stopped."""
        configuration = load(find(config, os.environ), environ=os.environ)
        chosen = choose_tenant(configuration, tenant)
        options = flow.Options(source, _aware(since), limit)
        console = Console(stderr=as_json)
        told = _plan(console, configuration, chosen, options, dry_run=dry_run)
        if not dry_run:
            told = {**told, **_do(console, configuration, chosen, options, told["records"], anew=anew)}
        if as_json:
            typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        raise typer.Exit({"stopped": EXIT_STOPPED, "failed": EXIT_FAILED}.get(str(told.get("state")), 0))


FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def _aware(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _plan(
    console: Console, configuration: Configuration, chosen: TenantConfig, options: flow.Options, *, dry_run: bool
) -> dict[str, Any]:
    """The forecast, and with `dry_run` the rehearsal."""
    builder = bootstrap.Builder(configuration)
    with ExitStack() as closing:
        tenant = builder.tenant(chosen)
        closing.callback(lambda: close_endpoints([tenant]))
        database = _to_read(configuration)
        if database is not None:
            closing.callback(database.close)
        if not legs(tenant, options.source):
            names = ", ".join((KIRIM, CRM, *tenant.connections))
            raise typer.BadParameter(
                f"“{options.source}” has nothing to walk; choose from {names}", param_hint="--from"
            )
        seen = forecast(database, tenant, options, lambda name, bucket: builder.budgets[tenant.id, name].pace(bucket))
        _show_forecast(console, tenant, options, seen, wall_clock())
        told: dict[str, Any] = {
            "tenant": tenant.id,
            "forecast": _as_json(seen),
            "records": seen.records if seen.exact else None,
        }
        if dry_run:
            told["dry_run"] = dict(_rehearse(console, database, tenant, options, told["records"]))
        return told


def _to_read(configuration: Configuration) -> Database | None:
    """The store as it is; None where there is none yet."""
    try:
        return bootstrap.open_database(configuration, exclusive=False)
    except StoreError:
        return None


def _rehearse(
    console: Console, database: Database | None, tenant: Tenant, options: flow.Options, total: int | None
) -> Mapping[str, int]:
    with Meter(console, "rehearsal", total) as meter:
        counts = flow.rehearse(database, tenant, options, lambda now: meter.show(now["read"], now["read"]))
        meter.show(counts["read"], counts["read"], last=True)
    _say(
        console,
        f"dry run: {counts['read']:,} records read, {counts['new']:,} not known yet, {counts['changed']:,} other than"
        " known; nothing was stored or written",
    )
    return counts


def _do(
    console: Console,
    configuration: Configuration,
    chosen: TenantConfig,
    options: flow.Options,
    total: int | None,
    *,
    anew: bool,
) -> dict[str, Any]:
    with pilot(configuration, chosen) as found:
        id = found.begin(flow.BACKFILL, {**options.document(), "anew": anew})
        began = found.look(id)
        if began["counts"]:
            _say(console, f"run {id} goes on behind {began['counts'].get('read', 0):,} records, in {found.where}")
        else:
            _say(console, f"run {id} begins, in {found.where}")
        with Meter(console, f"backfill {chosen.id}", total) as meter:
            ended = follow(found, id, lambda now: _show(meter, now))
    _show_end(console, chosen, options, ended)
    return ended


def _show(meter: Meter, now: Mapping[str, Any]) -> None:
    counts = now["counts"]
    read = int(counts.get("read", 0))
    errors = int(counts.get("parked", 0)) + int(counts.get("postponed", 0))
    trouble = "; ".join(now["trouble"])
    meter.show(max(0, read - now["left"]), read, errors=errors, trouble=trouble, last=now["state"] != "running")


def _show_forecast(console: Console, tenant: Tenant, options: flow.Options, seen: Forecast, now: datetime) -> None:
    """Records, requests on each side, the share of the quota, and when it ends."""
    what = "everything" if options.since is None else f"what changed since {options.since:%Y-%m-%d %H:%M}"
    _say(console, f"{tenant.id}: {what} of {options.source}")
    known = f"{seen.records:,}" if seen.exact else f"at least {seen.records:,}; how many is not told beforehand"
    _say(console, f"  records    {known}")
    for share in seen.shares:
        calls = f"{share.reads:,} reads, {share.writes:,} writes at most"
        _say(console, f"  {share.endpoint:<10} {calls}: {share.share:.0%} of its quota while this lasts")
    for name, connection in tenant.connections.items():
        if not connection.live:
            _say(console, f"  {name:<10} is in plan mode: it is compared, and nothing is written")
    ends = (now + seen.lasts).astimezone()
    least = "" if seen.exact else "not before "
    _say(console, f"  ends       {least}{ends:%H:%M:%S}, after {timedelta(seconds=round(seen.lasts.total_seconds()))}")


def _show_end(console: Console, chosen: TenantConfig, options: flow.Options, told: Mapping[str, Any]) -> None:
    counts = told["counts"]
    took = seconds_between(told["began_at"], told["ended_at"] or told["moved_at"])
    read = int(counts.get("read", 0))
    if told["state"] == "stopped":
        again = f"crmsync backfill {chosen.id}" + "".join(
            f" --{name} {value}"
            for name, value in {
                "from": None if options.source == KIRIM else options.source,
                "since": options.since and options.since.isoformat(),
                "limit": options.limit,
            }.items()
            if value
        )
        _say(console, f"stopped behind {read:,} records; nothing is lost. To go on: {again}")
        return
    if told["state"] == "failed":
        _say(console, f"failed behind {read:,} records: {told['error']}")
        return
    news = int(counts.get("new", 0)) + int(counts.get("changed", 0)) + int(counts.get("introduced", 0))
    _say(
        console, f"done: {read:,} records read, {news:,} were news, in {took:,.0f} s ({read / max(took, 0.001):,.0f}/s)"
    )
    if counts.get("parked"):
        _say(console, f"{counts['parked']:,} are parked: crmsync dead list names them, and what to do")
    if counts.get("postponed"):
        _say(console, f"{counts['postponed']:,} are tried again later: crmsync status shows why")


def _as_json(seen: Forecast) -> dict[str, Any]:
    return {
        "records": seen.records,
        "exact": seen.exact,
        "seconds": seen.lasts.total_seconds(),
        "endpoints": [
            {"endpoint": s.endpoint, "reads": s.reads, "writes": s.writes, "share": round(s.share, 3)}
            for s in seen.shares
        ],
    }


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
