"""What Salesforce says when it refuses: codes and field names, never a value of any record.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crmsync.errors import Reject

CONFLICTS = frozenset({"DUPLICATE_VALUE", "DUPLICATES_DETECTED", "DUPLICATE_EXTERNAL_ID"})
PASSING = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",  # another transaction holds the record, or one that it belongs to
        "QUERY_TIMEOUT",
        "INVALID_QUERY_LOCATOR",  # the rest of a query is kept for a while only
        "SERVER_UNAVAILABLE",
        "REQUEST_RUNNING_TOO_LONG",
        "TXN_SECURITY_METERING_ERROR",
        "CONCURRENT_UPDATE",
    }
)
COLUMN = "INVALID_FIELD"
EXPIRED = "INVALID_SESSION_ID"
EXHAUSTED = "REQUEST_LIMIT_EXCEEDED"

_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,79}|[a-z]+(_[a-z]+){0,4}")
_NAME = re.compile(r"[A-Za-z]\w{0,99}")
_COLUMN = re.compile(r"No such column '(\w{1,100})'")
_HOLDER = re.compile(r"record with id: ([A-Za-z0-9]{15,18})\b")


class Refusal(Reject):
    """A request that was refused as a whole, with Salesforce's code."""

    def __init__(self, said: str, complaint: Complaint) -> None:
        super().__init__(said, complaint.fields, complaint.candidate)
        self.code = complaint.code

    def plain(self) -> Reject:
        """The same for those who need no more than the contract tells."""
        return Reject(str(self), self.fields, self.candidate)


@dataclass(frozen=True, slots=True)
class Complaint:
    """The first error of an answer, or of one row in it."""

    code: str
    fields: tuple[str, ...] = ()
    candidate: str | None = None
    concurrent: bool = False

    @classmethod
    def read(cls, body: Any) -> Complaint:
        """Understands as much as there is. Errors come in lists, those of the token endpoint do not."""
        said = body[0] if isinstance(body, list) and body else body
        if not isinstance(said, dict):
            return cls("")
        code, text = said.get("errorCode") or said.get("statusCode") or said.get("error"), str(said.get("message"))
        listed = said.get("fields")
        named = [name for name in (listed if isinstance(listed, list) else []) if isinstance(name, str)]
        named += _COLUMN.findall(text)
        holder = _HOLDER.search(text)
        return cls(
            code if isinstance(code, str) and _CODE.fullmatch(code) else "",
            tuple(name for name in dict.fromkeys(named) if _NAME.fullmatch(name)),
            holder[1] if holder else _match(said),
            concurrent=text.startswith("ConcurrentRequests"),
        )

    def __str__(self) -> str:
        return " ".join([self.code, *self.fields]).strip()


def _match(said: Mapping[str, Any]) -> str | None:
    """The only record that a duplicate rule found; none where it found several, or does not tell."""
    result = said.get("duplicateResult") or said.get("duplicateResut")  # which is how some versions spell it
    found = {
        str(record["Id"])
        for match in _dicts(result, "matchResults")
        for one in _dicts(match, "matchRecords")
        if isinstance(record := one.get("record"), dict) and record.get("Id")
    }
    return found.pop() if len(found) == 1 else None


def _dicts(holder: Any, name: str) -> Sequence[Mapping[str, Any]]:
    listed = holder.get(name) if isinstance(holder, dict) else None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
