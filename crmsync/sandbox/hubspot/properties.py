"""The property definitions of an emulated HubSpot account, and their REST interface."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crmsync.sandbox.emulator import Call, Reply

MOST_UNIQUE = 10
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_TYPES = frozenset({"string", "number", "date", "datetime", "enumeration", "bool"})
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_MOMENT = re.compile(r"-?\d{1,15}|\d{4}-\d\d-\d\d([T ].*)?")


@dataclass(frozen=True, slots=True)
class Property:
    """One definition."""

    name: str
    label: str
    type: str = "string"
    field_type: str = "text"
    group: str = "contactinformation"
    unique: bool = False
    read_only: bool = False
    options: tuple[str, ...] = ()
    built_in: bool = True
    external: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict)

    def complaint(self, text: str) -> tuple[str, str] | None:
        """Why a text that is not empty is no value of this type."""
        if self.type == "number" and not _NUMBER.fullmatch(text):
            return "INVALID_LONG", f"{text} was not a valid number."
        if self.type in ("date", "datetime") and not _MOMENT.fullmatch(text):
            return "INVALID_DATE", f"{text} was not a valid date."
        if self.type == "bool" and text not in ("true", "false"):
            return "INVALID_BOOLEAN", f"{text} was not a valid boolean."
        if self.options and set(text.strip(";").split(";")) - set(self.options):
            return "INVALID_OPTION", f"{text} was not one of the allowed options: {list(self.options)}"
        return None

    def to_json(self) -> dict[str, Any]:
        """The definition as the API shows it."""
        shown = {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "description": "",
            "groupName": self.group,
            "options": [
                {"label": option, "value": option, "displayOrder": place, "hidden": False, "description": ""}
                for place, option in enumerate(self.options)
            ],
            "displayOrder": -1,
            "calculated": False,
            "externalOptions": self.external,
            "archived": False,
            "hasUniqueValue": self.unique,
            "hidden": False,
            "hubspotDefined": self.built_in,
            "modificationMetadata": {
                "archivable": not self.built_in,
                "readOnlyDefinition": self.built_in,
                "readOnlyValue": self.read_only,
                "readOnlyOptions": False,
            },
            "formField": not self.read_only,
        }
        return {**shown, **self.raw}


class Properties:
    """The definitions and groups of one kind of object."""

    def __init__(self, now: Callable[[], datetime], built_in: Iterable[Property], group: str) -> None:
        self._now = now
        self._defined = {known.name: known for known in built_in}
        self._groups = {group: group}
        self._unique = self._find_unique()

    def get(self, name: str) -> Property | None:
        """A definition by name."""
        return self._defined.get(name)

    def is_unique(self, name: str) -> bool:
        """Whether no two records may hold the same value."""
        return name in self._unique

    def unique_names(self) -> tuple[str, ...]:
        """The properties whose values are unique, the record's id aside."""
        return self._unique

    def define(self, name: str, *, unique: bool = False, type: str = "string", options: tuple[str, ...] = ()) -> None:
        """What an administrator does on the settings page."""
        self._add(Property(name, name, type, unique=unique, options=options, built_in=False))

    # -- REST

    def list_all(self, call: Call) -> Reply:
        """GET /crm/v3/properties/{object}"""
        return Reply(200, {"results": [known.to_json() for known in self._defined.values()]})

    def read(self, call: Call) -> Reply:
        """GET /crm/v3/properties/{object}/{name}"""
        known = self._defined.get(call.params["name"])
        return Reply(200, known.to_json()) if known else self._unknown(call.params["name"])

    def create(self, call: Call) -> Reply:
        """POST /crm/v3/properties/{object}"""
        asked = call.json()
        if complaint := self._refused(asked):
            return complaint
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
        made = Property(
            name=asked["name"],
            label=asked["label"],
            type=asked["type"],
            field_type=asked["fieldType"],
            group=asked["groupName"],
            unique=bool(asked.get("hasUniqueValue")),
            options=tuple(option["value"] for option in asked.get("options") or ()),
            built_in=False,
            raw={**asked, "options": asked.get("options") or [], "createdAt": stamp, "updatedAt": stamp},
        )
        self._add(made)
        return Reply(201, made.to_json())

    def delete(self, call: Call) -> Reply:
        """DELETE /crm/v3/properties/{object}/{name}"""
        known = self._defined.get(call.params["name"])
        if known is not None and known.built_in:
            return _error(400, "VALIDATION_ERROR", f"{known.name} cannot be archived")
        self._defined.pop(call.params["name"], None)
        self._unique = self._find_unique()
        return Reply(204)

    def list_groups(self, call: Call) -> Reply:
        """GET /crm/v3/properties/{object}/groups"""
        return Reply(200, {"results": [self._group(name) for name in self._groups]})

    def create_group(self, call: Call) -> Reply:
        """POST /crm/v3/properties/{object}/groups"""
        asked = call.json()
        if asked["name"] in self._groups:
            return _error(409, "OBJECT_ALREADY_EXISTS", f"Group '{asked['name']}' already exists.")
        self._groups[asked["name"]] = asked["label"]
        return Reply(201, self._group(asked["name"]))

    def _group(self, name: str) -> dict[str, Any]:
        return {"name": name, "label": self._groups[name], "displayOrder": -1, "archived": False}

    def _refused(self, asked: Any) -> Reply | None:
        if not isinstance(asked, dict):
            return _error(400, "VALIDATION_ERROR", "Invalid input JSON")
        missing = [key for key in ("name", "label", "type", "fieldType", "groupName") if not asked.get(key)]
        if missing:
            return _error(400, "VALIDATION_ERROR", f"Some required fields were not set: {missing}")
        if not _NAME.fullmatch(asked["name"]) or asked["type"] not in _TYPES:
            return _error(400, "VALIDATION_ERROR", "Property name or type is invalid")
        if asked["groupName"] not in self._groups:
            return _error(400, "VALIDATION_ERROR", f"property group '{asked['groupName']}' does not exist")
        if asked["name"] in self._defined:
            return _error(
                409, "OBJECT_ALREADY_EXISTS", f"A property named '{asked['name']}' already exists.", "PROPERTY_EXISTS"
            )
        custom = [known for known in self._defined.values() if known.unique and not known.built_in]
        if asked.get("hasUniqueValue") and len(custom) >= MOST_UNIQUE:
            return _error(400, "VALIDATION_ERROR", f"At most {MOST_UNIQUE} properties can have unique values")
        return None

    def _unknown(self, name: str) -> Reply:
        return _error(404, "OBJECT_NOT_FOUND", f'Property "{name}" does not exist')

    def _add(self, made: Property) -> None:
        self._defined[made.name] = made
        self._unique = self._find_unique()

    def _find_unique(self) -> tuple[str, ...]:
        return tuple(name for name, known in self._defined.items() if known.unique and name != "hs_object_id")


def _error(status: int, category: str, message: str, sub_category: str | None = None) -> Reply:
    body = {"status": "error", "message": message, "correlationId": "0" * 32, "category": category}
    return Reply(status, body if sub_category is None else {**body, "subCategory": sub_category})
