"""`crmsync webhooks …`: our subscription at Kirim, its secrets, and the deliveries that Kirim gave up."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, cast

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from crmsync import bootstrap
from crmsync.cli.reach import JsonOption, TenantOption, ask_daemon, choose_tenant
from crmsync.cli.run import ConfigOption
from crmsync.config import Configuration, TenantConfig, find, load
from crmsync.errors import CrmsyncError, Reject, Retry, StoreError
from crmsync.flows import journal, subscribing, sweep, watch
from crmsync.flows.kept import SELF_TEST, Kept, keep
from crmsync.flows.rotation import Rotation, Told
from crmsync.http import wall_clock
from crmsync.kirim.secrets import read_secrets_file
from crmsync.kirim.subscription import Subscription, every, of_url, same_address
from crmsync.store import deliveries
from crmsync.store.records import KIRIM

EXIT_ACCOUNT = 1
EXIT_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
LOOK_AGAIN = 1.0
RECENT = timedelta(days=2)
UNPROVED = frozenset({"missing_signature", "malformed", "mismatch", "stale", "future", "cross_tenant"})
"""Answers to deliveries that did not prove where they come from."""

TimeoutOption = Annotated[float, typer.Option(help="Minutes to wait.")]
commands = typer.Typer(no_args_is_help=True, help="Our webhook subscription at Kirim, and its secrets.")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(commands, name="webhooks")


@dataclass(frozen=True, slots=True)
class Desk:
    """One tenant's subscription, ready to be worked on."""

    configuration: Configuration
    tenant: TenantConfig
    kept: Kept

    @property
    def secrets_file(self) -> Path | None:
        """The file that a rotation rewrites."""
        named = self.tenant.kirim.webhook_secrets_file
        return Path(named) if named else None


@contextmanager
def _desk(config: Path | None, named: str | None) -> Iterator[Desk]:
    configuration = load(find(config, os.environ), environ=os.environ)
    chosen = choose_tenant(configuration, named)
    if not configuration.daemon.public_url:
        raise CrmsyncError("daemon.public_url is not set: without it nobody knows the address to subscribe")
    with ExitStack() as closing:
        built = bootstrap.Builder(configuration).tenant(chosen)
        for endpoint in (built.kirim, *(each.connector for each in built.connections.values())):
            closing.callback(endpoint.close)
        yield Desk(configuration, chosen, cast(Kept, keep(built)))


