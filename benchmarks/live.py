"""How long an edit takes to reach the CRM while a backfill runs: `python benchmarks/live.py`.

The real daemon between both emulators, with HubSpot's documented limit. People in Kirim edit e-mails at a steady rate,
first while the daemon has nothing else to do, then while it works on a backfill of many contacts that it never saw.
"""

from __future__ import annotations

import argparse
import time

from crowd import command, inhabit
from harness import figure, linked, quantile, settle, staged

from crmsync.sandbox.fields import Side
from crmsync.sandbox.stage import Setting, Stage
from crmsync.sandbox.timeline import Timeline

TIMES = 2.0


def main() -> None:
    """Runs it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="edits a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of edits, each time")
    parser.add_argument("--contacts", type=int, default=100_000, help="of the backfill")
    parser.add_argument("--hubspot-rate", type=int, default=190, help="requests in ten seconds")
    options = parser.parse_args()
    with staged(Setting(poll_seconds=30, rate=options.hubspot_rate)) as stage:
        ids = linked(stage, 500, 120)
        idle = measure(stage, ids, options.rate, options.seconds, 0)
        inhabit(stage, options.contacts, start=len(ids))
        run = command(stage, "backfill", "--json")
        time.sleep(5)
        before = len(stage.hubspot.contacts.by_id)
        busy = measure(stage, ids, options.rate, options.seconds, 1)
        done = len(stage.hubspot.contacts.by_id) - before
        running = run.running()
        run.interrupt()
    for name, times in (("idle", idle), ("backfill", busy)):
        figure(f"{name}: edits that reached HubSpot", f"{len(times):,}")
        figure(f"{name}: p50", f"{quantile(times, 0.5):,.1f} ms")
        figure(f"{name}: p95", f"{quantile(times, 0.95):,.1f} ms")
    ratio = quantile(busy, 0.95) / quantile(idle, 0.95)
    figure("p95, backfill to idle", f"{ratio:.2f}", f"≤ {TIMES:g}", ratio <= TIMES)
    figure("contacts of the backfill meanwhile", f"{done / options.seconds:,.0f} /s")
    figure("backfill still running at the end", "yes" if running else "no", "yes", running)


def measure(stage: Stage, ids: list[str], rate: float, seconds: float, turn: int) -> list[float]:
    """Edits at a steady rate; milliseconds from each to its effect."""
    start, began = stage.kirim.clock(), time.monotonic()
    for number in range(round(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        stage.kirim.edit_contact(ids[number % len(ids)], email=f"edit{turn}.{number}@example.com")
    if turn == 0:
        settle(stage, 60)
    else:
        time.sleep(2)
    trails = Timeline.read(stage.kirim, stage.crm).trails.values()
    crossings = [one for trail in trails for one in trail.crossings() if one.to is Side.CRM and one.made >= start]
    return [(one.applied - one.made).total_seconds() * 1000 for one in crossings]


if __name__ == "__main__":
    main()
