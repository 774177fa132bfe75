"""Entries on timelines: a communication for a message, a note for a digest.

HubSpot has no key for them that it keeps unique, so an entry that may have been made unheard is looked for among what
belongs to its contact, which tells at once what was made; a search would tell late.

https://developers.hubspot.com/docs/api-reference/latest/crm/objects/communications/guide
https://developers.hubspot.com/docs/api-reference/latest/crm/activities/notes/guide
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from connectors.hubspot.batches import HubSpotBatches
from connectors.hubspot.complaints import Refusal
from connectors.hubspot.links import linked
from connectors.hubspot.objects import COMMUNICATIONS, CONTACTS, LINK_TYPES, NOTES, TICKETS, ObjectType, OwnProperty
from connectors.hubspot.reading import BATCH, Records, read_rows
from connectors.hubspot.schema import Schema
from connectors.hubspot.values import Row
from connectors.hubspot.wire import Wire
from crmsync.connecting.pages import portions
from crmsync.connecting.texts import as_html, fitting, sendable
from crmsync.connector import LogOutcome, unsent
from crmsync.errors import ConnectorError, Retry, Suspend
from crmsync.model import Activity, ActivityKind, Logged

KEY = OwnProperty("kirim_key", "Kirim key", "telling entries apart")
STATUS = OwnProperty("kirim_status", "Kirim status", "how far a message came")
OBJECTS: Mapping[ActivityKind, ObjectType] = {ActivityKind.MESSAGE: COMMUNICATIONS, ActivityKind.DIGEST: NOTES}
OWN: Mapping[ActivityKind, Sequence[OwnProperty]] = {
    ActivityKind.MESSAGE: (KEY, STATUS),
    ActivityKind.DIGEST: (KEY,),
}
LONGEST_BODY = 65_536


class Timelines:
    """Where entries go: what is the same for every call of `log`."""

    def __init__(self, wire: Wire, contacts: Records, tickets: Records) -> None:
        self.wire = wire
        self.contacts = contacts
        self.tickets = tickets
        self._schemas = {kind: Schema(wire, of, OWN[kind]) for kind, of in OBJECTS.items()}

    def prepare(self, kind: ActivityKind, *, plan_only: bool) -> Sequence[str]:
        """What is missing for entries of this kind; makes it unless `plan_only`."""
        return self._schemas[kind].prepare(plan_only=plan_only)

    def require(self, kind: ActivityKind, *, anew: bool) -> None:
        """Raises `Suspend` where something is missing: a key that is not kept would make entries twice."""
        self._schemas[kind].require(anew=anew)

    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        """As the connector's `log`."""
        found: dict[str, LogOutcome] = {}
        failure: Suspend | Retry | None = None
        left: ConnectorError | None = None
        for kind in OBJECTS:
            entries = [activity for activity in activities if activity.kind is kind]
            if left is not None:  # the trouble of one object is the account's
                found.update((entry.key, left) for entry in entries)
            elif entries:
                log = Log(self, kind)
                try:
                    found.update(log.send(entries))
                    left = log.sending.unsent
                except (Suspend, Retry) as error:
                    failure, left = error, unsent(error)
                    found.update((entry.key, error) for entry in entries)
        if failure is not None and all(outcome in (failure, left) for outcome in found.values()):
            raise failure
        return [found[activity.key] for activity in activities]


