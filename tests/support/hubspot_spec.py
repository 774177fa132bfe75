"""Holds the HubSpot emulator and whoever talks to it to HubSpot's published contract.

Requests are checked strictly: declared parameters, no unknown keys. Answers may have more than the contract knows, as
the contract is older than the platform. Where the contract files are missing nothing is checked; tests about the
checking itself carry `needs_spec`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from crmsync.sandbox.emulator import Call, Exchange, Reply
from crmsync.sandbox.hubspot import HubSpotEmulator

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "specs" / "hubspot"
FILES = (
    "contacts.v3.json",
    "tickets.v3.json",
    "communications.v3.json",
    "notes.v3.json",
    "properties.v3.json",
    "pipelines.v3.json",
    "associations.v4.json",
    "lists.v3.json",
    "owners.v3.json",
)
UNDESCRIBED = ("/oauth/v3/token",)
"""Operations that no contract file has."""

needs_spec = pytest.mark.skipif(not FOLDER.is_dir(), reason="the HubSpot contract files are not here")

FORMATS = jsonschema.FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


class HubSpotSpec:
    """Every operation of the contract, ready to check exchanges against."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, re.Pattern[str], dict[str, Any], dict[str, Any]]] = []
        for name in FILES:
            document = json.loads((FOLDER / name).read_text())
            for template, methods in document["paths"].items():
                pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", template) + r"\Z")
                for method, operation in methods.items():
                    self.operations.append((method.upper(), pattern, operation, document["components"]["schemas"]))
        self.operations.sort(key=lambda entry: entry[1].pattern.count("[^/]+"))

    def complaints(self, exchange: Exchange) -> list[str]:
        """What is wrong with an exchange, one sentence each."""
        call = exchange.call
        where = f"{call.method} {call.path}"
        if call.path in UNDESCRIBED:
            return []
        for method, pattern, operation, schemas in self.operations:
            if method == call.method and pattern.match(call.path):
                found = _request_complaints(call, operation, schemas)
                if exchange.reply is not None and exchange.fault is None:
                    found += _reply_complaints(exchange.reply, operation, schemas)
                return [f"{where}: {complaint}" for complaint in found]
        return [f"{where}: the contract has no such operation"]


@cache
def load_spec() -> HubSpotSpec | None:
    """The contract, None where its files are missing."""
    return HubSpotSpec() if FOLDER.is_dir() else None


class Violations(list[str]):
    """An observer for `emulator.on_exchange` that keeps what it finds."""

    def __call__(self, exchange: Exchange) -> None:
        """Checks one exchange."""
        spec = load_spec()
        if spec is not None:
            self += spec.complaints(exchange)


@contextmanager
def checked_hubspot(**options: Any) -> Iterator[HubSpotEmulator]:
    """A running emulator whose every exchange must keep to the contract; the options are the emulator's."""
    violations = Violations()
    with HubSpotEmulator(**options) as emulator:
        emulator.on_exchange.append(violations)
        yield emulator
    assert not violations, "\n".join(violations)


def _request_complaints(call: Call, operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    declared = {one["name"]: one for one in operation.get("parameters", ()) if one["in"] == "query"}
    complaints = [f"unknown parameter {name}" for name in call.query if name not in declared]
    complaints += [
        f"parameter {name} is missing"
        for name, one in declared.items()
        if one.get("required") and name not in call.query
    ]
    body = operation.get("requestBody")
    if body is None:
        return complaints + (["a body where none belongs"] if call.body else [])
    try:
        content = call.json()
    except ValueError:
        return [*complaints, "the body is not JSON"]
    schema = body["content"]["application/json"]["schema"]
    return complaints + _violations(content, schema, _strict(schemas), "request")


def _reply_complaints(reply: Reply, operation: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    declared = operation["responses"].get(str(reply.status))
    if declared is None:
        if reply.status < 400:
            return [f"status {reply.status} is not declared"]
        return [] if isinstance(reply.body, dict) and reply.body.get("message") else ["an error without a message"]
    content = declared.get("content", {}).get("application/json")
    if content is None:
        return [] if reply.body is None else ["a body where none belongs"]
    return _violations(reply.body, content["schema"], _lenient(schemas), "answer")


def _violations(content: Any, schema: dict[str, Any], schemas: dict[str, Any], what: str) -> list[str]:
    whole = {**schema, "components": {"schemas": schemas}}
    validator = jsonschema.Draft7Validator(_rooted(whole), format_checker=FORMATS)
    return [f"{what} {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(content)]


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """A `$ref` hides its neighbours in this draft, so it moves under `allOf`."""
    if "$ref" not in schema:
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    return {**rest, "allOf": [{"$ref": schema["$ref"]}]}


def _strict(schemas: dict[str, Any]) -> dict[str, Any]:
    """No key beyond those declared."""
    strict = copy.deepcopy(schemas)
    for schema in strict.values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    # HubSpot's guides write a sort as an object; the package that the contract comes from, as a string.
    if "PublicObjectSearchRequest" in strict:
        strict["PublicObjectSearchRequest"]["properties"]["sorts"]["items"] = {"type": ["string", "object"]}
    return strict


def _lenient(schemas: dict[str, Any]) -> dict[str, Any]:
    """Unknown enum values, empty properties, and error fields that are left out: all are seen in real answers."""
    lenient = copy.deepcopy(schemas)
    for name, schema in lenient.items():
        if name == "StandardError":
            schema.pop("required", None)
        for member in schema.get("properties", {}).values():
            member.pop("enum", None)
            values = member.get("additionalProperties")
            if isinstance(values, dict) and values.get("type") == "string":
                values["type"] = ["string", "null"]
    return lenient
