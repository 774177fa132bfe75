"""A backfill of 100,000 contacts from Kirim into HubSpot: `python benchmarks/backfill.py`, `--limits` with real limits.

The platforms are emulated without delay in a process of their own; what is measured is one `crmsync backfill` that
works alone. Memory is compared at a fifth of the way and at the end.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from crowd import LOOKUPS, WRITES, Crowd
from harness import Usage, figure

from crmsync.sandbox.fields import in_kirim
from crmsync.sandbox.stage import Setting

READ_LIMIT = 6_000
RATE = 190
TOLERANCE = 0.02


def main() -> None:
    """Runs it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--limits", action="store_true", help="6,000 reads a minute, 190 requests in 10 seconds")
    options = parser.parse_args()
    setting = Setting(poll_seconds=300, rate=RATE if options.limits else None, search_rate=None)
    read_limit = READ_LIMIT if options.limits else None
    with (
        tempfile.TemporaryDirectory(prefix="crmsync-benchmark-") as folder,
        Crowd(Path(folder), setting, read_limit=read_limit) as crowd,
    ):
        measure(crowd, options.contacts, limited=options.limits)


def measure(crowd: Crowd, count: int, *, limited: bool) -> None:
    """One backfill, and what it took."""
    crowd.people(count)
    answers: Counter[int] = Counter()
    crowd.hubspot.on_exchange.append(lambda seen: answers.update([seen.reply.status if seen.reply else 0]))
    crowd.kirim.on_exchange.append(lambda seen: answers.update([seen.reply.status if seen.reply else 0]))
    early: list[Usage] = []

    def watch(used: Usage) -> None:
        if not early and len(crowd.hubspot.contacts.by_id) >= count // 5:
            early.append(used)

    command = crowd.command("backfill", "--json")
    code = command.wait(3600, watch)
    if code:
        raise SystemExit(f"exit code {code}\n{command.output()}")
    took = command.took()
    reads = sum(calls for route, calls in crowd.kirim.calls.items() if route.startswith("GET"))
    lookups, writes = crowd.hubspot.calls[LOOKUPS], crowd.hubspot.calls[WRITES]
    batches = count / 100
    held = crowd.crm.held()
    agreed = sum(1 for id, fields in in_kirim(crowd.kirim).items() if list(held.get(id, {}).values()) == [fields])
    figure("contacts", f"{count:,}")
    figure("agreed on both sides", f"{agreed:,}", f"{count:,}", agreed == count)
    figure("seconds", f"{took:,.1f}")
    figure("contacts per second", f"{count / took:,.0f}", *(() if limited else ("≥ 2,500", count / took >= 2_500)))
    figure("Kirim reads", f"{reads:,}", f"{batches:,.0f} ± 2 %", abs(reads - batches) <= TOLERANCE * batches + 1)
    figure(
        "HubSpot calls that wrote", f"{writes:,}", f"{batches:,.0f} ± 2 %", abs(writes - batches) <= TOLERANCE * batches
    )
    figure("HubSpot lookups before them", f"{lookups:,}")
    figure("records written", f"{len(crowd.hubspot.ledger):,}", f"{count:,}", len(crowd.hubspot.ledger) == count)
    if early:
        growth = (command.used.rss_bytes - early[0].rss_bytes) / 2**20
        figure("memory at a fifth of the way", f"{early[0].rss_bytes / 2**20:,.0f} MiB")
        figure("memory at the end", f"{command.used.rss_bytes / 2**20:,.0f} MiB")
        figure("growth in between", f"{growth:+,.1f} MiB", "< 20", growth < 20)
    spent = command.used.cpu_seconds - command.began.cpu_seconds
    figure("processor time for a contact", f"{spent / count * 1e6:,.0f} µs")
    figure("share of a core", f"{command.used.core_share(command.began):.0%}")
    refused = answers[429] / max(1, sum(answers.values()))
    figure("requests refused for the limit", f"{refused:.2%}", "≤ 0.1 %", refused <= 0.001)
    if limited:
        used = sum(crowd.hubspot.calls.values()) / (took * RATE / 10)
        figure("HubSpot's budget used", f"{used:.1%}", "≥ 95 %", used >= 0.95)
        figure("Kirim's budget used", f"{reads / (took * READ_LIMIT / 60):.1%}")


if __name__ == "__main__":
    main()