class Log(HubSpotBatches[Activity, Logged]):
    """Entries of one kind. Those in `moved` were sent to where their contact went, which is tried once."""

    noun = "entry"

    def __init__(self, timelines: Timelines, kind: ActivityKind) -> None:
        super().__init__(timelines.wire, KEY.name)
        self.timelines = timelines
        self.kind = kind
        self.of = OBJECTS[kind]
        self.moved: set[str] = set()

    def send(self, entries: Sequence[Activity]) -> Mapping[str, LogOutcome]:
        """What is there already is changed, the rest is made."""
        self.timelines.require(self.kind, anew=False)
        entries = self._looked_up(entries)
        outcomes = self.outcomes([[one for one in entries if one.id], [one for one in entries if not one.id]])
        return {key: each.plain() if isinstance(each, Refusal) else each for key, each in outcomes.items()}

    def _looked_up(self, entries: Sequence[Activity]) -> Sequence[Activity]:
        """The same, with the ids of those that an earlier attempt made unheard."""
        doubtful = [entry for entry in entries if entry.doubtful and not entry.id]
        contacts = {entry.contact for entry in doubtful}
        contacts |= set(self.timelines.contacts.survivors(contacts).values())
        ids = self._find({entry.key for entry in doubtful}, contacts)
        known = {entry.key: replace(entry, id=ids[entry.key]) for entry in doubtful if entry.key in ids}
        return [known.get(entry.key, entry) for entry in entries]

    def _find(self, keys: Iterable[str], contacts: Iterable[str]) -> Mapping[str, str]:
        """The ids of the entries with these keys among all that belong to these contacts, the latest first."""
        found: dict[str, str] = {}
        missing = set(keys)
        belonging = linked(self.wire, CONTACTS, self.of, sorted(contacts)) if missing else {}
        ids = sorted({id for each in belonging.values() for id in each}, key=lambda id: (len(id), id), reverse=True)
        for part in portions(ids, BATCH):
            if not missing:
                break
            for row in read_rows(self.wire, self.of.path, part, [KEY.name]):
                key = row["properties"].get(KEY.name)
                if key in missing:
                    found[key] = str(row["id"])
                    missing.discard(key)
        return found

    # -- what a batch asks for

    def name(self, entry: Activity) -> str:
        return entry.key

    def id(self, entry: Activity) -> str | None:
        return entry.id

    def post(self, entries: Sequence[Activity]) -> Row:
        rows: list[Row]
        if entries[0].id:
            rows = [{"id": one.id, "objectWriteTraceId": one.key, "properties": _properties(one)} for one in entries]
            operation = self.wire.objects.update
        else:
            rows = [
                {"objectWriteTraceId": one.key, "properties": _properties(one), "associations": self._links(one)}
                for one in entries
            ]
            operation = self.wire.objects.create
        body: Row = self.wire.call(operation, self.of.path, {"inputs": rows}, writing=True).body
        return body

    def _links(self, entry: Activity) -> list[Row]:
        ends = [(CONTACTS, entry.contact), *([(TICKETS, entry.conversation)] if entry.conversation else [])]
        return [
            {
                "to": {"id": id},
                "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": LINK_TYPES[self.of, to]}],
            }
            for to, id in ends
        ]

    def accepted(self, answered: Mapping[str, Row], entries: Mapping[str, Activity]) -> Mapping[str, Logged]:
        return {key: Logged(str(row["id"]), created=entries[key].id is None) for key, row in answered.items()}

    def amended(self, entries: Sequence[Activity], refusal: Refusal) -> Sequence[Activity] | None:
        """A new entry may be refused because its contact or ticket was merged or deleted meanwhile: it goes to the
        contact's survivor, and without a ticket that is gone."""
        entry = entries[0]
        if len(entries) > 1 or entry.id or refusal.reasons or entry.key in self.moved:
            return None
        self.moved.add(entry.key)
        contact = self.timelines.contacts.survivors([entry.contact]).get(entry.contact)
        known = self.timelines.tickets.survivors([entry.conversation]) if entry.conversation else {}
        after = replace(entry, contact=contact or entry.contact, conversation=known.get(entry.conversation or ""))
        return [after] if contact and after != entry else None

    def require(self) -> None:
        self.timelines.require(self.kind, anew=True)

    def again(self, entry: Activity) -> LogOutcome:
        """It is looked for before it is sent once more."""
        return self.settled(self._looked_up([replace(entry, doubtful=True)]))[entry.key]


def _properties(entry: Activity) -> Mapping[str, str]:
    """An entry as HubSpot keeps it."""
    text = sendable("\n".join([entry.title, entry.body, *entry.media]))
    common = {
        "hs_timestamp": entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        KEY.name: entry.key,
        **({"hubspot_owner_id": entry.owner} if entry.owner else {}),
    }
    if entry.kind is ActivityKind.DIGEST:
        return {**common, "hs_note_body": as_html(text, LONGEST_BODY)}
    return {
        **common,
        "hs_communication_channel_type": "WHATS_APP",
        "hs_communication_logged_from": "CRM",
        "hs_communication_body": fitting(text.split("\n"), LONGEST_BODY),
        **({STATUS.name: entry.status.value} if entry.status else {}),
    }
