"""Entries on timelines: a task, done already, for a message and for a digest.

A task is the only entry of Salesforce's that keeps a key of ours and so is never made twice. It stands on the timeline
of the contact and of the case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.salesforce.collections import Collections
from connectors.salesforce.reading import Records
from connectors.salesforce.schema import OwnField, Schema
from connectors.salesforce.settings import SalesforceSettings
from connectors.salesforce.values import Row
from connectors.salesforce.wire import Wire
from crmsync.connecting.texts import fitting, sendable
from crmsync.connector import LogOutcome
from crmsync.model import Activity, Logged

TASK, STATUS = "Task", "Kirim_Status__c"
LONGEST_BODY, LONGEST_TITLE = 32_000, 255


def tasks(wire: Wire, settings: SalesforceSettings) -> Schema:
    """What tasks need. Their fields are made once for all activities."""
    own = (
        OwnField(settings.activity_external_id, "telling entries apart", 255),
        OwnField(STATUS, "how far a message came", 40, unique=False),
    )
    return Schema(wire, TASK, own, "Activity")


class Log(Collections[Activity, Logged]):
    """One call of `log`."""

    noun = "entry"

    def __init__(self, of: Schema, contacts: Records, cases: Records, settings: SalesforceSettings) -> None:
        super().__init__(contacts.wire, of, TASK, settings.activity_external_id, {})
        self.contacts = contacts
        self.cases = cases
        self.settings = settings

    def send(self, entries: Sequence[Activity]) -> Sequence[LogOutcome]:
        """What is there already is changed, the rest is made, or found by its key."""
        self.schema.known()
        outcomes = self.outcomes([[one for one in entries if one.id], [one for one in entries if not one.id]])
        return [outcomes[entry.key] for entry in entries]

    def name(self, entry: Activity) -> str:
        return entry.key

    def id(self, entry: Activity) -> str | None:
        return entry.id

    def values(self, entry: Activity) -> Row:
        body = [*entry.body.split("\n"), *entry.media]
        return {
            "Subject": sendable(entry.title)[:LONGEST_TITLE],
            "Description": sendable(fitting(body, LONGEST_BODY)),
            "ActivityDate": f"{entry.at:%Y-%m-%d}",
            "Status": self.settings.task_status,
            **({STATUS: entry.status.value} if entry.status else {}),
            **({"OwnerId": entry.owner} if entry.owner else {}),
        }

    def lookups(self, entry: Activity) -> Mapping[str, str]:
        """A task of a lead cannot be a case's as well."""
        if entry.id:
            return {}
        case = {"WhatId": entry.conversation} if entry.conversation and self.cases.linked else {}
        return {"WhoId": entry.contact, **case}

    def survivors(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {**self.contacts.survivors(ids), **self.cases.survivors(ids)}

    def accepted(self, entry: Activity, id: str, *, created: bool) -> Logged:
        return Logged(id, created)

    def is_worth_sending(self, entry: Activity) -> bool:
        """An entry goes without its owner, and without a case that is gone, but never without whose it is."""
        return self.refused.get(entry.key, {}).keys() <= {"OwnerId", "WhatId"}
