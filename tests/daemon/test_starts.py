"""What ends the process is dead after its attempts, and nothing else is: with real processes that really end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update
from support.household import Household
from support.starts import contact

from crmsync import crash
from crmsync.core.retry import ATTEMPTS
from crmsync.core.trouble import Reason
from crmsync.flows import dead
from crmsync.model import Kind
from crmsync.store import records, tables
from crmsync.store.database import Database
from crmsync.store.dead import Wanted
from crmsync.store.records import KIRIM

TESTS = Path(__file__).parent.parent
STARTS = 22
"""One every two seconds: the attempts that rest 1, 2, 4, 8 and 16 seconds are over by then."""
POISON = "poisoned"


def started(url: str, point: str) -> list[int]:
    """The exit codes of a row of starts, each of which may end where the poison is touched."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "support" / "starts.py"), url, str(STARTS)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])),
            "CRMSYNC_CRASH_AT": f"{point}:1",
            "CRMSYNC_CRASH_ON": POISON,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [int(code) for code in done.stdout.splitlines()[-1].split()]


def prepare(url: str, *, marked: bool = False, known: bool = False) -> None:
    """The poison among others; `marked` to be read, or `known` already and waiting to be written."""
    database = Database.open(url)
    home = Household(database)
    ids = [POISON, *(f"early{number}" for number in range(6))]
    for id in ids:
        contact(home, id)
    if marked or known:
        home.observe(KIRIM)
    if marked:
        causes = dict.fromkeys(ids, "test")
        home.database.write(lambda tx: records.mark_stale(tx, "acme", KIRIM, Kind.CONTACT, causes, home.clock()))
        due = tables.Due.__table__  # type: ignore[attr-defined]
        later = home.clock().replace(year=2100)
        home.database.write(lambda tx: tx.execute(update(due).values(not_before=later)) and None)
    database.close()


def letters(url: str) -> list[tuple[str, str]]:
    database = Database.open(url)
    told = database.read(lambda tx: dead.overview(tx, Wanted(), 100))["dead"]
    database.close()
    return [(letter["form"], letter["reason"]) for letter in told]


def left(url: str, table: object) -> set[str]:
    database = Database.open(url)
    held = table.__table__  # type: ignore[attr-defined]
    key = held.c.kirim_id if "kirim_id" in held.c else held.c.id
    found = database.read(lambda tx: set(tx.execute(held.select().with_only_columns(key)).scalars()))
    database.close()
    return found


@pytest.mark.parametrize(
    ("point", "form", "prepared"),
    [
        ("observe.parse", "delivery", {}),
        ("reread.fetch", "reading", {"marked": True}),
        ("sync.sending", "pair", {"known": True}),
    ],
)
def test_what_ends_the_process_is_dead_after_its_attempts_and_nothing_else_is(
    sqlite_url: str, point: str, form: str, prepared: dict[str, bool]
) -> None:
    prepare(sqlite_url, **prepared)
    codes = started(sqlite_url, point)

    assert set(codes) == {0, crash.STATUS}
    assert codes.count(crash.STATUS) == ATTEMPTS
    assert letters(sqlite_url) == [(form, Reason.EXHAUSTED)]
    everybody = {f"early{number}" for number in range(6)} | {f"late{number:02d}" for number in range(STARTS)}
    linked = left(sqlite_url, tables.Pair)
    assert linked - {POISON} == everybody
    if form != "reading":
        assert left(sqlite_url, tables.Due) == set()
    assert left(sqlite_url, tables.Stale) <= {POISON}
