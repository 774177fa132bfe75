"""How many calls 10,000 changed contacts cost while the CRM is slow: `python benchmarks/slow_crm.py`.

Contacts are linked beforehand. Then every call to HubSpot takes a while, and people in Kirim change every contact,
as fast as webhooks can tell. What is counted are the calls that write, and the records that they wrote.
"""

from __future__ import annotations

import argparse
import random
import time

from harness import Usage, figure, linked, settle, staged, wait_for

from crmsync.sandbox.faults import Fault
from crmsync.sandbox.stage import Setting
from crmsync.sandbox.verdict import write_calls


def main() -> None:
    """Runs it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=10_000)
    parser.add_argument("--delay", type=float, default=0.75, help="seconds that every HubSpot call takes")
    options = parser.parse_args()
    target = options.contacts // 100 * 11 // 10
    with staged(Setting(poll_seconds=300)) as stage:
        began = time.monotonic()
        ids = linked(stage, options.contacts, 600)
        figure("contacts linked", f"{len(ids):,}")
        figure("linked per second", f"{len(ids) / (time.monotonic() - began):,.0f}")
        writes, records = write_calls(stage.hubspot.calls), len(stage.hubspot.ledger)
        stage.hubspot.faults.outage(Fault.slow(options.delay))
        random.Random(1).shuffle(ids)
        began, before = time.monotonic(), Usage.of(stage.pid)
        for number, id in enumerate(ids):
            stage.kirim.edit_contact(id, email=f"changed{number}@example.com")
        edited = time.monotonic() - began
        wait_for(lambda: len(stage.hubspot.ledger) - records >= len(ids), 600, "every change reached HubSpot")
        took, after = time.monotonic() - began, Usage.of(stage.pid)
        stage.hubspot.faults.recover()
        settle(stage, 120)
        writes, records = write_calls(stage.hubspot.calls) - writes, len(stage.hubspot.ledger) - records
    figure("contacts changed", f"{len(ids):,}", f"in {edited:.1f} s")
    figure("HubSpot calls that wrote", f"{writes:,}", f"≤ {target:,}", writes <= target)
    figure("records written", f"{records:,}", f"{len(ids):,}", records == len(ids))
    figure("records per call", f"{records / writes:,.1f}", "of 100")
    figure("until the last change was there", f"{took:,.1f} s")
    figure("records per second", f"{len(ids) / took:,.0f}")
    figure("daemon, share of a core", f"{after.core_share(before):.0%}")
    figure("daemon, memory", f"{after.rss_bytes / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
