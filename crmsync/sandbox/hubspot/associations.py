"""What belongs together in an emulated HubSpot account, and the v4 endpoints for it. Default associations only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.hubspot.behaviour import Behaviour, Partial
from crmsync.sandbox.hubspot.objects import BY_NAME, LINK_TYPES, ObjectType
from crmsync.sandbox.hubspot.records import Happening, Problem, Record, Records, Source, iso

MOST_READ, MOST_MADE, LARGEST_PAGE = 1_000, 2_000, 500

Noted = Callable[[str, ObjectType, Record, ObjectType, Record, Source, bool], None]
"""Takes note of an association that was made or removed, by whom, and whether that changed anything."""
End = tuple[ObjectType, Record]


class Associations:
    """Pairs of records. They follow merges, and are not shown while one end is archived."""

    def __init__(
        self,
        records: Mapping[str, Records],
        behaviour: Behaviour,
        now: Callable[[], datetime],
        notify: Callable[[Happening], None],
        noted: Noted,
    ) -> None:
        self._records = records
        self._behaviour = behaviour
        self._now = now
        self._notify = notify
        self._noted = noted
        self._ends: dict[tuple[str, str], dict[int, set[int]]] = {}

    def find(self, of: ObjectType, key: str) -> Record:
        """A live record that can be linked. Raises `Problem`."""
        record = self._records[of.name].find(key)
        moved = record is not None and str(record.id) != key and not self._behaviour.associations_follow_merges
        if record is None or record.archived or moved:
            said = f"The {of.name} with id {key} does not exist"
            raise Problem(400, "OBJECT_NOT_FOUND", said, context={"id": [key]})
        return record

    def ends(self, of: ObjectType, asked: Iterable[Any]) -> list[End]:
        """The other ends of associations that are made together with a record. Raises `Problem`."""
        found = []
        for one in asked:
            for kind in one["types"]:
                named = [to for (name, to), number in LINK_TYPES.items() if name == of.name and _is(kind, number)]
                if not named:
                    raise Problem(400, "VALIDATION_ERROR", "This association type does not exist")
                found.append((BY_NAME[named[0]], self.find(BY_NAME[named[0]], str(one["to"]["id"]))))
        return found

    def link(self, of: ObjectType, record: Record, to: ObjectType, other: Record, source: Source) -> None:
        """Makes two records belong together; once more changes nothing."""
        new = other.id not in self.of(of, record, to)
        self._side(of, to).setdefault(record.id, set()).add(other.id)
        self._side(to, of).setdefault(other.id, set()).add(record.id)
        self._noted("associate", of, record, to, other, source, new)
        if new:
            self._report(of, record, to, other, source, removed=False)

    def unlink(self, of: ObjectType, record: Record, to: ObjectType, other: Record, source: Source) -> None:
        """Parts two records."""
        held = other.id in self.of(of, record, to)
        for one, side, another in ((record, self._side(of, to), other), (other, self._side(to, of), record)):
            for number in (one.id, *one.absorbed):
                side.get(number, set()).difference_update({another.id, *another.absorbed})
        self._noted("dissociate", of, record, to, other, source, held)
        if held:
            self._report(of, record, to, other, source, removed=True)

    def of(self, of: ObjectType, record: Record, to: ObjectType) -> list[int]:
        """The live records of one kind to which a record belongs, by id."""
        side = self._side(of, to)
        numbers = {number for one in (record.id, *record.absorbed) for number in side.get(one, ())}
        found = (self._records[to.name].find(str(number)) for number in numbers)
        return sorted({other.id for other in found if other is not None and not other.archived})

    def _side(self, of: ObjectType, to: ObjectType) -> dict[int, set[int]]:
        return self._ends.setdefault((of.name, to.name), {})

    def _report(
        self, of: ObjectType, record: Record, to: ObjectType, other: Record, source: Source, *, removed: bool
    ) -> None:
        """HubSpot tells each change from both ends."""
        for left, one, right, another in ((of, record, to, other), (to, other, of, record)):
            details = {
                "associationType": f"{left.name}_to_{right.name}".upper(),
                "fromObjectTypeId": left.id,
                "toObjectTypeId": right.id,
                "fromObjectId": one.id,
                "toObjectId": another.id,
                "associationRemoved": removed,
                "isPrimaryAssociation": False,
            }
            self._notify(Happening("associationChange", left, one, source, self._now(), details))


class AssociationsApi:
    """`/crm/v4/associations` and `/crm/v4/objects/{object}/{id}/associations`."""

    def __init__(
        self,
        associations: Associations,
        records: Mapping[str, Records],
        behaviour: Behaviour,
        now: Callable[[], datetime],
        source: Source,
    ) -> None:
        self._associations = associations
        self._records = records
        self._behaviour = behaviour
        self._now = now
        self._source = source

    def make_many(self, call: Call) -> Reply:
        """POST /{from}/{to}/batch/associate/default"""
        of, to = _types(call)
        inputs, find = _inputs(call, MOST_MADE), self._associations.find
        pairs, errors = [], []
        for item in inputs:
            try:
                pairs.append((find(of, _id(item, "from")), find(to, _id(item, "to"))))
            except Problem as refused:
                errors.append(refused)
        if errors and self._behaviour.partial is Partial.WHOLE_BATCH:
            raise errors[0]
        if errors and self._behaviour.partial is Partial.EMPTY:
            pairs = []
        return self._batch([self._made(of, one, to, other) for one, other in pairs], errors)

    def make_one(self, call: Call) -> Reply:
        """PUT /{from}/{from_id}/associations/default/{to}/{to_id}"""
        of, to = _types(call)
        one = self._associations.find(of, call.params["from_id"])
        other = self._associations.find(to, call.params["to_id"])
        return self._batch([self._made(of, one, to, other)], [])

    def remove_many(self, call: Call) -> Reply:
        """POST /{from}/{to}/batch/archive"""
        of, to = _types(call)
        for item in _inputs(call, MOST_MADE):
            one = self._associations.find(of, _id(item, "from"))
            for end in item["to"]:
                self._associations.unlink(of, one, to, self._associations.find(to, str(end["id"])), self._source)
        return Reply(204)

    def read_many(self, call: Call) -> Reply:
        """POST /{from}/{to}/batch/read: records without associations are errors beside the results."""
        of, to = _types(call)
        results, errors = [], []
        for item in _inputs(call, MOST_READ):
            record = self._records[of.name].find(str(item["id"]))
            linked = [] if record is None or record.archived else self._associations.of(of, record, to)
            if record is None or not linked:
                said = f"No {to.name} is associated with {of.name} {item['id']}."
                errors.append(Problem(404, "OBJECT_NOT_FOUND", said, context={"fromObjectId": [str(item["id"])]}))
                continue
            page, after = self._page(linked, str(item.get("after") or "0"))
            shown = {"from": {"id": str(record.id)}, "to": [_shown(of, to, number) for number in page]}
            results.append(shown if after is None else {**shown, "paging": {"next": {"after": after}}})
        return self._batch(results, errors, partial=207)

    def read_one(self, call: Call) -> Reply:
        """GET /{from}/{from_id}/associations/{to}"""
        of, to = _types(call)
        record = self._associations.find(of, call.params["from_id"])
        page, after = self._page(self._associations.of(of, record, to), call.param("after", "0"))
        body: dict[str, Any] = {"results": [_shown(of, to, number) for number in page]}
        return Reply(200, body if after is None else {**body, "paging": {"next": {"after": after}}})

    def _page(self, numbers: list[int], after: str) -> tuple[list[int], str | None]:
        rest = [number for number in numbers if number >= int(after)]
        page, more = rest[: self._behaviour.association_page], rest[self._behaviour.association_page :]
        return page, str(more[0]) if more else None

    def _made(self, of: ObjectType, one: Record, to: ObjectType, other: Record) -> dict[str, Any]:
        self._associations.link(of, one, to, other, self._source)
        spec = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": LINK_TYPES[of.name, to.name]}
        return {"from": {"id": str(one.id)}, "to": {"id": str(other.id)}, "associationSpec": spec}

    def _batch(self, results: list[dict[str, Any]], errors: list[Problem], *, partial: int = 200) -> Reply:
        now = iso(self._now())
        body: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
        if not errors:
            return Reply(200, body)
        told = [
            {"status": "error", "category": one.category, "message": one.message, "context": one.context}
            for one in errors
        ]
        return Reply(partial, {**body, "numErrors": len(told), "errors": told})


def _types(call: Call) -> tuple[ObjectType, ObjectType]:
    of, to = BY_NAME.get(call.params["from"]), BY_NAME.get(call.params["to"])
    if of is None or to is None or (of.name, to.name) not in LINK_TYPES:
        raise Problem(400, "VALIDATION_ERROR", "These kinds of objects cannot be associated")
    return of, to


def _inputs(call: Call, most: int) -> list[Mapping[str, Any]]:
    inputs: list[Mapping[str, Any]] = call.json()["inputs"]
    if len(inputs) > most:
        raise Problem(400, "VALIDATION_ERROR", f"The maximum batch size is {most}")
    return inputs


def _id(item: Mapping[str, Any], end: str) -> str:
    return str(item[end]["id"])


def _is(asked: Mapping[str, Any], number: int) -> bool:
    return asked.get("associationCategory") == "HUBSPOT_DEFINED" and asked.get("associationTypeId") == number


def _shown(of: ObjectType, to: ObjectType, number: int) -> dict[str, Any]:
    kind = {"category": "HUBSPOT_DEFINED", "typeId": LINK_TYPES[of.name, to.name]}
    return {"toObjectId": str(number), "associationTypes": [kind]}
