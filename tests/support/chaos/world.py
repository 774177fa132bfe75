"""Both emulated platforms, and between them the real daemon: a process that may be killed at any moment."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from support.chaos import herald
from support.chaos.checker import EMAIL, VERSION, Findings, Held, Tally, Testimony, judge

from crmsync.sandbox.hubspot import Behaviour, HubSpotEmulator

ROOT = Path(__file__).parents[3]
TENANT = "acme"
EXTERNAL_ID = "kirim_contact_id"
READY_SECONDS = 60.0
QUIET_SECONDS = 300.0
STRANGERS = 300
"""Contacts that Kirim had before anybody asked to be told of them."""
SAID = re.compile(r"message-\d+\.")
PORTS = range(20_000, 32_000)
"""Below those that a system takes for outgoing connections: one of the sender's own may not sit on a dead daemon's."""

SUBSCRIBED = ("contact.created", "contact.updated", "message.received")

CONFIGURATION = """
tenant: {tenant}
kirim:
  api_key: ${{file:secrets/kirim-api-key}}
  webhook_secrets:
    - ${{file:secrets/kirim-webhook-secret}}
    - ${{file:secrets/kirim-webhook-secret-2}}
  phone_number_ids: ["106540352242922"]
  base_url: {kirim}/v1
  read_per_minute: 100000
  write_per_minute: 100000
connections:
  hubspot:
    start: live
    poll_seconds: 1
    access_token: ${{file:secrets/hubspot-token}}
    client_secrets:
      - ${{file:secrets/hubspot-client-secret}}
    base_url: {hubspot}
    requests_per_10s: 1000
    messages: {{ log: each }}
    contacts:
      fields:
        phone_number: {{ crm: phone, owner: kirim, type: phone }}
        email: {{ crm: {email}, owner: kirim, type: email }}
        metadata.version: {{ crm: {version}, owner: kirim }}
        name: {{ crm: firstname, owner: crm }}
daemon:
  database: {database}
  listen: 127.0.0.1:{port}
  public_url: http://127.0.0.1:{port}
  insecure_targets: [{targets}]
