"""The whole way in, as the daemon has it: a server, the intake, the quarantine, Kirim's own endpoint, a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, text
from web_server import Reply, Running, read_reply

from crmsync.connector import Surroundings
from crmsync.flows.alarm import Alarm
from crmsync.flows.intake import Intake, Source, carries
from crmsync.flows.observe import observe
from crmsync.flows.quarantine import Outcome, look_again
from crmsync.flows.tenant import Tenant
from crmsync.http import Unlimited
from crmsync.kirim.endpoint import Kirim
from crmsync.kirim.settings import KirimSettings
from crmsync.kirim.signature import Secret, sign, verify
from crmsync.model import Kind
from crmsync.store import tables
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.pen import DEFAULT_LIMITS, Pen
from crmsync.store.quarantine import Limits
from crmsync.web.app import Site

SECRET = "whsec_" + "0123456789abcdef" * 2
OLDER = "whsec_" + "fedcba9876543210" * 2
NEWER = "whsec_" + "00112233445566778899aabbccddeeff"
OTHERS = "whsec_" + "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"
CRM_SECRET = "crm-0123456789abcdef"
NUMBER = "106540352242922"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
HOOK = "/hooks/acme/kirim"
LIMIT = 4 * 1024 * 1024
TABLES = ("delivery", "quarantine", "item", "view", "alias", "pair", "change", "stale", "lane", "history")

Headers = Sequence[tuple[str | bytes, str | bytes]]


def kirim(tenant: str, *secrets: str, **more: Any) -> Kirim:
    """Kirim's endpoint of a tenant; it is never asked to call anybody."""
    settings = KirimSettings.model_validate(
        {
            "api_key": "kdv_test_0123456789abcdef",
            "webhook_secrets": list(secrets),
            "phone_number_ids": [NUMBER],
            **({} if secrets else {"webhook_secrets_file": "/nowhere"}),
            **more,
        }
    )
    wanted = {Kind.CONTACT: frozenset({"name", "email", "phone_number", "labels", "metadata.tier"})}
    return Kirim(settings, Surroundings(tenant, "kirim", f"https://here/hooks/{tenant}/kirim", Unlimited(), wanted))


def crm(request: Any) -> str:
    """A CRM that signs as Kirim does, with a header and a secret of its own."""
    keys = [Secret.of(CRM_SECRET)]
    return verify(request.header(b"x-crm-signature"), request.body, keys, request.received_at)


class Gate:
    """A node's way in. `now` is what its clock says; `tell` sends bytes and reads the answer."""

    def __init__(self, url: str, *, limits: Limits = DEFAULT_LIMITS, pause: float = 0.0, **serving: Any) -> None:
        self.now = NOW
        self.database = Database.open(url)
        self.inbox = Inbox(self.database)
        self.pen = Pen(self.database, lambda: self.now, limits=limits, pause=pause)
        self.intake = Intake(self.inbox, (), self.pen)
        self.site = Site(self.intake, self.database, lambda: self.now, body_limit=LIMIT)
        self.configure()
        self.running = Running(self.site, draining=self.site.drain, **serving)

    def configure(self, *secrets: str, **more: Any) -> None:
        """Acme's secrets from now on; the other tenant and the CRM stay as they are."""
        self.kirim = kirim("acme", *(secrets or (SECRET, OLDER)), **more)
        self.take(self.kirim)

    def take(self, endpoint: Kirim) -> None:
        self.tenant = Tenant("acme", endpoint, {})
        self.sources = [
            Source("acme", "kirim", endpoint.verify),
            Source("acme", "crm", crm, carries(b"x-crm-signature"), frozenset({b"x-crm-signature"})),
            Source("other", "kirim", kirim("other", OTHERS).verify),
        ]
        self.intake.configure(self.sources, {})

    def __enter__(self) -> Gate:
        self.running.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.running.__exit__()
        self.database.close()

    def reset(self) -> None:
        """As if nothing had happened."""
        self.settle()
        self.now = NOW
        self.database.write(lambda tx: [tx.execute(text(f'DELETE FROM "{name}"')) for name in TABLES] and None)
        for counter in (self.intake.counts, self.intake.odd, self.pen.counts):
            counter.clear()
        self.intake.alarm = Alarm()
        self.pen._full_until.clear()
        self.configure()

    # sending

    def tell(self, data: bytes, method: str = "POST") -> Reply:
        """Sends bytes on a connection of their own."""
        with self.running.connect() as connection:
            connection.sendall(data)
            return read_reply(connection, method)

    def post(self, headers: Headers = (), body: bytes = b"{}", path: str = HOOK, method: str = "POST") -> Reply:
        return self.tell(request(headers, body, path, method), method)

    def deliver(self, body: bytes, secret: str = SECRET, t: int | None = None, path: str = HOOK) -> Reply:
        """A delivery as Kirim signs it."""
        return self.post(signed(body, secret, int(self.now.timestamp()) if t is None else t), body, path)

    # looking

    def settle(self) -> None:
        """Until everything that was to be kept is kept."""
        if hasattr(self.running, "loop"):
            asyncio.run_coroutine_threadsafe(self.pen.settled(), self.running.loop).result(20)

    def look_again(self) -> Outcome:
        self.settle()
        return look_again(self.database, {(source.tenant, source.name): source.verify for source in self.sources})

    def rows(self, table: Any) -> list[Any]:
        of = table.__table__
        return self.database.read(lambda tx: list(tx.execute(select(of).order_by(*of.primary_key))))

    def stored(self) -> list[Any]:
        return self.rows(tables.Delivery)

    def kept(self) -> list[Any]:
        self.settle()
        return self.rows(tables.Quarantined)

    def items(self) -> dict[str, tuple[str, str]]:
        """Each item's outcome and reason."""
        return {row.key: (row.outcome, row.reason) for row in self.rows(tables.SeenItem)}

    def observe(self) -> None:
        """Everything that is stored comes to its end."""
        while observe(self.database, self.tenant, "kirim", lambda tx: None, lambda: self.now + timedelta(seconds=1)):
            pass

    def view(self, id: str) -> Any:
        return next((row for row in self.rows(tables.View) if row.id == id), None)

    def words(self) -> dict[str, int]:
        """How often what was answered."""
        return {word: count for (_, _, word), count in self.intake.counts.items()}


def request(headers: Headers, body: bytes, path: str = HOOK, method: str = "POST", framing: bool = True) -> bytes:
    """The bytes of a request."""
    lines: list[tuple[str | bytes, str | bytes]] = [("Host", "here")]
    if framing:
        lines.append(("Content-Length", str(len(body))))
    head = b"".join(b"%b: %b\r\n" % (_bytes(name), _bytes(value)) for name, value in [*lines, *headers])
    return f"{method} {path} HTTP/1.1\r\n".encode() + head + b"\r\n" + body


def signed(body: bytes, secret: str = SECRET, t: int = T) -> Headers:
    return (("X-Kirim-Signature", sign(secret, body, t)),)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
