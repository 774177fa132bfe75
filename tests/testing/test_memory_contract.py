"""The CRM in memory keeps the contract that every connector has to keep, in each of its shapes."""

from __future__ import annotations

from crmsync.connector import Connector
from crmsync.testing.clock import ManualClock
from crmsync.testing.contract import ConnectorContract
from crmsync.testing.memory import (
    KeylessMemoryConnector,
    MemoryConnector,
    MemoryCrm,
    Respelling,
    UpdateOnlyMemoryConnector,
)


class TestMemory(ConnectorContract):
    """As it is by default."""

    def make_fake(self) -> MemoryCrm:
        return MemoryCrm(ManualClock(), page_size=5, missing=["A field for the external id is missing."])


class TestMemoryThatRespells(ConnectorContract):
    """A platform that rewrites what it is given, and refuses a batch for one bad row."""

    def make_fake(self) -> MemoryCrm:
        spelling = Respelling(lower_email=True, spaced_phone=True)
        return MemoryCrm(ManualClock(), page_size=3, spelling=spelling, whole_batches=True, partial_rows=False)


class TestMemoryOneByOne(ConnectorContract):
    """A platform without batches, whose records only people make."""

    class OneByOne(UpdateOnlyMemoryConnector):
        batch_size = 1

    def make_fake(self) -> MemoryCrm:
        crm = MemoryCrm(ManualClock(), page_size=1)
        crm.connector = self.OneByOne
        return crm


class TestKeylessMemory(ConnectorContract):
    """A platform that does not keep the external id unique."""

    def make_fake(self) -> MemoryCrm:
        crm = MemoryCrm(ManualClock(), unique_key=False, page_size=4)
        crm.connector = KeylessMemoryConnector
        return crm


class TestSparseMemory(ConnectorContract):
    """A connector that offers nothing but reading and writing."""

    class Sparse(MemoryConnector):
        can = frozenset()
        find, changed, verify, parse = Connector.find, Connector.changed, Connector.verify, Connector.parse
        prepare, people, log, load = Connector.prepare, Connector.people, Connector.log, Connector.load
        segments, members = Connector.segments, Connector.members

    def make_fake(self) -> MemoryCrm:
        crm = MemoryCrm(ManualClock())
        crm.connector = self.Sparse
        return crm
