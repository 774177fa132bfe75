"""SIGTERM under load, with a real process: nothing that was acknowledged is lost, and it is gone within ten seconds."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import pytest

from crmsync.kirim.signature import sign
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import KirimEmulator

KEY = "kdv_test_c2FuZGJveC1rZXktMTIz"
SECRET = "whsec_" + "d" * 32
PATIENCE = 90.0
PACE = 0.005
"""Seconds between two requests of a sender: load, and not the starving of everybody else on the machine."""
LIMIT = 15.0
"""It is meant to be gone within ten seconds, whatever hangs; the machine of the tests may be busy."""

CONFIG = """
tenant: acme
kirim:
  api_key: ${{KEY}}
  webhook_secrets: ["${{SECRET}}"]
  phone_number_ids: ["106540352242922"]
  base_url: {kirim}/v1
connections:
  hubspot:
    start: live
    access_token: ${{TOKEN}}
    base_url: {hubspot}
    poll_seconds: 1
    contacts: {{ fields: {{ name: {{ crm: firstname, owner: kirim }} }} }}
daemon:
  database: sqlite:///{folder}/store.db
  listen: 127.0.0.1:{port}
  insecure_targets: ["{kirim_target}", "{hubspot_target}"]
"""


@dataclass
class Sender:
    """Posts signed events all the time, and keeps its own list of those that were answered 200."""

    url: str
    acknowledged: list[str] = field(default_factory=list)
    refused: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._threads = [threading.Thread(target=self._send, args=(number,), daemon=True) for number in range(4)]
        for thread in self._threads:
            thread.start()

    def _send(self, worker: int) -> None:
        number = 0
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not self.stopping.wait(PACE):
                id = f"evt_{worker}_{number:06}"
                number += 1
                body = event(id)
                try:
                    response = client.post(self.url, content=body, headers=signed(body))
                except httpx.HTTPError:
                    self.refused += 1
                    continue
                if response.status_code == 200:
                    self.acknowledged.append(id)
                else:
                    assert response.status_code == 503
                    self.refused += 1

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()


def event(id: str) -> bytes:
    contact = f"ctc_{id}"
    known = {"id": contact, "name": "Ana", "phone_number": "+6281111111", "updated_at": "2026-01-01T00:00:00Z"}
    data = {"contact": known, "changed_fields": ["name"]}
    at = datetime.now(UTC).isoformat()
    return orjson.dumps({"id": id, "type": "contact.updated", "created_at": at, "livemode": True, "data": data})


def signed(body: bytes) -> dict[str, str]:
    return {"X-Kirim-Signature": sign(SECRET, body, int(time.time())), "Content-Type": "application/json"}


@dataclass
class Place:
    """A daemon between two emulators, on a SQLite file that can be looked into when it is gone."""

    kirim: KirimEmulator
    hubspot: HubSpotEmulator
    folder: Path
    port: int
    daemon: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def await_that(self, fact: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < deadline, (self.folder / "daemon.log").read_text()[-3000:]
            time.sleep(0.02)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=PATIENCE).status_code == 200
        except httpx.TransportError:
            return False

    def look_again(self, contact: str) -> bool:
        """Has a contact read again; says whether it is known yet."""
        transport = httpx.HTTPTransport(uds=str(self.folder / "store.db.sock"))
        with httpx.Client(transport=transport, base_url="http://daemon", timeout=PATIENCE) as client:
            answer = client.post("/resync", json={"tenant": "acme", "id": contact})
        return bool(answer.json()["records"])

    def stored(self) -> set[str]:
        """The events whose bodies are in the file."""
        with sqlite3.connect(self.folder / "store.db") as file:
            rows = file.execute("SELECT body FROM delivery").fetchall()
        file.close()
        return {orjson.loads(body)["id"] for (body,) in rows}

    def terminate(self) -> float:
        """Seconds until it was gone."""
        began = time.monotonic()
        self.daemon.send_signal(signal.SIGTERM)
        assert self.daemon.wait(PATIENCE) == 0, (self.folder / "daemon.log").read_text()[-3000:]
        return time.monotonic() - began


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with KirimEmulator(key=KEY) as kirim, HubSpotEmulator() as hubspot:
        hubspot.properties.define("kirim_contact_id", unique=True)
        text = CONFIG.format(
            kirim=kirim.url,
            hubspot=hubspot.url,
            kirim_target=kirim.url.removeprefix("http://"),
            hubspot_target=hubspot.url.removeprefix("http://"),
            folder=tmp_path,
            port=port,
        )
        (tmp_path / "acme.yaml").write_text(text)
        command = [sys.executable, "-m", "crmsync", "run", "--config", str(tmp_path / "acme.yaml")]
        environ = {"KEY": KEY, "SECRET": SECRET, "TOKEN": hubspot.token, "PATH": ""}
        with (tmp_path / "daemon.log").open("ab") as log:
            daemon = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        made = Place(kirim, hubspot, tmp_path, port, daemon)
        try:
            made.await_that(made.ready)
            yield made
        finally:
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()


def test_it_drains_under_load_and_loses_nothing(place: Place) -> None:
    with Sender(f"{place.url}/hooks/acme/kirim") as sender:
        place.await_that(lambda: len(sender.acknowledged) > 300)
        took = place.terminate()

    assert took <= LIMIT
    assert set(sender.acknowledged) <= place.stored()


@pytest.mark.parametrize("hanging", ["hubspot", "kirim"])
def test_a_platform_that_hangs_does_not_hold_it_up(place: Place, hanging: str) -> None:
    emulator = getattr(place, hanging)
    emulator.faults.outage(Fault.hang(applied=False))
    with Sender(f"{place.url}/hooks/acme/kirim") as sender:
        place.await_that(lambda: len(sender.acknowledged) > 50)
        place.await_that(lambda: place.look_again(f"ctc_{sender.acknowledged[0]}"))
        place.await_that(lambda: emulator.faults.met.total() > 0)
        with socket.create_connection(("127.0.0.1", place.port)) as slow:
            slow.sendall(b"POST /hooks/acme/kirim HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            took = place.terminate()

    assert took <= LIMIT
    assert set(sender.acknowledged) <= place.stored()
