"""Both emulated platforms and a real daemon between them, on the loopback interface, with a folder of their own.

The daemon is a process like any operator's: `python -m crmsync run` with a YAML file, secrets in files, an embedded
store. Nothing here looks into that store.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from crmsync.sandbox.crm import Crm, HubSpotCrm, SalesforceCrm
from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import Behaviour as KirimBehaviour
from crmsync.sandbox.kirim import KirimEmulator
from crmsync.sandbox.kirim import KirimEmulator as _Kirim

TENANT = "demo"
START_SECONDS = 30.0
STOP_SECONDS = 15.0
LOG_TAIL = 20
NUMBER = "106540352242922"

CONFIGURATION = """\
# Written by `crmsync demo`: one tenant, Kirim and {title} emulated on this machine.
tenant: {tenant}
timezone: Asia/Jakarta
region: "ID"

kirim:
  api_key: ${{file:secrets/kirim-api-key}}
  webhook_secrets:
    - ${{file:secrets/kirim-webhook-secret}}
  phone_number_ids: ["{number}"]
  base_url: {kirim}/v1
  read_per_minute: 100000
  write_per_minute: 100000
  parallel: 8

connections:
  {crm}:
    start: live
    poll_seconds: {poll}
{section}
    contacts:
      fields:
{fields}

daemon:
  database: sqlite:///{folder}/crmsync.db
  listen: 127.0.0.1:{port}
  public_url: http://127.0.0.1:{port}
  insecure_targets: [{targets}]
"""


class StageFailed(Exception):
    """The daemon did not start, or ended on its own; the message is a sentence, `log` the end of its log."""

    def __init__(self, message: str, log: tuple[str, ...]) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True, slots=True)
class Setting:
    """What may differ from one performance to the next. `search_rate` and `rate` are HubSpot's documented limits."""

    seed: int = 0
    poll_seconds: int = 2
    rate: int | None = 190
    search_rate: int | None = 5
    crm: str = "hubspot"


class Stage:
    """A context manager: inside it both platforms answer and the daemon takes webhooks."""

    def __init__(self, folder: Path, setting: Setting | None = None) -> None:
        setting = setting or Setting()
        self.folder = folder
        self.setting = setting
        self.port = _free_port()
        self.kirim: _Kirim = KirimEmulator(
            key=f"kdv_test_{secrets.token_urlsafe(18)}",
            seed=setting.seed,
            behaviour=KirimBehaviour(time_scale=0.1, disable_after=None),
            numbers=((NUMBER, "+62 851-1760-0829"),),
        )
        self.crm = _crm(setting)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def hubspot(self) -> HubSpotEmulator:
        """The emulated HubSpot, where it is HubSpot's turn."""
        if not isinstance(self.crm, HubSpotCrm):
            raise RuntimeError(f"the CRM is {self.crm.title}")
        return self.crm.emulator

    @property
    def configuration(self) -> Path:
        """The file that `crmsync --config` takes."""
        return self.folder / "demo.yaml"

    @property
    def log_file(self) -> Path:
        """What the daemon logged."""
        return self.folder / "daemon.log"

    @property
    def pid(self) -> int:
        """The daemon's process."""
        if self._process is None:
            raise RuntimeError("the daemon is not running")
        return self._process.pid

    def hook(self, source: str) -> str:
        """The daemon's webhook address for a platform."""
        return f"http://127.0.0.1:{self.port}/hooks/{TENANT}/{source}"

    def __enter__(self) -> Stage:
        try:
            self.kirim.start()
            self.crm.emulator.start()
            subscription = self.kirim.subscribe(self.hook("kirim"))
            self.crm.listen(self.hook(self.crm.name))
            self._write_configuration(subscription.secret)
            self._start_daemon()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the daemon, by its own id, and then the platforms."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.kirim.stop()
        self.crm.emulator.stop()

    def check(self) -> None:
        """Raises `StageFailed` if the daemon ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise StageFailed(f"the daemon ended by itself with exit code {code}", self.log_tail())

    def log_tail(self) -> tuple[str, ...]:
        """The last lines of the daemon's log."""
        if not self.log_file.exists():
            return ()
        with self.log_file.open(errors="replace") as lines:
            return tuple(line.rstrip("\n") for line in deque(lines, LOG_TAIL))

    def _write_configuration(self, webhook_secret: str) -> None:
        kept = {
            "kirim-api-key": self.kirim.key,
            "kirim-webhook-secret": webhook_secret,
            **self.crm.secrets(),
        }
        (self.folder / "secrets").mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, secret in kept.items():
            place = self.folder / "secrets" / name
            place.touch(mode=0o600)
            place.write_text(secret)
        references = {name: f"${{file:secrets/{name}}}" for name in self.crm.secrets()}
        targets = (url.removeprefix("http://") for url in (self.kirim.url, self.crm.emulator.url))
        fields = (
            f"        {field.kirim}: {{ crm: {field.crm}, owner: {field.owner}, type: {field.type} }}"
            for field in self.crm.fields
        )
        self.configuration.write_text(
            CONFIGURATION.format(
                tenant=TENANT,
                number=NUMBER,
                kirim=self.kirim.url,
                title=self.crm.title,
                crm=self.crm.name,
                section="\n".join(f"    {line}" for line in self.crm.section(references)),
                poll=self.setting.poll_seconds,
                fields="\n".join(fields),
                folder=self.folder,
                port=self.port,
                targets=", ".join(f'"{target}"' for target in targets),
            )
        )

    def _start_daemon(self) -> None:
        command = [sys.executable, "-m", "crmsync", "run", "--config", str(self.configuration)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CRMSYNC_")}
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves, with arguments of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        with httpx.Client(trust_env=False, timeout=5) as client:
            while time.monotonic() < until:
                self.check()
                try:
                    if client.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
        raise StageFailed(f"the daemon was not ready within {START_SECONDS:g} seconds", self.log_tail())


def _crm(setting: Setting) -> Crm:
    if setting.crm == SalesforceCrm.name:
        return SalesforceCrm.made(setting.seed + 1)
    return HubSpotCrm.made(setting.seed + 1, setting.rate, setting.search_rate)


def _free_port() -> int:
    """A port that nobody listens on just now. It has to be known before the daemon starts: signatures cover it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
