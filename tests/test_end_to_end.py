"""The real daemon between two emulated platforms, on either database: edits in both directions, and kill -9."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import KirimEmulator

KEY = "kdv_test_c2FuZGJveC1rZXktMTIz"
CLIENT_SECRET = "sandbox-client-secret-0123456789"
PATIENCE = 30.0

TENANT = """
tenant: acme
kirim:
  api_key: ${{KEY}}
  webhook_secrets:
    - ${{SECRET}}
  phone_number_ids: ["106540352242922"]
  base_url: {kirim}/v1
  read_per_minute: 100000
  write_per_minute: 100000
connections:
  hubspot:
    start: live
    access_token: ${{TOKEN}}
    base_url: {hubspot}
    poll_seconds: 1
    contacts:
      fields:
        phone_number: phone
        name: {{ crm: firstname, owner: crm }}
        email: {{ crm: email, owner: kirim }}
daemon:
  database: {database}
  listen: 127.0.0.1:{port}
  insecure_targets: ["{kirim_target}", "{hubspot_target}"]
"""


@dataclass
class Town:
    """Both platforms, and a daemon that can be started, stopped and killed."""

    kirim: KirimEmulator
    hubspot: HubSpotEmulator
    folder: Path
    port: int
    secret: str
    daemon: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "daemon.log"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "crmsync"]

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "KEY": KEY, "SECRET": self.secret, "TOKEN": self.hubspot.token}

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [*self.command, "run", "--config", str(self.folder)], env=self.environ, stdout=log, stderr=log
            )
        self.await_that(self.ready)

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def end(self, number: int) -> int:
        assert self.daemon is not None
        self.daemon.send_signal(number)
        return self.daemon.wait(PATIENCE)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments, "--config", str(self.folder)],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def await_that(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def record(self, contact: str) -> dict[str, str]:
        held = self.hubspot.by_external_id(contact)
        return self.hubspot.get(held[0]) if held else {}

    def agreed(self, contact: str, name: str, email: str) -> bool:
        ours, theirs = self.kirim.get(contact), self.record(contact)
        return (ours["name"], ours["email"], theirs.get("firstname"), theirs.get("email")) == (name, email, name, email)


@pytest.fixture
def town(database_url: str, tmp_path: Path) -> Iterator[Town]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with KirimEmulator(key=KEY) as kirim, HubSpotEmulator() as hubspot:
        secret = kirim.subscribe(f"http://127.0.0.1:{port}/hooks/acme/kirim").secret
        folder = tmp_path / "config"
        folder.mkdir()
        text = TENANT.format(
            kirim=kirim.url,
            hubspot=hubspot.url,
            kirim_target=kirim.url.removeprefix("http://"),
            hubspot_target=hubspot.url.removeprefix("http://"),
            database=database_url,
            port=port,
        )
        (folder / "acme.yaml").write_text(text)
        town = Town(kirim, hubspot, folder, port, secret)
        yield town
        if town.daemon is not None and town.daemon.poll() is None:
            town.end(signal.SIGKILL)


def test_both_sides_come_to_hold_what_the_owners_say(town: Town) -> None:
    prepared = town.run("check", "--prepare")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    town.start()

    contact = town.kirim.create_contact("+628111111111", name="Ana", email="ana@example.com")
    town.await_that(lambda: town.agreed(contact, "Ana", "ana@example.com"))
    town.hubspot.edit(town.hubspot.by_external_id(contact)[0], firstname="Beatrice", email="drift@example.com")
    town.await_that(lambda: town.agreed(contact, "Beatrice", "ana@example.com"))
    town.kirim.edit_contact(contact, name="Drift", email="new@example.com")
    town.await_that(lambda: town.agreed(contact, "Beatrice", "new@example.com"))

    assert "owns the field" in town.run("explain", contact).stdout
    assert contact not in town.run("status").stdout
    assert town.end(signal.SIGTERM) == 0
    for secret in (town.secret, KEY, town.hubspot.token, "+628111111111", "ana@example.com"):
        assert secret not in town.log.read_text()


def test_what_was_acknowledged_survives_kill_9(town: Town) -> None:
    assert town.run("check", "--prepare").returncode == 0
    town.kirim.behaviour.time_scale = 0.02  # what is refused meanwhile comes again soon
    town.start()

    contacts = []
    for round in range(3):
        for number in range(20):
            phone = f"+62811{round:03}{number:04}"
            contacts.append(town.kirim.create_contact(phone, name=f"P{number}", email=f"p{round}.{number}@example.com"))
        acknowledged = len(town.kirim.acknowledged)
        town.await_that(lambda before=acknowledged: len(town.kirim.acknowledged) > before)  # type: ignore[misc]
        town.end(signal.SIGKILL)
        town.start()

    town.await_that(lambda: all(town.record(contact) for contact in contacts))
    town.kirim.wait_idle(PATIENCE)
    assert [contact for contact in contacts if len(town.hubspot.by_external_id(contact)) != 1] == []
    assert town.end(signal.SIGTERM) == 0
