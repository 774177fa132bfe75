"""A reconciliation of 100,000 pairs that agree: `python benchmarks/reconcile.py`.

The pairs are made by a backfill, which is not measured. Both sides are walked, every pair is compared, and nothing is
to be written. The platforms are emulated without delay and without limits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from crowd import Crowd
from harness import Usage, figure

from crmsync.sandbox.stage import Setting

TARGET = 3_000


def main() -> None:
    """Runs it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=100_000)
    options = parser.parse_args()
    setting = Setting(poll_seconds=300, rate=None, search_rate=None)
    with tempfile.TemporaryDirectory(prefix="crmsync-benchmark-") as folder, Crowd(Path(folder), setting) as crowd:
        crowd.people(options.contacts)
        command = crowd.command("backfill", "--json")
        if code := command.wait(3600):
            raise SystemExit(f"exit code {code}\n{command.output()}")
        measure(crowd, options.contacts)


def measure(crowd: Crowd, count: int) -> None:
    """One reconciliation, and what it took."""
    written = len(crowd.hubspot.ledger), len(crowd.kirim.ledger)
    before = sum(crowd.kirim.calls.values()), sum(crowd.hubspot.calls.values())
    first: list[Usage] = []
    peak: list[int] = [0]

    def watch(used: Usage) -> None:
        peak[0] = max(peak[0], used.rss_bytes)
        if not first and sum(crowd.kirim.calls.values()) - before[0] >= count // 500:
            first.append(used)

    command = crowd.command("reconcile", "--json")
    code = command.wait(3600, watch)
    if code:
        raise SystemExit(f"exit code {code}\n{command.output()}")
    told = json.loads(command.output()[command.output().index("\n{") :])
    found = told["counts"]["report"]["hubspot/contact"]["records"]
    took = command.took()
    writes = len(crowd.hubspot.ledger) - written[0] + len(crowd.kirim.ledger) - written[1]
    figure("pairs that agree", f"{found.get('agree', 0):,}", f"{count:,}", found == {"agree": count})
    figure("seconds", f"{took:,.1f}")
    figure("pairs per second", f"{count / took:,.0f}", f"≥ {TARGET:,}", count / took >= TARGET)
    figure("Kirim reads", f"{sum(crowd.kirim.calls.values()) - before[0]:,}")
    figure("HubSpot reads", f"{sum(crowd.hubspot.calls.values()) - before[1]:,}")
    figure("writes", f"{writes:,}", "0", writes == 0)
    if first:
        growth = (peak[0] - first[0].rss_bytes) / 2**20
        figure("memory at a tenth of the way", f"{first[0].rss_bytes / 2**20:,.0f} MiB")
        figure("growth from there to the peak", f"{growth:+,.1f} MiB", "< 20", growth < 20)
    spent = command.used.cpu_seconds - command.began.cpu_seconds
    figure("processor time for a pair", f"{spent / count * 1e6:,.0f} µs")
    figure("share of a core", f"{command.used.core_share(command.began):.0%}")


if __name__ == "__main__":
    main()
