"""One call of `upsert`: rows go out in batches, and come to exactly one outcome each.

HubSpot refuses a row in three ways: 207 with errors that can be traced to their rows, 207 with errors that cannot,
and 400 for the whole batch. Once the account or the wire is in trouble, nothing more is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from connectors.hubspot.complaints import SCHEMA_CODES, Complaint, Refusal, listed
from connectors.hubspot.stand_in import EMPTY, NAME, is_nameless, is_stand_in, stand_in
from connectors.hubspot.values import Row, rows, to_hubspot
from crmsync.connector import Outcome, halving
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.model import Kind, Ref, Write, Written

if TYPE_CHECKING:
    from connectors.hubspot import HubSpot

PASSING = frozenset({"RATE_LIMITS", "RATE_LIMIT"})
UNCERTAIN = frozenset({"INTERNAL_ERROR", "SERVER_ERROR"})


class Upsert:
    """What is known of the rows while they are on their way.

    `failure` is the first trouble of the account or the wire; after it `unsent` is the outcome of every row to come.
    """

    def __init__(self, hubspot: HubSpot) -> None:
        self.hubspot = hubspot
        self.key = hubspot.settings.external_id
        self.refused: dict[str, dict[str, str]] = {}
        self.exists: dict[str, bool] = {}
        self.failure: ConnectorError | None = None
        self.unsent: ConnectorError | None = None
        self.key_is_there = False

    def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Rows whose record is known go by its id, the others by the external id.

        Raises the failure if nothing can have been written before it.
        """
        outcomes: dict[str, Outcome] = {}
        for group in ([write for write in writes if write.id], [write for write in writes if not write.id]):
            outcomes.update(self._settle(group))
        failure = self.failure
        lost = isinstance(failure, Retry) and failure.ambiguous
        if failure and not lost and all(outcome in (failure, self.unsent) for outcome in outcomes.values()):
            raise failure
        return [self._with_refused(write, outcomes[write.external_id]) for write in writes]

    def _with_refused(self, write: Write, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Refusal):
            return outcome.plain()
        refused = self.refused.get(write.external_id)
        return replace(outcome, refused=refused) if refused and isinstance(outcome, Written) else outcome

    def _settle(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        """The outcome of each row, by external id."""
        outcomes = halving(writes, self._batch) if writes else ()
        return {write.external_id: outcome for write, outcome in zip(writes, outcomes, strict=True)}

    def _batch(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Raises `Reject` when the rows are refused together, for `halving`."""
        if self.unsent is not None:
            return [self.unsent] * len(writes)
        try:
            return self._attempt(writes)
        except (Suspend, Retry) as error:
            return [self._stop(error)] * len(writes)

    def _stop(self, failure: Suspend | Retry) -> ConnectorError:
        """Nothing more is sent: what has not been sent by then did not fail itself. Returns the first failure."""
        if self.failure is None:
            self.failure = failure
            self.unsent = Throttled(str(failure), failure.after) if isinstance(failure, Retry) else failure
        return self.failure

    def _attempt(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        try:
            answer = self._post(writes)
        except Refusal as refusal:
            slimmer = self._without_guilty(writes, refusal)
            if slimmer is None:
                if trouble := self._missing_key(refusal):
                    return [trouble] * len(writes)
                raise
            outcomes: dict[str, Outcome] = dict.fromkeys((write.external_id for write in writes), refusal)
            outcomes.update(self._settle(slimmer))
        else:
            outcomes = self._understand(writes, answer)
            outcomes.update(self._settle_rest(writes, outcomes))
        return [outcomes[write.external_id] for write in writes]

    def _missing_key(self, refusal: Refusal) -> ConnectorError | None:
        """An unexplained refusal may mean that somebody deleted the key property, which is no row's fault."""
        if not refusal.unexplained or self.key_is_there:
            return None
        if self.failure is None:
            try:
                self.hubspot.require_key()
            except (Suspend, Retry) as error:
                return self._stop(error)
            except Reject:
                pass  # refused as well: no evidence of anything
            self.key_is_there = True
        return self.failure

    def _post(self, writes: Sequence[Write]) -> Row:
        known = writes[0].id is not None
        self.hubspot.schema()  # before anything is written: the answer is read with it
        if not known:
            self._look_up_nameless(writes)
        inputs = []
        for write in writes:
            entry = {
                "id": write.id or write.external_id,
                "objectWriteTraceId": write.external_id,
                "properties": self._texts(write),
            }
            inputs.append(entry if known else {**entry, "idProperty": self.key})
        contacts = self.hubspot.wire.contacts
        operation = contacts.update if known else contacts.upsert
        body: Row = self.hubspot.wire.call(operation, {"inputs": inputs}, writing=True).body
        return body

    def _look_up_nameless(self, writes: Sequence[Write]) -> None:
        """Which of the rows without e-mail and name are new.

        A new contact gets a stand-in. One that is there must keep the name it has, and an upsert does not say
        beforehand which it will be.
        """
        asked = [
            write.external_id for write in writes if write.external_id not in self.exists and is_nameless(write.fields)
        ]
        found = self.hubspot.fetch(Kind.CONTACT, [Ref(external_id=key) for key in asked])
        self.exists.update((key, record is not None) for key, record in zip(asked, found, strict=True))

    def _texts(self, write: Write) -> Row:
        """What is sent of a row."""
        fields, schema = dict(write.fields), self.hubspot.schema()
        if self.exists.get(write.external_id) is False:
            fields[NAME] = stand_in(fields, write.external_id)
        texts = {name: to_hubspot(value, schema.get(name, {})) for name, value in fields.items()}
        return {**texts, self.key: write.external_id}

    def _without_guilty(self, writes: Sequence[Write], refusal: Refusal) -> Sequence[Write] | None:
        """The rows without the fields that the refusal of them all names; None if that changes nothing.

        From a batch only such fields are dropped as no row can have: a bad value is one row's own. A row of which
        nothing is left is not sent again.
        """
        alone = len(writes) == 1
        guilty = {name for name, code in refusal.reasons.items() if alone or code in SCHEMA_CODES}
        if refusal.conflict or not any(guilty & write.fields.keys() for write in writes):
            return None
        slimmer = [self._drop(write, refusal.reasons, guilty) for write in writes]
        return [slim for slim, write in zip(slimmer, writes, strict=True) if slim.fields or slim is write]

    def _drop(self, write: Write, reasons: Mapping[str, str], guilty: Iterable[str]) -> Write:
        dropped = {name: reasons[name] for name in guilty if name in write.fields}
        if not dropped:
            return write
        self.refused.setdefault(write.external_id, {}).update(dropped)
        return replace(write, fields={name: value for name, value in write.fields.items() if name not in dropped})

    def _understand(self, writes: Sequence[Write], answer: Row) -> dict[str, Outcome]:
        """What an answer says of each row. Nothing goes by position: HubSpot promises no order."""
        named = {name: write for write in writes for name in (write.id, write.external_id) if name}
        answered: dict[str, Row] = {}
        for row in rows(answer, ambiguous=True):
            told = (row.get("objectWriteTraceId"), row["properties"].get(self.key), str(row["id"]))
            write = next((named[name] for name in told if name in named), None)
            if write is not None:
                answered.setdefault(write.external_id, row)
        outcomes: dict[str, Outcome] = self._written(answered, {write.external_id: write for write in writes})
        slimmer: list[Write] = []
        for complaint in map(Complaint.read, listed(answer.get("errors"))):
            for write in self._accused(writes, named, complaint):
                if write.external_id not in outcomes:
                    outcomes[write.external_id] = self._row_error(write, complaint, slimmer)
        return {**outcomes, **self._settle(slimmer)}

    def _written(self, answered: Mapping[str, Row], writes: Mapping[str, Write]) -> dict[str, Outcome]:
        """The outcomes of the rows that were answered. What an answer leaves out of a record, the write may tell."""
        known: dict[str, Row] = {}
        for key, row in answered.items():
            new = row.get("new") is True
            known[key] = {**(EMPTY if new else {}), **self._texts(writes[key]), **row["properties"]}
        doubtful = [key for key in answered if is_stand_in(known[key], self.key) is None]
        known.update(self._read_again({key: str(answered[key]["id"]) for key in doubtful}))
        outcomes: dict[str, Outcome] = {}
        for key, row in answered.items():
            record = self.hubspot.record(row, writes[key].id, known[key])
            record = replace(record, external_id=record.external_id or key)
            outcomes[key] = Written(record, created=row.get("new") is True)
        return outcomes

    def _read_again(self, ids: Mapping[str, str]) -> Mapping[str, Row]:
        """The properties of records whose answers leave open whether they have a name, as far as they can be read."""
        if NAME not in self.hubspot.wanted:
            return {}
        try:
            found = {str(row["id"]): row["properties"] for row in self.hubspot.read_rows(list(ids.values()))}
        except ConnectorError:
            return {}  # what was written is written: the name is unknown until the next reading
        return {key: {**EMPTY, **found[id]} for key, id in ids.items() if id in found}

    def _accused(self, writes: Sequence[Write], named: Mapping[str, Write], complaint: Complaint) -> Sequence[Write]:
        told = [id for name in ("objectWriteTraceId", "ids", "id") for id in complaint.context.get(name, ())]
        return [named[id] for id in told if id in named] or (writes if len(writes) == 1 else [])

    def _row_error(self, write: Write, complaint: Complaint, slimmer: list[Write]) -> ConnectorError:
        """What a row's error means. A row that can do without the fields it names joins `slimmer`."""
        said = f"HubSpot refused the record: {complaint}".rstrip(": ")
        if complaint.category in PASSING | UNCERTAIN:
            return Retry(said, ambiguous=complaint.category in UNCERTAIN)
        error = self.hubspot.wire.refusal(said, complaint)
        if isinstance(error, Refusal):
            slimmer.extend(self._without_guilty([write], error) or ())
            return self._missing_key(error) or error
        return self._stop(error)

    def _settle_rest(self, writes: Sequence[Write], outcomes: Mapping[str, Outcome]) -> Mapping[str, Outcome]:
        """The rows of which an answer says nothing are sent again: by their key, so that it does no harm."""
        rest = [write for write in writes if write.external_id not in outcomes]
        if len(rest) == len(writes) > 1:
            raise Reject("HubSpot took no row of the batch and does not say why")
        if len(writes) == 1:
            lost = Retry("HubSpot's answer does not say what became of the record", ambiguous=True)
            return {write.external_id: lost for write in rest}
        return {key: _perhaps(outcome) for write in rest for key, outcome in self._settle([write]).items()}


def _perhaps(outcome: Outcome) -> Outcome:
    """The outcome of a row that was sent once before, unanswered: it may be held although this time it failed."""
    return Retry(str(outcome), outcome.after, ambiguous=True) if isinstance(outcome, Retry) else outcome
