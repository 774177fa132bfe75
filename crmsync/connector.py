"""What a CRM has to offer to be kept in step: the one interface between crmsync and a platform.

Kirim itself is reached through it too. A connector translates; it does not decide, map, store, schedule or
repeat. Methods block and are called from several threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr

from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled, Unsupported
from crmsync.http import Budget, wall_clock
from crmsync.model import (
    Activity,
    ActivityKind,
    Can,
    FieldInfo,
    Fields,
    Item,
    Kind,
    Logged,
    Members,
    Page,
    Person,
    Rate,
    Record,
    Ref,
    Segment,
    WebhookRequest,
    Write,
    Written,
)
from crmsync.outbound import PUBLIC, Reach

ENTRY_POINT_GROUP = "crmsync.connectors"

Outcome = Written | ConnectorError
"""What became of one write: accepted, or the error that says what to do next."""
LogOutcome = Logged | ConnectorError
"""What became of one activity."""


class ConnectorSettings(BaseModel):
    """The YAML keys of a connection. Subclass it; secrets are `pydantic.SecretStr`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def limits(self, documented: Mapping[str, Rate]) -> Mapping[str, Rate]:
        """The request limits to keep to, by bucket, where the settings say other than the documentation."""
        return documented

    def credential(self) -> Sequence[str]:
        """What the platform counts requests by: connections of which this is the same share one budget.

        By default every secret that stands by itself, and where it is sent. Empty: nobody else can have the same.
        """
        secrets = [value.get_secret_value() for value in dict(self).values() if isinstance(value, SecretStr)]
        return (*secrets, str(getattr(self, "base_url", ""))) if secrets else ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a connector is given besides its settings.

    `hook_url` is the full public URL of its webhook endpoint: signatures are computed over it, never over
    what a proxy rebuilt. `budget` is asked before every request. `wanted` are the fields to read per kind,
    `activities` what is put on timelines. `reach` makes every connection, or says where one may go.
    """

    tenant: str
    connection: str
    hook_url: str
    budget: Budget
    wanted: Mapping[Kind, frozenset[str]]
    clock: Callable[[], datetime] = wall_clock
    reach: Reach = PUBLIC
    activities: frozenset[ActivityKind] = frozenset()


S = TypeVar("S", bound=ConnectorSettings)
Row = TypeVar("Row")
Sent = TypeVar("Sent")


class Connector(ABC, Generic[S]):
    """A platform that holds records.

    Every method raises `ConnectorError` (`Retry`, `Reject` or `Suspend`) for whatever goes wrong with the
    platform, and `Unsupported` for a capability that `can` does not declare.
    """

    name: ClassVar[str]
    kinds: ClassVar[frozenset[Kind]]
    can: ClassVar[frozenset[Can]]
    Settings: ClassVar[type[ConnectorSettings]]
    batch_size: ClassVar[int]
    """Rows in one write call of the platform."""
    rate: ClassVar[Rate]
    """The platform's documented request limit; its headers may tighten it while running."""
    buckets: ClassVar[Mapping[str, Rate]] = MappingProxyType({})
    """Limits of their own within the credential, by the name that is used with `Budget.take`."""
    proposed_fields: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Which field of the CRM most accounts keep a contact's in, by Kirim's name; `crmsync init` proposes it."""
    prepares: ClassVar[bool] = True
    """Whether `prepare` makes what is missing itself; otherwise it says what a person has to make."""
    signature_headers: ClassVar[tuple[bytes, ...]] = ()
    """Headers, lower case, by which a request claims to come from the platform."""
    loads: range = range(0)
    """How many new records `load` takes; fewer are not worth a job."""

    def __init__(self, settings: S, around: Surroundings) -> None:
        self.settings = settings
        self.around = around

    def close(self) -> None:
        """Lets go of connections. The connector is not used afterwards."""

    @abstractmethod
    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        """The account's schema. Doubles as the check that the credential works."""

    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        """What must still be made in the account, one sentence each; makes it unless `plan_only`, if it `prepares`."""
        raise self._unsupported(Can.PREPARE)

    @abstractmethod
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Writes each record by its own id if given, else by its external id; creates it where there is none.

        Returns exactly one outcome for each write, in order. At most `batch_size` writes; no external id twice.
        Raises only what concerns every write alike (`Suspend`, or `Retry` when nothing was sent).
        """

    @abstractmethod
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        """Present state, in the order asked, None for what does not exist. At most `batch_size` refs.

        A record that was merged into another is returned under the survivor's id, the old id among its aliases.
        """

    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        """Makes new records in a job of the platform's own that takes minutes: what a run found, and nobody waits for.

        As `upsert`, for as many writes as `loads` has room for, none of them with an id. A job may go on after whoever
        began it has died: so it never changes a record that is there by then. `pause` waits for some seconds and says
        whether to go on; if not, the job is given up, and what may have come of it is an ambiguous `Retry`.
        """
        raise self._unsupported(Can.BULK)

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """Candidates: for each value the records whose field equals it (the platform's own notion of equal)."""
        raise self._unsupported(Can.FIND)

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        """One page of what changed, oldest first. `cursor` is the last page's, None to begin at `since`.

        Safe against equal times and rows that become visible late: a page may repeat what was seen, and never
        skips. `since` None begins with the oldest record.
        """
        raise self._unsupported(Can.CHANGES)

    def walk(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        """One page of a walk over all records, or over those that changed since then, in whatever order is cheapest.

        A walk names every record that was there all the time, each once or more; it ends with the page that has no
        more. To be overridden where the platform lists its records with less effort than it searches them.
        """
        return self.changed(kind, cursor, since)

    def count(self, kind: Kind) -> int | None:
        """How many records there are; None where the platform does not tell without going through them."""
        return None

    def people(self) -> Sequence[Person]:
        """Everybody that a record can belong to, the inactive included."""
        raise self._unsupported(Can.PEOPLE)

    def segments(self) -> Sequence[Segment]:
        """Every segment of contacts in the account."""
        raise self._unsupported(Can.SEGMENTS)

    def members(self, segment: str, cursor: str | None = None) -> Members:
        """One page of a segment's members, by the segment's id. Raises `Reject` for one that does not exist.

        A walk from the first page to the last names everybody who was a member all the time, each once or more.
        """
        raise self._unsupported(Can.SEGMENTS)

    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        """Puts entries on timelines; exactly one outcome for each, in order. At most `batch_size`; no key twice.

        An entry with an id is changed in place. Raises only what concerns every entry alike, as `upsert` does.
        """
        raise self._unsupported(Can.ACTIVITIES)

    def verify(self, request: WebhookRequest) -> str:
        """Proves the origin of a request from its raw bytes; parses nothing. Returns which secret matched.

        Raises `BadSignature`.
        """
        raise self._unsupported(Can.WEBHOOKS)

    def parse(self, body: bytes) -> Sequence[Item]:
        """Reads a body that `verify` accepted. Raises `BadPayload`. One broken item does not harm the others."""
        raise self._unsupported(Can.WEBHOOKS)

    def _unsupported(self, capability: Can) -> Unsupported:
        return Unsupported(f"{self.name} does not offer {capability}")


def halving(rows: Sequence[Row], send: Callable[[Sequence[Row]], Sequence[Sent]]) -> Sequence[Sent | Reject]:
    """Sends a batch; one that is refused as a whole is halved until the guilty row stands alone.

    `send` returns one outcome per row, or raises `Reject` for all of them together. A bad row among n costs
    about 2·log2(n) further calls, and the others are written.
    """
    try:
        return send(rows)
    except Reject as refused:
        if len(rows) == 1:
            return [refused]
        middle = len(rows) // 2
        return [*halving(rows[:middle], send), *halving(rows[middle:], send)]


class Sending(Generic[Row, Sent]):
    """The rows of one call of `upsert` or `log`. Once the account or the wire is in trouble, nothing more is sent.

    `failure` is that trouble. `unsent` is the outcome of every row after it, which did not fail itself.
    """

    def __init__(self) -> None:
        self.failure: ConnectorError | None = None
        self.unsent: ConnectorError | None = None

    def outcomes(
        self, rows: Sequence[Row], send: Callable[[Sequence[Row]], Sequence[Sent | ConnectorError]]
    ) -> Sequence[Sent | ConnectorError]:
        """One outcome for each row. `send` is as in `halving`; trouble that it raises is every row's of its batch."""

        def attempt(part: Sequence[Row]) -> Sequence[Sent | ConnectorError]:
            if self.unsent is not None:
                return [self.unsent] * len(part)
            try:
                return send(part)
            except (Suspend, Retry) as error:
                return [self.stop(error)] * len(part)

        return halving(rows, attempt) if rows else []

    def stop(self, failure: Suspend | Retry) -> ConnectorError:
        """Nothing more is sent. Returns the first failure."""
        if self.failure is None:
            self.failure = failure
            self.unsent = unsent(failure)
        return self.failure

    def check(self, outcomes: Collection[Sent | ConnectorError]) -> None:
        """Raises the failure if nothing can have been written before it."""
        failure = self.failure
        lost = isinstance(failure, Retry) and failure.ambiguous
        if failure and not lost and all(outcome in (failure, self.unsent) for outcome in outcomes):
            raise failure


def settled(
    rows: Sequence[Row], send: Callable[[Sequence[Row]], Sequence[Sent | ConnectorError]]
) -> Sequence[Sent | ConnectorError]:
    """What `upsert` and `log` have to return, where one call of the platform takes a whole batch.

    `send` makes that call once: it returns one outcome per row, or raises what concerns all of them.
    """
    sending = Sending[Row, Sent]()
    outcomes = sending.outcomes(rows, send)
    sending.check(outcomes)
    return outcomes


def unsent(failure: Suspend | Retry) -> ConnectorError:
    """The outcome of what was not sent because of a failure, and so did not fail itself."""
    return Throttled(str(failure), failure.after) if isinstance(failure, Retry) else failure


def installed() -> Mapping[str, EntryPoint]:
    """Every connector that is installed, by name, not yet imported."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def pick(fields: Fields, wanted: frozenset[str]) -> Fields:
    """The fields that are wanted, of those that are there."""
    return {name: value for name, value in fields.items() if name in wanted}
