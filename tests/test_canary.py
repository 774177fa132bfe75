"""Every secret and every personal datum of a whole story is a canary: none of them gets out of the process.

The daemon runs at its most talkative, with the level of every library's logger forced to debug. What is looked
through is all it ever prints, its metrics, what `status` and `check` show, and the list of processes.
"""

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
from support.receiver import Receiver

from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import KirimEmulator

PATIENCE = 40.0
SECRETS = {
    "KEY": "kdv_test_canary5e1f2a77",
    "SECRET": "",  # Kirim's own
    "TOKEN": "pat-eu1-canary9b3c-44d2",
    "CLIENT": "canary-client-secret-0c8e77aa",
    "ALERT": "",
}
HOOK_PATH = "/services/T0/B0/canary6a6a6a"
PHONES = ["+628119090001", "+628119090002", "+628119090003"]
PERSONAL = [
    *(phone.lstrip("+") for phone in PHONES),
    "Canaria Satu",
    "Canaria Dua",
    "Canaria Tiga",
    "canaria.satu@canary.example",
    "canaria.dua@canary.example",
    "canaria.baru@canary.example",
    "canary message body",
    "Canaria Metadata",
]

CONFIG = """
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
    client_secrets: ["${{CLIENT}}"]
    base_url: {hubspot}
    poll_seconds: 1
    contacts:
      fields:
        phone_number: phone
        name: {{ crm: firstname, owner: crm }}
        email: {{ crm: email, owner: kirim }}
        metadata.note: {{ crm: jobtitle, owner: kirim }}
daemon:
  database: sqlite:///{folder}/store.db
  listen: 127.0.0.1:{port}
  alert_url: ${{ALERT}}
  insecure_targets: {targets}
  log: {{ level: debug, format: {form} }}
"""

LOUD = """
import logging
from crmsync import logs
quiet = logs.configure
def configure(*arguments):
    quiet(*arguments)
    import alembic, apscheduler, asyncio, httpcore, httpx, hubspot, sqlalchemy, urllib3, uvicorn
    logging.getLogger().setLevel(logging.DEBUG)
    for name in [*logging.root.manager.loggerDict, "asyncio", "httpx", "httpcore", "httpcore.http11", "urllib3",
                 "urllib3.connectionpool", "hubspot", "rest", "sqlalchemy.engine", "sqlalchemy.engine.Engine",
                 "sqlalchemy.pool", "apscheduler", "uvicorn.error", "uvicorn.access", "alembic", "tenacity"]:
        logging.getLogger(name).setLevel(logging.DEBUG)
logs.configure = configure
from crmsync.cli import main
main()
"""


