"""The CRM of the demonstration, whichever it is: what the story, the people and the judge need of an emulated one."""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from crmsync.sandbox.emulator import Emulator
from crmsync.sandbox.fields import EXTERNAL_ID, FIELDS, Field, Held
from crmsync.sandbox.hubspot import Behaviour as HubSpotBehaviour
from crmsync.sandbox.hubspot import HubSpotEmulator, Respelling
from crmsync.sandbox.ledger import Ledger
from crmsync.sandbox.salesforce import CONTACT_KEY, SalesforceEmulator
from crmsync.sandbox.salesforce import Behaviour as SalesforceBehaviour


@dataclass(frozen=True, slots=True)
class Linked:
    """The record that stands for a Kirim contact, as it was when it was looked at."""

    id: str
    values: Mapping[str, Any]


class Crm(ABC):
    """One emulated account. `title` is its name for people, `name` that of its connector."""

    title: ClassVar[str]
    name: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]]
    emulator: Emulator
    human: Ledger

    def __init__(self) -> None:
        self.by_name: Mapping[str, Field] = {field.crm: field for field in self.fields}
        self._names = {field.kirim: field.crm for field in self.fields}

    def field(self, kirim: str) -> str:
        """What a Kirim field is called here."""
        return self._names[kirim]

    def held(self) -> dict[str, dict[str, Held]]:
        """What is held now: by Kirim id (empty for records without one), then by record id."""
        found: dict[str, dict[str, Held]] = {}
        with self.emulator.lock:
            for id, key, values in self._contacts():
                found.setdefault(key, {})[id] = {
                    field.kirim: field.form(values.get(field.crm)) for field in self.fields
                }
        return found

    @abstractmethod
    def _contacts(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Every live contact: its id, its Kirim id, what it holds."""

    @abstractmethod
    def linked(self, contact_id: str) -> Linked | None:
        """The record that stands for a Kirim contact, if there is one by now."""

    @abstractmethod
    def add(self, name: str, email: str) -> None:
        """A user makes a contact."""

    @abstractmethod
    def edit(self, id: str, **values: str | None) -> None:
        """A user changes a record, by the CRM's own names; None clears."""

    @abstractmethod
    def section(self, secret: Mapping[str, str]) -> list[str]:
        """The keys of the connection, with references to secrets in place of these."""

    @abstractmethod
    def secrets(self) -> Mapping[str, str]:
        """What has to be kept from others, by name."""

    # -- pushed events, for a CRM that has them

    def listen(self, url: str | None) -> str | None:
        """Where events are posted from now on. Returns where they were."""
        return None

    def disorder(self, share: float) -> bool:
        """The share of events that come twice, or late. Says whether there are any."""
        return False

    def told(self) -> Mapping[object, tuple[str, str]]:
        """Every event that was taken: the record it is about, and the field by the CRM's name."""
        return {}

    @property
    def pending(self) -> int:
        """Events on their way."""
        return 0


class HubSpotCrm(Crm):
    """HubSpot, with signed webhooks."""

    title = "HubSpot"
    name = "hubspot"
    fields = FIELDS

    def __init__(self, emulator: HubSpotEmulator) -> None:
        super().__init__()
        self.emulator: HubSpotEmulator = emulator
        self.human = emulator.human

    @classmethod
    def made(cls, seed: int, rate: int | None, search_rate: int | None) -> HubSpotCrm:
        """An account as customers have it: it respells, and keeps to its limits."""
        behaviour = HubSpotBehaviour(
            rate_limit=rate, search_rate=search_rate, respelling=Respelling(lowercase_email=True, reformat_phone=True)
        )
        token, secret = f"pat-eu1-{secrets.token_hex(12)}", secrets.token_urlsafe(24)
        emulator = HubSpotEmulator(
            token=token, seed=seed, behaviour=behaviour, external_id=EXTERNAL_ID, client_secret=secret
        )
        emulator.properties.define(EXTERNAL_ID, unique=True)
        return cls(emulator)

    def _contacts(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for record in self.emulator.contacts.live():
            yield str(record.id), record.properties.get(EXTERNAL_ID, ""), record.properties

    def linked(self, contact_id: str) -> Linked | None:
        with self.emulator.lock:
            found = self.emulator.contacts.find(contact_id, EXTERNAL_ID)
            return None if found is None else Linked(str(found.id), dict(found.properties))

    def add(self, name: str, email: str) -> None:
        self.emulator.create_contact(firstname=name, email=email)

    def edit(self, id: str, **values: str | None) -> None:
        self.emulator.edit(id, **{field: value or "" for field, value in values.items()})

    def section(self, secret: Mapping[str, str]) -> list[str]:
        return [
            f"access_token: {secret['hubspot-token']}",
            f'client_secrets: ["{secret["hubspot-client-secret"]}"]',
            f"base_url: {self.emulator.url}",
        ]

    def secrets(self) -> Mapping[str, str]:
        return {"hubspot-token": self.emulator.token, "hubspot-client-secret": self.emulator.webhooks.secret}

    def listen(self, url: str | None) -> str | None:
        before = self.emulator.webhooks.url
        self.emulator.configure_webhooks(url)
        return before

    def disorder(self, share: float) -> bool:
        self.emulator.behaviour.webhook_duplicates = self.emulator.behaviour.webhook_disorder = share
        return True

    def told(self) -> Mapping[object, tuple[str, str]]:
        return {
            one.event["eventId"]: (str(one.event["objectId"]), one.event.get("propertyName", ""))
            for one in self.emulator.acknowledged
        }

    @property
    def pending(self) -> int:
        return self.emulator.outbox.pending


SALESFORCE_NAMES = {
    "phone_number": "Phone",
    "email": "Email",
    "name": "LastName",
    "metadata.company": "Department",
    "metadata.city": "MailingCity",
    "metadata.title": "Title",
}


class SalesforceCrm(Crm):
    """Salesforce, which sends nothing: whatever happens there is found by asking."""

    title = "Salesforce"
    name = "salesforce"
    fields = tuple(replace(field, crm=SALESFORCE_NAMES[field.kirim]) for field in FIELDS)

    def __init__(self, emulator: SalesforceEmulator) -> None:
        super().__init__()
        self.emulator: SalesforceEmulator = emulator
        self.human = emulator.human

    @classmethod
    def made(cls, seed: int) -> SalesforceCrm:
        """An org as customers have it: code of its own respells, and sessions end."""
        behaviour = SalesforceBehaviour(session_seconds=900, trigger=_respelt)
        emulator = SalesforceEmulator(seed=seed, behaviour=behaviour, consumer_secret=secrets.token_hex(32))
        emulator.prepare()
        return cls(emulator)

    def _contacts(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for id, values in self.emulator.all().items():
            yield id, values.get(CONTACT_KEY, ""), values

    def linked(self, contact_id: str) -> Linked | None:
        with self.emulator.lock:
            found = self.emulator.by_external_id(contact_id)
            return Linked(found[0], self.emulator.get(found[0])) if found else None

    def add(self, name: str, email: str) -> None:
        self.emulator.create("Contact", LastName=name, Email=email)

    def edit(self, id: str, **values: str | None) -> None:
        self.emulator.edit(id, **values)

    def section(self, secret: Mapping[str, str]) -> list[str]:
        return [
            f"consumer_key: {self.emulator.tokens.key}",
            f"consumer_secret: {secret['salesforce-consumer-secret']}",
            f"login_url: {self.emulator.url}",
        ]

    def secrets(self) -> Mapping[str, str]:
        return {"salesforce-consumer-secret": self.emulator.tokens.secret}


def _respelt(name: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the org's own code makes of a contact's address and number."""
    changed: dict[str, Any] = {}
    if values.get("Email"):
        changed["Email"] = str(values["Email"]).lower()
    if values.get("Phone"):
        changed["Phone"] = re.sub(r"^(\+\d{2})(\d{3})(\d{4})(\d+)$", r"\1 \2-\3-\4", str(values["Phone"]))
    return changed


CRMS: Mapping[str, type[Crm]] = {each.name: each for each in (HubSpotCrm, SalesforceCrm)}
