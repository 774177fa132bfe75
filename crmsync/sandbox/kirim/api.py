"""The records of an emulated Kirim over REST: contacts, labels, conversations, accounts. One method per operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.kirim.behaviour import Behaviour, Existing, Metadata
from crmsync.sandbox.kirim.paging import page, read_cursor, refuse
from crmsync.sandbox.kirim.records import COLOURS, Account, Contact, Conversation, Label
from crmsync.sandbox.kirim.workspace import Workspace

LARGEST_BULK = 1000
_PHONE = re.compile(r"\+[1-9]\d{6,14}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_CONTACT_ID = re.compile(r"ctc_[0-9A-HJKMNP-TV-Z]{26}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Recorder = Callable[[str, str, str, Mapping[str, Any], Sequence[str], Call], None]


class RecordsApi:
    """Translates between HTTP and a `Workspace`. Every applied write is handed to `record`, for the ledger.

    Paths come with a number of ours (`number` among the call's parameters) or, in the older form, without.
    """

    def __init__(self, workspace: Workspace, behaviour: Behaviour, record: Recorder) -> None:
        self._workspace = workspace
        self._behaviour = behaviour
        self._record = record

    # -- contacts

    def list_contacts(self, call: Call) -> Reply:
        """GET /contacts: newest first."""
        filters = ("phone", "search", "created_after")
        start = read_cursor(call, filters)
        before = None if start is None else (_moment_of(start[0]), str(start[1]))
        return page(call, self._chosen(call, before), filters, _place, self._show)

    def create_contact(self, call: Call) -> Reply:
        """POST /contacts"""
        asked = _object(call)
        phone = asked.get("phone_number")
        if phone is None:
            raise refuse(400, "missing_required_field", "phone_number is required", param="phone_number")
        if not isinstance(phone, str) or not _PHONE.fullmatch(phone):
            raise refuse(400, "invalid_phone_number", "phone_number is not E.164", param="phone_number")
        account, values = self._account_for(call, asked), _checked_fields(asked)
        known = self._workspace.contacts.with_phone(account.phone_number_id, phone)
        if known is not None:
            return self._create_again(call, known, values)
        made = self._workspace.create_contact(account, phone, **values, acquisition_source="manual")
        self._record("create", "contact", made.id, asked, tuple(asked), call)
        return Reply(201, {"data": self._show(made)})

    def read_contact(self, call: Call) -> Reply:
        """GET /contacts/{id}"""
        return Reply(200, {"data": self._show(self._contact(call))})

    def update_contact(self, call: Call) -> Reply:
        """PATCH /contacts/{id}: name, email and metadata; null clears."""
        contact, asked = self._contact(call), _object(call)
        if "phone_number" in asked:
            raise refuse(400, "invalid_field_value", "phone_number cannot be changed", param="phone_number")
        values = _checked_fields(asked)
        if not values:
            raise refuse(400, "missing_required_field", "Nothing to change")
        self._change(call, contact, values)
        return Reply(200, {"data": self._show(contact)})

    def attach_label(self, call: Call) -> Reply:
        """POST /contacts/{id}/labels"""
        contact, label = self._contact(call), self._label(_object(call).get("label_id"))
        return self._set_label(call, contact, label, attached=True)

    def detach_label(self, call: Call) -> Reply:
        """DELETE /contacts/{id}/labels/{label_id}"""
        contact, label = self._contact(call), self._label(call.params["label_id"])
        return self._set_label(call, contact, label, attached=False)

    def bulk_label(self, call: Call) -> Reply:
        """POST /contacts/bulk_label: who is not ours is skipped and counted."""
        asked = _object(call)
        ids, operation = asked.get("contact_ids"), asked.get("operation")
        if not isinstance(ids, list) or not 0 < len(ids) <= LARGEST_BULK:
            raise refuse(400, "invalid_field_value", f"1 to {LARGEST_BULK} contact_ids", param="contact_ids")
        if operation not in ("attach", "detach"):
            raise refuse(400, "invalid_field_value", "operation must be attach or detach", param="operation")
        label = self._label(asked.get("label_id"))
        known = [one for key in dict.fromkeys(ids) if (one := self._workspace.contacts.by_id.get(key))]
        for contact in known:
            changed = self._workspace.set_label(contact, label, attached=operation == "attach")
            self._record(
                operation, "contact_label", contact.id, {"label_id": label.id}, ("labels",) if changed else (), call
            )
        skipped = len(ids) - len(known)
        data = {"applied": len(known), "skipped_cross_org": skipped, "skipped_team_mismatch": 0}
        return Reply(200, {"data": data})

    # -- labels

    def list_labels(self, call: Call) -> Reply:
        """GET /v1/labels"""
        start = read_cursor(call, ())
        rows = list(self._workspace.labels.values())
        places = [one.id for one in rows]
        rest = rows if start is None or start[0] not in places else rows[places.index(start[0]) + 1 :]
        return page(call, rest, (), lambda one: [one.id], lambda one: one.shown(self._behaviour))

    def create_label(self, call: Call) -> Reply:
        """POST /v1/labels"""
        asked = _object(call)
        name, colour = _label_name(asked.get("name")), _colour(asked.get("color", "gray"))
        self._refuse_taken(name, None)
        made = self._workspace.create_label(name, colour, asked.get("team_id") or "team_sandbox")
        self._record("create", "label", made.id, asked, tuple(asked), call)
        return Reply(201, {"data": made.shown(self._behaviour)})

    def read_label(self, call: Call) -> Reply:
        """GET /v1/labels/{id}"""
        return Reply(200, {"data": self._label(call.params["id"]).shown(self._behaviour)})

    def update_label(self, call: Call) -> Reply:
        """PATCH /v1/labels/{id}"""
        label, asked = self._label(call.params["id"]), _object(call)
        name, colour = _label_name(asked.get("name", label.name)), _colour(asked.get("color", label.colour))
        self._refuse_taken(name, label)
        label.name, label.colour = name, colour
        self._record("update", "label", label.id, asked, tuple(asked), call)
        return Reply(200, {"data": label.shown(self._behaviour)})

    def delete_label(self, call: Call) -> Reply:
        """DELETE /v1/labels/{id}"""
        label = self._label(call.params["id"])
        self._workspace.delete_label(label)
        self._record("delete", "label", label.id, {}, (), call)
        return Reply(200, {"data": {"id": label.id, "object": "label", "deleted": True}})

    # -- conversations and accounts

    def list_conversations(self, call: Call) -> Reply:
        """GET /conversations: latest message first, those without one last."""
        filters = ("status", "contact_id")
        start = read_cursor(call, filters)
        rows = sorted(self._conversations(call), key=_recency, reverse=True)
        if start is not None:
            rows = [one for one in rows if _recency(one) < (start[0], start[1])]
        return page(call, rows, filters, lambda one: list(_recency(one)), lambda one: one.shown(self._behaviour))

    def read_conversation(self, call: Call) -> Reply:
        """GET /conversations/{id}"""
        return Reply(200, {"data": self._conversation(call).shown(self._behaviour)})

    def update_conversation(self, call: Call) -> Reply:
        """PATCH /conversations/{id}: status, assigned_to, or both."""
        conversation, asked = self._conversation(call), _object(call)
        given = [name for name in ("status", "assigned_to") if name in asked]
        if not given:
            raise refuse(400, "missing_required_field", "status or assigned_to is required")
        status = asked.get("status", conversation.status)
        if status not in ("open", "pending", "resolved"):
            raise refuse(400, "invalid_field_value", "status is unknown", param="status")
        user_id = asked.get("assigned_to")
        if user_id is not None and user_id not in self._workspace.users:
            raise refuse(400, "invalid_field_value", "No such user", param="assigned_to")
        changed = []
        if "assigned_to" in asked:
            user = None if user_id is None else self._workspace.users[user_id]
            changed += ["assigned_to"] if self._workspace.assign(conversation, user) else []
        changed += ["status"] if self._workspace.set_status(conversation, status, None) else []
        self._record("update", "conversation", conversation.id, asked, changed, call)
        return Reply(200, {"data": conversation.shown(self._behaviour)})

    def list_accounts(self, call: Call) -> Reply:
        """GET /v1/accounts: not paginated."""
        rows = [
            {
                "object": "account",
                "phone_number_id": account.phone_number_id,
                "phone_number": account.phone_number,
                "name": account.name,
                "status": "connected",
            }
            for account in self._workspace.accounts.values()
        ]
        return Reply(200, {"data": rows, "has_more": False, "next_cursor": None})

    # -- inside

    def _show(self, contact: Contact) -> dict[str, Any]:
        return contact.shown(self._behaviour)

    def _account(self, call: Call) -> Account | None:
        """The number in the path; None in the older form, which means all of them."""
        if "number" not in call.params:
            return None
        account = self._workspace.accounts.get(call.params["number"])
        if account is None:
            raise refuse(404, "resource_not_found", "No such number")
        return account

    def _account_for(self, call: Call, asked: Mapping[str, Any]) -> Account:
        """Which number gets a new contact: the older form names it by `from` where there are several."""
        account, accounts = self._account(call), list(self._workspace.accounts.values())
        if account is None and "from" in asked:
            wanted = "".join(filter(str.isdecimal, str(asked["from"])))
            same = [one for one in accounts if "".join(filter(str.isdecimal, one.phone_number)) == wanted]
            account = same[0] if same else None
        elif account is None and len(accounts) == 1:
            account = accounts[0]
        if account is None:
            raise refuse(400, "missing_required_field", "from is required", param="from")
        return account

    def _contact(self, call: Call) -> Contact:
        key, account = call.params["id"], self._account(call)
        if not _CONTACT_ID.fullmatch(key):
            raise refuse(400, "invalid_field_value", "This is no contact id", param="id")
        contact = self._workspace.contacts.by_id.get(key)
        if contact is None or (account is not None and contact.account is not account):
            raise refuse(404, "resource_not_found", "No such contact")
        return contact

    def _label(self, key: Any) -> Label:
        label = self._workspace.labels.get(str(key))
        if label is None:
            raise refuse(404, "resource_not_found", "No such label", param="label_id")
        return label

    def _conversation(self, call: Call) -> Conversation:
        account, found = self._account(call), self._workspace.conversations.get(call.params["id"])
        if found is None or (account is not None and found.contact.account is not account):
            raise refuse(404, "resource_not_found", "No such conversation")
        return found

    def _conversations(self, call: Call) -> list[Conversation]:
        account, status, contact_id = self._account(call), call.param("status"), call.param("contact_id")
        return [
            one
            for one in self._workspace.conversations.values()
            if (account is None or one.contact.account is account)
            and status in ("", one.status)
            and contact_id in ("", one.contact.id)
        ]

    def _chosen(self, call: Call, before: tuple[datetime, str] | None) -> Iterator[Contact]:
        """The contacts that the filters leave, newest first."""
        account, phone, text = self._account(call), call.param("phone"), call.param("search").casefold()
        after = _time_filter(call, "created_after") if self._behaviour.created_after else None
        for one in self._workspace.contacts.newest_first(before):
            if after is not None and one.created_at <= after:
                return
            if account is not None and one.account is not account:
                continue
            if phone not in ("", one.phone_number):
                continue
            if text and text not in f"{one.name or ''}\0{one.email or ''}".casefold():
                continue
            yield one

    def _create_again(self, call: Call, known: Contact, values: Mapping[str, Any]) -> Reply:
        """POST of a number that has a contact already."""
        if self._behaviour.existing is Existing.CONFLICT:
            raise refuse(409, "contact_already_exists", "This number has a contact", param="phone_number")
        self._change(call, known, values)
        return Reply(200, {"data": self._show(known)})

    def _change(self, call: Call, contact: Contact, values: Mapping[str, Any]) -> None:
        wanted = dict(values)
        if isinstance(values.get("metadata"), dict) and self._behaviour.metadata is Metadata.MERGE:
            gone = {key for key, value in values["metadata"].items() if value is None}
            merged = {**(contact.metadata or {}), **values["metadata"]}
            wanted["metadata"] = {key: value for key, value in merged.items() if key not in gone}
        changed = self._workspace.change_contact(contact, wanted)
        self._record("update", "contact", contact.id, values, changed, call)

    def _set_label(self, call: Call, contact: Contact, label: Label, *, attached: bool) -> Reply:
        changed = self._workspace.set_label(contact, label, attached=attached)
        verb = "attach" if attached else "detach"
        self._record(verb, "contact_label", contact.id, {"label_id": label.id}, ("labels",) if changed else (), call)
        return Reply(200, {"data": {"contact_id": contact.id, "label_id": label.id, "attached": attached}})

    def _refuse_taken(self, name: str, label: Label | None) -> None:
        holder = self._workspace.label_named(name)
        if holder is not None and holder is not label:
            raise refuse(400, "invalid_field_value", "A label with this name exists", param="name")


def _object(call: Call) -> dict[str, Any]:
    asked = call.json()
    if not isinstance(asked, dict):
        raise refuse(400, "invalid_field_value", "The body must be an object")
    return asked


def _checked_fields(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a contact that a client may write. Unknown keys are ignored."""
    values = {name: asked[name] for name in ("name", "email", "metadata") if name in asked}
    if not isinstance(values.get("name"), str | None):
        raise refuse(400, "invalid_field_value", "name must be a string", param="name")
    email = values.get("email")
    if email is not None and not (isinstance(email, str) and _EMAIL.fullmatch(email)):
        raise refuse(400, "invalid_field_value", "email is no address", param="email")
    if not isinstance(values.get("metadata"), dict | None):
        raise refuse(400, "invalid_field_value", "metadata must be an object", param="metadata")
    return values


def _label_name(name: Any) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= 50:
        raise refuse(400, "invalid_field_value", "name must have 1 to 50 characters", param="name")
    return name


def _colour(colour: Any) -> str:
    if colour not in COLOURS:
        raise refuse(400, "invalid_field_value", "color is unknown", param="color")
    return str(colour)


def _time_filter(call: Call, name: str) -> datetime | None:
    text = call.param(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise refuse(400, "invalid_field_value", f"{name} is no time", param=name) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _place(contact: Contact) -> list[Any]:
    return [(contact.created_at - _EPOCH) // _MICROSECOND, contact.id]


def _moment_of(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _recency(one: Conversation) -> tuple[int, str]:
    at = one.last_message_at
    return (0 if at is None else (at - _EPOCH) // _MICROSECOND), one.id
