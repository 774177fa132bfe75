"""The server and the faults around an emulator, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from crmsync.sandbox.emulator import Call, Emulator, Reply
from crmsync.sandbox.faults import Fault, Faults
from crmsync.sandbox.ledger import Effect
from crmsync.sandbox.server import Server

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Counting(Emulator):
    """An emulator with one effect."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: NOON)
        self.applied = threading.Event()
        self.route("POST", "/things/{id}", self.count)
        self.route("GET", "/things", lambda call: Reply(200, {"count": len(self.ledger)}))

    def count(self, call: Call) -> Reply:
        """Counts a thing."""
        self.ledger.append(Effect(self.clock(), "create", "thing", call.params["id"], fields=call.json()))
        self.applied.set()
        return Reply(201, {"id": call.params["id"]})


@pytest.fixture
def emulator() -> Iterator[Counting]:
    with Counting() as running:
        yield running


def post(emulator: Emulator, timeout: float = 5.0) -> httpx.Response:
    return httpx.post(f"{emulator.url}/things/7", json={"a": 1}, timeout=timeout)


def test_an_effect_is_in_the_ledger_and_in_json(emulator: Counting) -> None:
    assert post(emulator).json() == {"id": "7"}

    [effect] = emulator.ledger.effects("create", "thing", record_id="7")

    assert effect.to_json()["at"] == "2026-11-20T12:00:00+00:00"
    assert emulator.ledger.to_json()[0]["fields"] == {"a": 1}
    assert emulator.ledger.effects("delete") == []


def test_calls_are_counted_by_route_whatever_became_of_them(emulator: Counting) -> None:
    emulator.faults.fail_next(1, "500")
    post(emulator)
    post(emulator)
    httpx.get(f"{emulator.url}/elsewhere")

    assert emulator.calls == {"POST /things/{id}": 2, "GET (unknown)": 1}


@pytest.mark.parametrize(("name", "applied"), [("reset_before", 0), ("reset_after", 1)])
def test_a_cut_connection_leaves_the_effect_or_none(emulator: Counting, name: str, applied: int) -> None:
    emulator.faults.fail_next(1, name)

    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        post(emulator)

    assert len(emulator.ledger) == applied


@pytest.mark.parametrize(("name", "applied"), [("hang_before", 0), ("hang_after", 1)])
def test_a_hanging_request_ends_with_the_clients_patience(emulator: Counting, name: str, applied: int) -> None:
    emulator.faults.fail_next(1, name)

    with pytest.raises(httpx.ReadTimeout):
        post(emulator, timeout=0.1)

    assert len(emulator.ledger) == applied


def test_a_hanging_request_does_not_keep_the_server_from_stopping() -> None:
    with Counting() as emulator:
        emulator.faults.fail_next(1, "hang_after")
        failed = threading.Event()

        def ask() -> None:
            try:
                post(emulator, timeout=30)
            except httpx.HTTPError:
                failed.set()

        asking = threading.Thread(target=ask)
        asking.start()
        assert emulator.applied.wait(5)
    asking.join(10)
    assert failed.is_set()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504])
def test_an_error_status_applies_nothing_unless_told(emulator: Counting, status: int) -> None:
    emulator.faults.fail_next(1, Fault.error(status))
    emulator.faults.fail_next(1, Fault.error(status, applied=True, body={"mine": 1}))

    assert post(emulator).status_code == status
    assert len(emulator.ledger) == 0
    assert post(emulator).json() == {"mine": 1}
    assert len(emulator.ledger) == 1


def test_retry_after_comes_in_seconds_as_a_date_or_not_at_all(emulator: Counting) -> None:
    for name in ("429", "429_date", "429_bare"):
        emulator.faults.fail_next(1, name)

    seconds, date, bare = (post(emulator).headers.get("Retry-After") for _ in range(3))

    assert seconds == "1"
    assert parsedate_to_datetime(date or "") == NOON.replace(second=1)
    assert bare is None


def test_spoiled_answers_are_spoiled_in_their_own_way(emulator: Counting) -> None:
    for name in ("truncated", "html", "wrong_type"):
        emulator.faults.fail_next(1, name)

    truncated, html, wrong = (post(emulator) for _ in range(3))

    assert truncated.content == b'{"id"'
    assert (html.status_code, html.headers["content-type"]) == (200, "text/html")
    assert (wrong.json(), wrong.headers["content-type"]) == ({"id": "7"}, "text/plain")
    assert len(emulator.ledger) == 2


def test_a_slow_answer_is_applied_before_or_after_the_wait(emulator: Counting) -> None:
    emulator.faults.fail_next(1, Fault.slow(30, applied=True))
    emulator.faults.fail_next(1, Fault.slow(0.01, applied=False))

    with pytest.raises(httpx.ReadTimeout):
        post(emulator, timeout=0.1)

    assert len(emulator.ledger) == 1
    assert post(emulator).status_code == 201


def test_ordered_faults_keep_to_their_path_and_method(emulator: Counting) -> None:
    emulator.faults.fail_next(1, "503", "/things", method="POST")

    assert httpx.get(f"{emulator.url}/things").status_code == 200
    assert post(emulator).status_code == 503
    assert post(emulator).status_code == 201


def test_an_outage_lasts_until_recovery(emulator: Counting) -> None:
    emulator.faults.outage()
    assert [post(emulator).status_code for _ in range(2)] == [503, 503]

    emulator.faults.recover()
    assert post(emulator).status_code == 201


def test_a_closed_door_refuses_connections_and_opens_again_on_the_same_port(emulator: Counting) -> None:
    emulator.server.refuse()
    with pytest.raises(httpx.ConnectError):
        post(emulator)

    emulator.server.accept()
    assert post(emulator).status_code == 201


def test_a_stopped_server_starts_again_on_the_same_port() -> None:
    emulator = Counting()
    with emulator:
        first = emulator.url
    with emulator:
        assert emulator.url == first
        assert post(emulator).status_code == 201


def test_the_same_seed_means_the_same_faults() -> None:
    rates = {"500": 0.2, "reset_after": 0.2, "html": 0.1}

    def plan(seed: int) -> list[Fault | None]:
        faults = Faults(seed, rates, sparing=("/health",))
        assert faults.draw("GET", "/health") is None
        return [faults.draw("GET", "/x") for _ in range(200)]

    assert plan(1) == plan(1) != plan(2)
    assert 50 < sum(fault is not None for fault in plan(1)) < 150


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="no such fault"):
        Faults(0, {"meteor": 0.1})
    with pytest.raises(ValueError, match="exceed 1"):
        Faults(0, {"500": 0.6, "503": 0.6})


def test_observers_see_each_exchange_with_its_fault(emulator: Counting) -> None:
    seen: list[tuple[str, int | None, bool]] = []
    emulator.on_exchange.append(
        lambda exchange: seen.append(
            (exchange.call.route, exchange.reply and exchange.reply.status, exchange.fault is not None)
        )
    )
    emulator.faults.fail_next(1, "503")

    post(emulator)
    post(emulator)

    assert seen == [("/things/{id}", 503, True), ("/things/{id}", 201, False)]


def test_background_jobs_run_and_end_with_the_server() -> None:
    started, ended = threading.Event(), threading.Event()

    async def job() -> None:
        import asyncio

        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nobody asks")

    with Server(app, background=[job]):
        assert started.wait(5)
    assert ended.is_set()


def test_a_port_in_use_is_an_error_at_the_start() -> None:
    with Counting() as emulator, pytest.raises(OSError, match="in use"):
        Server(emulator.app, port=emulator.server.port).start()