@dataclass
class Story:
    """The daemon between two platforms, and everything it ever said."""

    kirim: KirimEmulator
    hubspot: HubSpotEmulator
    folder: Path
    port: int
    environ: dict[str, str]
    said: list[str] = field(default_factory=list)
    daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-X", "dev", "-W", "ignore", "-c", LOUD, "run", "--config", str(self.folder / "c")],
                env=self.environ,
                stdout=log,
                stderr=log,
            )
        self.await_that(self.ready)

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def await_that(self, fact: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < deadline, (self.folder / "daemon.log").read_text()[-3000:]
            time.sleep(0.05)

    def run(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", LOUD, *arguments, "--config", str(self.folder / "c")],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        self.said += [done.stdout, done.stderr]

    def look_around(self) -> None:
        """What can be seen of a running daemon."""
        self.said.append(httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text)
        self.said.append(subprocess.run(["ps", "-ef"], capture_output=True, text=True, check=False).stdout)
        self.run("status")
        self.run("status", "--json")

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        address = f"http://127.0.0.1:{self.port}/hooks/acme/kirim"
        return httpx.post(address, content=body, headers=headers, trust_env=False).status_code

    def end(self, number: int) -> None:
        assert self.daemon is not None
        self.daemon.send_signal(number)
        self.daemon.wait(PATIENCE)

    def everything(self) -> str:
        return "\n".join([(self.folder / "daemon.log").read_text(errors="replace"), *self.said])


@pytest.fixture(params=["json", "text"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kirim = KirimEmulator(key=SECRETS["KEY"])
    hubspot = HubSpotEmulator(token=SECRETS["TOKEN"], client_secret=SECRETS["CLIENT"])
    with kirim, hubspot, Receiver() as people:
        secret = kirim.subscribe(f"http://127.0.0.1:{port}/hooks/acme/kirim").secret
        (tmp_path / "c").mkdir()
        targets = [url.split("/")[2] for url in (kirim.url, hubspot.url, people.url)]
        text = CONFIG.format(
            kirim=kirim.url, hubspot=hubspot.url, folder=tmp_path, port=port, targets=targets, form=request.param
        )
        (tmp_path / "c" / "acme.yaml").write_text(text.replace("'", '"'))
        secrets = {**SECRETS, "SECRET": secret, "ALERT": f"{people.url}{HOOK_PATH}"}
        made = Story(kirim, hubspot, tmp_path, port, {**os.environ, **secrets})
        yield made
        if made.daemon is not None and made.daemon.poll() is None:
            made.end(signal.SIGKILL)


def test_no_canary_gets_out(story: Story) -> None:
    kirim, hubspot = story.kirim, story.hubspot
    story.run("check", "--prepare")
    story.start()
    first = kirim.create_contact(PHONES[0], name=PERSONAL[3], email=PERSONAL[6], metadata={"note": PERSONAL[10]})
    second = kirim.create_contact(PHONES[1], name=PERSONAL[4], email=PERSONAL[7])
    story.await_that(lambda: hubspot.by_external_id(first) and hubspot.by_external_id(second))
    kirim.receive_message(first, PERSONAL[9])
    hubspot.edit(hubspot.by_external_id(first)[0], firstname=PERSONAL[5])
    kirim.edit_contact(second, email=PERSONAL[8])
    story.await_that(lambda: kirim.get(first)["name"] == PERSONAL[5])

    # Trouble of every kind, with personal data in the middle of it.
    hubspot.create_contact(email="canaria.tiga@canary.example", firstname=PERSONAL[5])
    third = kirim.create_contact(PHONES[2], name=PERSONAL[5], email="canaria.tiga@canary.example")
    for fault in ("html", "truncated", "500", "reset_after", "504_after", "wrong_type"):
        hubspot.faults.fail_next(1, fault)
        kirim.edit_contact(second, email=f"{fault}.{PERSONAL[8]}")
        story.await_that(lambda: not any(order.left for order in hubspot.faults._ordered))
    body = f'{{"id": "{PERSONAL[8]}", "data": "{PERSONAL[9]}'.encode()
    at = int(time.time())
    from crmsync.kirim.signature import sign

    secret = story.environ["SECRET"]
    assert story.post(body, {"X-Kirim-Signature": sign(secret, body, at)}) == 200
    forged = sign("whsec_" + "w" * 30, body, at)
    assert story.post(body, {"X-Kirim-Signature": forged, "X-Kirim-Event": PHONES[0]}) == 503
    httpx.get(f"http://127.0.0.1:{story.port}/{PERSONAL[8]}?phone={PHONES[0]}", trust_env=False)
    hubspot.token = "pat-eu1-another"
    kirim.edit_contact(first, email=f"last.{PERSONAL[6]}")
    story.await_that(lambda: "connection_suspended" in story.everything())
    story.look_around()
    story.run("explain", "ctc_unknown")
    story.run("resync", third)

    story.end(signal.SIGABRT)
    story.start()
    story.look_around()
    story.end(signal.SIGTERM)
    said = story.everything()

    assert "connection_suspended" in said or "connection suspended" in said
    assert [
        canary
        for canary in [*PERSONAL, *(value for name, value in story.environ.items() if name in SECRETS), HOOK_PATH]
        if canary in said
    ] == []
    assert "canaria.tiga@canary.example" not in said
    assert "Traceback" not in said
