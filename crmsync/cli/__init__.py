"""The command line: one file per command group. Errors are one plain line each; no traceback reaches a user."""

from __future__ import annotations

import sys
from typing import Any

import click
import typer

from crmsync import __version__, logs
from crmsync.cli import (
    backfill,
    check,
    conflicts,
    connectors,
    dead,
    demo,
    init,
    inspect,
    match,
    pause,
    plan,
    reconcile,
    reload,
    run,
    segments,
    webhooks,
)
from crmsync.errors import ConfigError, CrmsyncError, StoreError

EXIT_USAGE = 64  # the codes are those of sysexits.h
EXIT_TEMPORARY = 75
EXIT_CONFIG = 78
USAGE: tuple[type[Any], ...] = (click.exceptions.UsageError, typer.BadParameter.__mro__[1])
"""What a wrong command line raises; newer versions of Typer bring a copy of Click along."""

app = typer.Typer(
    name="crmsync",
    help="Keeps Kirim (WhatsApp) and a CRM agreed, in both directions, and can prove that they are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
GROUPS = (
    demo,
    init,
    check,
    run,
    reload,
    plan,
    backfill,
    reconcile,
    match,
    conflicts,
    segments,
    inspect,
    pause,
    dead,
    webhooks,
    connectors,
)
for commands in GROUPS:
    commands.register(app)


@app.callback(invoke_without_command=True)
def version(
    ctx: typer.Context, show: bool = typer.Option(False, "--version", help="Print the version and leave.")
) -> None:
    """Print the version."""
    if show:
        typer.echo(f"crmsync {__version__}")
        raise typer.Exit


def main() -> None:
    """The console command."""
    logs.confine_crashes()
    try:
        code = app(standalone_mode=False)
    except USAGE as error:
        error.show()
        code = EXIT_USAGE
    except (click.exceptions.Abort, typer.Abort, KeyboardInterrupt):
        code = 130
    except ConfigError as error:
        code = _say(error, EXIT_CONFIG)
    except StoreError as error:
        code = _say(error, EXIT_TEMPORARY)
    except CrmsyncError as error:
        code = _say(error, 1)
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _say(error: CrmsyncError, code: int) -> int:
    typer.echo(f"crmsync: {error}", err=True)
    return code
