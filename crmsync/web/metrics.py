"""`/metrics` in Prometheus' text form: the status as numbers. Labels name tenants, connections and words of ours; no
record, number or person.

Written out by hand: a page of lines needs no library, and its numbers are counted elsewhere anyway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from crmsync.errors import StoreError
from crmsync.flows import report
from crmsync.store.database import Database

FRESH = 5.0
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Row = Mapping[str, Any]
Sample = tuple[Mapping[str, Any], float]


class Metrics:
    """The page, made anew at most every few seconds whoever asks. `live` adds what only the process knows."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        live: Callable[[], Mapping[str, Any]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._live = live
        self._monotonic = monotonic
        self._made_at = float("-inf")
        self._told: Mapping[str, Any] = {}
        self._asking = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """To anybody who may ask. Without a store only what the process knows itself."""
        async with self._asking:
            if self._monotonic() - self._made_at >= FRESH:
                try:
                    self._told = await asyncio.to_thread(self._database.read, self._status)
                except StoreError:
                    self._told = {}
                self._made_at = self._monotonic()
        return Response(page({**self._told, **self._live()}), media_type=CONTENT_TYPE)

    async def answer_locally(self, request: Request) -> Response:
        """To this machine only; for everybody else there is nothing here."""
        if not is_local(request):
            return PlainTextResponse("not_found", 404)
        return await self.answer(request)

    def application(self) -> Starlette:
        """A listener of its own."""
        return Starlette(routes=[Route("/metrics", self.answer)])

    def _status(self, tx: Connection) -> Mapping[str, Any]:
        return report.status(tx, self._clock())


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine and through no proxy that says so."""
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class _Page:
    """Families of numbers, in the order they were added."""

    lines: list[str] = field(default_factory=list)

    def add(self, name: str, kind: str, about: str, samples: Iterable[Sample]) -> None:
        rows = [f"crmsync_{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
        if rows:
            self.lines += [f"# HELP crmsync_{name} {about}", f"# TYPE crmsync_{name} {kind}", *rows]

    def one(self, name: str, kind: str, about: str, value: float | None) -> None:
        self.add(name, kind, about, [] if value is None else [({}, value)])


def page(told: Mapping[str, Any]) -> str:
    """The page for what the status tells."""
    made = _Page()
    _intake(made, told)
    _work(made, told)
    _endpoints(made, told)
    _process(made, told.get("process") or {})
    return "\n".join(made.lines) + "\n"


def _intake(made: _Page, told: Row) -> None:
    by_word = _by("tenant", "source", "answer")
    made.add("answers_total", "counter", "Answers to webhook requests.", by_word(told.get("answers", ()), "count"))
    by_source = _by("tenant", "source")
    sources = told.get("sources", ())
    made.add("deliveries_pending", "gauge", "Deliveries not worked in yet.", by_source(sources, "pending"))
    made.add("deliveries_dead", "gauge", "Deliveries that could not be understood.", by_source(sources, "dead"))
    about = "Age of the oldest delivery not worked in yet."
    made.add("delivery_lag_seconds", "gauge", about, by_source(sources, "lag_seconds"))
    quarantine = told.get("quarantine", ())
    by_reason = _by("tenant", "source", "reason")
    made.add("quarantine_requests", "gauge", "Requests kept that did not verify.", by_reason(quarantine, "rows"))
    made.add("quarantine_bytes", "gauge", "What they take.", by_reason(quarantine, "bytes"))
    alarms = told.get("alarms", ())
    made.add("alarm", "gauge", "1 while it is on.", [(_pick(row, ("alarm", "tenant", "source")), 1) for row in alarms])


def _work(made: _Page, told: Row) -> None:
    by_connection = _by("tenant", "connection")
    rows = told.get("connections", ())
    for key in ("pairs", "linked", "due", "held", "parked"):
        made.add(f"pairs_{key}" if key != "pairs" else key, "gauge", _PAIRS[key], by_connection(rows, key))
    about = "Age of the oldest pair that is due."
    made.add("sync_lag_seconds", "gauge", about, by_connection(rows, "lag_seconds"))


_PAIRS = {
    "pairs": "Records of Kirim that a connection follows.",
    "linked": "Pairs with a record in the CRM.",
    "due": "Pairs to be decided and written.",
    "held": "Pairs of which something is paused.",
    "parked": "Pairs that were given up or refused.",
}


def _endpoints(made: _Page, told: Row) -> None:
    by_endpoint = _by("tenant", "endpoint")
    budgets = told.get("budgets", ())
    made.add("requests_total", "counter", "Requests sent to a platform.", by_endpoint(budgets, "requests"))
    made.add("budget_left_ratio", "gauge", "Share of the request budget that is left.", by_endpoint(budgets, "left"))
    about = "1 while an endpoint cannot be used, 0 while it is on trial."
    suspended = told.get("suspended", ())
    labels = ("tenant", "endpoint")
    made.add("suspended", "gauge", about, [(_pick(row, labels), float(not row["on_trial"])) for row in suspended])
    paused = [(_pick(row, ("tenant", "connection", "class")), 1.0) for row in told.get("paused", ())]
    made.add("paused", "gauge", "1 while a kind of write is paused.", paused)
    resting = [(_pick(row, ("tenant", "endpoint", "work")), float(row["failures"])) for row in told.get("resting", ())]
    made.add("lane_failures", "gauge", "Failures in a row of a lane that rests.", resting)


def _process(made: _Page, row: Row) -> None:
    for name, kind, about in (
        ("commits_total", "counter", "Durable commits."),
        ("last_commit_age_seconds", "gauge", "Time since the latest commit."),
        ("event_loop_lag_seconds", "gauge", "By how much the event loop was late at most, lately."),
        ("tick_seconds", "gauge", "How long the latest look for work took."),
        ("ticks_total", "counter", "Looks for work."),
        ("disk_free_bytes", "gauge", "Free where the database is."),
        ("log_lines_dropped_total", "counter", "Lines of the log that could not be written."),
        ("draining", "gauge", "1 on the way out."),
    ):
        made.one(name, kind, about, row.get(name))
    messages = [({"outcome": word}, float(count)) for word, count in sorted((row.get("alerts") or {}).items())]
    made.add("alert_messages_total", "counter", "What became of messages to the alert webhook.", messages)


def _by(*names: str) -> Callable[[Sequence[Row], str], list[Sample]]:
    """Samples of rows, labelled by some of their keys."""

    def samples(rows: Sequence[Row], key: str) -> list[Sample]:
        return [(_pick(row, names), float(row[key])) for row in rows]

    return samples


def _pick(row: Row, names: Sequence[str]) -> Row:
    return {name: row[name] for name in names}


def _labels(labels: Row) -> str:
    inner = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
