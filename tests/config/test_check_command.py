"""`crmsync check`: what it prints, and the exit code it ends with."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from crmsync.cli import check
from crmsync.config import Configuration, ConnectionConfig, TenantConfig
from crmsync.connector import Connector
from crmsync.errors import Suspend
from crmsync.model import Can, FieldInfo, FieldType, Kind

Load = Callable[..., Configuration]


class Account:
    """Stands for the connector of an account with a schema, perhaps lacking things, perhaps refusing its token."""

    can = frozenset({Can.PREPARE})
    prepares = True

    def __init__(self, fields: Sequence[FieldInfo], lacks: Sequence[str] = (), refuses: str = "") -> None:
        self.schema, self.lacks, self.refuses = fields, list(lacks), refuses
        self.closed = 0

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        if self.refuses:
            raise Suspend(self.refuses)
        return self.schema

    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        said = list(self.lacks)
        if not plan_only:
            self.lacks = [sentence for sentence in self.lacks if "cannot" in sentence]
        return said

    def close(self) -> None:
        self.closed += 1


class Accounts:
    """The builder of a test: Kirim and one CRM."""

    def __init__(self, kirim: Account, crm: Account) -> None:
        self.of_kirim, self.of_crm = kirim, crm

    def kirim(self, tenant: TenantConfig) -> Connector[Any]:
        return self.of_kirim  # type: ignore[return-value]

    def connector(self, tenant: TenantConfig, connection: ConnectionConfig) -> Connector[Any]:
        return self.of_crm  # type: ignore[return-value]


GOOD = (
    FieldInfo("phone", FieldType.PHONE),
    FieldInfo("firstname", FieldType.TEXT),
)


def asked(configuration: Configuration, crm: Account, kirim: Account | None = None, **more: Any) -> list[str]:
    """Each finding as one line."""
    kirim = kirim or Account(())
    findings = check.ask(configuration, Accounts(kirim, crm), **more)
    lines = [f"{'ok' if found.ok else 'fail'} {found.connection}: {found.message}" for found in findings]
    assert (kirim.closed, crm.closed) == (1, 1)
    return lines


def test_an_account_that_agrees_is_fine(config_load: Load, base: str) -> None:
    assert asked(config_load(base), Account(GOOD)) == [
        "ok kirim: the key works",
        "ok crm: the credential works; the account has 2 contact fields",
    ]


def test_a_refused_key_does_not_keep_the_others_from_being_asked(config_load: Load, base: str) -> None:
    assert asked(config_load(base), Account(GOOD), Account((), refuses="Kirim answered 401")) == [
        "fail kirim: Kirim answered 401",
        "ok crm: the credential works; the account has 2 contact fields",
    ]


def test_what_the_account_cannot_do_is_said_for_each_field(config_load: Load, base: str) -> None:
    text = base + (
        "        email: {crm: mail, owner: kirim}\n"
        "        metadata.age: {crm: age, type: number}\n"
        "        metadata.note: phones\n"
    )
    schema = (*GOOD, FieldInfo("mail", FieldType.EMAIL, writable=False), FieldInfo("age", FieldType.SET))

    assert asked(config_load(text), Account(schema))[2:] == [
        "fail crm: email ↔ mail: Kirim owns it, but the CRM's field is read-only;"
        " let the CRM own it, or map another field",
        "fail crm: metadata.age ↔ age: compared as number, but the CRM's field holds set",
        "fail crm: metadata.note ↔ phones: the CRM has no field phones; did you mean phone?",
    ]


def test_a_read_only_field_is_fine_where_the_crm_owns_it(config_load: Load, base: str) -> None:
    schema = (GOOD[0], FieldInfo("firstname", FieldType.TEXT, writable=False))

    assert asked(config_load(base), Account(schema))[1].startswith("ok crm")


def test_what_is_missing_in_the_account_is_only_created_when_asked(config_load: Load, base: str) -> None:
    crm = Account(GOOD, lacks=["Create the property x.", "The field y cannot be made unique."])
    configuration = config_load(base)

    assert asked(configuration, crm)[2:] == [
        "fail crm: Create the property x. (check --prepare does this)",
        "fail crm: The field y cannot be made unique. (check --prepare does this)",
    ]
    crm.closed = 0
    assert asked(configuration, crm, prepare=True)[2:] == [
        "ok crm: done: Create the property x.",
        "fail crm: The field y cannot be made unique.",
    ]


@pytest.mark.parametrize("prepare", [False, True])
def test_nothing_is_promised_of_an_account_that_a_person_has_to_prepare(
    config_load: Load, base: str, prepare: bool
) -> None:
    crm = Account(GOOD, lacks=["In Setup, make the field x."])
    crm.prepares = False

    assert asked(config_load(base), crm, prepare=prepare)[2:] == ["fail crm: In Setup, make the field x."]
    assert crm.lacks


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environ: Mapping[str, str], base: str) -> Path:
    """A folder with one right tenant of the HubSpot connector, as the current directory."""
    pytest.importorskip("hubspot", reason="uses an installed connector")
    monkeypatch.chdir(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CRMSYNC_CONFIG", raising=False)
    text = base.replace("  crm:", "  hubspot:").replace("    token:", "    access_token:")
    Path("crmsync.yaml").write_text(text)
    return tmp_path


def command(*arguments: str, build: check.MakeBuilder | None = None) -> tuple[int, str]:
    """Runs the command as Typer does: exit code and output."""
    app = typer.Typer()
    app.callback()(lambda: None)
    check.register(app, build)
    result = CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    return result.exit_code, result.output


def test_a_right_configuration_is_summed_up(files: Path) -> None:
    code, output = command()

    assert code == 0
    assert "acme (crmsync.yaml): Asia/Jakarta, region ID" in output
    assert "hubspot (hubspot), starts as plan, asked every 30 s" in output
    assert ["phone_number", "phone", "kirim", "phone", "restore"] in [
        [cell.strip() for cell in line.split("│")] for line in output.splitlines()
    ]
    assert "The configuration is right: 1 tenant." in output


def test_plain_http_leads_to_kirim_and_hubspot_only_where_it_is_listed(files: Path) -> None:
    """Neither refuses it by itself: a test system has any name."""
    text = Path("crmsync.yaml").read_text()
    text = text.replace("  api_key", "  base_url: http://kirim-test:9001/v1\n  api_key")
    text = text.replace("    access_token", "    base_url: http://hubspot-test:9002\n    access_token")
    Path("crmsync.yaml").write_text(text)
    code, output = command()

    assert code == 78
    assert "kirim.base_url: must begin with https://" in output
    assert "connections.hubspot.base_url: must begin with https://" in output

    Path("crmsync.yaml").write_text(f"{text}daemon:\n  insecure_targets: [kirim-test:9001, hubspot-test:9002]\n")
    assert command()[0] == 0


def test_problems_are_grouped_by_file_and_end_with_78(files: Path) -> None:
    text = Path("crmsync.yaml").read_text()
    Path("config").mkdir()
    Path("config/a.yaml").write_text(text.replace("timezone: Asia/Jakarta", "timezone: [Asia]\nregio: x"))
    Path("config/b.yaml").write_text("tenant: [\n")

    code, output = command()

    assert code == 78
    assert output.splitlines() == [
        "config/a.yaml",
        "  line 2: timezone: must be text, found a list",
        "  line 3: regio: unknown key; did you mean region?",
        "config/b.yaml",
        "  line 2: column 1: while parsing a flow node: expected the node content, but found '<stream end>'",
        "3 problems; nothing was started.",
    ]


def test_problems_as_json_are_a_list(files: Path) -> None:
    code, output = command("--json", "--config", "nowhere.yaml")

    assert code == 78
    assert json.loads(output) == {
        "ok": False,
        "problems": [
            {"file": "nowhere.yaml", "line": 0, "key": "", "message": "there is no such file or folder"},
        ],
    }


def test_a_right_configuration_as_json(files: Path) -> None:
    code, output = command("--json")
    data = json.loads(output)

    assert code == 0
    assert (data["ok"], data["problems"], data["accounts"]) == (True, [], [])
    [connection] = data["tenants"][0]["connections"]
    assert connection["fields"][0] == {
        "kind": "contact",
        "kirim": "phone_number",
        "crm": "phone",
        "owner": "kirim",
        "type": "phone",
    }


def test_an_account_that_does_not_agree_ends_with_1(files: Path) -> None:
    accounts = Accounts(Account(()), Account(GOOD[:1]))

    code, output = command("--online", build=lambda configuration: accounts)

    assert code == 1
    assert "ok   acme kirim: the key works" in output
    assert "fail acme hubspot: name ↔ firstname: the CRM has no field firstname" in output


def test_prepare_asks_the_accounts_too(files: Path) -> None:
    accounts = Accounts(Account(()), Account(GOOD, lacks=["Create the property x."]))

    code, output = command("--prepare", "--json", build=lambda configuration: accounts)

    assert code == 0
    assert [found["message"] for found in json.loads(output)["accounts"]][-1] == "done: Create the property x."


def test_no_configuration_is_a_configuration_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()

    assert check.run(None, {}, Console(file=stream, width=200)) == 78
    assert "neither config/ nor crmsync.yaml" in stream.getvalue()


def test_square_brackets_in_a_message_are_shown_as_they_are(files: Path) -> None:
    """Rich would take `[0]` of a key for markup."""
    Path("crmsync.yaml").write_text(Path("crmsync.yaml").read_text().replace('"${KIRIM_SECRET}"', "x"))

    assert "  line 6: kirim.webhook_secrets[0]: a secret must not" in command()[1]
