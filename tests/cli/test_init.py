"""`crmsync init` writes a tenant's file that `crmsync check` takes, without a secret in it, and overwrites nothing."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from crmsync import cli
from crmsync.cli.connectors import describe
from crmsync.config import load
from crmsync.config.draft import questions
from crmsync.connector import installed
from crmsync.errors import ConfigError

NUMBER = "kirim.phone_number_ids=106540352242933"
KEY, TOKEN = "kdv_test_0123456789abcdef0123", "pat-eu1-0123456789abcdef"
SECRETS = {"TOKO_KIRIM_API_KEY": KEY, "TOKO_HUBSPOT_ACCESS_TOKEN": TOKEN}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called."""
    monkeypatch.chdir(tmp_path)
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def init(*arguments: str, answers: str | None = None, **environment: str) -> Any:
    return CliRunner().invoke(cli.app, ["init", *arguments], input=answers, env=environment)


def silent(*arguments: str, **environment: str) -> Any:
    """A later `--connector` takes the place of this one."""
    return init("--yes", "--connector", "hubspot", "--tenant", "toko", "--set", NUMBER, *arguments, **environment)


def test_without_a_question_the_file_passes_the_check(folder: Path) -> None:
    done = silent("--connector", "hubspot", "--region", "ID", "--timezone", "Asia/Jakarta")
    assert done.exit_code == 0, done.output
    [tenant] = load(folder / "config", environ=SECRETS).tenants
    [connection] = tenant.connections

    assert (tenant.id, tenant.region, tenant.timezone.key) == ("toko", "ID", "Asia/Jakarta")
    assert (connection.name, connection.start) == ("hubspot", "plan")
    assert "TOKO_HUBSPOT_ACCESS_TOKEN has to be set" in done.output


@pytest.mark.parametrize("name", installed())
def test_every_installed_connector_can_be_begun_with(folder: Path, name: str) -> None:
    if describe(name, installed()[name]).missing:
        pytest.skip(f"{name} needs a package that is not installed")
    needed = [question for question in questions(installed()[name].load()) if question.wanted]
    plain = [q.name for q in needed if not q.key.secret and q.default is None and not q.name.startswith("kirim.")]
    if plain:
        pytest.skip(f"{name} wants values that only an account has: {', '.join(plain)}")
    done = silent("--connector", name)

    assert done.exit_code == 0, done.output


def test_answers_make_the_file(folder: Path) -> None:
    """Every default is taken by an empty line."""
    answers = [
        "toko",
        "Asia/Jakarta",
        "ID",
        "",  # the variable of Kirim's key
        "106540352242933, 106540352242934",
        "MY_TOKEN",
        "n",
        "",  # phone_number
        "firstname",
        "-",  # no e-mail
    ]
    done = init("--connector", "hubspot", answers="\n".join(answers) + "\n")
    assert done.exit_code == 0, done.output
    environ = {"TOKO_KIRIM_API_KEY": KEY, "MY_TOKEN": TOKEN}
    [tenant] = load(folder / "config" / "toko.yaml", environ=environ).tenants
    [rules] = tenant.connections[0].rules.values()

    assert tenant.kirim.phone_number_ids == ("106540352242933", "106540352242934")
    assert {(rule.kirim, rule.crm) for rule in rules.fields} == {("phone_number", "phone"), ("name", "firstname")}


def test_settings_with_a_default_can_be_looked_at(folder: Path) -> None:
    settings = questions(installed()["hubspot"].load())
    rest = [question for question in settings if not question.wanted]
    said = {"portal_id": "12345", "signature_v1": "true", "requests_per_10s": "100"}
    answers = ["", "", "", "", "106540352242933", "", "y"]
    answers += ["n" if question.key.secret else said.get(question.name, "") for question in rest]
    done = init("--connector", "hubspot", "--tenant", "toko", answers="\n".join([*answers[1:], "", "", ""]) + "\n")
    assert done.exit_code == 0, done.output
    [tenant] = load(folder / "config", environ=SECRETS).tenants
    settings = tenant.connections[0].settings

    assert (settings.portal_id, settings.signature_v1, settings.requests_per_10s) == ("12345", True, 100)


