"""What HubSpot says when it refuses: understood as far as it goes, and told without a value of any record.

https://developers.hubspot.com/docs/api-reference/error-handling
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crmsync.connecting.values import listed, shaped
from crmsync.errors import Reject

SCHEMA_CODES = frozenset({"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"})
"""Codes that hold for a field in every row, whatever its value."""
MISSING = "MISSING"
"""Our code for a property that a new record has to have, and has not."""

_CANDIDATE = re.compile(r"Existing ID:\s*(\d{1,20})|\b(\d{1,20}) already has that value", re.IGNORECASE)
_UNKNOWN = re.compile(r"Property [\"']?(\w{1,100})[\"']? does not exist", re.IGNORECASE)
_SCOPE = re.compile(r"[a-z][a-z0-9_.:-]{1,99}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_CORRELATION = re.compile(r"[0-9a-f-]{8,64}")


class Refusal(Reject):
    """A refusal that may name fields, each with HubSpot's code for why.

    `conflict`: another record stands in the way, so that dropping fields is no cure. `unexplained`: something in
    the request is wrong, and HubSpot does not say what.
    """

    def __init__(self, said: str, complaint: Complaint, *, conflict: bool = False) -> None:
        super().__init__(said, tuple(complaint.reasons), complaint.candidate)
        self.reasons = complaint.reasons
        self.code = complaint.category or "REFUSED"
        self.conflict = conflict or complaint.conflict
        self.unexplained = not (self.reasons or self.conflict) and complaint.category in ("", "VALIDATION_ERROR")

    def plain(self) -> Reject:
        """The same for those who need no more than the contract tells."""
        return Reject(str(self), self.fields, self.candidate)


@dataclass(frozen=True, slots=True)
class Complaint:
    """The error body of an answer, or of one row in it. By HubSpot's own statement every part may be missing."""

    category: str
    correlation: str
    policy: str
    context: Mapping[str, Sequence[str]]
    reasons: Mapping[str, str]
    scopes: Sequence[str]
    candidate: str | None

    @classmethod
    def read(cls, body: object) -> Complaint:
        """Understands as much as there is."""
        said = body if isinstance(body, dict) else {}
        nested = [error for error in listed(said.get("errors")) if isinstance(error, dict)]
        text = str(said.get("message") or "")
        found = _CANDIDATE.search(text)
        return cls(
            category=shaped(_CODE, said.get("category")),
            correlation=shaped(_CORRELATION, said.get("correlationId")),
            policy=shaped(_CODE, said.get("policyName")),
            context=_context(said),
            reasons=_reasons(text, _context(said), nested),
            scopes=_scopes([_context(said), *map(_context, nested)]),
            candidate=found and (found[1] or found[2]),
        )

    @property
    def conflict(self) -> bool:
        """Whether another record stands in the way."""
        return self.category == "CONFLICT" or "CONFLICTING_UNIQUE_VALUE" in self.reasons.values()

    def __str__(self) -> str:
        """The parts that never hold a value of the record."""
        named = " ".join(f"{name}={code}" for name, code in self.reasons.items())
        trace = f"(correlation id {self.correlation})" if self.correlation else ""
        return " ".join(part for part in (self.category, named, trace) if part)


def _context(error: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    context = error.get("context")
    if not isinstance(context, dict):
        return {}
    return {str(name): [str(value) for value in listed(values) or [values]] for name, values in context.items()}


def _scopes(contexts: Iterable[Mapping[str, Sequence[str]]]) -> Sequence[str]:
    named = (
        scope
        for context in contexts
        for name in ("requiredGranularScopes", "requiredScopes")
        for scope in context.get(name, ())
    )
    return [scope for scope in dict.fromkeys(named) if _SCOPE.fullmatch(scope)]


def _reasons(text: str, context: Mapping[str, Sequence[str]], nested: Iterable[Mapping[str, Any]]) -> Mapping[str, str]:
    """The fields that are named: in `errors`, in a JSON list inside the message, in its context, or in its prose."""
    named: list[tuple[object, object]] = [
        (name, error.get("code") or error.get("subCategory"))
        for error in nested
        for name in _context(error).get("propertyName", ())
    ]
    try:
        embedded, _ = json.JSONDecoder().raw_decode(text, max(text.find("["), 0))
    except (ValueError, RecursionError):
        embedded = None
    named += [(item.get("name"), item.get("error")) for item in listed(embedded) if isinstance(item, dict)]
    named += [(name, MISSING) for name in context.get("properties", ()) if "required" in text.lower()]
    if not named and (unknown := _UNKNOWN.search(text)):
        named = [(unknown[1], "PROPERTY_DOESNT_EXIST")]
    return {
        name: code
        for given_name, given_code in named
        if (name := shaped(_NAME, given_name)) and (code := shaped(_CODE, given_code))
    }
