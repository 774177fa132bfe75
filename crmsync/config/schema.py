"""Every key that a configuration file may have, as a list: for documentation, and for tests that hold it true."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from crmsync.config.sections import (
    ConnectionSection,
    ContactsSection,
    ConversationsSection,
    DaemonSection,
    FieldSection,
    MatchSection,
    MessagesSection,
    SegmentSection,
    TenantSection,
)
from crmsync.config.words import expected, holds_secret, key_names, parts
from crmsync.connector import Connector
from crmsync.kirim.settings import KirimSettings

HIDDEN = ", secret"
CONNECTION = "connections.<name>"
FIELD = f"{CONNECTION}.contacts.fields.<kirim field>"


@dataclass(frozen=True, slots=True)
class SchemaKey:
    """One key. `default` is None where the key is required; `connector` names the one whose own key it is."""

    path: str
    type: str
    default: str | None
    doc: str
    connector: str = ""

    @property
    def name(self) -> str:
        """The key itself."""
        return self.path.rpartition(".")[2]

    @property
    def secret(self) -> bool:
        """Whether it must not be written into the file."""
        return self.type.endswith(HIDDEN)


def describe_schema(connectors: Mapping[str, type[Connector[Any]]]) -> tuple[SchemaKey, ...]:
    """Every key, in the order of a file: the tenant's, Kirim's, each connection's, the daemon's."""
    tenant = list(_keys(TenantSection, ""))
    daemon = [key for key in tenant if key.path == "daemon"]
    found = [key for key in tenant if key.path not in ("daemon", "connections")]
    found += _keys(KirimSettings, "kirim")
    found += [key for key in tenant if key.path == "connections"]
    found += _keys(ConnectionSection, CONNECTION)
    for name, connector in sorted(connectors.items()):
        found += _keys(connector.Settings, CONNECTION, name)
    found += _keys(ContactsSection, f"{CONNECTION}.contacts")
    found += _keys(MatchSection, f"{CONNECTION}.contacts.match[]")
    found += _keys(FieldSection, FIELD)
    found += _keys(ConversationsSection, f"{CONNECTION}.conversations")
    found += _keys(MessagesSection, f"{CONNECTION}.messages")
    found += _keys(SegmentSection, f"{CONNECTION}.segments[]")
    return (*found, *daemon, *_keys(DaemonSection, "daemon"))


def describe_settings(model: type[BaseModel]) -> tuple[SchemaKey, ...]:
    """The keys of one section alone, as `connectors` lists and `init` asks them."""
    return tuple(_keys(model, ""))


def _keys(model: type[BaseModel], prefix: str, connector: str = "") -> Iterator[SchemaKey]:
    docs = _attribute_docstrings(model)
    for name, field in key_names(model).items():
        path = f"{prefix}.{name}" if prefix else name
        doc = field.description or docs.get(name, "")
        yield SchemaKey(path, _type(field), _default(field), " ".join(doc.split()), connector)
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, path, connector)


def _type(field: FieldInfo) -> str:
    words = expected(field.annotation, field.metadata)
    return f"{words}{HIDDEN}" if holds_secret(field.annotation) else words


def _default(field: FieldInfo) -> str | None:
    """The default as it would be written in YAML."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(str(item) for item in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _attribute_docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """The strings that stand below a model's fields, as this project documents attributes."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for field, said in itertools.pairwise(body):
            match field, said:
                case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))):
                    found[name] = text
    return found
