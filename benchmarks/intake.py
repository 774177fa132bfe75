"""How many webhooks a second are verified, stored and acknowledged: `python benchmarks/intake.py`.

A real server process with the product's own intake, real signatures under two active secrets, unique bodies of 1 to
2 KB, a durable commit before every 200. The load (wrk, one thread) runs on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, text

from crmsync.connector import Surroundings
from crmsync.flows.intake import Intake, Source
from crmsync.http import Unlimited
from crmsync.kirim.endpoint import Kirim
from crmsync.kirim.settings import KirimSettings
from crmsync.kirim.signature import sign
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.migrations import migrate
from crmsync.store.pen import Pen
from crmsync.web import server
from crmsync.web.app import Site

SECRETS = ("whsec_the_older_of_two_active_secrets", "whsec_the_newer_of_two_active_secrets")
HERE = Path(__file__).parent
EXPECTED = 25_000
"""Requests a second that the load is made for; the run ends early if they are used up."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run of the load."""

    connections: int
    seconds: float
    answered: int
    refused: int
    broken: int
    p50: float
    p99: float
    commits: int
    stored: int


def rows(connection: Connection) -> int:
    """Deliveries in the store."""
    return int(connection.execute(text("SELECT count(*) FROM delivery")).scalar_one())


async def serve(url: str) -> None:
    """The web part as a process of its own; prints its port, and at the end how often it committed."""
    database = Database.open(url)
    migrate(database)
    settings = KirimSettings(
        api_key="kdv_live_0123456789abcdef", webhook_secrets=SECRETS, phone_number_ids=("123456789",)
    )
    kirim = Kirim(settings, Surroundings("bench", "kirim", "https://here/hooks/bench/kirim", Unlimited(), {}))
    source = Source("bench", "kirim", kirim.verify)
    before = database.read(rows)
    inbox = Inbox(database)
    groups = 0

    def count(_: object) -> None:
        nonlocal groups
        groups += 1

    inbox.on_commit = count
    clock = partial(datetime.now, UTC)
    site = Site(Intake(inbox, [source], Pen(database, clock)), database, clock)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    listening = server.bind("127.0.0.1:0")
    print(listening.getsockname()[1], flush=True)
    await server.serve(site, listening, stopping, draining=site.drain)
    stored = database.read(rows) - before
    database.close()
    print(json.dumps({"commits": groups, "stored": stored}), flush=True)


def write_load(path: Path, count: int, seed: int) -> None:
    """Unique signed deliveries of 1 to 2 KB, one line each, signed now."""
    randomness = random.Random(seed)
    now = int(time.time())
    with path.open("w") as file:
        for number in range(count):
            event = {
                "id": f"evt_{seed:04x}{number:012x}",
                "type": "contact.updated",
                "created_at": "2026-01-01T00:00:00Z",
                "data": {"contact": {"id": f"ctc_{number % 5000:08d}", "name": "Dewi Lestari", "note": ""}},
            }
            event["data"]["contact"]["note"] = "n" * randomness.randint(850, 1800)
            body = json.dumps(event)
            file.write(f"{sign(SECRETS[number % 2], body.encode(), now)}\t{body}\n")


def press(port: int, connections: int, seconds: int, load: Path) -> str:
    """Lets wrk loose on the server; returns what it prints."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "intake.lua")]
    return subprocess.run(
        [*command, f"http://127.0.0.1:{port}/hooks/bench/kirim"],
        env={**os.environ, "INTAKE_LOAD": str(load)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def measure(url: str, connections: int, seconds: int, folder: Path) -> Result:
    """A fresh server, a fresh load, one run."""
    load = folder / "load.txt"
    write_load(load, seconds * EXPECTED, random.randrange(1 << 16))
    process = subprocess.Popen([sys.executable, __file__, "--serve", url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        try:
            output = press(int(process.stdout.readline()), connections, seconds, load)
        finally:
            process.terminate()
        told = json.loads(process.stdout.readline())
    line = next(line for line in output.splitlines() if line.startswith("RESULT"))
    answered, micros, p50, p99, refused, broken = line.split()[1:]
    return Result(
        connections, int(micros) / 1e6, int(answered), int(refused), int(broken), float(p50), float(p99), **told
    )


def show(result: Result) -> None:
    """One line of figures."""
    rate = result.answered / result.seconds
    accepted = result.answered - result.refused
    # what was in flight when the load ended is stored, but its answer was not counted
    agrees = accepted <= result.stored <= accepted + result.connections
    print(
        f"{result.connections:>11} {rate:>10,.0f} {result.p50:>8.1f} {result.p99:>8.1f} "
        f"{result.commits / result.seconds:>9,.0f} {result.refused + result.broken:>8} {accepted:>9,} "
        f"{result.stored:>9,} {'yes' if agrees else 'NO'}",
        flush=True,
    )


def main() -> None:
    """Runs the load at each number of connections."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument(
        "--database", help="sqlite:///… or postgresql://…; a fresh SQLite file for each run if not given"
    )
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        server.run(serve(options.serve))
        return
    if shutil.which("wrk") is None:
        sys.exit("The load generator wrk is missing: apt-get install wrk")
    print("connections requests/s  p50 ms   p99 ms commits/s  not 2xx      200s    stored agree")
    for connections in options.connections:
        with tempfile.TemporaryDirectory(prefix="crmsync-intake-") as folder:
            url = options.database or f"sqlite:///{folder}/store.db"
            result = measure(url, connections, options.seconds, Path(folder))
        show(result)


if __name__ == "__main__":
    main()
