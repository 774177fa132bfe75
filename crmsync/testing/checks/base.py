"""What the checks share: the fake and the connector of one check, and short words for what they do again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, TypeVar

import pytest

from crmsync.connector import Connector, Outcome
from crmsync.errors import ConnectorError
from crmsync.model import Can, Fields, Kind, Page, Record, Ref, Value, Write, Written
from crmsync.testing.fake import FakeCrm

T = TypeVar("T")
R = TypeVar("R")

DAY = timedelta(days=1)

TEXTS = (
    "Ana",
    "+62 851-1760-0829",
    "007",
    "1e5",
    "None",
    "José 👩‍👩‍👧‍👦 🇮🇩",
    "عبد الله \u202eabc",
    "=HYPERLINK(0)",
    "O'Hara \" OR 1=1 --",
    "<b>&amp;</b>",
    "%s %00 {{7*7}}",
    "Tab\tNewline\nEnd",
)
"""What people put into a text field, and what software makes of it if it is careless."""


class Checks:
    """The fixtures of every check. A test file says only which fake it is."""

    def make_fake(self) -> FakeCrm:
        """A fresh platform with an empty account. One per check."""
        raise NotImplementedError("a contract test provides make_fake()")

    @pytest.fixture
    def fake(self) -> Iterator[FakeCrm]:
        """The platform of this check."""
        made = self.make_fake()
        try:
            yield made
        finally:
            made.close()

    @pytest.fixture
    def connector(self, fake: FakeCrm) -> Iterator[Connector[Any]]:
        """The connector under check."""
        made = fake.connect()
        try:
            yield made
        finally:
            made.close()


@dataclass(frozen=True, slots=True)
class Walk:
    """A whole walk through the feed: its records in order, and the cursor to go on with."""

    records: Sequence[Record]
    cursor: str

    @property
    def ids(self) -> set[str]:
        """The records seen, each once."""
        return {record.id for record in self.records}

    def last(self, id: str) -> Record | None:
        """The record as it was seen last."""
        return next((record for record in reversed(self.records) if record.id == id), None)


def key(number: int, kind: Kind = Kind.CONTACT) -> str:
    """The n-th external id, of the form that Kirim's have."""
    return f"{'ctc' if kind is Kind.CONTACT else 'cnv'}_{number:026d}"


def needs(connector: Connector[Any], *capabilities: Can) -> None:
    """Skips a check that is about something the connector does not offer."""
    for capability in capabilities:
        if capability not in connector.can:
            pytest.skip(f"{connector.name} does not declare {capability.value}")


def arranged(fake: FakeCrm, facet: Any) -> Any:
    """The fake as what a declared capability needs it to be. If it is not, the check fails: nothing would be proved."""
    if fake.sample.kind is not Kind.CONTACT:
        pytest.skip("segments, people and timelines are checked with the fake whose sample is contacts")
    if not isinstance(fake, facet):
        pytest.fail(f"the connector declares what its fake cannot arrange: the fake is not {facet.__name__}")
    return fake


def declared(value: T | None, what: str) -> T:
    """What a declared capability cannot be checked without."""
    if value is None:
        pytest.fail(f"the connector declares what its fake cannot arrange: it has no {what}")
    return value


def conversation_of(fake: FakeCrm) -> Fields | None:
    """What a new conversation is made with. Skips a check where conversations can belong to nobody."""
    if fake.sample.contacts == 0:
        pytest.skip("a conversation cannot belong to such a contact")
    return fake.sample.conversation


def given(value: T | None, what: str) -> T:
    """Skips a check for which the platform has no field."""
    if value is None:
        pytest.skip(f"the platform has no {what}")
    return value


def populate(fake: FakeCrm, count: int) -> list[str]:
    """Records 1 to `count`, as people might have made them; returns their ids."""
    sample = fake.sample
    return [
        fake.add(key(number), {sample.text: f"Person {number}", sample.other: f"Firm {number}"})
        for number in range(1, count + 1)
    ]


