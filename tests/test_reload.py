"""A running process takes up what changed in its files by itself, on SIGHUP at once, and never a mistake."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmsync.config import Configuration, load
from crmsync.kirim.secrets import FileSecret, write_secrets_file
from crmsync.kirim.signature import sign
from crmsync.reload import Reload, stamps

pytest.importorskip("hubspot", reason="the configuration uses the HubSpot connector")

OLD = "whsec_0123456789abcdefghijklmnop"
NEW = "whsec_zyxwvutsrqponmlkjihgfedcba"
PATIENCE = 30.0
TENANT = """\
tenant: acme
kirim:
  api_key: ${KEY}
  webhook_secrets_file: secrets
  phone_number_ids: ["106540352242922"]
connections:
  hubspot:
    access_token: ${TOKEN}
    poll_seconds: 0
    contacts: {fields: {phone_number: phone}}
"""
DAEMON = "daemon:\n  database: sqlite:///%s/crmsync.db\n  listen: 127.0.0.1:%d\n  log: {level: debug}\n"
ENVIRON = {"KEY": "kdv_test_0123456789abcdef", "TOKEN": "pat-test-0123456789abcdef"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "acme.yaml").write_text(TENANT)
    write_secrets_file(tmp_path / "secrets", [FileSecret(OLD)])
    return tmp_path / "acme.yaml"


class World:
    """A reload loop whose looks are counted, and what it applied."""

    def __init__(self, path: Path, every: float = 0.01) -> None:
        self.applied: list[Configuration] = []
        self.fail: Exception | None = None
        running = load(path, environ=ENVIRON)
        self.reload = Reload(
            path, running, self._apply, lambda: datetime(2026, 3, 1, tzinfo=UTC), environ=ENVIRON, every=every
        )
        self.stopping = asyncio.Event()

    async def _apply(self, configuration: Configuration) -> None:
        if self.fail:
            raise self.fail
        self.applied.append(configuration)

    async def __aenter__(self) -> World:
        self._task = asyncio.create_task(self.reload.run(self.stopping))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        await self._task

    async def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)

    def held(self) -> list[str]:
        return [secret.get_secret_value() for secret in self.applied[-1].tenants[0].kirim.webhook_secrets]


def test_a_changed_secrets_file_is_taken_up(path: Path) -> None:
    async def main() -> None:
        async with World(path) as world:
            await world.until(lambda: world.reload.loaded)
            assert world.applied == []  # nothing had changed
            write_secrets_file(path.parent / "secrets", [FileSecret(OLD), FileSecret(NEW)])
            await world.until(lambda: world.applied)
            assert world.held() == [OLD, NEW]
            assert world.reload.running is world.applied[-1]

    asyncio.run(main())


def test_what_changed_between_the_start_and_the_first_look_is_taken_up(path: Path) -> None:
    async def main() -> None:
        world = World(path)
        write_secrets_file(path.parent / "secrets", [FileSecret(NEW)])
        async with world:
            await world.until(lambda: world.applied)
            assert world.held() == [NEW]

    asyncio.run(main())


def test_a_mistake_changes_nothing_is_shown_and_goes_when_it_is_put_right(path: Path) -> None:
    async def main() -> None:
        async with World(path) as world:
            await world.until(lambda: world.reload.loaded)
            path.write_text(TENANT.replace("phone_number_ids", "phone_number_idz"))
            await world.until(lambda: world.reload.problems)
            assert "phone_number_idz: unknown key" in "".join(world.reload.status()["config_error"])
            assert (world.applied, world.reload.failed) == ([], 1)
            path.write_text(TENANT)
            await world.until(lambda: not world.reload.problems)
            (path.parent / "secrets").write_text("short\n")
            await world.until(lambda: world.reload.problems)
            (path.parent / "secrets").unlink()
            await world.until(lambda: "without any webhook secret" in "".join(world.reload.problems))
            assert world.applied == []
            write_secrets_file(path.parent / "secrets", [FileSecret(NEW)])
            await world.until(lambda: world.applied)
            assert world.reload.problems == ()

    asyncio.run(main())


def test_what_cannot_be_applied_is_a_mistake_too_and_the_process_goes_on(path: Path) -> None:
    async def main() -> None:
        async with World(path) as world:
            world.fail = RuntimeError(f"a fault of ours with {NEW}")
            write_secrets_file(path.parent / "secrets", [FileSecret(NEW)])
            await world.until(lambda: world.reload.problems)
            assert world.reload.problems == ("the configuration cannot be taken up (RuntimeError)",)
            world.fail = None
            world.reload.ask()
            await world.until(lambda: world.applied)

    asyncio.run(main())


def test_what_needs_a_restart_is_named(path: Path) -> None:
    async def main() -> None:
        async with World(path) as world:
            path.write_text(TENANT.replace("poll_seconds: 0", "poll_seconds: 9"))
            await world.until(lambda: world.reload.waiting)
            assert world.reload.status()["needs_restart"] == ["acme: connections.hubspot.poll_seconds"]
            assert world.applied == []

    asyncio.run(main())


def test_any_number_of_requests_together_is_one(path: Path) -> None:
    async def main() -> None:
        async with World(path, every=PATIENCE) as world:
            for _ in range(1000):
                world.reload.ask()
            await world.until(lambda: world.reload.loaded)
            await asyncio.sleep(0.05)
            assert world.reload.loaded == 1

    asyncio.run(main())


def test_a_file_that_was_rewritten_with_the_same_length_is_another(path: Path) -> None:
    before = stamps(path)
    assert stamps(path) == before
    write_secrets_file(path.parent / "secrets", [FileSecret(NEW)])
    assert stamps(path) != before


# The real process


@pytest.fixture
def daemon(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path.write_text(TENANT + DAEMON % (path.parent, port))
    process = subprocess.Popen(
        [sys.executable, "-m", "crmsync", "run", "--config", str(path), "--roles", "web"],
        env={**os.environ, **ENVIRON},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if '"listening"' in line:
                break
        yield process, f"http://127.0.0.1:{port}/hooks/acme/kirim"
        process.terminate()
        rest = process.communicate(timeout=PATIENCE)[1]
    assert not re.search("whsec_[a-z0-9]", rest)
    assert process.returncode == 0, rest


def test_a_delivery_under_a_secret_that_comes_later_is_taken_in_and_sighup_makes_it_at_once(
    path: Path, daemon: tuple[subprocess.Popen[str], str]
) -> None:
    process, address = daemon

    def deliver(body: bytes, secret: str) -> int:
        stamp = sign(secret, body, int(time.time()))
        return httpx.post(address, content=body, headers={"X-Kirim-Signature": stamp}).status_code

    assert [deliver(b"1", OLD), deliver(b"2", NEW)] == [200, 503]
    write_secrets_file(path.parent / "secrets", [FileSecret(NEW)])
    process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while deliver(b"3", NEW) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert deliver(b"4", OLD) == 503

    while True:
        told = status(path)
        if sum(row["received_recently"] for row in told["sources"]) == 3 and len(told["quarantine"]) == 1:
            break
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    assert [row["rows"] for row in told["quarantine"]] == [1]  # what came under the secret that is gone
    assert told["configuration"]["config_error"] == []
    assert {(row["answer"]) for row in told["answers"]} >= {"stored", "mismatch"}


def reloaded(path: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "crmsync", "reload", "--config", str(path)]
    done = subprocess.run(command, env={**os.environ, **ENVIRON}, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout + done.stderr


def test_a_person_can_ask_for_it_and_is_told_what_became_of_it(
    path: Path, daemon: tuple[subprocess.Popen[str], str]
) -> None:
    good = path.read_text()
    write_secrets_file(path.parent / "secrets", [FileSecret(NEW)])
    code, told = reloaded(path)
    assert (code, told) in [  # the daemon may have seen it by itself already
        (0, "Taken up: acme: kirim.webhook_secrets\n"),
        (0, "Nothing to take up has changed.\n"),
    ]

    path.write_text(good.replace("poll_seconds: 0", "poll_seconds: 60"))
    assert reloaded(path) == (
        0,
        "Nothing to take up has changed.\nIn force after a restart: acme: connections.hubspot.poll_seconds\n",
    )

    path.write_text(good.replace("poll_seconds: 0", "poll_seconds: often"))
    code, told = reloaded(path)
    assert code == 78
    assert "poll_seconds" in told


def test_a_daemon_that_finds_what_the_command_does_not_keeps_its_configuration(
    path: Path, daemon: tuple[subprocess.Popen[str], str]
) -> None:
    """The secret of the command's surroundings is not that of the daemon's."""
    path.write_text(path.read_text().replace("${TOKEN}", "${OTHER}"))
    command = [sys.executable, "-m", "crmsync", "reload", "--config", str(path)]
    environ = {**os.environ, **ENVIRON, "OTHER": "pat-test-another"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)

    assert done.returncode == 78
    assert "OTHER" in done.stderr
    assert "stays in force" in done.stderr


def test_without_a_daemon_there_is_nothing_to_reload(path: Path) -> None:
    path.write_text(TENANT + DAEMON % (path.parent, 8080))

    assert reloaded(path) == (4, "No daemon is running; its next start reads the configuration.\n")


def status(path: Path) -> Any:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path.parent / "crmsync.db.sock"))) as client:
        return client.get("http://daemon/status").json()
