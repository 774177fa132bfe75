"""`/metrics`: numbers in Prometheus' form for whoever may see them, and nothing about a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from support.household import Household
from web_server import Running

from crmsync.errors import StoreUnavailable
from crmsync.store import suspensions
from crmsync.store.database import Database
from crmsync.web.app import Readiness
from crmsync.web.metrics import Metrics, page

SAMPLE = re.compile(r'crmsync_[a-z_]+(\{[a-z]+="(\\.|[^"\\\n])*"(,[a-z]+="(\\.|[^"\\\n])*")*\})? -?[0-9.e+-]+')
LIVE: dict[str, Any] = {
    "answers": [{"tenant": "acme", "source": "kirim", "answer": "stored", "count": 7}],
    "budgets": [{"tenant": "acme", "endpoint": "crm", "left": 0.5, "requests": 12}],
    "alarms": [{"alarm": "signature_failing", "tenant": "acme", "source": "kirim", "reason": "mismatch"}],
    "process": {
        "commits_total": 3,
        "last_commit_age_seconds": None,
        "event_loop_lag_seconds": 0.001,
        "tick_seconds": 0.002,
        "ticks_total": 5,
        "disk_free_bytes": 10**9,
        "log_lines_dropped_total": 0,
        "draining": 0,
        "alerts": {"sent": 2},
    },
}


@pytest.fixture
def home(database: Database) -> Household:
    """A contact whose every value is easy to recognise, synced, and one delivery that cannot be read."""
    made = Household(database)
    made.add(name="Canary Name", email="canary@example.com", phone="+628111222333")
    made.settle()
    made.arrive("kirim", b"\xff")
    now = made.clock()
    reason = 'the token "expired"\n'
    database.write(lambda tx: suspensions.suspend(tx, "acme", "crm", reason, now + timedelta(minutes=1), now))
    return made


@pytest.fixture
def metrics(home: Household) -> Metrics:
    return Metrics(home.database, home.clock, lambda: LIVE)


@pytest.fixture
def serving(metrics: Metrics) -> Iterator[Running]:
    routes = [Route("/metrics", metrics.answer_locally), Route("/open", metrics.answer)]
    with Running(Starlette(routes=routes)) as running:
        yield running


def test_the_page_says_how_things_stand(serving: Running) -> None:
    text = serving.send("GET", "/metrics").body.decode()

    assert 'crmsync_answers_total{tenant="acme",source="kirim",answer="stored"} 7' in text
    assert 'crmsync_deliveries_pending{tenant="acme",source="kirim"} 1' in text
    assert 'crmsync_pairs_linked{tenant="acme",connection="crm"} 1' in text
    assert 'crmsync_budget_left_ratio{tenant="acme",endpoint="crm"} 0.5' in text
    assert 'crmsync_requests_total{tenant="acme",endpoint="crm"} 12' in text
    assert 'crmsync_suspended{tenant="acme",endpoint="crm"} 1' in text
    assert "crmsync_commits_total 3" in text
    assert 'crmsync_alert_messages_total{outcome="sent"} 2' in text
    assert "last_commit_age" not in text


def test_every_line_is_in_prometheus_form(serving: Running) -> None:
    reply = serving.send("GET", "/metrics")
    families = []
    for line in reply.body.decode().splitlines():
        if line.startswith("# "):
            families += re.findall(r"^# TYPE (\S+) (?:counter|gauge)$", line)
        else:
            assert SAMPLE.fullmatch(line), line
            assert line.startswith(families[-1])

    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert len(families) == len(set(families))


def test_a_label_may_hold_anything() -> None:
    odd = {"tenant": 'a"b\\c\nd', "source": "kirim", "answer": "x", "count": 1}

    assert 'tenant="a\\"b\\\\c\\nd"' in page({"answers": [odd]})


def test_nobody_is_in_the_page(serving: Running, home: Household) -> None:
    text = serving.send("GET", "/metrics").body.decode()

    for personal in ("Canary", "canary@example.com", "628111222333", home.kirim.records()[0].id):
        assert personal not in text


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
def test_what_comes_through_a_proxy_is_not_from_here(serving: Running, header: str) -> None:
    assert serving.send("GET", "/metrics", {header: "127.0.0.1"}).status == 404
    assert serving.send("GET", "/open", {header: "127.0.0.1"}).status == 200


def test_without_a_store_it_says_what_the_process_knows(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(work: Any) -> Any:
        raise StoreUnavailable("down")

    monkeypatch.setattr(metrics._database, "read", down)
    with Running(metrics.application()) as running:
        text = running.send("GET", "/metrics").body.decode()

    assert "crmsync_answers_total" in text
    assert "crmsync_pairs" not in text


@pytest.mark.parametrize("room", [True, False])
def test_a_disk_without_room_is_not_ready(database: Database, room: bool) -> None:
    import asyncio

    assert asyncio.run(Readiness(database, has_room=lambda: room).check()) is room
