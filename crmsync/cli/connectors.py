"""`crmsync connectors`: which CRMs this installation can speak to, what each can do, and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from crmsync.config import describe_settings
from crmsync.connector import Connector, installed
from crmsync.model import Can, Rate

EXIT_MISSING = 4
MEANING: Mapping[Can, str] = MappingProxyType(
    {
        Can.WEBHOOKS: "verified webhooks",
        Can.CHANGES: "a feed of changes",
        Can.FIND: "candidates by a field's value",
        Can.NATIVE_UPSERT: "keeps the external id unique by itself",
        Can.CREATE: "creates records",
        Can.PREPARE: "finds what is missing in the account",
        Can.SEGMENTS: "segments and their members",
        Can.ACTIVITIES: "messages on timelines",
        Can.PEOPLE: "users that records belong to",
        Can.BULK: "thousands of new records in one job",
    }
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One YAML key of a connector. `default` is None where there is none; `required` says whether that will do."""

    key: str
    type: str
    required: bool
    secret: bool
    default: str | None
    description: str


@dataclass(frozen=True, slots=True)
class Installed:
    """One connector, or why it cannot be used."""

    name: str
    kinds: tuple[str, ...] = ()
    can: tuple[str, ...] = ()
    prepares: bool = False
    batch_size: int = 0
    limits: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    missing: str = ""


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def connectors(
        names: Annotated[
            list[str] | None, typer.Argument(help="Only these; by default all.", metavar="[NAME]...")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
        markdown: Annotated[
            bool, typer.Option("--markdown", help="Print the table of capabilities, as connectors/README.md has it.")
        ] = False,
    ) -> None:
        """List the installed connectors with their capabilities and settings."""
        points = installed()
        unknown = [name for name in names or () if name not in points]
        if unknown:
            typer.echo(
                f"crmsync: there is no connector {', '.join(unknown)}; installed: {', '.join(sorted(points))}", err=True
            )
            raise typer.Exit(EXIT_MISSING)
        found = [describe(name, points[name]) for name in sorted(names or points)]
        if as_json:
            typer.echo(orjson.dumps([asdict(each) for each in found], option=orjson.OPT_INDENT_2).decode())
        elif markdown:
            typer.echo(table(found))
        else:
            for each in found:
                _show(Console(), each)


def describe(name: str, point: EntryPoint) -> Installed:
    """What a connector says of itself."""
    try:
        connector: type[Connector[Any]] = point.load()
    except ImportError as error:
        return Installed(name, missing=f"needs {error.name}: install crmsync[{name}]")
    settings = [
        Setting(
            key.name,
            key.type,
            key.default is None,
            key.secret,
            None if key.default in (None, "none", "[]") else key.default,
            key.doc,
        )
        for key in describe_settings(connector.Settings)
    ]
    limits = [_limit(connector.rate, ""), *(_limit(rate, bucket) for bucket, rate in connector.buckets.items())]
    return Installed(
        name,
        tuple(sorted(connector.kinds)),
        tuple(sorted(connector.can)),
        Can.PREPARE in connector.can and connector.prepares,
        connector.batch_size,
        tuple(limits),
        tuple(settings),
    )


def _limit(rate: Rate, bucket: str) -> str:
    return f"{rate.requests} in {rate.seconds:g} s" + (f" ({bucket})" if bucket else "")


def table(found: Sequence[Installed]) -> str:
    """What each can do, as a table in Markdown."""
    usable = [each for each in found if not each.missing]
    rows = [
        ("", *(each.name for each in usable)),
        ("---", *("---" for _ in usable)),
        ("records", *(", ".join(f"{kind}s" for kind in each.kinds) for each in usable)),
        ("rows in a call", *(str(each.batch_size) for each in usable)),
        ("documented limit of requests", *(", ".join(each.limits) for each in usable)),
        *((f"`{can.name}` {MEANING[can]}", *(_has(each, can) for each in usable)) for can in Can),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _has(each: Installed, can: Can) -> str:
    if can not in each.can:
        return "–"
    return "yes" if can is not Can.PREPARE else "makes it" if each.prepares else "says how to make it"


def _show(console: Console, each: Installed) -> None:
    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    line(f"[bold]{escape(each.name)}[/bold]")
    if each.missing:
        line(f"  [red]{escape(each.missing)}[/red]\n")
        return
    line(f"  keeps    {', '.join(each.kinds)}")
    line(f"  can      {', '.join(each.can)}")
    line(f"  lacks    {', '.join(sorted(set(Can) - set(each.can))) or 'nothing'}")
    line(f"  batches  {each.batch_size} records a call; {', '.join(each.limits)}")
    line("  settings")
    width = max((len(setting.key) for setting in each.settings), default=0)
    for setting in each.settings:
        need = "required" if setting.required else f"default: {setting.default or 'none'}"
        line(f"    {setting.key:{width}}  [dim]{escape(setting.type)}; {escape(need)}[/dim]")
        if setting.description:
            line(f"    {'':{width}}  {escape(setting.description)}")
    line("")
