"""Rows on their way to HubSpot: they go out in batches, and come to exactly one outcome each.

HubSpot refuses a row in three ways: 207 with errors that can be traced to their rows, 207 with errors that cannot,
and 400 for the whole batch. Once the account or the wire is in trouble, nothing more is sent.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeVar

from connectors.hubspot.complaints import Complaint, Refusal
from connectors.hubspot.values import Row, rows
from connectors.hubspot.wire import Wire
from crmsync.connecting.batches import Batches
from crmsync.connecting.values import listed
from crmsync.errors import ConnectorError, Reject, Retry, Suspend

Entry = TypeVar("Entry")
Done = TypeVar("Done")


class HubSpotBatches(Batches[Entry, Done]):
    """Rows on their way to HubSpot. Each has a name of its own, and HubSpot repeats it."""

    noun = "record"

    def __init__(self, wire: Wire, key: str) -> None:
        super().__init__()
        self.wire = wire
        self.key = key

    # -- what the rows are

    @abstractmethod
    def name(self, entry: Entry) -> str:
        """The name of a row: its trace id, and what the property `key` holds."""

    @abstractmethod
    def id(self, entry: Entry) -> str | None:
        """The id of its record, if it is known."""

    @abstractmethod
    def post(self, entries: Sequence[Entry]) -> Row:
        """Sends them once and returns the answer."""

    @abstractmethod
    def accepted(self, answered: Mapping[str, Row], entries: Mapping[str, Entry]) -> Mapping[str, Done]:
        """The outcomes of the rows that were answered, by name."""

    @abstractmethod
    def amended(self, entries: Sequence[Entry], refusal: Refusal) -> Sequence[Entry] | None:
        """What may be sent instead of rows that were refused together; None where nothing can be changed."""

    @abstractmethod
    def again(self, entry: Entry) -> Done | ConnectorError:
        """The outcome of a row of which an answer said nothing, so that it may be held or not."""

    # -- their way

    def attempt(self, entries: Sequence[Entry]) -> Sequence[Done | ConnectorError]:
        """Sends them, and once more in another form where that may help."""
        try:
            answer = self.post(entries)
        except Refusal as refusal:
            amended = self.amended(entries, refusal)
            if amended is None:
                if refusal.unexplained and (trouble := self.suspected()):
                    return [trouble] * len(entries)
                raise
            found: dict[str, Done | ConnectorError] = {self.name(entry): refusal for entry in entries}
            found.update(self.settled(amended))
        else:
            found = self._understood(entries, answer)
            found.update(self._rest(entries, found, listed(answer.get("errors"))))
        return [found[self.name(entry)] for entry in entries]

    def _understood(self, entries: Sequence[Entry], answer: Row) -> dict[str, Done | ConnectorError]:
        """What an answer says of each row. Nothing goes by position: HubSpot promises no order."""
        named = {told: entry for entry in entries for told in (self.id(entry), self.name(entry)) if told}
        answered: dict[str, Row] = {}
        for row in rows(answer, ambiguous=True):
            told = (row.get("objectWriteTraceId"), row["properties"].get(self.key), str(row["id"]))
            if (entry := next((named[name] for name in told if name in named), None)) is not None:
                answered.setdefault(self.name(entry), row)
        found: dict[str, Done | ConnectorError] = {
            **self.accepted(answered, {self.name(entry): entry for entry in entries})
        }
        amended: list[Entry] = []
        for complaint in map(Complaint.read, listed(answer.get("errors"))):
            for entry in self._accused(entries, named, complaint):
                if self.name(entry) not in found:
                    found[self.name(entry)] = self._row_error(entry, complaint, amended)
        return {**found, **self.settled(amended)}

    def _accused(self, entries: Sequence[Entry], named: Mapping[str, Entry], complaint: Complaint) -> Sequence[Entry]:
        told = [id for name in ("objectWriteTraceId", "ids", "id") for id in complaint.context.get(name, ())]
        return [named[id] for id in told if id in named] or (entries if len(entries) == 1 else [])

    def _row_error(self, entry: Entry, complaint: Complaint, amended: list[Entry]) -> ConnectorError:
        """What a row's error means. A row that can be sent in another form joins `amended`."""
        error = self.wire.row_error(f"HubSpot refused the {self.noun}", complaint)
        if isinstance(error, Refusal):
            try:
                amended.extend(self.amended([entry], error) or ())
            except (Suspend, Retry) as trouble:  # of this row alone: what became of the others is known
                return self.stop(trouble)
            return (self.suspected() if error.unexplained else None) or error
        return self.stop(error) if isinstance(error, Suspend) else error

    def _rest(
        self, entries: Sequence[Entry], found: Mapping[str, object], errors: Sequence[object]
    ) -> Mapping[str, Done | ConnectorError]:
        """The outcomes of the rows of which an answer says nothing. If it has errors only, nothing was written."""
        rest = [entry for entry in entries if self.name(entry) not in found]
        if len(rest) == len(entries) > 1 and errors:
            raise Reject(f"HubSpot took no {self.noun} of the batch and does not say why")
        if len(entries) == 1:
            lost = Retry(f"HubSpot's answer does not say what became of the {self.noun}", ambiguous=True)
            return {self.name(entry): lost for entry in rest}
        return {self.name(entry): self._perhaps(entry) for entry in rest}

    def _perhaps(self, entry: Entry) -> Done | ConnectorError:
        """The outcome of a row that was sent once before, unanswered: it may be held although this time it failed."""
        try:
            outcome = self.again(entry)
        except (Suspend, Retry) as trouble:
            outcome = self.stop(trouble)
        if isinstance(outcome, Suspend | Retry):
            return Retry(str(outcome), outcome.after, ambiguous=True)
        return outcome
