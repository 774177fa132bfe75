"""What a connector says about itself is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from crmsync.connector import Connector, ConnectorSettings, installed
from crmsync.errors import Unsupported
from crmsync.model import Can, Kind
from crmsync.testing.checks.base import Checks, given, needs
from crmsync.testing.fake import FakeCrm

METHODS = {
    Can.WEBHOOKS: ("verify", "parse"),
    Can.CHANGES: ("changed",),
    Can.FIND: ("find",),
    Can.PREPARE: ("prepare",),
    Can.SEGMENTS: ("segments", "members"),
    Can.ACTIVITIES: ("log",),
    Can.PEOPLE: ("people",),
    Can.BULK: ("load",),
}
"""Which methods a capability stands for. The other capabilities are about how `upsert` behaves."""


class Declares(Checks):
    """Constants, schema and settings."""

    def test_it_is_named_after_its_entry_point_or_its_module(self, connector: Connector[Any]) -> None:
        """People write this name into their configuration."""
        family = [place for place in type(connector).__mro__ if issubclass(place, Connector)]
        values = {f"{place.__module__}:{place.__qualname__}" for place in family}
        entries = {name for name, point in installed().items() if point.value in values}
        modules = {part for place in family for part in place.__module__.split(".")}

        assert re.fullmatch(r"[a-z][a-z0-9_-]*", connector.name)
        assert connector.name in (entries or modules - {"crmsync", "testing", "connector"})

    @pytest.mark.parametrize("capability", METHODS)
    def test_it_declares_exactly_what_it_implements(self, connector: Connector[Any], capability: Can) -> None:
        """A caller asks `can`, and nothing else."""
        implemented = {name for name in METHODS[capability] if _overrides(type(connector), name)}

        assert implemented == (set(METHODS[capability]) if capability in connector.can else set())

    def test_what_it_does_not_declare_raises_unsupported(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Never AttributeError, never silence."""
        kind, text = fake.sample.kind, fake.sample.text
        calls: dict[Can, list[Callable[[], object]]] = {
            Can.CHANGES: [lambda: connector.changed(kind, None)],
            Can.FIND: [lambda: connector.find(kind, text, ["x"])],
            Can.PREPARE: [lambda: connector.prepare(kind)],
            Can.WEBHOOKS: [lambda: connector.parse(b"{}")],
            Can.SEGMENTS: [connector.segments, lambda: connector.members("1")],
            Can.ACTIVITIES: [lambda: connector.log([])],
            Can.PEOPLE: [connector.people],
            Can.BULK: [lambda: connector.load(kind, [], lambda seconds: True)],
        }
        for capability in calls.keys() - connector.can:
            for call in calls[capability]:
                with pytest.raises(Unsupported):
                    call()

    def test_its_limits_are_possible(self, connector: Connector[Any]) -> None:
        """A batch has a row, a rate lets something through, and contacts are understood."""
        assert connector.batch_size >= 1
        assert connector.rate.requests >= 1
        assert connector.rate.seconds > 0
        assert Kind.CONTACT in connector.kinds

    def test_fields_has_every_field_of_the_mapping(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A mapping is checked against the schema before anything runs."""
        sample = fake.sample
        fields = connector.fields(sample.kind)
        names = [info.name for info in fields]
        wanted = {sample.text, sample.other, sample.email, sample.phone, sample.read_only, sample.find_by}

        assert len(names) == len(set(names))
        assert wanted - {None} <= set(names)

    def test_fields_tells_what_can_be_written(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A field that cannot be written must not be mapped for writing."""
        sample = fake.sample
        writable = {info.name: info.writable for info in connector.fields(sample.kind)}

        assert writable[sample.text]
        assert writable[sample.other]
        assert not writable[given(sample.read_only, "read-only field")]

    def test_planning_makes_nothing(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A plan says in sentences what is missing, and says the same again."""
        needs(connector, Can.PREPARE)
        plan = list(connector.prepare(fake.sample.kind))

        assert all(isinstance(sentence, str) and sentence for sentence in plan)
        assert list(connector.prepare(fake.sample.kind)) == plan

    def test_what_was_prepared_is_not_missing(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """What was made is what was planned; a second time there is nothing to do. Who only tells makes nothing."""
        needs(connector, Can.PREPARE)
        kind = fake.sample.kind
        plan = list(connector.prepare(kind))
        made = list(connector.prepare(kind, plan_only=False))

        left = [] if connector.prepares else plan

        assert made == plan
        assert list(connector.prepare(kind)) == left
        assert list(connector.prepare(kind, plan_only=False)) == left

    def test_settings_refuse_an_unknown_key(self, connector: Connector[Any]) -> None:
        """A key that is misspelt must not be ignored."""
        settings = connector.settings
        assert isinstance(settings, type(connector).Settings)
        assert isinstance(settings, ConnectorSettings)
        with pytest.raises(ValidationError) as refused:
            type(settings).model_validate({**settings.model_dump(by_alias=True), "no_such_key": 1})

        assert [error["type"] for error in refused.value.errors()] == ["extra_forbidden"]

    def test_settings_cannot_be_changed(self, connector: Connector[Any]) -> None:
        """Threads share them."""
        assert type(connector.settings).model_config.get("frozen") is True

    def test_secrets_are_kept_as_secrets(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Each is a SecretStr, so that nothing shows it by accident."""
        assert set(fake.secrets) <= set(_secrets(connector.settings))

    def test_no_secret_is_shown(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """In no text that stands for the settings or for the connector."""
        settings = connector.settings
        shown = "\n".join(
            (repr(settings), str(settings), settings.model_dump_json(), repr(connector), str(connector.around))
        )
        assert not [number for number, secret in enumerate(fake.secrets) if secret in shown]


def _overrides(connector: type[Connector[Any]], name: str) -> bool:
    own = getattr(connector, name, None)
    return own is not None and own is not getattr(Connector, name, None)


def _secrets(value: object) -> list[str]:
    """Every secret string within settings, however deep."""
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, BaseModel):
        value = [getattr(value, name) for name in type(value).model_fields]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return [secret for part in value for secret in _secrets(part)]
    return []
