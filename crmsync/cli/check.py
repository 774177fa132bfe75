"""`crmsync check`: is the configuration right, and with `--online`, do the accounts agree with it?

Writes nothing, unless `--prepare` asks to create what is missing in a CRM's account.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Protocol

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crmsync.config import Configuration, ConnectionConfig, TenantConfig, find, load
from crmsync.config.account import mapping_problems
from crmsync.connector import Connector
from crmsync.errors import ConfigError, ConnectorError, Problem, Unsupported
from crmsync.flows.kept import held
from crmsync.flows.selftest import answers, self_test
from crmsync.http import wall_clock
from crmsync.model import Can, Kind

EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h
EXIT_ACCOUNT = 1


class Builder(Protocol):
    """Makes connectors that can be asked questions: a part of `crmsync.bootstrap`."""

    def kirim(self, tenant: TenantConfig) -> Connector[Any]:
        """Kirim, as this tenant reaches it."""

    def connector(self, tenant: TenantConfig, connection: ConnectionConfig) -> Connector[Any]:
        """One CRM of a tenant."""


MakeBuilder = Callable[[Configuration], Builder]


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of an account. `ok` is False for what must be cured before the connection can work."""

    tenant: str
    connection: str
    ok: bool
    message: str


def register(app: typer.Typer, build: MakeBuilder | None = None) -> None:
    """Adds `check` to the application. `build` makes what `--online` asks; by default `crmsync.bootstrap` does."""

    @app.command()
    def check(
        config: Annotated[
            Path | None, typer.Option(help="A file or folder; else CRMSYNC_CONFIG, config/ or crmsync.yaml.")
        ] = None,
        online: Annotated[bool, typer.Option("--online", help="Also ask Kirim and every CRM.")] = False,
        prepare: Annotated[
            bool, typer.Option("--prepare", help="Create what is missing in the CRMs, where it can; implies --online.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Check the configuration, and with --online the accounts. Exit code: 0 fine, 78 configuration, 1 account."""
        code = run(
            config, os.environ, Console(), online=online or prepare, prepare=prepare, as_json=as_json, build=build
        )
        raise typer.Exit(code)


def run(
    config: Path | None,
    environ: Mapping[str, str],
    console: Console,
    *,
    online: bool = False,
    prepare: bool = False,
    as_json: bool = False,
    build: MakeBuilder | None = None,
) -> int:
    """The command without its command line. Returns the exit code."""
    try:
        configuration = load(find(config, environ), environ=environ)
    except ConfigError as error:
        _show_problems(console, error.problems, as_json)
        return EXIT_CONFIG
    if not as_json:
        _show_configuration(console, configuration)
    findings: list[Finding] = []
    if online:
        for finding in ask(configuration, (build or _bootstrap)(configuration), prepare=prepare):
            findings.append(finding)
            if not as_json:
                _show_finding(console, finding)
    if as_json:
        _print_json(_as_data(configuration, findings))
    return 0 if all(finding.ok for finding in findings) else EXIT_ACCOUNT


def _bootstrap(configuration: Configuration) -> Builder:
    """Imported late: only `--online` needs all that it brings."""
    from crmsync import bootstrap

    return bootstrap.Builder(configuration)


# -- asking the accounts ----------------------------------------------------------------------------------------------


def ask(configuration: Configuration, builder: Builder, *, prepare: bool = False) -> Iterator[Finding]:
    """What each account says, one after the other; one that fails does not keep the others from being asked."""
    for tenant in configuration.tenants:
        for connection in (None, *tenant.connections):
            name = connection.name if connection else "kirim"
            try:
                for ok, message in _ask_one(builder, tenant, connection, prepare):
                    yield Finding(tenant.id, name, ok, message)
                if connection is None and configuration.daemon.public_url:
                    for ok, message in way_in(tenant, configuration.daemon.public_url):
                        yield Finding(tenant.id, name, ok, message)
            except (ConnectorError, Unsupported) as error:
                yield Finding(tenant.id, name, False, str(error))


def _ask_one(
    builder: Builder, tenant: TenantConfig, connection: ConnectionConfig | None, prepare: bool
) -> Iterator[tuple[bool, str]]:
    connector = builder.connector(tenant, connection) if connection else builder.kirim(tenant)
    try:
        if connection is None:
            connector.fields(Kind.CONTACT)
            yield True, "the key works"
            return
        for kind, rules in connection.rules.items():
            fields = connector.fields(kind)
            yield True, f"the credential works; the account has {len(fields)} {kind} fields"
            for message in mapping_problems(rules, fields):
                yield False, message
            if Can.PREPARE in connector.can:
                yield from _prepare(connector, kind, prepare)
    finally:
        connector.close()


def way_in(tenant: TenantConfig, public_url: str) -> Iterator[tuple[bool, str]]:
    """Whether deliveries arrive through the public address, if a daemon is there to take them."""
    if not answers(public_url):
        yield True, f"no daemon answers at {public_url}: whether deliveries arrive is not tested"
        return
    for tested in self_test(f"{public_url}/hooks/{tenant.id}/kirim", held(tenant.kirim), wall_clock, _new_id):
        message = f"a delivery of our own, signed with secret {tested.name},"
        yield not tested.trouble, f"{message} {tested.trouble or 'arrives'}"


def _new_id() -> str:
    return uuid.uuid4().hex


def _prepare(connector: Connector[Any], kind: Kind, prepare: bool) -> Iterator[tuple[bool, str]]:
    """What the account lacks; after creating it, asked again rather than believed. Some only tell a person how."""
    missing = connector.prepare(kind, plan_only=True)
    if missing and prepare and connector.prepares:
        connector.prepare(kind, plan_only=False)
        still = set(connector.prepare(kind, plan_only=True))
        yield from ((True, f"done: {sentence}") for sentence in missing if sentence not in still)
        missing = [sentence for sentence in missing if sentence in still]
    for sentence in missing:
        yield False, f"{sentence} (check --prepare does this)" if connector.prepares and not prepare else sentence


# -- showing ----------------------------------------------------------------------------------------------------------


def _show_problems(console: Console, problems: Sequence[Problem], as_json: bool) -> None:
    if as_json:
        _print_json({"ok": False, "problems": [asdict(problem) for problem in problems]})
        return
    for file, group in groupby(problems, key=lambda problem: problem.file):
        console.print(f"[bold]{escape(file)}[/bold]", highlight=False, soft_wrap=True)
        for problem in group:
            console.print(f"  {_problem(problem)}", highlight=False, soft_wrap=True)
    count = len(problems)
    console.print(f"[red]{count} problem{'' if count == 1 else 's'}; nothing was started.[/red]", highlight=False)


def _problem(problem: Problem) -> str:
    line = f"line {problem.line}: " if problem.line else ""
    key = f"[cyan]{escape(problem.key)}[/cyan]: " if problem.key else ""
    return f"{line}{key}{escape(problem.message)}"


def _show_configuration(console: Console, configuration: Configuration) -> None:
    for warning in configuration.warnings:
        console.print(f"[yellow]warning[/yellow] {escape(str(warning))}", highlight=False, soft_wrap=True)
    for tenant in configuration.tenants:
        console.print(
            f"[bold]{tenant.id}[/bold] ({escape(tenant.file)}): {tenant.timezone.key},"
            f" region {tenant.region or 'none'}",
            highlight=False,
            soft_wrap=True,
        )
        for connection in tenant.connections:
            console.print(_mapping(connection))
    count = len(configuration.tenants)
    console.print(f"[green]The configuration is right: {count} tenant{'' if count == 1 else 's'}.[/green]")


def _mapping(connection: ConnectionConfig) -> Table:
    poll = f"asked every {connection.poll.total_seconds():g} s" if connection.poll else "never asked"
    title = f"{connection.name} ({connection.connector}), starts as {connection.start}, {poll}"
    table = Table(title=title, title_justify="left", title_style="", show_edge=False)
    for column in ("Kirim", "CRM", "owner", "type", "on drift"):
        table.add_column(column)
    for rules in connection.rules.values():
        for rule in rules.fields:
            table.add_row(escape(rule.kirim), escape(rule.crm), rule.owner, rule.type, rule.on_drift)
    return table


def _show_finding(console: Console, finding: Finding) -> None:
    mark = "[green]ok[/green]  " if finding.ok else "[red]fail[/red]"
    place = f"{finding.tenant} {finding.connection}"
    console.print(f"{mark} {place}: {escape(finding.message)}", highlight=False, soft_wrap=True)


def _print_json(data: object) -> None:
    sys.stdout.write(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode() + "\n")


def _as_data(configuration: Configuration, findings: Sequence[Finding]) -> Mapping[str, object]:
    return {
        "ok": all(finding.ok for finding in findings),
        "problems": [],
        "warnings": [asdict(warning) for warning in configuration.warnings],
        "tenants": [_tenant(tenant) for tenant in configuration.tenants],
        "accounts": [asdict(finding) for finding in findings],
    }


def _tenant(tenant: TenantConfig) -> Mapping[str, object]:
    return {
        "id": tenant.id,
        "file": tenant.file,
        "timezone": tenant.timezone.key,
        "region": tenant.region,
        "connections": [_connection(connection) for connection in tenant.connections],
    }


def _connection(connection: ConnectionConfig) -> Mapping[str, object]:
    return {
        "name": connection.name,
        "connector": connection.connector,
        "start": connection.start,
        "poll_seconds": connection.poll.total_seconds() if connection.poll else None,
        "fields": [
            {"kind": kind, "kirim": rule.kirim, "crm": rule.crm, "owner": rule.owner, "type": rule.type}
            for kind, rules in connection.rules.items()
            for rule in rules.fields
        ],
    }
