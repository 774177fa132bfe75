"""Bodies as Meta sends them, which Kirim passes on: inbound messages and the statuses of outbound ones."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from random import Random
from typing import Any

from crmsync.sandbox.kirim.records import Account

ERROR_UNDELIVERABLE = {"code": 131026, "title": "Message undeliverable"}


def new_wamid(random: Random) -> str:
    """Meta's id of a message."""
    return "wamid.HBgN" + base64.b64encode(random.randbytes(24)).decode()


def received(
    account: Account, sender: str, name: str | None, wamid: str, at: datetime, content: Mapping[str, Any]
) -> dict[str, Any]:
    """An inbound message; `content` has its type and what belongs to it."""
    number = sender.lstrip("+")
    message = {"from": number, "id": wamid, "timestamp": str(int(at.timestamp())), **content}
    profile = {"profile": {"name": name or number}, "wa_id": number}
    return _envelope(account, {"contacts": [profile], "messages": [message]})


def status(account: Account, recipient: str, wamid: str, word: str, at: datetime) -> dict[str, Any]:
    """One step of an outbound message: sent, delivered, read or failed. All share the message's id."""
    entry: dict[str, Any] = {
        "id": wamid,
        "status": word,
        "timestamp": str(int(at.timestamp())),
        "recipient_id": recipient.lstrip("+"),
    }
    if word == "failed":
        entry["errors"] = [ERROR_UNDELIVERABLE]
    else:
        entry["conversation"] = {"id": f"meta-{recipient.lstrip('+')}", "origin": {"type": "user_initiated"}}
        entry["pricing"] = {"billable": True, "pricing_model": "CBP", "category": "user_initiated"}
    return _envelope(account, {"statuses": [entry]})


def _envelope(account: Account, content: Mapping[str, Any]) -> dict[str, Any]:
    display = "".join(filter(str.isdecimal, account.phone_number))
    metadata = {"display_phone_number": display, "phone_number_id": account.phone_number_id}
    value = {"messaging_product": "whatsapp", "metadata": metadata, **content}
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}
