"""A daemon that is started again two seconds after each end, as a supervisor would: one process for each start.

    python starts.py <database> <how many starts>

`CRMSYNC_CRASH_AT` and `CRMSYNC_CRASH_ON` say where a start ends early. Time moves from start to start and
stands still within one; with each start one more contact writes. Prints the exit code of each start.
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import timedelta

import orjson
from support.household import Household

from crmsync.daemon.engine import LocalEngine
from crmsync.daemon.worker import Worker
from crmsync.store import lanes
from crmsync.store.database import Database
from crmsync.store.records import KIRIM

PATIENCE = 20.0
ROWS = 100
PACE = timedelta(seconds=2)


def contact(home: Household, id: str) -> None:
    """A contact writes; its name says who it is."""
    at = home.clock().isoformat()
    entry = {"key": f"k-{id}", "type": "contact.changed", "id": id, "external_id": id, "at": at, "version": at}
    home.arrive(KIRIM, orjson.dumps({"changes": [{**entry, "fields": {"name": f"I am {id}"}}]}))


def one_start(url: str, number: int) -> None:
    """Works until nothing is left that could be done now."""
    database = Database.open(url)
    home = Household(database)
    home.clock.advance(PACE * number)
    for _ in range(ROWS * number):  # a CRM in memory forgets; no record is to have the id of a forgotten one
        home.crm.add(None, {})
    home.crm.take_hooks()
    contact(home, f"late{number:02d}")
    engine = LocalEngine(8)
    worker = Worker(database, {"acme": home.tenant}, {}, engine, home.clock, lambda: 0.5)
    worker.start()
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        worker.wake()
        pause.wait(0.01)
        if not engine.busy() and not database.read(lambda tx: lanes.waiting(tx, home.clock())):
            break
    else:
        os._exit(1)
    worker.stop(timedelta(seconds=PATIENCE))
    database.close()


def main(url: str, starts: int) -> None:
    """Each start is a process of its own."""
    codes = []
    for number in range(starts):
        process = os.fork()
        if not process:
            one_start(url, number)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    sys.stdout.write(" ".join(map(str, codes)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
