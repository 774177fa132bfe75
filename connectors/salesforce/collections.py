"""Rows on their way into an org: collections of up to 200, in which every row has its own end, in order.

A value that is refused costs that field, not the row; a lookup to a record that was merged goes to the survivor.

https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-sobjects-collections-upsert.html
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from connectors.salesforce.complaints import COLUMN, CONFLICTS, PASSING, Complaint, Refusal
from connectors.salesforce.schema import Schema
from connectors.salesforce.values import Row
from connectors.salesforce.wire import Wire
from crmsync.connecting.batches import Batches
from crmsync.errors import ConnectorError, Reject, Retry, Suspend

Entry = TypeVar("Entry")
Done = TypeVar("Done")
GONE = frozenset({"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "INVALID_ID_FIELD", "MALFORMED_ID"})


class Collections(Batches[Entry, Done]):
    """What is known of the rows meanwhile: what was refused of each, with Salesforce's code, and which lookups lead to
    a survivor. `key` is the field by which a row without an id is known."""

    noun = "record"

    def __init__(self, wire: Wire, schema: Schema, of: str, key: str, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.wire = wire
        self.schema = schema
        self.of = of
        self.key = key
        self.headers = headers
        self.refused: dict[str, dict[str, str]] = {}
        self.moved: dict[str, str] = {}
        self._looked_after: set[str] = set()

    # -- what the rows are

    @abstractmethod
    def id(self, entry: Entry) -> str | None:
        """The id of its record, if it is known."""

    @abstractmethod
    def values(self, entry: Entry) -> Row:
        """What is to be written, the key aside."""

    @abstractmethod
    def lookups(self, entry: Entry) -> Mapping[str, str]:
        """The fields that name other records which may have been merged, and those records."""

    @abstractmethod
    def survivors(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Where these records are to be found now."""

    @abstractmethod
    def accepted(self, entry: Entry, id: str, *, created: bool) -> Done:
        """The outcome of a row that was written."""

    def require(self) -> None:
        self.schema.read()
        self.schema.known()

    # -- their way

    def attempt(self, entries: Sequence[Entry]) -> Sequence[Done | ConnectorError]:
        """Sends them, and once more those that can be sent in another form."""
        known = self.id(entries[0]) is not None
        rows = [self._row(entry) for entry in entries]
        place = "composite/sobjects" if known else f"composite/sobjects/{self.of}/{self.key}"
        body = {"allOrNone": False, "records": rows}
        try:
            answer = self.wire.call(place, method="PATCH", body=body, headers=self.headers, detailed=True)
        except Refusal as refusal:
            return self._refused_together(entries, rows, refusal)
        if not isinstance(answer, list) or len(answer) != len(entries) or not all(_is_result(one) for one in answer):
            raise Retry(f"Salesforce's answer does not say what became of every {self.noun}", ambiguous=True)
        found: dict[str, Done | ConnectorError] = {}
        again: list[Entry] = []
        for entry, row, result in zip(entries, rows, answer, strict=True):
            if result["success"]:
                id = str(result["id"])
                found[self.name(entry)] = self.accepted(entry, id, created=result.get("created") is True and not known)
                continue
            complaint = Complaint.read(result.get("errors"))
            found[self.name(entry)] = self._error(entry, complaint)
            try:
                if self._amended(entry, row, complaint):
                    again.append(entry)
            except (Suspend, Retry) as trouble:  # of this row alone: what became of the others is known
                found[self.name(entry)] = self.stop(trouble)
        found.update(self.settled(again))
        return [found[self.name(entry)] for entry in entries]

    def _row(self, entry: Entry) -> dict[str, Any]:
        """A row as it is sent: without what was refused of it."""
        refused = self.refused.get(self.name(entry), {})
        lookups = {name: self.moved.get(id, id) for name, id in self.lookups(entry).items()}
        values = {name: value for name, value in {**self.values(entry), **lookups}.items() if name not in refused}
        id = self.id(entry)
        return {"attributes": {"type": self.of}, **values, self.key: self.name(entry), **({"id": id} if id else {})}

    def _refused_together(
        self, entries: Sequence[Entry], rows: Sequence[Row], refusal: Refusal
    ) -> Sequence[Done | ConnectorError]:
        """A column that does not exist refuses every row: they go without it, if it is not ours."""
        guilty = set(refusal.fields) - {self.key} if refusal.code == COLUMN else set()
        if not any(guilty & row.keys() for row in rows):
            if trouble := self.suspected():
                return [trouble] * len(entries)
            raise refusal.plain() from None
        for entry in entries:
            self.refused.setdefault(self.name(entry), {}).update(dict.fromkeys(guilty, refusal.code))
        left = [entry for entry in entries if self.is_worth_sending(entry)]
        settled = self.settled(left)
        return [settled.get(self.name(entry), Reject(str(refusal), refusal.fields)) for entry in entries]

    def is_worth_sending(self, entry: Entry) -> bool:
        """Whether anything is left of a row of which something was refused."""
        return bool(self._row(entry).keys() - {"attributes", "id", self.key})

    def _amended(self, entry: Entry, row: Row, complaint: Complaint) -> bool:
        """Whether a refused row can be sent in another form; remembers which."""
        if complaint.code in CONFLICTS | PASSING:
            return False
        if complaint.code in GONE and self._follow(entry, complaint):
            return True
        guilty = (set(complaint.fields) & row.keys()) - {self.key}
        if not guilty:
            return False
        self.refused.setdefault(self.name(entry), {}).update(dict.fromkeys(guilty, complaint.code or "REFUSED"))
        return self.is_worth_sending(entry)

    def _follow(self, entry: Entry, complaint: Complaint) -> bool:
        """Whether what a row points to has gone elsewhere."""
        named = {
            name: id for name, id in self.lookups(entry).items() if name in complaint.fields or not complaint.fields
        }
        ids = [id for id in named.values() if id not in self._looked_after]
        self._looked_after.update(ids)
        found = {id: now for id, now in (self.survivors(ids) if ids else {}).items() if now != id}
        self.moved.update(found)
        return bool(found)

    def _error(self, entry: Entry, complaint: Complaint) -> ConnectorError:
        said = f"Salesforce refused the {self.noun}: {complaint}".rstrip(": ")
        made_meanwhile = complaint.code == "DUPLICATE_VALUE" and complaint.fields == (self.key,)
        if complaint.code in PASSING or (made_meanwhile and self.id(entry) is None):
            return Retry(said)
        return Reject(said, complaint.fields, complaint.candidate)


def _is_result(one: Any) -> bool:
    """Whether this says what became of a row."""
    told = one.get("success") if isinstance(one, dict) else None
    return told is False or (told is True and bool(one.get("id")))
