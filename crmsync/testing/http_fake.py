"""The base of a fake whose platform is a JSON API: a loopback socket, a clock, and every trouble the kit asks for.

    class AcmeFake(HttpFake):
        def __init__(self):
            super().__init__()
            self.route("GET", "/contacts/{id}", self._read)   # from a `Call` to a `Reply`

What is left to the author is what the platform holds and how it answers. Needs pytest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import orjson
import pytest

from crmsync.connector import Surroundings
from crmsync.http import Budget, Unlimited, wall_clock
from crmsync.model import ActivityKind, Kind, WebhookRequest
from crmsync.sandbox.emulator import Call, Emulator, Handler, Refusal, Reply
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.faults import Trouble as Wire
from crmsync.testing.fake import Delivery, Hooks, Trouble
from crmsync.testing.loopback import LOOPBACK

__all__ = ["FAULTS", "Call", "HttpFake", "Reply", "RowsFake"]

HOOK_URL = "https://sync.example.com/hooks/acme/crm"
FAULTS = {
    Trouble.RESET: Fault.reset(applied=False),
    Trouble.LOST: Fault.reset(applied=True),
    Trouble.TIMEOUT: Fault.hang(applied=False),
    Trouble.CUT: Fault(Wire.TRUNCATED, applied=True),
    Trouble.HTML: Fault(Wire.HTML),
}


class _Guarded(Emulator):
    """Opens to one bearer token only."""

    bearer = ""

    def admit(self, call: Call) -> None:
        if self.bearer and call.headers.get("authorization") != f"Bearer {self.bearer}":
            raise Refusal(Reply(401, self.error_body(401)))


class HttpFake:
    """A `FakeCrm` without its records. What its platform cannot do is skipped, unless it is overridden."""

    hooks: ClassVar[Hooks | None] = None
    bearer: ClassVar[str] = ""
    """The token that the platform wants in `Authorization: Bearer …`; "" for another way of its own."""

    def __init__(self) -> None:
        self._at: datetime | None = None
        self.emulator = _Guarded(clock=self.now)
        self.emulator.bearer = self.bearer
        self.emulator.start()

    @property
    def url(self) -> str:
        """Where the platform is."""
        return self.emulator.url

    @property
    def secrets(self) -> Sequence[str]:
        """What must never be shown."""
        return [self.bearer] if self.bearer else []

    def route(self, method: str, template: str, handler: Handler) -> None:
        """One operation of the API; `{name}` in the template is a parameter."""
        self.emulator.route(method, template, handler)

    def around(self, wanted: Collection[str], budget: Budget | None = None, kind: Kind = Kind.CONTACT) -> Surroundings:
        """What a connector is given whose platform this is."""
        return Surroundings(
            "acme",
            "crm",
            HOOK_URL,
            budget or Unlimited(),
            {kind: frozenset(wanted)},
            self.now,
            LOOPBACK,
            frozenset(ActivityKind),
        )

    def everything(self) -> Any:
        """What the platform knows, as JSON: its error messages repeat it, as careless ones do."""
        return self.secrets

    def close(self) -> None:
        """Lets go of the socket."""
        self.emulator.stop()

    def set_time(self, at: datetime) -> None:
        """The platform's clock stands at this instant."""
        self._at = at

    def now(self) -> datetime:
        """The present."""
        return (self._at or wall_clock()).astimezone(UTC)

    def fail_next(
        self,
        trouble: Trouble | int,
        times: int = 1,
        *,
        skip: int = 0,
        retry_after: float | None = None,
        as_date: bool = False,
    ) -> None:
        """The next requests meet trouble, or are answered with an HTTP status; `skip` go well before."""
        if isinstance(trouble, int):
            body = {"message": orjson.dumps(self.everything()).decode()}
            fault = Fault.error(trouble, after=retry_after, after_as_date=as_date, body=body)
        else:
            fault = FAULTS[trouble]
        if skip:
            self.emulator.faults.fail_next(skip, Fault.slow(0))
        self.emulator.faults.fail_next(times, fault)

    def heal(self) -> None:
        """Trouble that has not come yet does not come."""
        self.emulator.faults.recover()

    def merge(self, winner: str, loser: str) -> str:
        """Not on this platform."""
        pytest.skip("the platform merges no records")

    def delete(self, id: str) -> None:
        """Not on this platform."""
        pytest.skip("the platform deletes no records")

    def hide(self, id: str) -> None:
        """Not on this platform."""
        pytest.skip("the platform shows every change at once")

    def show(self, id: str) -> None:
        """Not on this platform."""
        pytest.skip("the platform shows every change at once")

    def sign(self, body: bytes, age: timedelta = timedelta(0), secret: int = 0) -> WebhookRequest:
        """To be overridden together with `hooks` and `deliveries`."""
        pytest.fail("the connector declares webhooks, and its fake signs none")

    def deliveries(self) -> Sequence[Delivery]:
        """None."""
        return ()


class RowsFake(HttpFake):
    """One of flat rows. Besides its fields a row has `id`, `key` (the external id), `changed`, and a `revision` that
    counts up with every change."""

    blank: ClassVar[Mapping[str, Any]] = {}
    """What a new row has."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, Any]] = {}
        self.revision = 0

    def add(self, external_id: str | None, fields: Mapping[str, Any]) -> str:
        """A new row; returns its id."""
        with self.emulator.lock:
            id = f"row-{self.revision + 1}"
            self.rows[id] = {**self.blank, "id": id, "key": external_id}
            self.edit(id, fields)
            return id

    def edit(self, id: str, fields: Mapping[str, Any]) -> None:
        """A row changes."""
        with self.emulator.lock:
            self.revision += 1
            self.rows[id] |= {**fields, "revision": self.revision, "changed": self.now().isoformat()}

    def held(self, id: str) -> Mapping[str, Any]:
        """What a row holds."""
        return self.rows[id]

    def ids(self) -> Sequence[str]:
        """Every row."""
        return list(self.rows)

    def delete(self, id: str) -> None:
        """A row goes."""
        del self.rows[id]

    def everything(self) -> Any:
        """Every row, and the token."""
        return [self.rows, *self.secrets]