def upsert(connector: Connector[Any], kind: Kind, writes: Sequence[Write]) -> list[Outcome]:
    """Writes in batches of the size the connector takes; each must be answered row by row."""
    outcomes: list[Outcome] = []
    for start in range(0, len(writes), connector.batch_size):
        batch = writes[start : start + connector.batch_size]
        answered = connector.upsert(kind, batch)
        assert len(answered) == len(batch), f"{len(batch)} writes have {len(answered)} outcomes"
        for outcome in answered:
            assert isinstance(outcome, Written | ConnectorError), f"no outcome: {type(outcome).__name__}"
        outcomes.extend(answered)
    return outcomes


def write(connector: Connector[Any], kind: Kind, write: Write) -> Outcome:
    """One write."""
    return upsert(connector, kind, [write])[0]


def attempt(connector: Connector[Any], kind: Kind, writes: Sequence[Write]) -> list[Outcome]:
    """The outcomes; an error that was raised is the outcome of every write."""
    try:
        return upsert(connector, kind, writes)
    except ConnectorError as error:
        return [error] * len(writes)


def written(outcome: Outcome) -> Written:
    """The write must have been accepted."""
    assert isinstance(outcome, Written), f"the write was not accepted: {type(outcome).__name__}"
    return outcome


def fetch(connector: Connector[Any], kind: Kind, refs: Sequence[Ref]) -> list[Record | None]:
    """Reads in batches of the size the connector takes."""
    records: list[Record | None] = []
    for start in range(0, len(refs), connector.batch_size):
        batch = refs[start : start + connector.batch_size]
        answered = connector.fetch(kind, batch)
        assert len(answered) == len(batch), f"{len(batch)} references have {len(answered)} answers"
        records.extend(answered)
    return records


def fetched(connector: Connector[Any], kind: Kind, ref: Ref) -> Record:
    """The record must be there."""
    record = fetch(connector, kind, [ref])[0]
    assert record is not None, f"{ref} was not found"
    assert record.kind is kind
    return record


def walk(
    connector: Connector[Any],
    kind: Kind,
    cursor: str | None = None,
    since: datetime | None = None,
    *,
    every: bool = False,
) -> Walk:
    """Follows the feed to its present end, which must come; with `every` the walk over all records."""
    records: list[Record] = []
    for page in pages(connector.walk if every else connector.changed, kind, cursor, since):
        records.extend(page.records)
        cursor = page.cursor
    return Walk(records, cursor or "")


def pages(
    ask: Callable[[Kind, str | None, datetime | None], Page],
    kind: Kind,
    cursor: str | None = None,
    since: datetime | None = None,
) -> Iterator[Page]:
    """Page after page, until there are no more. `since` belongs to the first."""
    used = {cursor}
    while True:
        page = ask(kind, cursor, since)
        yield page
        if not page.more:
            return
        assert page.cursor not in used, "the pages turn in circles: the same cursor came twice"
        used.add(page.cursor)
        assert len(used) < 1000, "the pages do not end"
        cursor, since = page.cursor, None


def same(found: Fields, held: Fields, *names: str) -> None:
    """The fields hold what the platform holds; an empty one is None, not absent."""
    for name in names or tuple(found):
        assert name in found, f"the field {name!r} is absent, which means unknown"
        assert found[name] == empty(held.get(name)), f"{name!r} is {found[name]!r}, held is {held.get(name)!r}"


def empty(value: Value) -> Value:
    """None for whatever a platform says for nothing."""
    return None if value in ("", ()) else value


def at_once(call: Callable[[T], R], arguments: Sequence[T]) -> list[R]:
    """Makes the calls from four threads that start together; at least four of them."""
    with ThreadPoolExecutor(4, initializer=Barrier(4, timeout=30).wait) as threads:
        return list(threads.map(call, arguments))


def is_utc(at: datetime | None) -> bool:
    """Whether a time says that it is UTC. None does no harm."""
    return at is None or (at.tzinfo is not None and at.utcoffset() == timedelta(0))


def past(fake: FakeCrm) -> datetime:
    """A whole second a month ago: where a check begins that moves the platform's clock on from there."""
    return fake.now().astimezone(UTC).replace(microsecond=0) - 30 * DAY
