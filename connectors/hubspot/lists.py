"""What an account lists besides records: lists of contacts, which crmsync calls segments, and owners.

A list tells its members' ids only: their Kirim ids are read by batches.

https://developers.hubspot.com/docs/api-reference/latest/crm/lists/guide
https://developers.hubspot.com/docs/api-reference/latest/crm/owners/guide
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from connectors.hubspot.objects import CONTACTS
from connectors.hubspot.reading import BATCH, Records
from connectors.hubspot.values import Row, next_page
from connectors.hubspot.wire import Wire
from crmsync.connecting.pages import every, portions
from crmsync.errors import Reject, Retry
from crmsync.model import Member, Members, Person, Segment

LISTS_PAGE, MEMBERS_PAGE, OWNERS_PAGE = 500, 250, 100
SIZE = "hs_list_size"


def segments(wire: Wire) -> Sequence[Segment]:
    """Every list of contacts."""

    def page(offset: str | None) -> tuple[Sequence[Row], str | None]:
        start = int(offset or 0)
        request = {"offset": start, "count": LISTS_PAGE, "query": "", "additionalProperties": [SIZE]}
        body = wire.call(wire.lists.do_search, request).body
        lists = body.get("lists")
        if not isinstance(lists, list):
            raise Retry("HubSpot gave a bad response: no list of lists")
        return lists, str(start + len(lists)) if body.get("hasMore") is True and lists else None

    found = {str(one["listId"]): _segment(one) for one in every(page) if one.get("objectTypeId") == CONTACTS.id}
    return list(found.values())


def _segment(found: Row) -> Segment:
    size = str((found.get("additionalProperties") or {}).get(SIZE) or "")
    return Segment(
        str(found["listId"]),
        str(found.get("name") or ""),
        dynamic=found.get("processingType") == "DYNAMIC",
        size=int(size) if size.isdecimal() else None,
    )


def members(wire: Wire, contacts: Records, segment: str, cursor: str | None) -> Members:
    """One page of a list, in the order of the contacts' ids. Raises `Reject` for a list that does not exist."""
    if not re.fullmatch(r"[0-9]{1,19}", segment):
        raise Reject("a list's id is a number: HubSpot has no such list")
    options = {"limit": MEMBERS_PAGE, **({"after": cursor} if cursor else {})}
    body = wire.call(wire.memberships.get_page, segment, options=options).body
    if not isinstance(body.get("results"), list):
        raise Retry("HubSpot gave a bad response: no list of members")
    ids = [str(each["recordId"]) for each in body["results"]]
    keys: dict[str, str | None] = {}
    for part in portions(ids, BATCH):
        keys.update(contacts.keys(part))
    following = next_page(body)
    return Members(tuple(Member(id, keys.get(id)) for id in ids), following or "", following is not None)


def people(wire: Wire) -> Sequence[Person]:
    """Everybody that a record can belong to; those who left are archived."""
    return [_person(owner, active=not archived) for archived in (False, True) for owner in _owners(wire, archived)]


def _owners(wire: Wire, archived: bool) -> Iterator[Row]:
    def page(after: str | None) -> tuple[Sequence[Row], str | None]:
        options = {"limit": OWNERS_PAGE, "archived": archived, **({"after": after} if after else {})}
        body = wire.call(wire.owners.get_page, options=options).body
        if not isinstance(body.get("results"), list):
            raise Retry("HubSpot gave a bad response: no list of owners")
        return body["results"], next_page(body)

    return every(page)


def _person(owner: Row, *, active: bool) -> Person:
    name = " ".join(str(owner[part]) for part in ("firstName", "lastName") if owner.get(part))
    return Person(str(owner["id"]), owner.get("email") or None, name or None, active)
