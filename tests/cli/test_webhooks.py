"""`crmsync webhooks …` as an operator uses it: real processes, a real daemon, an emulated Kirim."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmsync import crash
from crmsync.kirim.secrets import read_secrets_file
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import Behaviour, KirimEmulator, Subscription

KEY = "kdv_test_c2FuZGJveC1rZXktMTIz"
PATIENCE = 40.0

TENANT = """
tenant: acme
kirim:
  api_key: ${{KEY}}
  {secrets}
  phone_number_ids: ["106540352242922"]
  base_url: {kirim}/v1
  read_per_minute: 100000
  write_per_minute: 100000
connections:
  hubspot:
    access_token: ${{TOKEN}}
    base_url: {hubspot}
    poll_seconds: 0
    contacts:
      fields:
        name: {{ crm: firstname, owner: crm }}
daemon:
  database: sqlite:///{folder}/crmsync.db
  listen: 127.0.0.1:{port}
  public_url: http://127.0.0.1:{port}
  insecure_targets: ["{kirim_target}", "{hubspot_target}"]
"""


@dataclass
class Town:
    """Kirim, and a daemon that can be started, stopped and killed."""

    kirim: KirimEmulator
    hubspot: HubSpotEmulator
    folder: Path
    port: int
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def secrets_file(self) -> Path:
        return self.folder / "kirim-secrets"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/acme/kirim"

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "KEY": KEY, "TOKEN": self.hubspot.token}

    def configure(self, secrets: str = "webhook_secrets_file: kirim-secrets") -> None:
        text = TENANT.format(
            kirim=self.kirim.url,
            hubspot=self.hubspot.url,
            kirim_target=self.kirim.url.removeprefix("http://"),
            hubspot_target=self.hubspot.url.removeprefix("http://"),
            folder=self.folder,
            port=self.port,
            secrets=secrets,
        )
        (self.folder / "acme.yaml").write_text(text)

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "crmsync", "run", "--config", str(self.folder / "acme.yaml")]
            self.daemon = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log)
        self.await_that(self.ready)

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.daemon is not None
        self.daemon.send_signal(number)
        return self.daemon.wait(PATIENCE)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "crmsync", *arguments, "--config", str(self.folder / "acme.yaml")]

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def told(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def await_that(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)

    @property
    def subscription(self) -> Subscription:
        (one,) = self.kirim.subscriptions.by_id.values()
        return one


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    behaviour = Behaviour(time_scale=0.001)
    with KirimEmulator(key=KEY, behaviour=behaviour) as kirim, HubSpotEmulator() as hubspot:
        town = Town(kirim, hubspot, tmp_path, port)
        town.configure()
        yield town
        if town.daemon is not None and town.daemon.poll() is None:
            town.end(signal.SIGKILL)


class Life:
    """Something happens in Kirim all the time."""

    def __init__(self, kirim: KirimEmulator) -> None:
        self._kirim = kirim
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def _live(self) -> None:
        number = 0
        while not self._stopping.wait(0.1):
            number += 1
            self._kirim.create_contact(f"+62811{number:08}")

    def __enter__(self) -> Life:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()


def test_subscribing_stores_the_secret_and_a_running_daemon_takes_it_up(town: Town) -> None:
    town.start()
    done = town.run("webhooks", "subscribe")
    assert done.returncode == 0, done.stderr
    assert town.subscription.secret not in done.stdout + done.stderr
    assert stat.S_IMODE(town.secrets_file.stat().st_mode) == 0o600
    contact = town.kirim.create_contact("+628111111111")
    town.kirim.behaviour.time_scale = 0.01
    town.await_that(lambda: bool(town.kirim.acknowledged))

    again = town.told("webhooks", "subscribe")
    assert (again["created"], again["subscription"]["id"]) == (False, town.subscription.id)
    (listed,) = town.told("webhooks", "list")["subscriptions"]
    assert (listed["ours"], listed["url"], listed["status"]) == (True, town.url, "active")
    done = town.run("webhooks", "status", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["findings"]) == (0, [])
    assert [secret["held"] for secret in told["secrets"]] == [True]
    assert told["last_received_at"] is not None
    assert contact not in done.stdout
    assert town.run("webhooks", "status").stdout.count("held") == 1
    assert town.end() == 0


def test_without_a_place_for_the_secret_nothing_is_created(town: Town) -> None:
    town.configure('webhook_secrets: ["${KEY}-long-enough-for-a-secret"]')
    done = town.run("webhooks", "subscribe")

    assert done.returncode == 1
    assert "Nothing was created" in done.stderr
    assert town.kirim.subscriptions.by_id == {}


def test_the_secret_can_be_printed_once_for_another_store(town: Town) -> None:
    town.configure('webhook_secrets: ["${KEY}-long-enough-for-a-secret"]')
    done = town.run("webhooks", "subscribe", "--print")

    assert town.subscription.secret in done.stdout.splitlines()
    assert town.told("webhooks", "subscribe", "--print")["secret_id"] is None


def test_status_says_what_is_wrong_and_repair_and_sweep_put_it_right(town: Town) -> None:
    assert town.run("webhooks", "subscribe").returncode == 0
    for number in range(30):
        town.kirim.create_contact(f"+628112222{number:04}")
    town.kirim.behaviour.time_scale = 1e-6
    assert town.kirim.wait_idle(PATIENCE)
    assert town.subscription.status == "disabled"
    done = town.run("webhooks", "status", "--json")
    assert (done.returncode, [one["kind"] for one in json.loads(done.stdout)["findings"]]) == (
        1,
        ["subscription_disabled"],
    )
    refused = town.run("webhooks", "sweep")
    assert refused.returncode != 0
    assert "switched off" in refused.stdout + refused.stderr

    assert town.run("webhooks", "subscribe", "--repair").returncode == 0
    assert town.subscription.status == "active"
    town.start()
    swept = town.told("webhooks", "sweep")
    assert swept["stopped"] == ""
    assert town.kirim.wait_idle(PATIENCE)
    originals = {one.event_id for one in town.kirim.deliveries() if one.replayed_from is None}
    assert {one.event_id for one in town.kirim.acknowledged} == originals
    assert town.told("status")["sweeps"][0]["stopped"] == ""
    assert town.end() == 0


def test_a_sweep_without_a_daemon_is_done_at_once(town: Town) -> None:
    town.kirim.behaviour.disable_after = None
    town.kirim.behaviour.time_scale = 1e-6
    assert town.run("webhooks", "subscribe").returncode == 0
    town.kirim.create_contact("+628111111111")
    assert town.kirim.wait_idle(PATIENCE)
    assert town.run("check").returncode == 0
    town.start()
    town.end()

    done = town.run("webhooks", "sweep", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["given_up"] == 0


def test_a_daemon_that_starts_switches_the_subscription_on_and_has_everything_sent_again(town: Town) -> None:
    assert town.run("webhooks", "subscribe").returncode == 0
    town.kirim.behaviour.time_scale = 1e-6
    for number in range(30):
        town.kirim.create_contact(f"+628112222{number:04}")
    assert town.kirim.wait_idle(PATIENCE)
    assert town.subscription.status == "disabled"
    events = {one.event_id for one in town.kirim.deliveries()}
    town.start()

    town.await_that(lambda: {one.event_id for one in town.kirim.acknowledged} == events)
    town.await_that(lambda: [one["status"] for one in town.told("status")["subscriptions"]] == ["active"])
    assert "subscription_disabled" in town.log.read_text()
    town.await_that(lambda: "self_test_passed" in town.log.read_text())
    assert town.end() == 0


def test_ending_asks_first(town: Town) -> None:
    assert town.run("webhooks", "subscribe").returncode == 0
    assert town.run("webhooks", "unsubscribe").returncode != 0
    assert town.subscription
    assert town.run("webhooks", "unsubscribe", "--yes").returncode == 0
    assert town.kirim.subscriptions.by_id == {}
    assert town.run("webhooks", "unsubscribe", "--yes").returncode == 0
    assert town.run("webhooks", "status").returncode == 1


def test_a_rotation_killed_between_all_steps_loses_nothing(town: Town) -> None:
    """S7: things happen all the time, the command is killed at each of its points, the daemon once as well."""
    assert town.run("webhooks", "subscribe").returncode == 0
    old = town.subscription.secrets[0]
    town.start()
    with Life(town.kirim):
        town.await_that(lambda: bool(town.kirim.acknowledged))
        points = [name for name in crash.POINTS if name.startswith("rotate.")]
        assert len(points) == 7
        for point in points:
            died = town.run("webhooks", "rotate-secret", "--keep-hours", "0", CRMSYNC_CRASH_AT=point)
            assert died.returncode == crash.STATUS, (point, died.stdout + died.stderr)
            assert town.subscription.status == "active"
            if point == "rotate.stored":
                town.end(signal.SIGKILL)
                town.start()
        done = town.run("webhooks", "rotate-secret", "--keep-hours", "0")
        assert "the rotation is complete" in done.stdout

    (new,) = read_secrets_file(town.secrets_file)
    assert [new.id] == ids(town)
    assert new.key != old.text
    assert town.kirim.wait_idle(PATIENCE)
    assert [one for one in town.kirim.deliveries() if one.status != "succeeded"] == []
    for secret in (old.text, new.key, KEY):
        assert secret not in town.log.read_text()
    assert town.end() == 0


def ids(town: Town) -> list[str]:
    return [secret.id for secret in town.subscription.secrets]


def test_a_rotation_can_be_interrupted_and_says_how_to_go_on(town: Town) -> None:
    assert town.run("webhooks", "subscribe").returncode == 0
    town.start()
    rotating = subprocess.Popen(
        town.command("webhooks", "rotate-secret"), env=town.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    town.await_that(lambda: len(ids(town)) == 2 and (town.folder / "kirim-secrets.rotation").exists())
    town.await_that(lambda: '"prove"' in (town.folder / "kirim-secrets.rotation").read_text())
    rotating.send_signal(signal.SIGINT)
    _, said = rotating.communicate(timeout=PATIENCE)

    assert rotating.returncode == 130
    assert b"again to go on" in said
    assert "a rotation is under way (prove)" in town.run("webhooks", "status").stdout
    with Life(town.kirim):
        done = town.run("webhooks", "rotate-secret")
    assert done.returncode == 0, done.stderr
    assert len(ids(town)) == 1
    assert len(read_secrets_file(town.secrets_file)) == 2
    assert town.end() == 0


def test_check_tests_the_way_in_where_a_daemon_answers(town: Town) -> None:
    assert town.run("webhooks", "subscribe").returncode == 0
    said = town.run("check", "--online").stdout
    assert "is not tested" in said
    town.start()
    said = town.run("check", "--online").stdout
    assert f"signed with secret {ids(town)[0]}, arrives" in said
    assert town.end() == 0
