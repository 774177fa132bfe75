"""Durable first, acknowledged second: for a thousand answers, the commit of its delivery had returned before the 200.

The driver's own connection is watched, below everything that is ours: on SQLite a statement outside a transaction, or
COMMIT, returns after the log was synced (synchronous=FULL, which is looked up); on PostgreSQL COMMIT does.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.gate import HOOK, Gate, request, signed
from web_server import read_reply

INSERT = "INSERT INTO delivery"
THREADS, EACH = 8, 125


class Ledger:
    """Which bodies are committed, as the driver tells, and what was acknowledged before it was."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.durable: set[bytes] = set()
        self.acknowledged: list[bytes] = []
        self.too_early: list[bytes] = []
        self.settings: list[Any] = []

    def committed(self, bodies: list[bytes]) -> None:
        with self.lock:
            self.durable.update(bodies)

    def answered(self, body: bytes) -> None:
        with self.lock:
            self.acknowledged.append(body)
            if body not in self.durable:
                self.too_early.append(body)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def watched_sqlite(ledger: Ledger) -> type[sqlite3.Connection]:
    class Watched(sqlite3.Connection):
        _pending: list[bytes]

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            pending = self.__dict__.setdefault("_pending", [])
            if sql.startswith(INSERT):
                if not pending:
                    ledger.settings.append(super().execute("PRAGMA synchronous").fetchone()[0])
                pending += [bytes(body) for body in parameters[3::6]]
            cursor = super().execute(sql, parameters)
            self._look()
            return cursor

        def commit(self) -> None:
            super().commit()
            self._look()

        def _look(self) -> None:
            """Outside a transaction everything before is durable."""
            pending = self.__dict__.get("_pending")
            if pending and not self.in_transaction:
                ledger.committed(pending)
                pending.clear()

    return Watched


@pytest.fixture
def sqlite_gate(sqlite_url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    connect, factory = sqlite3.connect, watched_sqlite(ledger)
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **{**named, "factory": factory}))
    with Gate(sqlite_url) as gate:
        yield gate


@pytest.fixture
def postgresql_gate(postgresql_url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    import psycopg

    execute, commit = psycopg.Connection.execute, psycopg.Connection.commit
    pending: dict[int, list[bytes]] = {}

    def watched_execute(self: Any, query: Any, params: Any = None, **named: Any) -> Any:
        if str(query).strip().startswith(INSERT):
            pending.setdefault(id(self), []).extend(params[3])
            ledger.settings.append(execute(self, "SHOW synchronous_commit").fetchone()[0])
        return execute(self, query, params, **named)

    def watched_commit(self: Any) -> None:
        commit(self)
        ledger.committed(pending.pop(id(self), []))

    monkeypatch.setattr(psycopg.Connection, "execute", watched_execute)
    monkeypatch.setattr(psycopg.Connection, "commit", watched_commit)
    with Gate(postgresql_url) as gate:
        yield gate


def watch_answers(gate: Gate, ledger: Ledger) -> None:
    """Looks over the application's shoulder: the moment it hands the 200 to the server."""
    application = gate.site._hooks

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        body = bytearray()

        async def receiving() -> Any:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                ledger.answered(bytes(body))
            await send(message)

        await application(scope, receiving, sending)

    gate.site._hooks = watched  # type: ignore[assignment]


def send_many(gate: Gate, ledger: Ledger) -> list[int]:
    """A thousand deliveries over a few connections at once; every fifth is one that another connection sends too."""

    def sender(number: int) -> list[int]:
        statuses = []
        with gate.running.connect() as connection:
            for turn in range(EACH):
                body = b"shared %d" % turn if turn % 5 == 0 else b"%d of %d" % (turn, number)
                connection.sendall(request(signed(body), body, HOOK))
                statuses.append(read_reply(connection).status)
        return statuses

    with ThreadPoolExecutor(THREADS) as threads:
        return list(itertools.chain.from_iterable(threads.map(sender, range(THREADS))))


@pytest.mark.parametrize(("database", "synced"), [("sqlite", 2), ("postgresql", "on")])
def test_no_answer_overtakes_its_commit(
    request: pytest.FixtureRequest, ledger: Ledger, database: str, synced: Any
) -> None:
    gate: Gate = request.getfixturevalue(f"{database}_gate")
    watch_answers(gate, ledger)

    assert send_many(gate, ledger) == [200] * (THREADS * EACH)
    assert len(ledger.acknowledged) == THREADS * EACH
    assert ledger.too_early == []
    assert set(ledger.settings) == {synced}
    assert {row.body for row in gate.stored()} == ledger.durable == set(ledger.acknowledged)


def test_an_answer_that_did_overtake_would_be_seen(sqlite_gate: Gate, ledger: Ledger) -> None:
    watch_answers(sqlite_gate, ledger)

    async def answers_at_once(*_: object) -> bool:
        return True

    sqlite_gate.inbox.append = answers_at_once  # type: ignore[method-assign, assignment]
    assert sqlite_gate.deliver(b"too early").status == 200
    assert ledger.too_early == [b"too early"]
