"""`crmsync status` without a daemon: what the store and the configuration tell together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from crmsync import bootstrap
from crmsync.cli import inspect
from crmsync.config import load
from crmsync.model import Person
from crmsync.store import people
from crmsync.store.records import KIRIM

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
TENANT = """
tenant: toko
kirim: { api_key: "${KEY}", webhook_secrets: ["${SECRET}"], phone_number_ids: ["106540352242922"] }
connections:
  hubspot:
    access_token: ${TOKEN}
    contacts: { fields: { phone_number: phone } }
    conversations:
      initial: { subject: "{contact_name}", hs_pipeline: "0" }
      fields:
        assignee: { crm: hubspot_owner_id, users: { usr_boss: "9" }OTHERWISE }
daemon: { database: "sqlite:///DATABASE" }
"""
COLLEAGUES = [
    Person("usr_boss", "boss@toko.example"),
    Person("usr_ana", "ana@toko.example", "Ana"),
    Person("usr_budi", "budi.a.rather.long.name@toko.example"),
    Person("usr_citra", None, "Citra [night]"),
    Person("usr_8Q2"),
]
Status = Callable[..., str]


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Status:
    """Says what the command prints of a store in which these users were seen."""
    pytest.importorskip("hubspot", reason="uses an installed connector")
    for name, value in {"KEY": "kdv_test_" + "k" * 24, "SECRET": "whsec_" + "b" * 32, "TOKEN": "pat-1"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, otherwise: str = "") -> str:
        path = tmp_path / "toko.yaml"
        path.write_text(TENANT.replace("DATABASE", str(tmp_path / "toko.db")).replace("OTHERWISE", otherwise))
        database = bootstrap.open_database(load(path, environ=os.environ), exclusive=True)
        database.write(lambda tx: people.learn(tx, "toko", KIRIM, COLLEAGUES, NOW))
        database.write(lambda tx: people.replace_all(tx, "toko", "hubspot", [Person("1", "ANA@toko.example")], NOW))
        database.close()
        application = typer.Typer()
        inspect.register(application)
        asked = ["status", "--config", str(path), *arguments]
        done = CliRunner().invoke(application, asked, env={"COLUMNS": "80", "NO_COLOR": "1"})
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_users_whom_the_crm_does_not_know_are_listed_with_what_to_do(status: Status) -> None:
    shown = status(otherwise=', otherwise: "7654321"')
    lines = shown[shown.index("unmapped") :].splitlines()

    assert all(len(line) <= 80 for line in lines)
    assert " ".join(" ".join(lines).split()) == (
        "unmapped toko/hubspot: 3 of Kirim's users unknown there; what is theirs goes to 7654321"
        " usr_8Q2, budi.a.rather.long.name@toko.example (usr_budi), Citra [night] (usr_citra);"
        " give each a user there with the same e-mail, or name them under users of assignee"
    )


def test_nobody_else_means_that_the_field_is_left_out(status: Status) -> None:
    assert "is not written to hubspot_owner_id" in " ".join(status().split())


def test_they_are_in_the_json_too(status: Status) -> None:
    (told,) = json.loads(status("--json"))["unmapped"]

    assert (told["tenant"], told["connection"], told["count"], told["otherwise"]) == ("toko", "hubspot", 3, None)
    assert [user["id"] for user in told["users"]] == ["usr_8Q2", "usr_budi", "usr_citra"]
