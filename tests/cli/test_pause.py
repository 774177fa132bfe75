"""`crmsync pause` and `crmsync resume`: on the store itself, and through a running daemon."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from typer.testing import CliRunner

from crmsync.cli import app, pause
from crmsync.flows import pausing
from crmsync.http import wall_clock
from crmsync.store.database import Database
from crmsync.web import pauses

TENANT = """
tenant: acme
kirim:
  api_key: ${KEY}
  webhook_secrets: ["${SECRET}"]
  phone_number_ids: ["106540352242933"]
connections:
  one: { connector: hubspot, access_token: "${TOKEN}", contacts: { fields: { phone_number: phone } } }
  two: { connector: hubspot, access_token: "${TOKEN}", contacts: { fields: { phone_number: phone } } }
"""


@pytest.fixture
def config(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("hubspot", reason="the tenant uses the HubSpot connector")
    names = {"KEY": "kdv_test_" + "a" * 24, "SECRET": "whsec_" + "b" * 28, "TOKEN": "pat-eu1-0123456789abcdef"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "acme.yaml"
    file.write_text(f"{TENANT}daemon:\n  database: {sqlite_url}\n")
    return file


def run(config: Path, *words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(app, [*words, "--config", str(config), "--json"])
    return done.exit_code, json.loads(done.stdout) if done.exit_code == 0 else done.output


def what(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["connection"], each["class"]) for each in told]


def test_a_kind_of_write_is_paused_on_one_connection_or_on_all(config: Path) -> None:
    _, first = run(config, "pause", "acme", "one", "clear", "--reason", "a migration")
    _, second = run(config, "pause", "acme", "create")
    _, status = run(config, "status")

    assert what(first["paused"]) == [("one", "clear")]
    assert what(second["paused"]) == [("one", "clear"), ("one", "create"), ("two", "create")]
    assert [each["reason"] for each in status["paused"]] == ["a migration", "", ""]
    assert {each["by"] for each in status["paused"]} == {pausing.OPERATOR}

    _, third = run(config, "resume", "acme", "one", "clear")
    _, rest = run(config, "resume", "acme")
    _, nothing = run(config, "resume", "acme")
    assert what(third["resumed"]) == [("one", "clear")]
    assert what(rest["resumed"]) == [("one", "create"), ("two", "create")]
    assert nothing == {"resumed": []}


def test_without_a_kind_everything_is_paused(config: Path) -> None:
    assert what(run(config, "pause", "acme", "two")[1]["paused"]) == [("two", "all")]
    shown = CliRunner().invoke(app, ["status", "--config", str(config)])
    assert "crmsync resume acme two all" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    "words", [("pause", "acme", "three"), ("pause", "acme", "one", "everything"), ("resume", "nobody")]
)
def test_what_is_not_there_cannot_be_paused(config: Path, words: tuple[str, ...]) -> None:
    assert run(config, *words)[0] != 0


def test_a_running_daemon_is_asked(config: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    told: list[tuple[str, ...]] = []
    routes = pauses.routes(database, lambda: woken.append(True), wall_clock, lambda *said: told.append(said))

    def ask(configuration: object, method: str, path: str, body: Any = None) -> Any:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(Starlette(routes=routes))
            async with httpx.AsyncClient(transport=transport, base_url="http://daemon") as client:
                return await client.request(method, path, json=body)

        return asyncio.run(send()).json()

    monkeypatch.setattr(pause, "ask_daemon", ask)
    assert what(run(config, "pause", "acme", "one", "overwrite")[1]["paused"]) == [("one", "overwrite")]
    assert what(database.read(pausing.overview)) == [("one", "overwrite")]
    assert what(run(config, "resume", "acme")[1]["resumed"]) == [("one", "overwrite")]
    assert (woken, [said[0] for said in told]) == ([True], ["brake_released"])
