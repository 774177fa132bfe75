"""An emulated Kirim organisation: its records, the changes one can make to them, and the event each change causes.

The REST interface and the methods that stand for people both work through it. Nothing is checked here that only a
client could get wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from random import Random
from typing import Any

import orjson

from crmsync.sandbox.kirim import meta
from crmsync.sandbox.kirim.behaviour import Behaviour
from crmsync.sandbox.kirim.records import Account, Contact, Contacts, Conversation, Label, User, new_id, stamp

Publish = Callable[[str, str, str, bytes], None]
TEAM = "team_sandbox"


class Workspace:
    """Everything an organisation has."""

    def __init__(
        self,
        behaviour: Behaviour,
        random: Random,
        now: Callable[[], datetime],
        publish: Publish,
        numbers: Iterable[tuple[str, str]],
    ) -> None:
        self.contacts = Contacts()
        self.labels: dict[str, Label] = {}
        self.conversations: dict[str, Conversation] = {}
        self.users: dict[str, User] = {}
        self.outbound: dict[str, Contact] = {}
        self._newest: dict[str, Conversation] = {}
        self._behaviour = behaviour
        self._random = random
        self._now = now
        self._publish = publish
        self.accounts = {number: Account(new_id(random, "wba"), number, display) for number, display in numbers}

    # -- contacts

    def create_contact(
        self,
        account: Account,
        phone_number: str | None,
        *,
        name: str | None = None,
        email: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        acquisition_source: str = "organic",
    ) -> Contact:
        """A new contact of one number."""
        now = self._now()
        held = None if metadata is None else dict(metadata)
        contact = Contact(new_id(self._random, "ctc"), account, phone_number, name, email, held, now, now)
        self.contacts.add(contact)
        self._emit("contact.created", self._contact(contact) | {"acquisition_source": acquisition_source})
        return contact

    def change_contact(self, contact: Contact, values: Mapping[str, Any]) -> list[str]:
        """Sets fields; returns those that changed. No event if none did."""
        changed = [name for name, value in values.items() if getattr(contact, name) != value]
        for name in changed:
            if name == "phone_number":
                self.contacts.renumber(contact, values[name])
            else:
                setattr(contact, name, values[name])
        self._changed(contact, changed)
        return changed

    def set_label(self, contact: Contact, label: Label, *, attached: bool) -> bool:
        """Puts a label on a contact or takes it off; whether that changed anything."""
        if (label.id in contact.labels) == attached:
            return False
        (contact.labels.add if attached else contact.labels.remove)(label.id)
        if self._behaviour.label_changes_are_events:
            self._changed(contact, ["labels"])
        return True

    def _changed(self, contact: Contact, fields: list[str]) -> None:
        if fields:
            contact.updated_at = max(self._now(), contact.updated_at)
            self._emit("contact.updated", self._contact(contact) | {"changed_fields": fields})

    def _contact(self, contact: Contact) -> dict[str, Any]:
        return {"contact": contact.in_event(self._behaviour, self.labels)}

    # -- labels

    def create_label(self, name: str, colour: str = "gray", team_id: str = TEAM) -> Label:
        """A new label."""
        now = self._now()
        label = Label(new_id(self._random, "lbl"), name, colour, team_id, now, now)
        self.labels[label.id] = label
        return label

    def label_named(self, name: str) -> Label | None:
        """A label by its name, which is unique in a team."""
        return next((label for label in self.labels.values() if label.name == name), None)

    def delete_label(self, label: Label) -> None:
        """Removes a label from everything that carries it. No event is documented for that."""
        del self.labels[label.id]
        for contact in self.contacts.by_id.values():
            contact.labels.discard(label.id)

    # -- conversations

    def conversation_with(self, contact: Contact) -> Conversation:
        """The newest conversation with a contact, begun if there is none."""
        return self._newest.get(contact.id) or self.begin_conversation(contact)

    def begin_conversation(self, contact: Contact) -> Conversation:
        """A new conversation. Kirim has no event for it."""
        now = self._now()
        made = Conversation(new_id(self._random, "cnv"), contact, now, now)
        self.conversations[made.id] = self._newest[contact.id] = made
        return made

    def assign(self, conversation: Conversation, user: User | None) -> bool:
        """Gives a conversation to a user, or to nobody; an event if that is a change."""
        before = conversation.assignee
        if before == user:
            return False
        conversation.assignee = user
        conversation.updated_at = self._now()
        assignee = {
            "user_id": user.id if user else None,
            "team_id": TEAM,
            "previous_user_id": before.id if before else None,
        }
        shown = {"id": conversation.id, "object": "conversation", "status": conversation.status}
        self._emit("conversation.assigned", {"conversation": shown, "assignee": assignee})
        return True

    def set_status(self, conversation: Conversation, status: str, by: str | None) -> bool:
        """Opens, parks or closes a conversation. Only closing is an event."""
        if conversation.status == status:
            return False
        conversation.status = status
        conversation.updated_at = self._now()
        if status == "resolved":
            shown = {"id": conversation.id, "object": "conversation", "status": status, "closed_by_user_id": by}
            self._emit("conversation.closed", {"conversation": shown})
        return True

    # -- messages

    def receive(self, account: Account, sender: str, name: str | None, content: Mapping[str, Any]) -> str:
        """A customer writes; an unknown number becomes a contact. Returns the wamid."""
        contact = self.contacts.with_phone(account.phone_number_id, sender)
        if contact is None:
            contact = self.create_contact(account, sender, name=name)
        conversation, now = self.conversation_with(contact), self._now()
        if conversation.status == "resolved":
            self.set_status(conversation, "open", None)
        conversation.unread_count += 1
        conversation.last_message_at = conversation.last_inbound_at = now
        wamid = meta.new_wamid(self._random)
        body = meta.received(account, sender, contact.name, wamid, now, content)
        self._pass_on("message.received", wamid, body, contact, conversation)
        return wamid

    def send(self, contact: Contact, kind: str, text: str, source: str) -> str:
        """Somebody writes to a customer. Returns the wamid that its statuses will carry."""
        conversation, now = self.conversation_with(contact), self._now()
        conversation.last_message_at = now
        wamid = meta.new_wamid(self._random)
        self.outbound[wamid] = contact
        message = {
            "id": new_id(self._random, "msg"),
            "object": "message",
            "whatsapp_account_id": contact.account.id,
            "phone_number_id": contact.account.phone_number_id,
            "to": (contact.phone_number or "").lstrip("+"),
            "type": kind,
            "status": "queued",
            "conversation_id": conversation.id,
            "created_at": stamp(now, self._behaviour),
        }
        self._emit("message.created", {"message": message})
        if self._behaviour.sent_events:
            shown = {name: message[name] for name in ("id", "to", "type")}
            sent = {
                "message": {**shown, "provider_id": wamid, "body": text, "source": source},
                "contact": {"phone_number": contact.phone_number},
                "meta": {"phone_number_id": contact.account.phone_number_id},
            }
            self._emit("message.sent", sent)
        return wamid

    def report_status(self, wamid: str, word: str) -> None:
        """Meta says what became of an outbound message."""
        contact = self.outbound[wamid]
        body = meta.status(contact.account, contact.phone_number or "", wamid, word, self._now())
        self._pass_on("message.status", wamid, body, contact, self.conversation_with(contact))

    # -- inside

    def _emit(self, event_type: str, data: Mapping[str, Any]) -> None:
        event_id = new_id(self._random, "evt")
        envelope: dict[str, Any] = {
            "id": event_id,
            "type": event_type,
            "created_at": stamp(self._now(), self._behaviour),
        }
        if self._behaviour.livemode:
            envelope["livemode"] = True
        self._publish(event_type, event_id, "kirim", orjson.dumps(envelope | {"data": data}))

    def _pass_on(
        self, event_type: str, wamid: str, body: dict[str, Any], contact: Contact, conversation: Conversation
    ) -> None:
        if self._behaviour.kirim_block:
            body = body | {
                "kirim": {
                    "contact": {"name": contact.name, "phone_number": contact.phone_number},
                    "message_id": new_id(self._random, "msg"),
                    "conversation_id": conversation.id,
                    "phone_number_id": contact.account.phone_number_id,
                }
            }
        self._publish(event_type, wamid, "meta", orjson.dumps(body))
