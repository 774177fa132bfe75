"""One call of `upsert`: the rows of one kind of record, by their ids or by the Kirim id, and then read as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from connectors.salesforce.collections import Collections
from connectors.salesforce.jobs import Jobs
from connectors.salesforce.reading import BATCH, CONTACT, Records
from connectors.salesforce.settings import SalesforceSettings
from connectors.salesforce.stand_in import NAME, stand_in
from connectors.salesforce.values import Row, to_salesforce
from crmsync.connecting.pages import portions
from crmsync.connecting.values import members_of
from crmsync.connector import Outcome, unsent
from crmsync.errors import ConnectorError, Retry, Suspend
from crmsync.model import CONTACT_LINK, NOTHING, Record, Write, Written

ASSIGNED = frozenset({"Case", "Lead"})
"""Objects that an org's rules give away to people. A job would have to name the rule."""


class Upsert(Collections[Write, Written]):
    """Besides what every collection knows: which rows without a last name are there already."""

    def __init__(self, records: Records, contacts: Records, settings: SalesforceSettings) -> None:
        headers = {"Sforce-Duplicate-Rule-Header": f"allowSave={str(settings.allow_duplicates).lower()}"}
        if not settings.assignment_rules:
            headers["Sforce-Auto-Assign"] = "FALSE"
        super().__init__(records.wire, records.schema, records.of, records.key, headers)
        self.records = records
        self.contacts = contacts
        self._exists: set[str] = set()
        self._ruled = settings.assignment_rules and self.of in ASSIGNED

    def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Rows whose record is known go by its id, the others by the external id."""
        self.schema.known()  # before anything is written: the answers are read with it
        return self._read_back(writes, self._sent(writes))

    def load(self, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        """New records by a job. Whatever it does not take, for whatever reason, goes as any other row."""
        self.schema.known()
        rows = [] if self._ruled else [self._row(write) for write in writes]
        made = Jobs(self.wire, self.of, pause).insert(self.key, rows)
        outcomes: dict[str, Outcome] = {
            write.external_id: self.accepted(write, made[write.external_id], created=True)
            for write in writes
            if write.external_id in made
        }
        left = [write for write in writes if write.external_id not in made]
        for some in portions(left, BATCH):
            try:
                outcomes |= self._sent(some)
            except (Suspend, Retry) as trouble:  # of the rest alone: what became of the others is known
                if not outcomes:
                    raise
                rest = [write.external_id for write in left if write.external_id not in outcomes]
                outcomes |= dict.fromkeys(rest, unsent(trouble))
                break
        return self._read_back(writes, outcomes)

    def _sent(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        self._look_up_nameless([write for write in writes if write.id is None and not write.fields.get(NAME)])
        return self.outcomes([[write for write in writes if write.id], [write for write in writes if not write.id]])

    def _read_back(self, writes: Sequence[Write], outcomes: Mapping[str, Outcome]) -> Sequence[Outcome]:
        written = [each.record for each in outcomes.values() if isinstance(each, Written)]
        held = self._held([record.id for record in written if record is not None])
        return [self._ended(write, outcomes[write.external_id], held) for write in writes]

    # -- what a collection asks for

    def name(self, entry: Write) -> str:
        return entry.external_id

    def id(self, entry: Write) -> str | None:
        return entry.id

    def values(self, entry: Write) -> Row:
        fields = {name: value for name, value in entry.fields.items() if name != CONTACT_LINK}
        nameless = self.records.named and not fields.get(NAME)
        if nameless and (NAME in fields or (entry.id is None and entry.external_id not in self._exists)):
            fields[NAME] = stand_in(fields, entry.held, entry.external_id)
        known = self.schema.known()
        return {name: to_salesforce(value, known.get(name, NOTHING)) for name, value in fields.items()}

    def lookups(self, entry: Write) -> Mapping[str, str]:
        """A case belongs to one contact: whoever it was given to in Salesforce keeps it."""
        asked, has = (members_of(fields.get(CONTACT_LINK)) for fields in (entry.fields, entry.held))
        wanted = [id for id in asked if id not in has]
        return {CONTACT: wanted[0]} if self.records.linked and wanted and not has else {}

    def survivors(self, ids: Sequence[str]) -> Mapping[str, str]:
        return self.contacts.survivors(ids)

    def accepted(self, entry: Write, id: str, *, created: bool) -> Written:
        return Written(Record(self.records.kind, id, external_id=entry.external_id), created)

    # -- afterwards

    def _look_up_nameless(self, writes: Sequence[Write]) -> None:
        """A new record gets a stand-in for its name. One that is there keeps its name, and an upsert does not say
        beforehand which it will be."""
        if self.records.named and writes:
            self._exists = self.records.keys(write.external_id for write in writes)

    def _held(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """The records as they are now: the answer to a write has only their ids, and an org's own code changes values
        as they are stored. What cannot be read just now is seen soon enough."""
        try:
            return self.records.as_written(ids) if ids else {}
        except ConnectorError:
            return {}

    def _ended(self, write: Write, outcome: Outcome, held: Mapping[str, Record]) -> Outcome:
        """What became of a row. A record that somebody else has changed already is told as it was sent: what they made
        of it is news, and not the answer to our write."""
        if not isinstance(outcome, Written) or outcome.record is None:
            return outcome
        refused = {
            CONTACT_LINK if name == CONTACT and CONTACT_LINK in write.fields else name: code
            for name, code in self.refused.get(write.external_id, {}).items()
        }
        sent = {name: value for name, value in write.fields.items() if name not in refused and name != CONTACT_LINK}
        record = held.get(outcome.record.id) or replace(outcome.record, fields=sent)
        record = replace(record, external_id=record.external_id or write.external_id)
        return replace(outcome, record=record, refused=MappingProxyType(refused))
