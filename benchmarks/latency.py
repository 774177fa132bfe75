"""How long an edit in Kirim takes to reach the CRM at a steady rate: `python benchmarks/latency.py`.

The real daemon between both emulators, which answer without delay. Contacts are linked beforehand; then people in
Kirim change e-mails at the given rate. A change's time runs from the edit until HubSpot's ledger has it (or a later
value of the same field: changes may coalesce). HubSpot allows its documented 190 requests in ten seconds.
"""

from __future__ import annotations

import argparse
import time

from harness import Usage, figure, linked, quantile, settle, staged

from crmsync.sandbox.fields import Side
from crmsync.sandbox.stage import Setting
from crmsync.sandbox.timeline import Timeline


def main() -> None:
    """Runs it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="events per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--contacts", type=int, default=1000)
    parser.add_argument("--hubspot-rate", type=int, default=190, help="requests in ten seconds")
    options = parser.parse_args()
    with staged(Setting(poll_seconds=30, rate=options.hubspot_rate)) as stage:
        ids = linked(stage, options.contacts, 120)
        calls, before, start = stage.hubspot.calls.total(), Usage.of(stage.pid), stage.kirim.clock()
        count = round(options.rate * options.seconds)
        for number in range(count):
            time.sleep(max(0.0, before.at + number / options.rate - time.monotonic()))
            stage.kirim.edit_contact(ids[number % len(ids)], email=f"edit{number}@example.com")
        after = Usage.of(stage.pid)
        settle(stage, 60)
        calls = stage.hubspot.calls.total() - calls
        trails = Timeline.read(stage.kirim, stage.crm).trails.values()
    crossings = [one for trail in trails for one in trail.crossings() if one.to is Side.CRM and one.made >= start]
    times = [(one.applied - one.made).total_seconds() * 1000 for one in crossings]
    took = after.at - before.at
    figure("edits", f"{count:,}")
    figure("rate achieved", f"{count / took:,.1f} /s", f"{options.rate:g} /s")
    figure("edits that reached HubSpot", f"{len(times):,}", f"{count:,}", len(times) >= count)
    figure("p50", f"{quantile(times, 0.5):,.1f} ms", "< 100 ms", quantile(times, 0.5) < 100)
    figure("p95", f"{quantile(times, 0.95):,.1f} ms", "< 500 ms", quantile(times, 0.95) < 500)
    figure("p99", f"{quantile(times, 0.99):,.1f} ms")
    figure("HubSpot calls", f"{calls:,}")
    figure("edits per HubSpot call", f"{count / calls:,.1f}")
    figure("daemon, share of a core", f"{after.core_share(before):.0%}")
    figure("daemon, memory", f"{after.rss_bytes / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