@pytest.mark.parametrize("silently", [True, False])
def test_secrets_go_into_files_of_their_own(folder: Path, silently: bool) -> None:
    """From the environment, or asked without being shown."""
    if silently:
        done = silent("--secrets", "files", **SECRETS)
    else:
        answers = "\n".join(["", "", KEY, TOKEN, "n", "", "", ""]) + "\n"
        options = ("--connector", "hubspot", "--tenant", "toko", "--secrets", "files", "--set", NUMBER)
        done = init(*options, answers=answers)
    assert done.exit_code == 0, done.output
    text = (folder / "config" / "toko.yaml").read_text()
    files = sorted((folder / "config" / "secrets").iterdir())

    assert [file.name for file in files] == ["toko-hubspot-access-token", "toko-kirim-api-key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not [secret for secret in (KEY, TOKEN) if secret in text + done.output]
    assert load(folder / "config" / "toko.yaml", environ={}).tenants[0].kirim.api_key.get_secret_value() == KEY


def test_nothing_is_overwritten(folder: Path) -> None:
    assert silent().exit_code == 0
    before = (folder / "config" / "toko.yaml").read_bytes()
    again = silent("--region", "SG")

    assert again.exit_code != 0
    assert "nothing is overwritten" in again.output
    assert (folder / "config" / "toko.yaml").read_bytes() == before


def test_a_secret_file_is_not_overwritten_either(folder: Path) -> None:
    (folder / "config" / "secrets").mkdir(parents=True)
    kept = folder / "config" / "secrets" / "toko-hubspot-access-token"
    kept.write_text("of somebody else")
    done = silent("--secrets", "files", **SECRETS)

    assert isinstance(done.exception, ConfigError)
    assert kept.read_text() == "of somebody else"
    assert [file.name for file in (folder / "config").rglob("*") if file.is_file()] == [kept.name]


def test_a_wrong_answer_leaves_nothing_behind(folder: Path) -> None:
    """It is told as `check` would tell it."""
    done = silent("--set", "requests_per_10s=100000", "--secrets", "files", **SECRETS)

    assert isinstance(done.exception, ConfigError)
    assert "requests_per_10s: must be a whole number between 1 and 1000" in str(done.exception)
    assert [file for file in (folder / "config").rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", f"access_token={TOKEN}"], "a secret is not written out"),
        (["--set", "acess_token=${A}"], "there is no setting acess_token"),
        (["--set", "portal_id"], "write KEY=VALUE"),
        (["--connection", "Not A Name"], "must be 1 to 63 lower-case letters"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, arguments: list[str], said: str) -> None:
    done = silent(*arguments)

    assert done.exit_code != 0
    assert said in " ".join(done.output.split())
    assert TOKEN not in done.output
    assert not (folder / "config").exists()


def test_what_only_an_account_knows_is_asked_for(folder: Path) -> None:
    done = init("--yes", "--connector", "hubspot", "--tenant", "toko")

    assert done.exit_code != 0
    assert "kirim.phone_number_ids" in done.output


def test_an_unknown_connector_is_told(folder: Path) -> None:
    done = silent("--connector", "hubpsot")

    assert isinstance(done.exception, ConfigError)
    assert "did you mean hubspot?" in str(done.exception)


def test_a_program_can_read_what_was_done(folder: Path) -> None:
    done = init(
        "--json",
        "--connector",
        "hubspot",
        "--tenant",
        "toko",
        "--set",
        NUMBER,
        "--map",
        "name=lastname",
        "--out",
        "crmsync.yaml",
    )
    said = json.loads(done.output)

    assert said == {
        "file": "crmsync.yaml",
        "tenant": "toko",
        "connection": "hubspot",
        "variables": ["TOKO_KIRIM_API_KEY", "TOKO_HUBSPOT_ACCESS_TOKEN"],
        "secret_files": [],
    }
    [rules] = load(folder / "crmsync.yaml", environ=SECRETS).tenants[0].connections[0].rules.values()
    assert [(rule.kirim, rule.crm) for rule in rules.fields] == [("name", "lastname")]
