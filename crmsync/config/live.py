"""What of a changed configuration a running process can take up, and what needs a restart. Also what to watch.

Live are secrets, the bounds of the intake, and what decides whether a delivery is believed. Pure but for `watched`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel

from crmsync.config.model import Configuration, ConnectionConfig, TenantConfig
from crmsync.config.source import files, read
from crmsync.config.words import holds_secret, key_names
from crmsync.kirim.settings import KirimSettings

S = TypeVar("S", bound=BaseModel)
APART = frozenset({"file", "kirim", "connections", "deliveries_per_second"})
SPELLED = MappingProxyType({"rules": "contacts", "poll": "poll_seconds", "connector_class": "connector"})
"""Fields of a connection whose key has another name."""
BELIEF = frozenset({"tolerance_seconds", "accept_stale_hours"})
_FILE = re.compile(r"\$\{file:([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Step:
    """From one configuration to the next: what is in force from now on, and what has to wait for a restart.

    `changed` names the keys that were taken up, `waiting` those that were not; neither has a value. `refused` says
    why nothing at all was taken up.
    """

    configuration: Configuration
    changed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    refused: str = ""


def step(running: Configuration, found: Configuration) -> Step:
    """Takes up what can be taken up."""
    new = {tenant.id: tenant for tenant in found.tenants}
    for tenant in running.tenants:
        if tenant.id in new and tenant.kirim.webhook_secrets and not new[tenant.id].kirim.webhook_secrets:
            return Step(running, refused=f"{tenant.id}: kirim would be left without any webhook secret")
    changed: list[str] = []
    waiting = [f"daemon.{name}" for name in _differing(running.daemon, found.daemon)]
    tenants = []
    for tenant in running.tenants:
        if tenant.id in new:
            tenants.append(_tenant(tenant, new[tenant.id], changed, waiting))
        else:
            tenants.append(tenant)
            waiting.append(f"{tenant.id}: removed")
    waiting += [f"{id}: added" for id in new.keys() - {tenant.id for tenant in running.tenants}]
    effective = replace(running, tenants=tuple(tenants), warnings=found.warnings)
    return Step(effective, tuple(changed), tuple(waiting))


def _tenant(old: TenantConfig, new: TenantConfig, changed: list[str], waiting: list[str]) -> TenantConfig:
    def taken(names: Iterator[str], to: list[str]) -> None:
        to.extend(f"{old.id}: {name}" for name in names)

    kirim, live, later = _settings(old.kirim, new.kirim)
    taken((f"kirim.{name}" for name in live), changed)
    taken((f"kirim.{name}" for name in later), waiting)
    if old.deliveries_per_second != new.deliveries_per_second:
        taken(iter(["deliveries_per_second"]), changed)
    taken((name for name in _differing(old, new) if name not in APART and not _only_clocks(name, old, new)), waiting)
    renewed = {each.name: each for each in new.connections}
    connections = []
    for connection in old.connections:
        if connection.name not in renewed:
            connections.append(connection)
            taken(iter([f"connections.{connection.name} (removed)"]), waiting)
            continue
        after = renewed.pop(connection.name)
        settings, live, later = _connection(connection, after)
        connections.append(replace(connection, settings=settings))
        taken((f"connections.{connection.name}.{name}" for name in live), changed)
        taken((f"connections.{connection.name}.{name}" for name in later), waiting)
    taken((f"connections.{name} (added)" for name in renewed), waiting)
    rate = new.deliveries_per_second
    return replace(old, kirim=kirim, connections=tuple(connections), deliveries_per_second=rate)


def _connection(old: ConnectionConfig, new: ConnectionConfig) -> tuple[Any, list[str], list[str]]:
    """The settings in force, and the names of what changed now and later."""
    other = [name for name in _differing(old, new) if name != "settings" and not _only_zone(name, old, new)]
    if old.connector_class is not new.connector_class:
        return old.settings, [], ["connector"]
    settings, live, later = _settings(old.settings, new.settings)
    return settings, live, [*(SPELLED.get(name, name) for name in other), *later]


def _only_zone(name: str, old: ConnectionConfig, new: ConnectionConfig) -> bool:
    """Whether messages differ in nothing but the tenant's time zone, which is said of the tenant."""
    return name == "messages" and replace(old.messages, zone=new.messages.zone) == new.messages


def _only_clocks(name: str, old: TenantConfig, new: TenantConfig) -> bool:
    """Whether schedules differ in nothing but the tenant's time zone."""
    if name != "schedules":
        return False
    crons = {name: replace(cron, zone=new.timezone) for name, cron in old.schedules.crons.items()}
    return replace(old.schedules, crons=crons) == new.schedules


def _settings(old: S, new: S) -> tuple[S, list[str], list[str]]:
    """The old settings with the new secrets; the keys that differ, live ones and others."""
    names: Mapping[str, Any] = type(old).model_fields
    keys = {field: key for key, field in zip(key_names(type(old)), names, strict=True)}
    differing = [name for name in names if getattr(old, name) != getattr(new, name)]
    live = [name for name in differing if _is_live(old, name)]
    settings = old.model_copy(update={name: getattr(new, name) for name in live})
    return settings, [keys[name] for name in live], [keys[name] for name in differing if name not in live]


def _is_live(settings: BaseModel, name: str) -> bool:
    if isinstance(settings, KirimSettings) and name in BELIEF | {"webhook_secrets_file"}:
        return True
    return holds_secret(type(settings).model_fields[name].annotation)


def _differing(old: Any, new: Any) -> list[str]:
    """The fields of a dataclass in which two values differ."""
    return [each.name for each in fields(old) if getattr(old, each.name) != getattr(new, each.name)]


def watched(path: Path) -> tuple[Path, ...]:
    """Every file that a configuration is read from, with the folder if it is one; also those that are not there yet.

    Says it of files with mistakes too: whoever puts the mistake right must be noticed.
    """
    found: dict[Path, None] = {path.absolute(): None}
    for file in files(path)[0]:
        found[file.absolute()] = None
        document, _ = read(file)
        if document is not None:
            named = [match.strip() for text in _texts(document.root) for match in _FILE.findall(text)]
            kept = document.at(("kirim", "webhook_secrets_file"))
            named += [kept] if isinstance(kept, str) else []
            found.update({(document.folder / Path(name).expanduser()).absolute(): None for name in named if name})
    return tuple(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
