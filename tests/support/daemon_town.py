"""The real daemon between the emulators of Kirim and HubSpot, with whatever mapping a test wants."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.hubspot_account import prepared_account
from test_end_to_end import KEY, Town

from crmsync.sandbox.hubspot import HubSpotEmulator
from crmsync.sandbox.kirim import Behaviour, KirimEmulator

TENANT = """
tenant: acme
region: "ID"
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
{contacts}
{more}
daemon:
  database: {database}
  listen: 127.0.0.1:{port}
  insecure_targets: ["{kirim_target}", "{hubspot_target}"]
"""


@contextmanager
def town(
    database: str, folder: Path, contacts: str, behaviour: Behaviour | None = None, more: str = ""
) -> Iterator[Town]:
    """Both platforms and a daemon that is not started yet; `contacts` is the section of the mapping, `more` what else
    the connection has.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with prepared_account() as hubspot, KirimEmulator(key=KEY, behaviour=behaviour or Behaviour()) as kirim:
        secret = kirim.subscribe(f"http://127.0.0.1:{port}/hooks/acme/kirim").secret
        folder.mkdir(exist_ok=True)
        text = TENANT.format(
            kirim=kirim.url,
            hubspot=hubspot.url,
            kirim_target=kirim.url.removeprefix("http://"),
            hubspot_target=hubspot.url.removeprefix("http://"),
            database=database,
            port=port,
            contacts="\n".join(f"      {line}" for line in contacts.strip("\n").splitlines()),
            more="\n".join(f"    {line}" for line in more.strip("\n").splitlines()),
        )
        (folder / "acme.yaml").write_text(text, encoding="utf-8")
        found = Town(kirim, hubspot, folder, port, secret)
        try:
            yield found
        finally:
            if found.daemon is not None and found.daemon.poll() is None:
                found.end(signal.SIGKILL)


def record_of(town: Town, contact: str) -> str:
    """The id of the contact's one record in HubSpot."""
    (found,) = town.hubspot.by_external_id(contact)
    return found


def known(hubspot: HubSpotEmulator, contact: str) -> bool:
    """Whether the contact has a record."""
    return bool(hubspot.by_external_id(contact))
