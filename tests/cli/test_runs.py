"""`crmsync backfill` and `crmsync reconcile` in real processes that are killed and interrupted."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import KirimEmulator

KEY = "kdv_test_c2FuZGJveC1rZXktMTIz"
SECRET = "whsec_" + "b" * 32
PATIENCE = 60.0
PEOPLE = 1_200

TENANT = """
tenant: acme
kirim:
  api_key: ${{KEY}}
  webhook_secrets: ["${{SECRET}}"]
  phone_number_ids: ["106540352242922"]
  base_url: {kirim}/v1
  read_per_minute: 100000
  write_per_minute: 100000
connections:
  hubspot:
    start: live
    access_token: ${{TOKEN}}
    base_url: {hubspot}
    requests_per_10s: 1000
    poll_seconds: 0
    contacts:
      fields:
        name: {{ crm: firstname, owner: crm }}
        phone_number: phone
daemon:
  database: {database}
  listen: 127.0.0.1:{port}
  insecure_targets: ["{kirim_target}", "{hubspot_target}"]
"""


@dataclass
class Town:
    """Both platforms, with people that nobody told of, and commands between them."""

    kirim: KirimEmulator
    hubspot: HubSpotEmulator
    folder: Path

    def configure(self, database: str = "") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        text = TENANT.format(
            kirim=self.kirim.url,
            hubspot=self.hubspot.url,
            kirim_target=self.kirim.url.removeprefix("http://"),
            hubspot_target=self.hubspot.url.removeprefix("http://"),
            database=database or f"sqlite:///{self.folder}/store.db",
            port=self.port,
        )
        (self.folder / "acme.yaml").write_text(text)

    def people(self, count: int) -> None:
        for number in range(count):
            self.kirim.create_contact(f"+62811{number:08}", name=f"n{number}")

    def begin(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "crmsync", *words, "--config", str(self.folder / "acme.yaml")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "KEY": KEY, "TOKEN": self.hubspot.token, "SECRET": SECRET},
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.begin(*words)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def daemon(self) -> subprocess.Popen[str]:
        with (self.folder / "daemon.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "crmsync", "run", "--config", str(self.folder / "acme.yaml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, "KEY": KEY, "TOKEN": self.hubspot.token, "SECRET": SECRET},
            )
        self.await_that(lambda: process.poll() is not None or self.ready())
        assert process.poll() is None
        return process

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def await_that(self, fact: Callable[[], Any]) -> None:
        until = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < until
            time.sleep(0.02)

    def grows_to(self, count: int, process: subprocess.Popen[str]) -> None:
        """Waits until so many were written, or the process ended."""
        self.await_that(lambda: self.written() >= count or process.poll() is not None)

    def written(self) -> int:
        return len(self.hubspot.contacts.by_id)

    def is_whole(self, count: int) -> None:
        """Everybody is there once, and was made once."""
        held = [record.properties["kirim_contact_id"] for record in self.hubspot.contacts.live()]
        made = Counter(effect.external_id for effect in self.hubspot.ledger.effects("create"))

        assert sorted(held) == sorted(self.kirim.workspace.contacts.by_id)
        assert len(held) == count
        assert max(made.values()) == 1


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with (
        KirimEmulator(key=KEY, numbers=(("106540352242922", "+62 851-1760-0829"),)) as kirim,
        HubSpotEmulator() as hubspot,
    ):
        hubspot.properties.define("kirim_contact_id", unique=True)
        made = Town(kirim, hubspot, tmp_path)
        made.configure()
        yield made


def test_a_backfill_that_is_killed_goes_on_where_it_was(town: Town) -> None:
    """SIGKILL three times, at moments nobody chose."""
    town.people(PEOPLE)
    town.hubspot.faults.outage(Fault.slow(0.15))
    for share in (4, 3, 2):
        process = town.begin("backfill", "acme")
        town.grows_to(PEOPLE // share, process)
        process.kill()
        process.communicate()
    town.hubspot.faults.recover()
    code, output = town.run("backfill", "acme")

    assert (code, "goes on behind" in output) == (0, True), output
    assert f"done: {PEOPLE:,} records read" in output
    town.is_whole(PEOPLE)


def test_ctrl_c_stops_a_backfill_and_it_says_how_to_go_on(town: Town) -> None:
    town.people(PEOPLE)
    town.hubspot.faults.outage(Fault.slow(0.3))
    process = town.begin("backfill", "acme", "--limit", "1000")
    town.grows_to(1, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 130, output
    assert "To go on: crmsync backfill acme --limit 1000" in output
    assert town.written() < 1000
    town.hubspot.faults.recover()
    code, refused = town.run("backfill", "acme")
    assert (code, "other options" in refused) == (1, True), refused
    code, output = town.run("backfill", "acme", "--limit", "1000")
    assert code == 0, output
    assert "goes on behind" in output
    assert town.written() == 1000


def test_a_rehearsal_leaves_no_trace(town: Town) -> None:
    town.people(250)
    code, output = town.run("backfill", "acme", "--dry-run", "--json")
    told = json.loads(output[output.index("{") :])

    assert code == 0
    assert told["dry_run"] == {"pages": 3, "read": 250, "new": 250, "changed": 0}
    assert "at least 100" in output
    assert not (town.folder / "store.db").exists()
    assert len(town.hubspot.ledger) == 0


def test_the_daemon_does_the_work_and_goes_on_with_it_when_it_was_killed(town: Town) -> None:
    town.people(PEOPLE)
    town.hubspot.faults.outage(Fault.slow(0.15))
    daemon = town.daemon()
    try:
        command = town.begin("backfill", "acme")
        town.grows_to(PEOPLE // 4, command)
        daemon.kill()
        daemon.wait()
        output, _ = command.communicate(timeout=PATIENCE)
        assert command.returncode == 1, output
        assert "the daemon is gone" in output
        town.hubspot.faults.recover()
        daemon = town.daemon()
        town.await_that(lambda: town.written() == PEOPLE)
        code, output = town.run("backfill", "acme")
        assert code == 0, output
        assert "in the running daemon" in output
    finally:
        daemon.kill()
        daemon.wait()
    town.is_whole(PEOPLE)


def test_reconcile_tells_by_its_exit_code_and_heals(town: Town) -> None:
    town.people(230)
    assert town.run("backfill", "acme")[0] == 0
    code, output = town.run("reconcile", "acme")
    assert (code, "both sides agree" in output) == (0, True), output

    victim = next(record for record in town.hubspot.contacts.live())
    time.sleep(1.1)  # Kirim tells the time of a change in whole seconds
    town.hubspot.edit(str(victim.id), phone="+62800")
    report = town.folder / "report.json"
    code, output = town.run("reconcile", "acme", "--report", str(report))
    told = json.loads(report.read_text())["counts"]["report"]["hubspot/contact"]
    assert code == 3, output
    assert told["fields"]["phone_number"] == {"agree": 229, "kirim_right": 1}
    assert told["records"] == {"agree": 229, "differ": 1}

    table = town.folder / "report.csv"
    code, output = town.run("reconcile", "acme", "--heal", "--threshold", "0", "--report", str(table))
    assert code == 3, output
    assert "not healed" in output
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    contact = victim.properties["kirim_contact_id"]
    assert {"field": "phone_number", "finding": "kirim_right", "count": "1", "sample": contact}.items() <= next(
        row for row in rows if row["finding"] == "kirim_right"
    ).items()
    code, output = town.run("reconcile", "acme", "--heal")
    assert code == 0, output
    assert "1 healed, 0 left" in output
    assert victim.properties["phone"] == "+6281100000000" or victim.properties["phone"].startswith("+62811")


def test_what_cannot_be_walked_is_a_mistake_of_the_caller(town: Town) -> None:
    code, output = town.run("backfill", "acme", "--from", "salesforce")

    assert code == 64, output
    assert "choose from kirim, crm, hubspot" in output
    assert town.run("reconcile", "acme", "--report", "report.txt")[0] == 64
    assert town.run("backfill", "nobody")[0] == 64


def test_on_postgresql_a_command_works_alone_or_watches_the_node_that_does(town: Town, postgresql_url: str) -> None:
    town.configure(postgresql_url)
    town.people(300)
    code, output = town.run("backfill", "acme")
    assert (code, "in this process" in output) == (0, True), output
    daemon = town.daemon()
    try:
        town.kirim.create_contact("+6281999", name="late")
        code, output = town.run("backfill", "acme")
        assert (code, "in another node" in output) == (0, True), output
    finally:
        daemon.kill()
        daemon.wait()
    town.is_whole(301)
