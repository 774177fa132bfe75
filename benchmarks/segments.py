"""A list of 100,000 members in HubSpot and its label in Kirim: `python benchmarks/segments.py`.

The first walk labels everybody, and is not judged. Then 1 % change: half of them leave, as many others join. What is
measured is one `crmsync segments sync` that works alone, between emulated platforms without delay and limits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from crowd import Crowd
from harness import figure

from crmsync.sandbox.stage import Setting

CHUNK = 1_000
RULE = "    segments: [{ segment: VIP customers, label: VIP, create_label: true }]\n"


def main() -> None:
    """Runs it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    options = parser.parse_args()
    setting = Setting(poll_seconds=300, rate=None, search_rate=None)
    with tempfile.TemporaryDirectory(prefix="crmsync-benchmark-") as folder, Crowd(Path(folder), setting) as crowd:
        written = crowd.configuration.read_text()
        crowd.configuration.write_text(written.replace("    contacts:\n", f"{RULE}    contacts:\n", 1))
        measure(crowd, options.members)


def measure(crowd: Crowd, count: int) -> None:
    """Everybody once, and then the change."""
    change = count // 100
    crowd.people(count + change)
    ids = [
        crowd.hubspot.create_contact(firstname="Ana", kirim_contact_id=contact)
        for contact in list(crowd.kirim.workspace.contacts.by_id)
    ]
    members = crowd.hubspot.lists.define("VIP customers", ids[:count])
    first = sync(crowd)
    calls = labelling(crowd)
    figure("members", f"{count:,}")
    figure("first walk: calls that labelled", f"{calls:,}", f"{count // CHUNK:,}", calls == count // CHUNK)
    figure("first walk: seconds", f"{first:,.1f}")
    crowd.hubspot.lists.remove(members, ids[:change])
    crowd.hubspot.lists.add(members, ids[count:])
    second = sync(crowd)
    calls, wanted = labelling(crowd) - calls, 2 * -(-change // CHUNK)
    figure("who joined, and as many who left", f"{change:,}")
    figure("calls that labelled", f"{calls:,}", f"{wanted:,}", calls == wanted)
    figure("seconds", f"{second:,.1f}")
    figure("members a second", f"{count / second:,.0f}")
    held = sum(bool(contact.labels) for contact in crowd.kirim.workspace.contacts.by_id.values())
    figure("contacts with the label in the end", f"{held:,}", f"{count:,}", held == count)


def sync(crowd: Crowd) -> float:
    """One walk; how many seconds the command took."""
    began = time.monotonic()
    command = crowd.command("segments", "sync")
    if code := command.wait(3600):
        raise SystemExit(f"exit code {code}\n{command.output()}")
    return time.monotonic() - began


def labelling(crowd: Crowd) -> int:
    """The bulk requests that Kirim answered."""
    return sum(calls for route, calls in crowd.kirim.calls.items() if route.endswith("contacts/bulk_label"))


if __name__ == "__main__":
    main()
