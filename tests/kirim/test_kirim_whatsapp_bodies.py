"""Bodies as WhatsApp really sends them, of every kind known, are understood or kept: none is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crmsync.kirim.event_types import MessageReceived, MessageStatus
from crmsync.kirim.events import decode, item

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "specs" / "whatsapp" / "webhooks"
FILES = sorted(FOLDER.glob("*.json"))

pytestmark = pytest.mark.skipif(not FILES, reason="the collection of WhatsApp's webhook bodies is not here")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_body_is_items_with_a_reason(file: Path) -> None:
    for name, body in json.loads(file.read_text()).items():
        events = decode(json.dumps(body).encode())
        reasons = {item(event).reason for event in events}
        assert events, name
        assert reasons <= {"not_mapped", "unknown_type", ""}, name


@pytest.mark.parametrize(("file", "kind"), [("message", MessageReceived), ("message_status", MessageStatus)])
def test_messages_and_statuses_are_recognised(file: str, kind: type) -> None:
    for name, body in json.loads((FOLDER / f"{file}.json").read_text()).items():
        (event,) = decode(json.dumps(body).encode())
        assert isinstance(event, kind), name
