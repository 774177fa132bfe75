"""The vocabulary of the contract kit: what the fake of a platform has to offer so that its connector can be checked.

A fake stands in for the *wire* (a loopback server, a transport), never for a method of the connector, and it must
refuse what the real platform refuses: a lenient fake proves nothing. Needs no pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from crmsync.connector import Connector
from crmsync.http import Budget
from crmsync.model import Change, Fields, Kind, MessageStatus, Value, WebhookRequest


class Trouble(StrEnum):
    """What can go wrong with a request besides an HTTP status."""

    RESET = "reset"  # the connection breaks before the request is applied
    LOST = "lost"  # applied, then the connection breaks
    TIMEOUT = "timeout"  # nothing ever comes; `connect()` gives the connector a short patience
    CUT = "cut"  # applied; half of the JSON comes with status 200
    HTML = "html"  # a page of HTML with status 200


@dataclass(frozen=True, slots=True)
class Sample:
    """The fields of the account that the kit plays with. None where the platform has none: those checks are skipped.

    All of them are among the fields the connector is asked to read (`Surroundings.wanted`).
    """

    text: str
    """Free text that can be written and cleared."""
    other: str
    """A second free text, independent of the first."""
    email: str | None = None
    phone: str | None = None
    read_only: str | None = None
    refused: tuple[str, Value] | None = None
    """A writable field and a value that the platform will not take for it."""
    find_by: str | None = None
    """A field for `find`; it takes e-mail addresses as values, and several records may share one."""
    several_pages: int = 250
    """So many records that `changed` needs at least three pages, and a segment of them two."""
    kind: Kind = Kind.CONTACT
    conversation: Fields | None = None
    """What a new conversation is made with, a free text first; where contacts are the sample and conversations too
    can be created."""
    contacts: int | None = None
    """How many contacts a conversation can belong to; None for any number."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """How the platform signs: the headers that matter, how many secrets are configured, whether a time is signed."""

    headers: tuple[bytes, ...]
    secrets: int = 1
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """A recorded body and what it means: the changes, in order; none for what concerns no record we keep."""

    name: str
    body: bytes
    changes: tuple[Change, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands on a timeline. `text` is what a reader sees of it, title and body, without markup.

    `status` is None where the platform has no place for it.
    """

    id: str
    text: str
    status: MessageStatus | None = None


class FakeCrm(Protocol):
    """A platform that can be arranged and looked into.

    Holds one account, empty at the start. What its platform cannot do, it answers with `pytest.skip("why")`.
    Ids are the platform's own. `fields` are in the spelling in which the connector hands them out. A connector that
    declares segments, people or activities needs a fake that is `WithSegments`, `WithPeople` or `WithTimelines` too.
    """

    @property
    def sample(self) -> Sample:
        """The fields the kit may use."""

    @property
    def hooks(self) -> Hooks | None:
        """How deliveries are signed; None where there are none."""

    @property
    def secrets(self) -> Sequence[str]:
        """Every secret string in the connector's settings: none of them may ever be shown."""

    def connect(self, *, budget: Budget | None = None) -> Connector[Any]:
        """A new connector whose wire ends here, and that asks this budget. The kit closes it."""

    def close(self) -> None:
        """Lets go of sockets and threads."""

    def add(self, external_id: str | None, fields: Fields) -> str:
        """A new record as if a person had made it; returns its id.

        Where a record's own id *is* the external id, the record gets that id.
        """

    def edit(self, id: str, fields: Fields) -> None:
        """A person changes a record; None clears."""

    def held(self, id: str) -> Fields:
        """What the platform truly holds, whatever its index says. An empty field is None or absent."""

    def ids(self) -> Sequence[str]:
        """Every live record."""

    def delete(self, id: str) -> None:
        """A person deletes a record."""

    def merge(self, winner: str, loser: str) -> str:
        """A person merges two records; returns the id under which both live on."""

    def hide(self, id: str) -> None:
        """The record exists but is not in the index behind `changed` and `find` yet."""

    def show(self, id: str) -> None:
        """The index catches up with the record; its version stays what it was."""

    def set_time(self, at: datetime) -> None:
        """The platform's clock stands at this instant: everything that happens now has this version."""

    def now(self) -> datetime:
        """The present, to the connector and to the platform."""

    def fail_next(
        self,
        trouble: Trouble | int,
        times: int = 1,
        *,
        skip: int = 0,
        retry_after: float | None = None,
        as_date: bool = False,
    ) -> None:
        """The next requests of the connector meet trouble, or are answered with an HTTP status; `skip` go well before.

        A request that is answered with a status is not applied. The answer's body repeats what was sent, as
        careless platforms do. `retry_after` is in seconds, and sent as an HTTP date if `as_date`.
        """

    def heal(self) -> None:
        """Trouble that has not come yet does not come."""

    def sign(self, body: bytes, age: timedelta = timedelta(0), secret: int = 0) -> WebhookRequest:
        """The request the platform would send with the n-th secret, received now and signed that long ago."""

    def deliveries(self) -> Sequence[Delivery]:
        """Recorded bodies with their meaning. At least one of each type that is parsed, and one that is ignored."""


@runtime_checkable
class WithSegments(Protocol):
    """A platform with named sets of contacts."""

    def add_segment(self, name: str, members: Sequence[str]) -> str:
        """A person makes a segment of these contacts; returns its id."""

    def leave(self, segment: str, member: str) -> None:
        """A contact is no longer in a segment."""


@runtime_checkable
class WithPeople(Protocol):
    """A platform with users that records can belong to."""

    def add_person(self, email: str, name: str, *, active: bool = True) -> str:
        """A user joins, who may have left again by now; returns the id."""


@runtime_checkable
class WithTimelines(Protocol):
    """A platform on which entries can be put beside a record."""

    def timeline(self, id: str) -> Sequence[Entry]:
        """What stands on the timeline of a contact or of a conversation, in the order in which it was made."""
