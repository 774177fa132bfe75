"""The list views of an emulated org: saved queries of one object, which change by themselves."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.salesforce.objects import record_id

if TYPE_CHECKING:
    from crmsync.sandbox.salesforce.api import Api

PAGE = 25
COLUMNS = "Name, Id, CreatedDate, LastModifiedDate, SystemModstamp"
ORDER = "Name ASC NULLS FIRST, Id ASC NULLS FIRST"


class ListViews:
    """Views by id: the object, the name, and the condition."""

    def __init__(self, api: Api, random: Random) -> None:
        self._api = api
        self._views: dict[str, tuple[str, str, str]] = {}

    def define(self, name: str, condition: str = "", of: str = "Contact") -> str:
        """A user saves a view; returns its id."""
        id = record_id("00B", len(self._views) + 1)
        self._views[id] = (of, name, condition)
        return id

    def all(self, call: Call) -> Reply:
        """GET /sobjects/{object}/listviews: pages by offset."""
        views = [(id, name) for id, (of, name, _) in self._views.items() if of == call.params["object"]]
        offset, limit = int(call.param("offset", "0")), min(int(call.param("limit", str(PAGE))), 2_000)
        page = views[offset : offset + limit]
        base = f"/services/data/v66.0/sobjects/{call.params['object']}/listviews"
        done = offset + limit >= len(views)
        return Reply(
            200,
            {
                "done": done,
                "listviews": [{"id": id, "label": name, "soqlCompatible": True} for id, name in page],
                "nextRecordsUrl": None if done else f"{base}?limit={limit}&offset={offset + limit}",
                "size": len(page),
                "sobjectType": call.params["object"],
            },
        )

    def describe(self, call: Call) -> Reply:
        """GET /sobjects/{object}/listviews/{id}/describe: the query behind a view."""
        view = self._views.get(call.params["id"])
        if view is None or view[0] != call.params["object"]:
            return Reply(404, [{"message": "The requested resource does not exist", "errorCode": "NOT_FOUND"}])
        of, _, condition = view
        where = ["WHERE", condition] if condition else []
        query = " ".join(["SELECT", COLUMNS, "FROM", of, *where, "ORDER BY", ORDER])
        return Reply(200, {"id": call.params["id"], "query": query, "sobjectType": of})
