"""`crmsync connectors`: which CRMs this installation can speak to, what each can do, and its settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import orjson
import typer
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape

from crmsync.connector import Connector, installed


@dataclass(frozen=True, slots=True)
class Setting:
    """One YAML key of a connector."""

    key: str
    required: bool
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Installed:
    """One connector, or why it cannot be used."""

    name: str
    kinds: tuple[str, ...] = ()
    can: tuple[str, ...] = ()
    batch_size: int = 0
    settings: tuple[Setting, ...] = ()
    missing: str = ""


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def connectors(
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    ) -> None:
        """List the installed connectors with their capabilities and settings."""
        found = [_described(name, point) for name, point in sorted(installed().items())]
        if as_json:
            typer.echo(orjson.dumps([asdict(each) for each in found], option=orjson.OPT_INDENT_2).decode())
            return
        for each in found:
            _show(Console(), each)


def _described(name: str, point: Any) -> Installed:
    try:
        connector: type[Connector[Any]] = point.load()
    except ImportError as error:
        return Installed(name, missing=f"needs {error.name}: install crmsync[{name}]")
    settings = [
        Setting(
            key,
            field.is_required(),
            "" if field.default in (PydanticUndefined, None, ()) or field.is_required() else str(field.default),
            field.description or "",
        )
        for key, field in connector.Settings.model_fields.items()
    ]
    return Installed(
        name, tuple(sorted(connector.kinds)), tuple(sorted(connector.can)), connector.batch_size, tuple(settings)
    )


def _show(console: Console, each: Installed) -> None:
    console.print(f"[bold]{escape(each.name)}[/bold]")
    if each.missing:
        console.print(f"  [red]{escape(each.missing)}[/red]\n")
        return
    console.print(f"  keeps    {', '.join(each.kinds)}")
    console.print(f"  can      {', '.join(each.can)}")
    console.print(f"  batches  {each.batch_size} records a call")
    console.print("  settings")
    for setting in each.settings:
        default = "[dim](required)[/dim]" if setting.required else f"[dim]({escape(setting.default)})[/dim]"
        if not setting.required and not setting.default:
            default = ""
        console.print(f"    {setting.key}  {escape(setting.description)} {default}")
    console.print()