@commands.command()
def subscribe(
    config: ConfigOption = None,
    tenant: TenantOption = None,
    show: Annotated[
        bool, typer.Option("--print", help="Print the secret once, for a secret store of your own.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Have an existing one ask for every event, and switch it on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Subscribe to every event, and store the secret. A subscription that exists is reported, never doubled."""
    with _desk(config, tenant) as desk:
        if desk.secrets_file is None and not show and not of_url(desk.kept.client, desk.kept.hook_url):
            raise CrmsyncError(
                "Kirim shows the secret once, and there is no place for it: set kirim.webhook_secrets_file,"
                " or have it printed with --print. Nothing was created"
            )
        place = None if show else desk.secrets_file
        made = subscribing.subscribe(desk.kept, place, wall_clock, _new_key)
        subscription = made.subscription
        if made.existed and repair:
            subscription = subscribing.repair(desk.kept, subscription)
        if as_json:
            _print_json(_subscribed(desk, subscription, made, show=show))
        else:
            _show_subscribed(Console(), desk, subscription, made, show=show)
        if not made.existed and made.secret is None:
            raise typer.Exit(EXIT_ACCOUNT)


def _subscribed(desk: Desk, one: Subscription, made: subscribing.Made, *, show: bool) -> dict[str, Any]:
    return {
        "tenant": desk.tenant.id,
        "created": not made.existed,
        "subscription": _shown(one),
        "missing_events": list(one.missing_events()),
        "secret_id": made.secret.id if made.secret else None,
        **({"secret": made.secret.key} if show and made.secret else {}),
        "stored_in": str(desk.secrets_file) if made.secret and not show else None,
    }


def _show_subscribed(console: Console, desk: Desk, one: Subscription, made: subscribing.Made, *, show: bool) -> None:
    verb = "exists" if made.existed else "is made"
    _line(console, f"subscription {one.id} {verb}: {one.status}, {one.url}")
    for event in one.missing_events():
        _line(console, f"  it does not ask for {event}; crmsync webhooks subscribe --repair changes that")
    if made.existed and not one.is_active:
        _line(console, "  Kirim does not send; crmsync webhooks subscribe --repair switches it on")
    if made.existed:
        return
    if made.secret is None:
        _line(console, "Kirim did not show its secret: run crmsync webhooks rotate-secret to get one that it shows")
    elif show:
        _line(console, "Its secret, shown this once; put it into kirim.webhook_secrets:")
        typer.echo(made.secret.key)
    else:
        _line(console, f"its secret is stored in {desk.secrets_file}; a running daemon takes it up by itself")


@commands.command(name="list")
def list_(config: ConfigOption = None, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List every subscription of the Kirim organisation."""
    with _desk(config, tenant) as desk:
        found = [(one, same_address(one.url, desk.kept.hook_url)) for one in every(desk.kept.client)]
        if as_json:
            _print_json({"tenant": desk.tenant.id, "subscriptions": [{**_shown(one), "ours": o} for one, o in found]})
            return
        for one, ours in found:
            _line(Console(), f"{'*' if ours else ' '} {one.id}  {one.status}  {one.url}")
        if not any(ours for _, ours in found):
            _line(Console(), f"none is for {desk.kept.hook_url}; crmsync webhooks subscribe makes one")


@commands.command()
def status(config: ConfigOption = None, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """Show whether Kirim sends to us, with which secrets, and what it gave up. Exit code 1 if something is wrong."""
    with _desk(config, tenant) as desk:
        told = _status(desk)
        if as_json:
            _print_json(told)
        else:
            _show_status(Console(), told)
        raise typer.Exit(EXIT_ACCOUNT if told["findings"] else 0)


def _status(desk: Desk) -> dict[str, Any]:
    found = of_url(desk.kept.client, desk.kept.hook_url)
    held, now = desk.kept.held(), wall_clock()
    one = found[0] if found else None
    live = ask_daemon(desk.configuration, "GET", "/status") or {}
    place = desk.secrets_file and journal.place(desk.secrets_file)
    known = journal.load(place) if place else None
    return {
        "tenant": desk.tenant.id,
        "url": desk.kept.hook_url,
        "subscription": _shown(one) if one else None,
        "missing_events": list(one.missing_events()) if one else [],
        "secrets": None if one is None or one.secrets is None else watch.told(one.secrets, held, now),
        "findings": [finding.to_json() for finding in watch.judge(found, held, now)],
        "dead_recently": _dead_recently(desk.kept, one, now) if one else None,
        "last_received_at": _last_received(desk),
        "signature_failures": {
            row["answer"]: row["count"]
            for row in live.get("answers", ())
            if row["tenant"] == desk.tenant.id and row["source"] == KIRIM and row["answer"] in UNPROVED
        },
        "daemon": live.get("running"),
        "rotation": known.phase if known else None,
    }


def _dead_recently(kept: Kept, one: Subscription, now: datetime) -> dict[str, int]:
    """How many deliveries Kirim gave up lately, by the name of their status; originals of replays stay among them."""
    counts = {}
    for status in sweep.STATUSES:
        try:
            rows = list(kept.client.deliveries(one.id, status=status))
        except Reject:
            continue  # it knows only the other name
        made = [sweep.made_at(row) for row in rows if row.get("status", status) == status]
        counts[status] = sum(1 for at in made if at is None or now - at < RECENT)
    return counts


def _last_received(desk: Desk) -> str | None:
    try:
        database = bootstrap.open_database(desk.configuration, exclusive=False)
    except StoreError:
        return None  # no daemon has made it yet
    try:
        heard = database.read(lambda tx: deliveries.last_heard(tx, desk.tenant.id, KIRIM, SELF_TEST))
    finally:
        database.close()
    return heard.isoformat(timespec="seconds") if heard else None


def _show_status(console: Console, told: dict[str, Any]) -> None:
    one = told["subscription"]
    _line(console, f"{told['tenant']}: {told['url']}")
    if one:
        _line(console, f"  subscription {one['id']}: {one['status']}, since {one['created_at'] or 'unknown'}")
    for secret in told["secrets"] or ():
        held = {True: "held", False: "NOT held", None: "perhaps held"}[secret["held"]]
        until = f", until {secret['expires_at']}" if secret["expires_at"] else ""
        _line(console, f"  secret {secret['id']}: {held}, since {secret['created_at'] or 'unknown'}{until}")
    if one and told["secrets"] is None:
        _line(console, "  Kirim does not list its secrets")
    _line(console, f"  last delivery received: {told['last_received_at'] or 'never'}")
    dead = ", ".join(f"{count} {name}" for name, count in (told["dead_recently"] or {}).items())
    _line(console, f"  given up by Kirim in the last {RECENT.days} days: {dead or 'unknown'}")
    for word, count in told["signature_failures"].items():
        _line(console, f"  signature failures since the daemon started: {count} {word}")
    if told["rotation"]:
        _line(
            console, f"  a rotation is under way ({told['rotation']}): crmsync webhooks rotate-secret goes on with it"
        )
    for finding in told["findings"]:
        _line(console, f"  LOOK: {finding['text']}")


@commands.command()
def unsubscribe(
    config: ConfigOption = None,
    tenant: TenantOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End our subscription: Kirim sends nothing any more."""
    with _desk(config, tenant) as desk:
        found = of_url(desk.kept.client, desk.kept.hook_url)
        if not found:
            typer.echo(f"there is no subscription for {desk.kept.hook_url}")
            return
        names = ", ".join(one.id for one in found)
        if not yes:
            typer.confirm(f"End {names} for {desk.kept.hook_url}?", abort=True)
        for one in found:
            desk.kept.client.delete_subscription(one.id)
        typer.echo(f"ended: {names}")


@commands.command(name="rotate-secret")
def rotate_secret(
    config: ConfigOption = None,
    tenant: TenantOption = None,
    timeout: TimeoutOption = 30.0,
    keep_hours: Annotated[
        float, typer.Option(help="Hours for which the old secrets stay in the file after Kirim forgot them.")
    ] = 48.0,
) -> None:
    """Replace the signing secret: make, store, see it work, delete the old. Stop at any time, run again to go on."""
    with _desk(config, tenant) as desk, ExitStack() as closing:
        if desk.secrets_file is None:
            raise CrmsyncError("set kirim.webhook_secrets_file first: a rotation needs a file that it can rewrite")
        closing.enter_context(journal.alone(desk.secrets_file.resolve()))
        database = bootstrap.open_database(desk.configuration, exclusive=False)
        closing.callback(database.close)
        stored = {one.key for one in read_secrets_file(desk.secrets_file, insecure=True)}
        elsewhere = sum(1 for one in desk.kept.held() if one.key not in stored)
        keep_for = timedelta(hours=keep_hours)
        rotation = Rotation(desk.kept, desk.secrets_file, database, wall_clock, _new_key, keep_for)
        try:
            _rotate(rotation, time.monotonic() + timeout * 60)
        except KeyboardInterrupt:
            typer.echo("\nstopped; nothing is lost. Run crmsync webhooks rotate-secret again to go on.", err=True)
            raise typer.Exit(130) from None
        if elsewhere:
            typer.echo(f"kirim.webhook_secrets still has {elsewhere}: remove them from {desk.tenant.file} after that")


def _rotate(rotation: Rotation, until: float) -> None:
    """Step after step, until there is nothing to do, or the time is up."""
    last = ""
    while True:
        try:
            told = rotation.step()
        except Retry as error:
            wait = error.after.total_seconds() if error.after else 2 * LOOK_AGAIN
            told = Told(cast(Any, None), f"{error}; trying again", waiting=True)
        else:
            wait = LOOK_AGAIN
        if told.text != last:
            typer.echo(told.text)
            last = told.text
        if told.done:
            return
        if told.waiting and time.monotonic() + wait > until:
            typer.echo(
                "the time is up. Is the daemon running, and does anything happen in Kirim? Both secrets work meanwhile;"
                " run crmsync webhooks rotate-secret again to go on.",
                err=True,
            )
            raise typer.Exit(EXIT_AGAIN)
        if told.waiting:
            time.sleep(wait)


@commands.command(name="sweep")
def sweep_(
    config: ConfigOption = None, tenant: TenantOption = None, timeout: TimeoutOption = 30.0, as_json: JsonOption = False
) -> None:
    """Have Kirim send again what it gave up, also what died again after a few replays."""
    with _desk(config, tenant) as desk:
        until = time.monotonic() + timeout * 60
        asked = ask_daemon(desk.configuration, "POST", "/sweep", {"tenant": desk.tenant.id})
        told = _swept_by_daemon(desk, str(asked["rung_at"]), until) if asked else _sweep_here(desk, until)
        if as_json:
            _print_json({"tenant": desk.tenant.id, **told})
        else:
            _show_swept(told)
        if told["stopped"] or told["given_up"]:
            raise typer.Exit(EXIT_ACCOUNT)


def _swept_by_daemon(desk: Desk, rung_at: str, until: float) -> dict[str, Any]:
    """The daemon is the one that writes; we ask how it goes."""
    rung = datetime.fromisoformat(rung_at)
    while time.monotonic() < until:
        live = ask_daemon(desk.configuration, "GET", "/status")
        for row in (live or {}).get("sweeps", ()):
            done = row["tenant"] == desk.tenant.id and row["done_at"]
            if done and datetime.fromisoformat(row["done_at"]) >= rung.replace(microsecond=0):
                return {key: value for key, value in row.items() if key not in ("tenant", "done_at")}
        time.sleep(LOOK_AGAIN / 2)
    typer.echo("the daemon is still at it; crmsync status shows the end", err=True)
    raise typer.Exit(EXIT_AGAIN)


def _sweep_here(desk: Desk, until: float) -> dict[str, Any]:
    """No daemon answers: we do it ourselves, as fast as the budget allows."""
    database = bootstrap.open_database(desk.configuration, exclusive=True)
    try:
        return _patiently(lambda: sweep.sweep(database, desk.kept, _unfenced, wall_clock, afresh=True), until).to_json()
    finally:
        database.close()


def _patiently(work: Callable[[], sweep.Swept], until: float) -> sweep.Swept:
    while True:
        try:
            return work()
        except Retry as error:
            wait = error.after.total_seconds() if error.after else 2 * LOOK_AGAIN
            if time.monotonic() + wait > until:
                raise
            time.sleep(wait)


def _show_swept(told: dict[str, Any]) -> None:
    if told["stopped"]:
        typer.echo(f"nothing was asked for: {told['stopped']}")
        return
    typer.echo(
        f"Kirim lists {told['dead']} dead deliveries; {told['replayed']} are on their way again"
        f" ({told['calls']} calls), {told['given_up']} died again too often"
    )
    if told["purged"]:
        start, end = (datetime.fromisoformat(text).astimezone(UTC) for text in told["purged"])
        typer.echo(sweep.purge_text((start, end)))


def _unfenced(tx: Any) -> None:
    """This process is the only one that writes, or does no harm beside another."""


def _shown(one: Subscription) -> dict[str, Any]:
    return {
        "id": one.id,
        "url": one.url,
        "status": one.status,
        "events": list(one.events) if one.events is not None else None,
        "created_at": one.created_at.isoformat(timespec="seconds") if one.created_at else None,
    }


def _new_key() -> str:
    return uuid.uuid4().hex


def _line(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


def _print_json(told: dict[str, Any]) -> None:
    typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
