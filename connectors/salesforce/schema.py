"""The fields of one object in an org, and what an administrator has to make there for crmsync.

Fields are made in Setup, not here: through the API a new field is visible to nobody until somebody grants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.values import COMPOUND, Row, field_of
from connectors.salesforce.wire import Wire
from crmsync.errors import Retry, Suspend
from crmsync.model import FieldInfo


@dataclass(frozen=True, slots=True)
class OwnField:
    """A text field that crmsync keeps something in."""

    name: str
    purpose: str
    length: int = 64
    unique: bool = True

    @property
    def form(self) -> str:
        """What it has to be."""
        return f"Text({self.length}){', External ID, Unique, case-sensitive' if self.unique else ''}"

    def is_met(self, found: Row) -> bool:
        """Whether a field can be used."""
        unique = (found.get("externalId") is True and found.get("unique") is True) or not self.unique
        return unique and found.get("type") == "string" and found.get("updateable") is True


class Schema:
    """`of` is the object, `own` are the fields that crmsync needs, `setup` is where they are made."""

    def __init__(self, wire: Wire, of: str, own: Sequence[OwnField], setup: str = "") -> None:
        self._wire = wire
        self._of = of
        self._own = own
        self._setup = setup or of
        self._known: Mapping[str, Row] | None = None

    def known(self) -> Mapping[str, Row]:
        """The definitions by name. Raises `Suspend` where one of ours is missing: nothing can be written then."""
        known = self.read() if self._known is None else self._known
        for own in self._own:
            if own.name not in known:
                self._known = None
                raise Suspend(f"Salesforce shows no field {own.name} of {self._of}; crmsync check tells how to make it")
        return known

    def read(self) -> Mapping[str, Row]:
        """The definitions by name, as they are now. A field that the user may not see is not among them."""
        body: Any = self._wire.call(f"sobjects/{self._of}/describe")
        found = body.get("fields") if isinstance(body, dict) else None
        if not isinstance(found, list) or not found:
            raise Retry("Salesforce gave a bad response: no list of fields")
        self._known = {str(row["name"]): row for row in found if row.get("type") not in COMPOUND}
        return self._known

    def fields(self) -> Sequence[FieldInfo]:
        """Every field."""
        return [field_of(definition) for definition in self.read().values()]

    def missing(self) -> Sequence[str]:
        """What has to be made, with the steps to it."""
        known = self.read()
        return [
            f"{self._of} needs {own.name} for {own.purpose}: in Setup, Object Manager, {self._setup}, Fields &"
            f" Relationships, make it {own.form}, and let the integration user see and edit it."
            for own in self._own
            if not own.is_met(known.get(own.name, {}))
        ]
