"""A new tenant's file: which settings have to be asked, and the text that the answers make. Neither asks nor writes.

Secrets are references by the time they come here: nothing else is put into the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from crmsync.config.references import NAME
from crmsync.config.schema import SchemaKey, describe_settings
from crmsync.connector import Connector, ConnectorSettings
from crmsync.kirim.settings import KirimSettings

ASKED_OF_KIRIM = ("api_key", "phone_number_ids")
FIELDS: Mapping[str, str] = MappingProxyType({"phone_number": "phone", "name": "name", "email": "email"})
"""The mapping to begin with, where a connector proposes none."""
HEADING = "# Written by crmsync init. Every key there is: config/example.yaml; try this file: crmsync check --online\n"
PLACEHOLDER = "placeholder-0123456789abcdef"
REFERENCE = re.compile(rf"\$\{{(?:{NAME.pattern}|file:[^}}]+)\}}")


@dataclass(frozen=True, slots=True)
class Question:
    """One setting that is to be asked. `name` is what an answer is given under; `wanted` says that one is needed."""

    name: str
    key: SchemaKey
    wanted: bool

    @property
    def default(self) -> str | None:
        """What holds where nothing is answered."""
        return None if self.key.default in (None, "none", "[]") else self.key.default


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be written. `kirim` and `settings` are answers by key, in the words of whoever gave them."""

    tenant: str
    connection: str
    kirim: Mapping[str, str]
    settings: Mapping[str, str]
    fields: Mapping[str, str]
    timezone: str = "UTC"
    region: str = ""


def questions(connector: type[Connector[Any]]) -> Sequence[Question]:
    """Kirim's and the connector's settings: first what is needed, then what has a default."""
    needed = _needed(connector.Settings)
    kirim = [Question(f"kirim.{key.name}", key, key.name in ASKED_OF_KIRIM) for key in _keys(KirimSettings)]
    own = [Question(key.name, key, key.default is None or key.name in needed) for key in _keys(connector.Settings)]
    return sorted([*kirim, *own], key=lambda question: not question.wanted)


def _keys(model: type[ConnectorSettings]) -> Iterator[SchemaKey]:
    """Those that one line can answer."""
    return (key for key in describe_settings(model) if "." not in key.path and "keys and values" not in key.type)


def _needed(model: type[ConnectorSettings]) -> frozenset[str]:
    """The one secret without which settings are refused although each is optional: one credential out of several."""
    keys = list(_keys(model))
    given = {key.name: _placeholder(key) for key in keys if key.default is None}
    optional = [key for key in keys if key.secret and key.default is not None]
    for more in ({}, *({key.name: _placeholder(key)} for key in optional)):
        try:
            model.model_validate({**given, **more})
        except ValidationError:
            continue
        return frozenset(more)
    return frozenset()


def _placeholder(key: SchemaKey) -> Any:
    return [PLACEHOLDER] if "a list" in key.type else 1 if "number" in key.type else PLACEHOLDER


def fields_of(connector: type[Connector[Any]]) -> Mapping[str, str]:
    """The mapping that is proposed."""
    return connector.proposed_fields or FIELDS


def text_of(draft: Draft, connector: type[Connector[Any]]) -> str:
    """The file."""
    kirim = _answered(KirimSettings, draft.kirim)
    kirim.setdefault("webhook_secrets_file", f"{draft.tenant}.webhook-secrets")
    named = {} if draft.connection == connector.name else {"connector": connector.name}
    connection = {
        **named,
        **_answered(connector.Settings, draft.settings),
        "start": "plan",
        "contacts": {"fields": dict(draft.fields)},
    }
    top: dict[str, Any] = {"tenant": draft.tenant, "timezone": draft.timezone}
    if draft.region:
        top["region"] = draft.region
    sections = [top, {"kirim": kirim}, {"connections": {draft.connection: connection}}]
    return "\n".join([HEADING, *(_yaml(section) for section in sections)])


def _answered(model: type[ConnectorSettings], answers: Mapping[str, str]) -> dict[str, Any]:
    """The answers as YAML has them, in the order of the settings; a default is left out."""
    found: dict[str, Any] = {}
    for key in describe_settings(model):
        if key.name in answers and answers[key.name] != key.default:
            found[key.name] = _value(key, answers[key.name])
    return found


def _value(key: SchemaKey, answer: str) -> Any:
    if "a list" in key.type:
        return [part.strip() for part in answer.split(",") if part.strip()]
    if "number" in key.type or "true or false" in key.type:
        return yaml.safe_load(answer)
    return answer


def _yaml(section: Mapping[str, Any]) -> str:
    return yaml.safe_dump(section, sort_keys=False, allow_unicode=True, width=1_000)


def variable(*words: str) -> str:
    """A name for an environment variable."""
    return "_".join(re.sub(r"[^A-Z0-9]+", "_", word.upper()) for word in words)


def variables(text: str) -> Sequence[str]:
    """The environment variables that a file refers to, each once."""
    return list(dict.fromkeys(re.findall(rf"\$\{{({NAME.pattern})\}}", text)))
