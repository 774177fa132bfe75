"""What an org lists besides records: campaigns and list views, which crmsync calls segments, and users.

https://developer.salesforce.com/docs/platform/api/guide/sforce-api-calls-describesoqllistviews.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from connectors.salesforce.complaints import Refusal
from connectors.salesforce.reading import Records, pages
from connectors.salesforce.values import ID, Row, quoted, rows, soql
from connectors.salesforce.wire import Wire
from crmsync.errors import Reject, Retry
from crmsync.model import Member, Members, Person, Segment

CAMPAIGN, LIST_VIEW = "701", "00B"
"""How their ids begin."""
VIEWS = 200
_COLUMNS = re.compile(r"\ASELECT .+? FROM ", re.IGNORECASE | re.DOTALL)


def segments(wire: Wire, contacts: Records) -> Sequence[Segment]:
    """Every campaign, and every list view of contacts that is a query."""
    return [*_campaigns(wire), *_views(wire, contacts.of)]


def _campaigns(wire: Wire) -> Iterator[Segment]:
    query = soql(["Id", "Name", "NumberOfContacts"], "Campaign", order="Id")
    try:
        first = wire.call("query", params={"q": query}, detailed=True)
    except Refusal as refusal:
        if refusal.code == "INVALID_TYPE":  # the org has no campaigns, or does not show them to us
            return
        raise refusal.plain() from None
    for row in pages(wire, first):
        size = row.get("NumberOfContacts")
        yield Segment(str(row["Id"]), str(row.get("Name") or ""), size=size if type(size) is int else None)


def _views(wire: Wire, of: str) -> Iterator[Segment]:
    offset: int | None = 0
    while offset is not None:
        body = wire.call(f"sobjects/{of}/listviews", params={"limit": VIEWS, "offset": offset})
        views = body.get("listviews") if isinstance(body, dict) else None
        if not isinstance(views, list):
            raise Retry("Salesforce gave a bad response: no list of list views")
        for view in views:
            if view.get("soqlCompatible") is True:
                yield Segment(str(view["id"]), str(view.get("label") or ""), dynamic=True)
        offset = offset + len(views) if body.get("done") is False and views else None


def members(wire: Wire, contacts: Records, segment: str, cursor: str | None) -> Members:
    """One page of a segment. Raises `Reject` for one that does not exist."""
    if not ID.fullmatch(segment) or segment[:3] not in (CAMPAIGN, LIST_VIEW):
        raise Reject("a segment's id is that of a campaign or a list view")
    of = _of_campaign if segment.startswith(CAMPAIGN) else _of_view
    return of(wire, contacts, segment, cursor)


def _of_campaign(wire: Wire, contacts: Records, segment: str, cursor: str | None) -> Members:
    """In the order of the memberships."""
    if cursor is None and not rows(wire.call("query", params={"q": _one(segment)})):
        raise Reject("Salesforce has no such campaign")
    name = f"{contacts.of}Id"
    conditions = [f"CampaignId = {quoted(segment)}", f"{name} != null"]
    conditions += [f"Id > {quoted(cursor)}"] if cursor else []
    columns = ["Id", name, f"{contacts.of}.{contacts.key}"]
    page = contacts.page
    body = wire.call("query", params={"q": soql(columns, "CampaignMember", *conditions, order="Id", limit=page)})
    found = rows(body)
    listed = tuple(Member(str(row[name]), (row.get(contacts.of) or {}).get(contacts.key) or None) for row in found)
    more = bool(found) and (len(found) >= page or body.get("done") is False)
    return Members(listed, str(found[-1]["Id"]) if found else cursor or "", more)


def _one(campaign: str) -> str:
    return soql(["Id"], "Campaign", f"Id = {quoted(campaign)}")


def _of_view(wire: Wire, contacts: Records, segment: str, cursor: str | None) -> Members:
    """In the order of the view, as it was when the first page was asked for."""
    if cursor:
        body = wire.more(cursor)
    else:
        told = wire.call(f"sobjects/{contacts.of}/listviews/{segment}/describe")
        query = str(told.get("query") or "") if isinstance(told, dict) else ""
        if not _COLUMNS.match(query):
            raise Reject("the list view is no query")
        text = _COLUMNS.sub(soql(["Id", contacts.key], ""), query, count=1)
        options = {"Sforce-Query-Options": f"batchSize={contacts.page}"}
        body = wire.call("query", params={"q": text}, headers=options)
    listed = tuple(Member(str(row["Id"]), row.get(contacts.key) or None) for row in rows(body))
    following: Any = body.get("nextRecordsUrl") if body.get("done") is False else None
    return Members(listed, str(following or ""), following is not None)


def people(wire: Wire) -> Sequence[Person]:
    """Everybody that a record can belong to; those who left are inactive."""
    columns = ["Id", "Email", "Name", "IsActive"]
    query = soql(columns, "User", "UserType = 'Standard'", order="Id")
    return [_person(row) for row in pages(wire, wire.call("query", params={"q": query}))]


def _person(row: Row) -> Person:
    return Person(str(row["Id"]), row.get("Email") or None, row.get("Name") or None, row.get("IsActive") is True)
