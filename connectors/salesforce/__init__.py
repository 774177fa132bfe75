"""Salesforce, through simple-salesforce: contacts or leads, cases for conversations, tasks, segments and users.

Needs an integration user of its own, and the fields that `connectors/README.md` names. Leaves out everything that
deletes, and pushed events.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/intro_rest.htm
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from connectors.salesforce.activities import Log, tasks
from connectors.salesforce.reading import BATCH, Records
from connectors.salesforce.segments import members, people, segments
from connectors.salesforce.settings import SalesforceSettings
from connectors.salesforce.upsert import Upsert
from connectors.salesforce.wire import Wire
from crmsync.connector import Connector, LogOutcome, Outcome, Surroundings
from crmsync.model import (
    Activity,
    Can,
    FieldInfo,
    Kind,
    Members,
    Page,
    Person,
    Rate,
    Record,
    Ref,
    Segment,
    Write,
)

MOST_LOADED = 5_000
"""New records in one job: whoever of them changes meanwhile waits until it has ended."""


class Salesforce(Connector[SalesforceSettings]):
    """One Salesforce org. Records are keyed by external-id fields."""

    name = "salesforce"
    kinds = frozenset(Kind)
    can = frozenset(Can) - {Can.WEBHOOKS}
    Settings = SalesforceSettings
    batch_size = BATCH
    rate = Rate(100_000, 86_400, rolling=True)
    prepares = False

    def __init__(self, settings: SalesforceSettings, around: Surroundings) -> None:
        super().__init__(settings, around)
        self.wire = Wire(settings, around)
        self.records = {kind: Records(kind, self.wire, settings, around) for kind in self.kinds}
        self.contacts, self.cases = self.records[Kind.CONTACT], self.records[Kind.CONVERSATION]
        self.tasks = tasks(self.wire, settings)
        self.loads = range(settings.bulk_from, MOST_LOADED + 1) if settings.bulk_from else range(0)

    def close(self) -> None:
        self.wire.close()

    # The org

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        return self.records[kind].fields()

    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        """Says what an administrator has to make, and makes nothing: fields made here would be visible to nobody."""
        missing = self.records[kind].schema.missing()
        entries = kind is Kind.CONTACT and bool(self.around.activities)
        return [*missing, *(self.tasks.missing() if entries else ())]

    def people(self) -> Sequence[Person]:
        return people(self.wire)

    # Records

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return Upsert(self.records[kind], self.contacts, self.settings).send(writes) if writes else []

    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        return Upsert(self.records[kind], self.contacts, self.settings).load(writes, pause) if writes else []

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        return self.records[kind].fetch(refs)

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        return self.records[kind].find(field, values)

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return self.records[kind].changed(cursor, since)

    def walk(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return self.records[kind].walk(cursor) if since is None else self.changed(kind, cursor, since)

    def count(self, kind: Kind) -> int | None:
        return self.records[kind].count()

    # Timelines and segments

    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        log = Log(self.tasks, self.contacts, self.cases, self.settings)
        return log.send(activities) if activities else []

    def segments(self) -> Sequence[Segment]:
        return segments(self.wire, self.contacts)

    def members(self, segment: str, cursor: str | None = None) -> Members:
        return members(self.wire, self.contacts, segment, cursor)
