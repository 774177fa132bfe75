"""Identity comes from the signed bytes: whatever the headers beside the signature say, it decides nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sqlalchemy import text

from crmsync.flows.intake import Intake, Source
from crmsync.kirim.signature import HEADER, Secret, sign, verify
from crmsync.model import WebhookRequest
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.quarantine import Suspect

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECRET = "whsec_headers"
FIRST, SECOND = b'{"id":"evt_1","type":"contact.updated"}', b'{"id":"evt_2","type":"contact.updated"}'
Header = tuple[bytes, bytes]


class Nowhere:
    """A quarantine for requests that all prove themselves."""

    def offer(self, suspect: Suspect) -> None:
        raise AssertionError(suspect.reason)


def answers(database: Database, *requests: tuple[bytes, tuple[Header, ...]]) -> list[str]:
    """What each signed body is answered, in order, with these headers beside the signature."""
    secret = Secret.of(SECRET)
    source = Source(
        "acme", "kirim", lambda asked: verify(asked.header(HEADER), asked.body, [secret], asked.received_at)
    )
    intake = Intake(Inbox(database), [source], Nowhere())

    async def main() -> list[str]:
        words = []
        for body, headers in requests:
            signature = (HEADER, sign(SECRET, body, int(NOW.timestamp())).encode())
            asked = WebhookRequest("POST", "/hooks/acme/kirim", (*headers, signature), body, NOW)
            words.append((await intake.receive(source, asked)).word)
        return words

    return asyncio.run(main())


def stored(database: Database) -> list[bytes]:
    query = text("SELECT body FROM delivery ORDER BY id")
    return database.read(lambda connection: list(connection.execute(query).scalars()))


def beside(event: bytes, delivery: bytes = b"wbd_1", attempt: bytes = b"1") -> tuple[Header, ...]:
    return (
        (b"x-kirim-event-id", event),
        (b"x-kirim-delivery-id", delivery),
        (b"x-kirim-attempt", attempt),
        (b"x-kirim-event", b"contact.updated"),
    )


def test_what_no_signature_covers_makes_no_delivery_known(database: Database) -> None:
    """Else who sees one delivery could post it under the ids of a coming one, and that one would be dropped."""
    assert answers(database, (FIRST, beside(b"evt_2")), (SECOND, beside(b"evt_2"))) == ["stored", "stored"]
    assert stored(database) == [FIRST, SECOND]


def test_what_no_signature_covers_makes_no_delivery_new(database: Database) -> None:
    repeated = [
        (FIRST, ()),
        (FIRST, beside(b"evt_1", b"wbd_2", b"2")),
        (FIRST, beside(b"evt_9", b"wbd_3")),
        (FIRST, ((b"x-kirim-source", b"meta"),)),
        (FIRST, ((b"x-kirim-event-id", b""), (b"x-kirim-event-id", b"evt_7"))),
    ]

    assert answers(database, *repeated) == ["stored", "known", "known", "known", "known"]
    assert stored(database) == [FIRST]
