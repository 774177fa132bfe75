"""Kirim's emulator as the contract kit wants a platform: arranged, looked into, and troubled on request."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crmsync.connector import Surroundings
from crmsync.http import Budget, Unlimited
from crmsync.kirim.contact import METADATA, contact_record
from crmsync.kirim.endpoint import Kirim
from crmsync.kirim.settings import KirimSettings
from crmsync.kirim.signature import sign
from crmsync.model import Change, Fields, Kind, Record, Value, WebhookRequest
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.kirim import KirimEmulator
from crmsync.sandbox.kirim.records import Contact, new_id
from crmsync.testing.fake import Delivery, Hooks, Sample, Trouble
from crmsync.testing.http_fake import FAULTS
from crmsync.testing.loopback import LOOPBACK

SECRETS = ("whsec_" + "f" * 32, "whsec_" + "s" * 32)
NUMBERS = (("106540352242922", "+62 851-1760-0829"), ("222222222222222", "+62 811-222-222"))
COMPANY = "metadata.company"
WANTED = frozenset({"name", "email", "phone_number", "acquisition_source", COMPANY})


class KirimFake:
    """One organisation with two numbers; the contacts live under the first."""

    sample = Sample(
        text="name",
        other=COMPANY,
        email="email",
        phone="phone_number",
        read_only="acquisition_source",
        refused=("email", "no address"),
        find_by="email",
    )
    hooks = Hooks(headers=(b"x-kirim-signature",), secrets=2)

    def __init__(self) -> None:
        self._at: datetime | None = None
        self.emulator = KirimEmulator(clock=self.now, numbers=NUMBERS).start()
        self.secrets = (*SECRETS, self.emulator.key)

    def connect(self, *, budget: Budget | None = None) -> Kirim:
        settings = KirimSettings.model_validate(
            {
                "api_key": self.emulator.key,
                "webhook_secrets": SECRETS,
                "base_url": f"{self.emulator.url}/v1",
                "phone_number_ids": [number for number, _ in NUMBERS],
                "timeout_seconds": 0.7,
            }
        )
        url = "https://hooks.example/hooks/acme/kirim"
        around = Surroundings("acme", "kirim", url, budget or Unlimited(), {Kind.CONTACT: WANTED}, self.now, LOOPBACK)
        return Kirim(settings, around)

    def close(self) -> None:
        self.emulator.stop()

    def add(self, external_id: str | None, fields: Fields) -> str:
        workspace = self.emulator.workspace
        with self.emulator.lock:
            made = external_id or new_id(self.emulator.random, "ctc")
            account = workspace.accounts[NUMBERS[0][0]]
            contact = Contact(made, account, None, None, None, None, self.now(), self.now())
            workspace.contacts.add(contact)
        self._set(contact, fields)
        return made

    def edit(self, id: str, fields: Fields) -> None:
        self._set(self.emulator.workspace.contacts.by_id[id], fields)

    def held(self, id: str) -> Fields:
        return contact_record(self.emulator.get(id), WANTED).fields

    def ids(self) -> Sequence[str]:
        return list(self.emulator.all())

    def delete(self, id: str) -> None:
        pytest.skip("Kirim documents no way to delete a contact")

    def merge(self, winner: str, loser: str) -> str:
        pytest.skip("Kirim documents no way to merge contacts")

    def hide(self, id: str) -> None:
        pytest.skip("Kirim's lists are not said to lag behind")

    def show(self, id: str) -> None:
        pytest.skip("Kirim's lists are not said to lag behind")

    def set_time(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at or datetime.now(UTC)

    def fail_next(
        self,
        trouble: Trouble | int,
        times: int = 1,
        *,
        skip: int = 0,
        retry_after: float | None = None,
        as_date: bool = False,
    ) -> None:
        faults = self.emulator.faults
        if skip:
            faults.fail_next(skip, Fault.slow(0))
        if isinstance(trouble, int):
            error = {"type": "api_error", "code": "sandbox_fault", "message": self._everything()}
            fault = Fault.error(trouble, after=retry_after, after_as_date=as_date, body={"error": error})
            faults.fail_next(times, fault)
        else:
            faults.fail_next(times, FAULTS[trouble])

    def heal(self) -> None:
        self.emulator.faults.recover()

    def sign(self, body: bytes, age: timedelta = timedelta(0), secret: int = 0) -> WebhookRequest:
        received = self.now()
        header = sign(SECRETS[secret], body, int((received - age).timestamp()))
        headers = (
            (b"content-type", b"application/json"),
            (b"x-kirim-source", b"kirim"),
            (b"x-kirim-signature", header.encode()),
        )
        return WebhookRequest("POST", "/hooks/acme/kirim", headers, body, received)

    def deliveries(self) -> Sequence[Delivery]:
        return [make() for make in DELIVERIES]

    def _set(self, contact: Contact, fields: Fields) -> None:
        with self.emulator.lock:
            metadata = dict(contact.metadata or {})
            changes: dict[str, Value | dict[str, Any]] = {}
            for name, value in fields.items():
                if name.startswith(METADATA):
                    metadata[name.removeprefix(METADATA)] = value
                    changes["metadata"] = metadata
                else:
                    changes[name] = value
            self.emulator.workspace.change_contact(contact, changes)

    def _everything(self) -> str:
        """What a careless platform repeats in its error messages."""
        return json.dumps([self.emulator.all(), self.emulator.key])


AT = "2026-05-23T10:00:00Z"
CONTACT = {
    "id": "ctc_01HXYZABCDEFGHJKMNPQRSTVWX",
    "object": "contact",
    "phone_number": "+628111111111",
    "name": "John Doe",
    "email": None,
    "metadata": {"company": "Oak"},
    "created_at": AT,
    "updated_at": AT,
}
STATED: dict[str, Value] = {
    "phone_number": "+628111111111",
    "name": "John Doe",
    "email": None,
    "created_at": AT,
    "updated_at": AT,
    COMPANY: "Oak",
}


def _change(fields: dict[str, Value], *, partial: bool = False) -> Change:
    version = datetime(2026, 5, 23, 10, tzinfo=UTC)
    record = Record(Kind.CONTACT, str(CONTACT["id"]), fields, version, str(CONTACT["id"]))
    return Change(Kind.CONTACT, record.id, record=record, partial=partial)


def _envelope(kind: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"id": "evt_1", "type": kind, "created_at": AT, "livemode": True, "data": data}).encode()


def _created() -> Delivery:
    contact = {**CONTACT, "whatsapp_account": {"phone_number": "+62 851-1760-0829"}}
    fields = {**STATED, "whatsapp_account": "+62 851-1760-0829", "acquisition_source": "organic"}
    data = {"contact": contact, "acquisition_source": "organic"}
    return Delivery("contact.created", _envelope("contact.created", data), (_change(fields),))


def _updated() -> Delivery:
    contact = {**CONTACT, "whatsapp_account_id": "wba_1", "phone_number_id": NUMBERS[0][0], "labels": [{"name": "VIP"}]}
    fields = {**STATED, "whatsapp_account_id": "wba_1", "phone_number_id": NUMBERS[0][0], "labels": ("VIP",)}
    data = {"contact": contact, "changed_fields": ["labels"]}
    return Delivery("contact.updated", _envelope("contact.updated", data), (_change(fields),))


def _partly_updated() -> Delivery:
    contact = {"id": CONTACT["id"], "name": "Jane", "updated_at": AT}
    fields: dict[str, Value] = {"name": "Jane", "updated_at": AT}
    return Delivery(
        "contact.updated in part", _envelope("contact.updated", {"contact": contact}), (_change(fields, partial=True),)
    )


def _assigned() -> Delivery:
    data = {"conversation": {"id": "cnv_1", "status": "open"}, "assignee": {"user_id": "usr_1"}}
    return Delivery("conversation.assigned", _envelope("conversation.assigned", data))


def _closed() -> Delivery:
    data = {"conversation": {"id": "cnv_1", "status": "resolved", "closed_by_user_id": "usr_1"}}
    return Delivery("conversation.closed", _envelope("conversation.closed", data))


def _message_created() -> Delivery:
    return Delivery("message.created", _envelope("message.created", {"message": {"id": "msg_8", "to": "628111"}}))


def _received() -> Delivery:
    message = {
        "from": "628111111111",
        "id": "wamid.1",
        "timestamp": "1716480000",
        "type": "text",
        "text": {"body": "x"},
    }
    statuses = [{"id": "wamid.0", "status": word, "timestamp": "1716480000"} for word in ("sent", "delivered", "read")]
    change = {"field": "messages", "value": {"messages": [message], "statuses": statuses}}
    body = {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}
    return Delivery("message.received and message.status", json.dumps(body).encode())


DELIVERIES: tuple[Callable[[], Delivery], ...] = (
    _created,
    _updated,
    _partly_updated,
    _assigned,
    _closed,
    _message_created,
    _received,
)
