"""`crmsync init`: asks for what a tenant needs, and writes its file. Secrets never go into it.

A secret becomes the name of an environment variable, or a file that only its owner can read. What was written is read
back before it is put in its place, so that it passes `crmsync check`. Nothing is ever overwritten.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from crmsync.config import load
from crmsync.config.connections import find_connector
from crmsync.config.draft import REFERENCE, Draft, Question, fields_of, questions, text_of, variable, variables
from crmsync.config.sections import identifier
from crmsync.connector import Connector, installed
from crmsync.errors import ConfigError, Problem

STAND_INS = "0123456789abcdef" * 2


class Secrets(StrEnum):
    """Where secrets are kept."""

    ENV = "env"
    FILES = "files"


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def init(
        connector: Annotated[str | None, typer.Option(help="The kind of CRM; `crmsync connectors` lists them.")] = None,
        tenant: Annotated[str | None, typer.Option(help="The tenant's name; never change it later.")] = None,
        connection: Annotated[
            str | None, typer.Option(help="The connection's name; by default the connector's.")
        ] = None,
        out: Annotated[Path | None, typer.Option(help="The file; by default config/TENANT.yaml.")] = None,
        timezone: Annotated[str | None, typer.Option(help="The tenant's time zone.")] = None,
        region: Annotated[str | None, typer.Option(help="Country of telephone numbers without a country code.")] = None,
        given: Annotated[
            list[str] | None,
            typer.Option("--set", help="A setting, KEY=VALUE; Kirim's begin with kirim. A secret is a ${NAME}."),
        ] = None,
        mapped: Annotated[
            list[str] | None, typer.Option("--map", help="A field, KIRIM=CRM; replaces the proposal.")
        ] = None,
        secrets: Annotated[
            Secrets, typer.Option(help="env: named environment variables; files: files of mode 0600.")
        ] = Secrets.ENV,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take options and defaults.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; implies --yes.")] = False,
    ) -> None:
        """Ask for what a tenant needs, and write its file."""
        talk = Talk(yes or as_json, _pairs(given, "--set"), secrets)
        kind = _connector(talk, connector)
        name = talk.text("Name of the tenant", tenant, "acme")
        for each in (name, connection or kind.name):
            _checked(each)
        place = out or Path("config") / f"{name}.yaml"
        if place.exists() or place.is_symlink():
            raise typer.BadParameter(f"{place} exists already; nothing is overwritten")
        zone = talk.text("Time zone", timezone, "UTC")
        country = talk.text("Country of telephone numbers, such as ID; nothing for none", region, "")
        answers = talk.settings(kind, name, connection or kind.name)
        fields = talk.fields(kind, _pairs(mapped, "--map"))
        draft = Draft(
            name,
            connection or kind.name,
            {key.removeprefix("kirim."): value for key, value in answers.items() if key.startswith("kirim.")},
            {key: value for key, value in answers.items() if not key.startswith("kirim.")},
            fields,
            zone,
            country,
        )
        text = text_of(draft, kind)
        _write(place, text, talk.kept)
        _tell(place, draft, variables(text), list(talk.kept), as_json)


@dataclass
class Talk:
    """What is asked, and what is known without asking. `kept` are secrets on their way into files, by path."""

    silent: bool
    given: dict[str, str]
    secrets: Secrets
    kept: dict[str, str] = field(default_factory=dict)

    def text(self, question: str, known: str | None, default: str) -> str:
        """An answer; the default where nothing is asked."""
        if known is not None or self.silent:
            return (default if known is None else known).strip()
        return str(typer.prompt(question, default=default, show_default=bool(default))).strip()

    def settings(self, connector: type[Connector[Any]], tenant: str, connection: str) -> dict[str, str]:
        """The answers to everything that is needed, and to what else was given or is wanted."""
        asked = questions(connector)
        unknown = self.given.keys() - {question.name for question in asked}
        if unknown:
            raise typer.BadParameter(f"--set: there is no setting {', '.join(sorted(unknown))}")
        answers: dict[str, str] = {}
        further: bool | None = None
        for question in asked:
            if question.name not in self.given and not question.wanted:
                if further is None:
                    further = not self.silent and typer.confirm(
                        "Look at the settings that have a default?", default=False
                    )
                if not further:
                    continue
            if (answer := self._setting(question, tenant, connection)) is not None:
                answers[question.name] = answer
        return answers

    def _setting(self, question: Question, tenant: str, connection: str) -> str | None:
        known = self.given.get(question.name)
        if question.key.secret:
            return self._secret(question, (tenant, *_place(question, connection)), known)
        if known is not None:
            return known
        if not self.silent:
            if question.key.doc:
                typer.echo(f"\n{question.key.doc}")
            answer = str(typer.prompt(question.name, default=question.default or ("" if not question.wanted else None)))
            return answer.strip() or None
        if question.default is None:
            raise typer.BadParameter(f"--set {question.name}=… is needed: {question.key.doc}")
        return question.default

    def _secret(self, question: Question, words: tuple[str, ...], known: str | None) -> str | None:
        """A reference to a secret. Its value is asked only to be put into a file, or taken from the environment."""
        if known is not None:
            if not all(REFERENCE.fullmatch(part.strip()) for part in known.split(",")):
                raise typer.BadParameter(f"--set {question.name}: a secret is not written out; name it as ${{NAME}}")
            return known
        if not question.wanted and (self.silent or not typer.confirm(f"Set {question.name}? {question.key.doc}")):
            return None
        proposed = variable(*words)
        if self.secrets is Secrets.ENV:
            if self.silent:
                return f"${{{proposed}}}"
            typer.echo(f"\n{question.key.doc}")
            named = str(
                typer.prompt(f"{question.name}, a secret: the environment variable that will hold it", default=proposed)
            )
            return f"${{{named.strip().removeprefix('${').removesuffix('}')}}}"
        value = os.environ.get(proposed, "")
        if not value and self.silent:
            raise typer.BadParameter(f"{question.name} is a secret: put it into the environment as {proposed}")
        value = value or str(typer.prompt(f"{question.name}, a secret (it is not shown)", hide_input=True))
        file = f"secrets/{'-'.join(words).replace('_', '-')}"
        self.kept[file] = value.strip()
        return f"${{file:{file}}}"

    def fields(self, connector: type[Connector[Any]], mapped: Mapping[str, str]) -> Mapping[str, str]:
        """Which field of a contact goes where."""
        if mapped or self.silent:
            return mapped or fields_of(connector)
        typer.echo("\nThe CRM's field for each of Kirim's; nothing to leave it out.")
        answers = {kirim: str(typer.prompt(kirim, default=crm)).strip() for kirim, crm in fields_of(connector).items()}
        return {kirim: crm for kirim, crm in answers.items() if crm and crm != "-"}


def _place(question: Question, connection: str) -> tuple[str, str]:
    """Whose setting it is, and which."""
    whose, _, key = question.name.rpartition(".")
    return whose or connection, key


def _connector(talk: Talk, named: str | None) -> type[Connector[Any]]:
    points = installed()
    names = sorted(points)
    if named is None and (len(names) > 1 or not names) and talk.silent:
        raise typer.BadParameter(f"--connector is needed; installed: {', '.join(names) or 'none'}")
    kind = talk.text(f"Kind of CRM ({', '.join(names)})", named, names[0] if names else "")
    return find_connector({name: point.load for name, point in points.items()}, kind)


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for each in given or ():
        key, equals, value = each.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{option} {each}: write KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def _checked(name: str) -> None:
    try:
        identifier(name)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: a name {error}") from None


def _write(place: Path, text: str, kept: Mapping[str, str]) -> None:
    """Puts the file and its secrets in place, if what it says can be read. Raises `ConfigError` otherwise."""
    folder = place.parent
    folder.mkdir(parents=True, exist_ok=True)
    secrets: list[Path] = []
    try:
        for name, value in kept.items():
            (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
            _make(folder / name, value + "\n", secrets)
        _try(folder, text, place)
        _make(place, text, [])
    except (ConfigError, OSError):
        for secret in secrets:
            secret.unlink(missing_ok=True)
        raise


def _make(path: Path, text: str, made: list[Path]) -> None:
    """A new file for its owner alone, on the disk before anything goes on."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise ConfigError([Problem(str(path), 0, "", "exists already; nothing is overwritten")]) from None
    made.append(path)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _try(folder: Path, text: str, place: Path) -> None:
    """Reads what would be written as the daemon will, with stand-ins for variables that nobody has set yet."""
    stand_ins = {name: f"whsec_{name.lower()}_{STAND_INS}" for name in variables(text)}
    number, name = tempfile.mkstemp(dir=folder, suffix=".tmp", prefix=".init-")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        load(Path(name), environ={**stand_ins, **os.environ})
    except ConfigError as error:
        problems = [Problem(str(place), 0, one.key, one.message) for one in error.problems]
        raise ConfigError(problems) from None
    finally:
        Path(name).unlink()


def _tell(place: Path, draft: Draft, names: object, files: list[str], as_json: bool) -> None:
    if as_json:
        said = {
            "file": str(place),
            "tenant": draft.tenant,
            "connection": draft.connection,
            "variables": names,
            "secret_files": [str(place.parent / each) for each in files],
        }
        typer.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
        return
    typer.echo(f"\n{place} is written; the connection starts as plan, which writes nothing.")
    for each in files:
        typer.echo(f"  secret   {place.parent / each} (mode 0600)")
    for name in names if isinstance(names, list) else ():
        mark = "is set" if os.environ.get(name) else "has to be set"
        typer.echo(f"  variable {name} {mark}")
    typer.echo(f"Next: crmsync check --online --config {place}, then crmsync webhooks subscribe.")
