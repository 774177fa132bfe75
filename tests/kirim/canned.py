"""A server that answers what a test tells it, for answers that no emulator of Kirim would give."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson

from crmsync.connector import Surroundings
from crmsync.kirim.settings import KirimSettings
from crmsync.model import Kind
from crmsync.sandbox.emulator import Call, Emulator, Reply
from crmsync.testing.loopback import LOOPBACK

KEY = "kdv_live_" + "k" * 24
SECRET = "whsec_" + "s" * 32
NUMBER, SECOND = "106540352242922", "222222222222222"


class RecordingBudget:
    """A budget without limits that remembers what it was told."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.held: list[timedelta] = []
        self.observed: list[tuple[int, int, str]] = []

    def take(self, bucket: str = "") -> None:
        self.taken.append(bucket)

    def hold(self, until: timedelta) -> None:
        self.held.append(until)

    def observe(self, remaining: int, limit: int, bucket: str = "") -> None:
        self.observed.append((remaining, limit, bucket))


class Canned(Emulator):
    """Answers every call by one function, and keeps the calls."""

    def __init__(self, answer: Callable[[Call], Reply]) -> None:
        super().__init__()
        self.seen: list[Call] = []
        self.answers = answer
        for method in ("GET", "POST", "PATCH", "DELETE"):
            self._any(method)

    def _any(self, method: str) -> None:
        def handler(call: Call) -> Reply:
            self.seen.append(call)
            return self.answers(call)

        for depth in range(1, 6):
            self.route(method, "/v1" + "".join(f"/{{p{place}}}" for place in range(depth)), handler)


def raw(text: str, status: int = 200) -> Reply:
    """An answer whose body is exactly this text."""
    return Reply(status, orjson.Fragment(text))


def data(body: Any, **more: Any) -> Reply:
    """A successful answer in Kirim's envelope."""
    return Reply(200, {"data": body, **more})


def refusal(status: int, code: Any, **more: Any) -> Reply:
    """An error in Kirim's envelope."""
    return Reply(status, {"error": {"type": "t", "code": code, "message": "secret payload", **more}})


def settings(url: str, **more: Any) -> KirimSettings:
    """Settings that lead to a server of ours."""
    values = {
        "api_key": KEY,
        "webhook_secrets": [SECRET],
        "base_url": f"{url}/v1",
        "phone_number_ids": [NUMBER],
        "timeout_seconds": 5,
    }
    return KirimSettings.model_validate({**values, **more})


def around(budget: Any, *wanted: str) -> Surroundings:
    """What the endpoint is given besides."""
    names = frozenset(wanted or {"name", "email", "metadata.crm_id"})
    url = "https://hooks.example/hooks/acme/kirim"
    return Surroundings("acme", "kirim", url, budget, {Kind.CONTACT: names}, reach=LOOPBACK)
