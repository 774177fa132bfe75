"""What an account lists besides records: lists of contacts, which crmsync calls segments, and owners.

A list tells its members' ids only: their Kirim ids are read by batches.

https://developers.hubspot.com/docs/api-reference/latest/crm/lists/guide
https://developers.hubspot.com/docs/api-reference/latest/crm/owners/guide
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from connectors.hubspot.objects import CONTACTS
from connectors.hubspot.reading import BATCH, Records
from connectors.hubspot.values import Row, next_page
from connectors.hubspot.wire import Wire
from crmsync.errors import Reject, Retry
from crmsync.model import Member, Members, Person, Segment

LISTS_PAGE, MEMBERS_PAGE, OWNERS_PAGE = 500, 250, 100
SIZE = "hs_list_size"


def segments(wire: Wire) -> Sequence[Segment]:
    """Every list of contacts."""
    found: dict[str, Segment] = {}
    offset: int | None = 0
    while offset is not None:
        request = {"offset": offset, "count": LISTS_PAGE, "query": "", "additionalProperties": [SIZE]}
        body = wire.call(wire.lists.do_search, request).body
        lists = body.get("lists")
        if not isinstance(lists, list):
            raise Retry("HubSpot gave a bad response: no list of lists")
        found.update((str(one["listId"]), _segment(one)) for one in lists if one.get("objectTypeId") == CONTACTS.id)
        offset = offset + len(lists) if body.get("hasMore") is True and lists else None
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
    for start in range(0, len(ids), BATCH):
        keys.update(contacts.keys(ids[start : start + BATCH]))
    following = next_page(body)
    return Members(tuple(Member(id, keys.get(id)) for id in ids), following or "", following is not None)


def people(wire: Wire) -> Sequence[Person]:
    """Everybody that a record can belong to; those who left are archived."""
    found: list[Person] = []
    for archived in (False, True):
        after: str | None = ""
        while after is not None:
            options = {"limit": OWNERS_PAGE, "archived": archived, **({"after": after} if after else {})}
            body = wire.call(wire.owners.get_page, options=options).body
            if not isinstance(body.get("results"), list):
                raise Retry("HubSpot gave a bad response: no list of owners")
            found += [_person(owner, active=not archived) for owner in body["results"]]
            after = next_page(body)
    return found


def _person(owner: Row, *, active: bool) -> Person:
    name = " ".join(str(owner[part]) for part in ("firstName", "lastName") if owner.get(part))
    return Person(str(owner["id"]), owner.get("email") or None, name or None, active)
