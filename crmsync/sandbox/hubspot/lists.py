"""The lists of an emulated HubSpot account: static ones that hold members, dynamic ones that are computed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.hubspot.objects import BY_NAME, CONTACTS, ObjectType
from crmsync.sandbox.hubspot.records import Problem, Records, iso

LARGEST_SEARCH, LARGEST_PAGE = 500, 250
PROCESSING = ("MANUAL", "SNAPSHOT", "DYNAMIC")

Rule = Callable[[Mapping[str, str]], bool]


@dataclass(slots=True)
class _List:
    id: str
    name: str
    of: ObjectType
    processing: str
    made: str
    rule: Rule | None = None
    joined: dict[int, str] = field(default_factory=dict)


class Lists:
    """Every list by id."""

    def __init__(self, records: Mapping[str, Records], now: Callable[[], datetime]) -> None:
        self._records = records
        self._now = now
        self._lists: dict[str, _List] = {}
        self._ids = itertools.count(1)

    def define(
        self, name: str, members: Iterable[str] = (), *, rule: Rule | None = None, of: ObjectType = CONTACTS
    ) -> str:
        """A user makes a list; returns its id. With a rule it is dynamic."""
        made = iso(self._now())
        processing = "MANUAL" if rule is None else "DYNAMIC"
        one = _List(str(next(self._ids)), name, of, processing, made, rule)
        self._lists[one.id] = one
        self.add(one.id, members)
        return one.id

    def add(self, id: str, members: Iterable[str]) -> None:
        """A user puts records on a static list."""
        self._lists[id].joined |= dict.fromkeys(map(int, members), iso(self._now()))

    def remove(self, id: str, members: Iterable[str]) -> None:
        """A user takes records off a static list."""
        for member in members:
            self._lists[id].joined.pop(int(member), None)

    def delete(self, id: str) -> None:
        """A user deletes a list."""
        del self._lists[id]

    # -- REST

    def search(self, call: Call) -> Reply:
        """POST /crm/v3/lists/search"""
        asked = call.json()
        offset, count = asked.get("offset", 0), asked.get("count", 20)
        if not 0 < count <= LARGEST_SEARCH:
            raise Problem(400, "VALIDATION_ERROR", f"count must be between 1 and {LARGEST_SEARCH}")
        wanted = asked.get("processingTypes") or PROCESSING
        query = str(asked.get("query") or "").casefold()
        found = [one for one in self._lists.values() if one.processing in wanted and query in one.name.casefold()]
        page = found[offset : offset + count]
        extra = asked.get("additionalProperties") or ()
        shown = [{**self._shown(one), "additionalProperties": self._extra(one, extra)} for one in page]
        after = offset + len(page)
        return Reply(200, {"lists": shown, "total": len(found), "offset": after, "hasMore": after < len(found)})

    def read(self, call: Call) -> Reply:
        """GET /crm/v3/lists/{id}"""
        return Reply(200, {"list": self._shown(self._get(call))})

    def read_by_name(self, call: Call) -> Reply:
        """GET /crm/v3/lists/object-type-id/{type}/name/{name}"""
        of = BY_NAME.get(call.params["type"])
        for one in self._lists.values():
            if one.of is of and one.name == call.params["name"]:
                return Reply(200, {"list": self._shown(one)})
        raise _unknown()

    def members_page(self, call: Call) -> Reply:
        """GET /crm/v3/lists/{id}/memberships: by record id; `after` is the id with which the page begins."""
        one = self._get(call)
        limit, after = int(call.param("limit", "100")), int(call.param("after", "0"))
        if not 0 < limit <= LARGEST_PAGE:
            raise Problem(400, "VALIDATION_ERROR", f"limit must be between 1 and {LARGEST_PAGE}")
        members = {number: since for number, since in sorted(self._members(one).items()) if number >= after}
        page = list(members.items())[:limit]
        body: dict[str, Any] = {
            "results": [{"recordId": str(number), "membershipTimestamp": since} for number, since in page],
            "total": len(members),
        }
        if len(members) > limit:
            body["paging"] = {"next": {"after": str(list(members)[limit])}}
        return Reply(200, body)

    def change(self, call: Call) -> Reply:
        """PUT /crm/v3/lists/{id}/memberships/add, /remove and /add-and-remove"""
        one, asked = self._get(call), call.json()
        if one.processing == "DYNAMIC":
            raise Problem(400, "VALIDATION_ERROR", "The members of a dynamic list are computed")
        verb = call.path.rsplit("/", 1)[1]
        both = asked if verb == "add-and-remove" else {f"recordIdsTo{verb.capitalize()}": asked}
        adding, removing = both.get("recordIdsToAdd") or [], both.get("recordIdsToRemove") or []
        there = [id for id in adding if self._records[one.of.name].find(id) is not None]
        self.add(one.id, there)
        self.remove(one.id, removing)
        missing = [id for id in adding if id not in there]
        return Reply(200, {"recordsIdsAdded": there, "recordIdsRemoved": removing, "recordIdsMissing": missing})

    def _members(self, one: _List) -> Mapping[int, str]:
        live = {record.id: record for record in self._records[one.of.name].live()}
        if one.rule is None:
            return {number: since for number, since in one.joined.items() if number in live}
        return {number: one.made for number, record in live.items() if one.rule(record.properties)}

    def _extra(self, one: _List, asked: Iterable[str]) -> dict[str, str]:
        return {name: str(len(self._members(one))) for name in asked if name == "hs_list_size"}

    def _shown(self, one: _List) -> dict[str, Any]:
        return {
            "listId": one.id,
            "listVersion": 1,
            "name": one.name,
            "objectTypeId": one.of.id,
            "processingType": one.processing,
            "processingStatus": "COMPLETE",
            "createdAt": one.made,
            "updatedAt": one.made,
        }

    def _get(self, call: Call) -> _List:
        one = self._lists.get(call.params["id"])
        if one is None:
            raise _unknown()
        return one


def _unknown() -> Problem:
    return Problem(404, "OBJECT_NOT_FOUND", "This list does not exist")
