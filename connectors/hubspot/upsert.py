"""One call of `upsert`: the rows of one kind of record, by their ids or by the Kirim id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from connectors.hubspot.batches import HubSpotBatches
from connectors.hubspot.complaints import SCHEMA_CODES, Refusal
from connectors.hubspot.links import ContactLinks
from connectors.hubspot.reading import Records
from connectors.hubspot.stand_in import EMPTY, NAME, is_nameless, is_stand_in, stand_in
from connectors.hubspot.values import Row, to_hubspot
from crmsync.connecting.values import members_of
from crmsync.connector import Outcome
from crmsync.errors import ConnectorError, Retry, Suspend
from crmsync.model import CONTACT_LINK, Ref, Value, Write, Written


class Upsert(HubSpotBatches[Write, Written]):
    """Besides what every batch knows: which fields were refused, and which rows are known to be new."""

    def __init__(self, records: Records) -> None:
        super().__init__(records.wire, records.key)
        self.records = records
        self.refused: dict[str, dict[str, str]] = {}
        self.exists: dict[str, bool] = {}
        self.texts: dict[str, Row] = {}

    def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Rows whose record is known go by its id, the others by the external id."""
        known, unknown = [write for write in writes if write.id], [write for write in writes if not write.id]
        outcomes = self.outcomes([known, unknown])
        if self.records.links is not None:
            outcomes = self._link(self.records.links, writes, outcomes)
        return [self._with_refused(write, outcomes[write.external_id]) for write in writes]

    def _with_refused(self, write: Write, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Refusal):
            return outcome.plain()
        refused = self.refused.get(write.external_id)
        return replace(outcome, refused=refused) if refused and isinstance(outcome, Written) else outcome

    # -- what a batch asks for

    def name(self, entry: Write) -> str:
        return entry.external_id

    def id(self, entry: Write) -> str | None:
        return entry.id

    def post(self, entries: Sequence[Write]) -> Row:
        known = entries[0].id is not None
        self.records.schema.known()  # before anything is written: the answer is read with it
        if not known:
            self._look_up_nameless(entries)
        inputs = []
        for write in entries:
            texts = self.texts[write.external_id] = self._texts(write)
            row = {"id": write.id or write.external_id, "objectWriteTraceId": write.external_id, "properties": texts}
            inputs.append(row if known else {**row, "idProperty": self.key})
        operation = self.wire.objects.update if known else self.wire.objects.upsert
        body: Row = self.wire.call(operation, self.records.of.path, {"inputs": inputs}, writing=True).body
        return body

    def amended(self, entries: Sequence[Write], refusal: Refusal) -> Sequence[Write] | None:
        """The rows without the fields that the refusal of them all names; None if that changes nothing.

        From a batch only such fields are dropped as no row can have: a bad value is one row's own. A row of which
        nothing is left is not sent again.
        """
        alone = len(entries) == 1
        guilty = {name for name, code in refusal.reasons.items() if alone or code in SCHEMA_CODES}
        if refusal.conflict or not any(guilty & write.fields.keys() for write in entries):
            return None
        slimmer = [self._drop(write, refusal.reasons, guilty) for write in entries]
        return [slim for slim, write in zip(slimmer, entries, strict=True) if slim.fields or slim is write]

    def require(self) -> None:
        self.records.schema.require(anew=True)

    def again(self, entry: Write) -> Outcome:
        """It is sent once more: by its key, so that it does no harm."""
        return self.settled([entry])[entry.external_id]

    def accepted(self, answered: Mapping[str, Row], entries: Mapping[str, Write]) -> Mapping[str, Written]:
        """What an answer leaves out of a record, the write may tell."""
        known: dict[str, Row] = {}
        for key, row in answered.items():
            new = row.get("new") is True
            known[key] = {**(EMPTY if new else {}), **self.texts[key], **row["properties"]}
        doubtful = [key for key in answered if is_stand_in(known[key], self.key) is None]
        known.update(self._read_again({key: str(answered[key]["id"]) for key in doubtful}))
        outcomes = {}
        for key, row in answered.items():
            record = self.records.record(row, entries[key].id, known[key])
            if record.external_id is None:
                record = replace(record, external_id=key)
            outcomes[key] = Written(record, created=row.get("new") is True)
        return outcomes

    # -- the names of contacts

    def _look_up_nameless(self, writes: Sequence[Write]) -> None:
        """Which of the rows without e-mail and name are new.

        A new contact gets a stand-in. One that is there must keep the name it has, and an upsert does not say
        beforehand which it will be.
        """
        if not self.records.named:
            return
        asked = [
            write.external_id for write in writes if write.external_id not in self.exists and is_nameless(write.fields)
        ]
        found = self.records.fetch([Ref(external_id=key) for key in asked])
        self.exists.update((key, record is not None) for key, record in zip(asked, found, strict=True))

    def _texts(self, write: Write) -> Row:
        """What is sent of a row."""
        fields: dict[str, Value] = {name: value for name, value in write.fields.items() if name != CONTACT_LINK}
        schema = self.records.schema.known()
        if self.exists.get(write.external_id) is False:
            fields[NAME] = stand_in(fields, write.external_id)
        texts = {name: to_hubspot(value, schema.get(name, {})) for name, value in fields.items()}
        return {**texts, self.key: write.external_id}

    def _drop(self, write: Write, reasons: Mapping[str, str], guilty: Iterable[str]) -> Write:
        dropped = {name: reasons[name] for name in guilty if name in write.fields}
        if not dropped:
            return write
        self.refused.setdefault(write.external_id, {}).update(dropped)
        return replace(write, fields={name: value for name, value in write.fields.items() if name not in dropped})

    def _read_again(self, ids: Mapping[str, str]) -> Mapping[str, Row]:
        """The properties of records whose answers leave open whether they have a name, as far as they can be read."""
        if not self.records.named or NAME not in self.records.wanted:
            return {}
        try:
            found = {str(row["id"]): row["properties"] for row in self.records.read_rows(list(ids.values()))}
        except ConnectorError:
            return {}  # what was written is written: the name is unknown until the next reading
        return {key: {**EMPTY, **found[id]} for key, id in ids.items() if id in found}

    # -- whose they are

    def _link(
        self, links: ContactLinks, writes: Sequence[Write], outcomes: Mapping[str, Outcome]
    ) -> Mapping[str, Outcome]:
        """Makes those that were written belong to their contacts. A record that was written stays so whatever comes of
        that: its outcome is a refused field, or a repetition that does no harm."""
        ids = {key: each.record.id for key, each in outcomes.items() if isinstance(each, Written) and each.record}
        named = {write.external_id: members_of(write.fields.get(CONTACT_LINK)) for write in writes}
        wanted = {id: named[key] for key, id in ids.items() if named[key]}
        if not wanted:
            return outcomes
        try:
            refused = links.add(wanted)
            held = links.read(list(wanted))
        except (Suspend, Retry) as error:
            trouble = Retry(str(error), error.after, ambiguous=True) if isinstance(error, Retry) else error
            return {**outcomes, **{key: trouble for key, id in ids.items() if id in wanted}}
        for key, id in ids.items():
            if id in refused:
                self.refused.setdefault(key, {})[CONTACT_LINK] = refused[id]
        return {**outcomes, **{key: _stating(outcomes[key], held.get(id)) for key, id in ids.items() if id in wanted}}


def _stating(outcome: Outcome, contacts: tuple[str, ...] | None) -> Outcome:
    """An accepted write whose record also says whose it is."""
    if not isinstance(outcome, Written) or outcome.record is None:
        return outcome
    return replace(outcome, record=replace(outcome.record, fields={**outcome.record.fields, CONTACT_LINK: contacts}))
