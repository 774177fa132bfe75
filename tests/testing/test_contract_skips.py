"""What a connector does not declare is skipped by name; what it declares is never skipped for its fake being poor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from crmsync.connector import Connector
from crmsync.model import Can
from crmsync.testing.clock import ManualClock
from crmsync.testing.contract import ConnectorContract, checks
from crmsync.testing.fake import Hooks
from crmsync.testing.memory import KeylessMemoryConnector, MemoryConnector, MemoryCrm

ABOUT = {
    Can.WEBHOOKS: "test_every_configured_secret_works",
    Can.CHANGES: "test_since_leaves_older_records_out",
    Can.FIND: "test_find_gives_none_one_and_many",
    Can.NATIVE_UPSERT: "test_one_external_id_from_several_threads_is_one_record",
    Can.CREATE: "test_twice_is_once",
    Can.PREPARE: "test_planning_makes_nothing",
    Can.SEGMENTS: "test_every_segment_is_told_with_its_name",
    Can.ACTIVITIES: "test_no_entry_is_no_trouble",
    Can.PEOPLE: "test_everybody_is_told_also_who_has_left",
    Can.BULK: "test_a_load_of_nothing_asks_for_nothing",
}
"""One check of each capability."""


class Modest(MemoryConnector):
    """Reads and writes, and nothing else."""

    can = frozenset()
    find, changed, verify, parse = Connector.find, Connector.changed, Connector.verify, Connector.parse
    prepare, people, log, load = Connector.prepare, Connector.people, Connector.log, Connector.load
    segments, members = Connector.segments, Connector.members


class Poor:
    """A fake that can arrange records only, in front of a connector that can do everything."""

    hooks: Hooks | None = None

    def __init__(self, crm: MemoryCrm) -> None:
        self._crm = crm

    def __getattr__(self, name: str) -> Any:
        if name in ("add_segment", "leave", "add_person", "timeline"):
            raise AttributeError(name)
        return getattr(self._crm, name)


class Kit(ConnectorContract):
    """The checks, to be called one by one."""


def run(fake: Any, name: str) -> None:
    """One check, in its first form."""
    check = next(check for check in checks(name) if check.name == name)
    method = getattr(Kit(), name)
    offered = {"fake": fake, "connector": fake.connect(), **check.arguments}
    method(**{key: offered[key] for key in method.__code__.co_varnames[1 : method.__code__.co_argcount]})


@pytest.fixture
def modest() -> Iterator[MemoryCrm]:
    crm = MemoryCrm(ManualClock())
    crm.connector = Modest
    yield crm
    crm.close()


@pytest.mark.parametrize("capability", [each for each in Can if each is not Can.NATIVE_UPSERT])
def test_a_skip_names_the_capability_that_is_not_declared(modest: MemoryCrm, capability: Can) -> None:
    with pytest.raises(pytest.skip.Exception, match=f"memory does not declare {capability.value}"):
        run(modest, ABOUT[capability])


def test_a_missing_unique_key_is_named_too(modest: MemoryCrm) -> None:
    """Where records can be created."""
    modest.connector = KeylessMemoryConnector
    with pytest.raises(pytest.skip.Exception, match="memory does not declare native_upsert"):
        run(modest, ABOUT[Can.NATIVE_UPSERT])


@pytest.mark.parametrize("capability", [Can.WEBHOOKS, Can.SEGMENTS, Can.ACTIVITIES, Can.PEOPLE])
def test_what_is_declared_cannot_be_skipped_by_a_poor_fake(capability: Can) -> None:
    """Otherwise a capability that never worked would look proved."""
    with pytest.raises(pytest.fail.Exception, match="declares what its fake cannot arrange"):
        run(Poor(MemoryCrm(ManualClock())), ABOUT[capability])