"""


class World:
    """A context manager; the daemon has to be started. `database` is the URL of a store, empty or not."""

    def __init__(
        self, folder: Path, database: str, *, contacts: int = 2000, rate: float = 1000.0, seed: int = 1
    ) -> None:
        self.folder = folder
        self.database = database
        self.random = random.Random(seed)
        self.port = free_port(self.random)
        self.kirim, self.courier = herald.kirim(f"kdv_test_{secrets.token_urlsafe(18)}", seed)
        self.hubspot = HubSpotEmulator(
            token=f"pat-eu1-{secrets.token_hex(12)}",
            seed=seed + 1,
            behaviour=Behaviour(rate_limit=None, search_rate=None, webhook_retry=0.1),
            external_id=EXTERNAL_ID,
            client_secret=secrets.token_urlsafe(24),
        )
        self.hubspot.ledger = self.tally = Tally()
        self.hubspot.properties.define(EXTERNAL_ID, unique=True)
        for name in ("kirim_key", "kirim_status"):
            self.hubspot.tables["communication"].properties.define(name)
        self.people = herald.People(self.kirim, self.hubspot, contacts=contacts, rate=rate, seed=seed + 2)
        self.process: subprocess.Popen[bytes] | None = None
        self.environ: dict[str, str] = {}
        """What the daemon's surroundings have besides ours."""

    @property
    def promises(self) -> herald.Promises:
        """What the sender was answered."""
        return self.courier.promises

    @property
    def log(self) -> str:
        """The end of what the daemon said, over all its lives."""
        return (self.folder / "daemon.log").read_text(errors="replace")[-4000:]

    def __enter__(self) -> World:
        self.kirim.start()
        self.hubspot.start()
        self.people.settle(STRANGERS)
        hooks = f"http://127.0.0.1:{self.port}/hooks/{TENANT}"
        self._subscription = self.kirim.subscribe(f"{hooks}/kirim", SUBSCRIBED)
        self.hubspot.configure_webhooks(f"{hooks}/hubspot")
        self._write_configuration()
        self.people.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.people.stop()
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        self.kirim.stop()
        self.hubspot.stop()

    # -- the daemon

    def start(self, crash: str = "") -> None:
        """Another life of the daemon; returns at once."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CRMSYNC_")}
        if crash:
            environ["CRMSYNC_CRASH_AT"] = crash
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "crmsync", "run", "--config", str(self.folder / "acme.yaml")],
                env=environ | self.environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def wait_until_listening(self) -> bool:
        """Waits for the daemon's door to open; whether it did before the daemon ended."""
        until = time.monotonic() + READY_SECONDS
        while self.alive() and time.monotonic() < until:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return True
            time.sleep(0.01)
        return False

    def end(self, number: int, timeout: float = READY_SECONDS) -> int:
        """Sends a signal and waits for the end; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended(timeout)

    def ended(self, timeout: float) -> int:
        """Waits for the end, and notes since when the daemon is down."""
        assert self.process is not None
        code = self.process.wait(timeout)
        if self.promises.down_since is None:
            self.promises.down_since = time.monotonic()
        return code

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `crmsync` command, beside the daemon."""
        return subprocess.run(
            [sys.executable, "-m", "crmsync", *arguments, "--config", str(self.folder / "acme.yaml")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def listed_dead(self) -> list[str]:
        """The dead letters that the daemon owns up to, each with its reason."""
        asked = self.command("dead", "list", "--limit", "10000", "--json")
        assert asked.returncode == 0, asked.stderr + self.log
        return [f"{letter['id']} ({letter['reason']})" for letter in json.loads(asked.stdout)["dead"]]

    # -- what happens at Kirim

    def replace_secret(self) -> None:
        """Kirim signs with a secret that the daemon does not have."""
        with self.kirim.lock:
            del self._subscription.secrets[:-1]
            self._subscription.secrets[0] = self.kirim.subscriptions._new_secret(None)

    def tell_secret(self) -> None:
        """The operator gives it to the daemon."""
        self._keep("kirim-webhook-secret-2", self._subscription.secret)
        if self.alive():
            assert self.process is not None
            self.process.send_signal(signal.SIGHUP)

    # -- the end

    def settled(self) -> bool:
        """Waits until everything was promised and both platforms agree; whether they came to."""
        until = time.monotonic() + QUIET_SECONDS
        while self.alive() and time.monotonic() < until:
            if not self.people.busy and self.kirim.idle() and self.hubspot.outbox.pending == 0 and self._agree():
                return True
            time.sleep(0.25)
        return False

    def _agree(self) -> bool:
        told = self.testimony(dead=(), late=0)
        done = {record.kirim_id: record for record in told.records}
        if len(done) != len(told.latest) or not told.spoken <= set(told.logged):
            return False
        return all(
            (done[id].version, done[id].name) == (f"v{version}", told.names[id]) for id, version in told.latest.items()
        )

    def writes(self) -> int:
        """How many writes both platforms have seen."""
        return len(self.tally) + len(self.kirim.ledger)

    def judged(self, watched: float = 2.0) -> Findings:
        """The verdict: waits for quiet, watches that it stays, and compares. The daemon has to be running."""
        came_to_agree = self.settled()
        before = self.writes()
        time.sleep(watched)
        late = self.writes() - before if came_to_agree else 0
        return judge(self.testimony(self.listed_dead(), late))

    def testimony(self, dead: Sequence[str], late: int) -> Testimony:
        """What can be known from outside."""
        with self.kirim.lock:
            names = {one.id: one.name or "" for one in self.kirim.workspace.contacts.by_id.values()}
            latest, promised = dict(self.people.versions), dict(self.promises.versions)
            said, spoken = set(self.promises.said), set(self.people.said)
        with self.hubspot.lock:
            records = [
                Held(held.get(EXTERNAL_ID, ""), held.get(VERSION, ""), held.get(EMAIL, ""), held.get("firstname", ""))
                for held in (one.properties for one in self.hubspot.contacts.live())
            ]
            entries = [one.properties for one in self.hubspot.tables["communication"].records.live()]
        return Testimony(
            promised=promised,
            latest=latest,
            names=names,
            said=said,
            spoken=spoken,
            logged=[text for entry in entries for text in SAID.findall(entry.get("hs_communication_body", ""))],
            unreadable=len(self.promises.unreadable),
            records=records,
            created=dict(self.tally.created),
            backwards=tuple(self.tally.backwards),
            dead=dead,
            late=late,
        )

    def _keep(self, name: str, secret: str) -> None:
        place = self.folder / "secrets" / name
        fresh = place.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(secret)
        fresh.rename(place)

    def _write_configuration(self) -> None:
        (self.folder / "secrets").mkdir(mode=0o700, parents=True)
        for name, secret in {
            "kirim-api-key": self.kirim.key,
            "kirim-webhook-secret": self._subscription.secret,
            "kirim-webhook-secret-2": f"whsec_{secrets.token_urlsafe(32)}",
            "hubspot-token": self.hubspot.token,
            "hubspot-client-secret": self.hubspot.webhooks.secret,
        }.items():
            self._keep(name, secret)
        targets = ", ".join(f'"{url.removeprefix("http://")}"' for url in (self.kirim.url, self.hubspot.url))
        (self.folder / "acme.yaml").write_text(
            CONFIGURATION.format(
                tenant=TENANT,
                kirim=self.kirim.url,
                hubspot=self.hubspot.url,
                database=self.database,
                port=self.port,
                targets=targets,
                email=EMAIL,
                version=VERSION,
            )
        )


def free_port(chance: random.Random) -> int:
    """A port that nobody listens on."""
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
