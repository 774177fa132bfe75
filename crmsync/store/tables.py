"""The tables. Everything else in this package reads and writes them with SQLAlchemy Core.

Every key starts with the tenant. Times are aware; documents are JSON; what came over the wire is raw bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from crmsync.store.columns import CLUSTERED, BigId, Document, Instant, microseconds, moment

__all__ = ["Document", "Instant", "microseconds", "moment"]


class Delivery(SQLModel, table=True):
    """What came in, byte for byte. `key` is derived from the body: the same body is the same delivery."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index("delivery_key", "tenant", "source", "key", unique=True),
        Index(
            "delivery_pending",
            "tenant",
            "source",
            "id",
            "not_before",
            sqlite_where=text("state = 0"),
            postgresql_where=text("state = 0"),
        ),
        Index("delivery_done", "received_at", sqlite_where=text("state = 1"), postgresql_where=text("state = 1")),
        Index("delivery_dead", "received_at", sqlite_where=text("state > 1"), postgresql_where=text("state > 1")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    source: str
    key: bytes = Field(sa_column=Column(LargeBinary(32), nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    secret: str = ""  # which secret verified it
    state: int = 0  # DeliveryState
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    reason: str = Field(default="", sa_column_kwargs={"server_default": ""})
    not_before: datetime | None = Field(default=None, sa_column=Column(Instant))  # for what killed the process
    forced: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # 1: its items count as new, though known


class Quarantined(SQLModel, table=True):
    """A request that claimed to be a delivery and did not prove it, byte for byte, with what a second look needs."""

    __tablename__ = "quarantine"
    __table_args__ = (
        Index("quarantine_key", "tenant", "source", "key", unique=True),
        Index("quarantine_ring", "tenant", "received_at", "size"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    source: str
    key: bytes = Field(sa_column=Column(LargeBinary(32), nullable=False))
    reason: str
    path: str
    headers: Any = Field(sa_column=Column(Document, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    received_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class SeenItem(SQLModel, table=True):
    """One thing a delivery said, and how it ended. Its key is remembered longer than any sender can repeat it."""

    __tablename__ = "item"
    __table_args__ = (
        Index("item_delivery", "delivery_id"),
        Index("item_at", "at"),
        Index("item_dead", "at", sqlite_where=text("outcome = 'dead'"), postgresql_where=text("outcome = 'dead'")),
    )

    tenant: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    type: str
    delivery_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    outcome: str
    reason: str = ""
    at: datetime = Field(sa_column=Column(Instant, nullable=False))


class View(SQLModel, table=True):
    """What an endpoint was last seen to hold of one record, in its own spelling. Kept once per record."""

    __tablename__ = "view"
    __table_args__ = (Index("view_external", "tenant", "endpoint", "kind", "external_id"),)

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    external_id: str | None = None
    fields: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    version: datetime | None = Field(default=None, sa_column=Column(Instant))
    seen_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    cause: str = ""
    exists: bool = True
    times: Any = Field(default=None, sa_column=Column(Document))  # core.views.View.times


class Alias(SQLModel, table=True):
    """The id of a record that was merged away, and the record that holds its content now."""

    __tablename__ = "alias"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    survivor: str


class Pair(SQLModel, table=True):
    """A Kirim record and its record in one CRM: the link, what both last agreed on, and how the work goes."""

    __tablename__ = "pair"
    __table_args__ = (
        Index("pair_crm", "tenant", "connection", "kind", "crm_id", unique=True),
        Index(
            "pair_parked",
            "tenant",
            "connection",
            sqlite_where=text("parked"),
            postgresql_where=text("parked"),
        ),
    )

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    crm_id: str | None = None
    looked_up: bool = False
    base: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    noted: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    attempts: int = 0  # starts without an end: what killed the process counts too
    failures: int = 0  # ends that were passing trouble, in a row
    parked: bool = False
    error: str = ""
    reason: str = ""  # core.trouble.Reason: why it is parked, in one word
    trouble: Any = Field(default=None, sa_column=Column(Document))  # what was sent and answered, without values
    recent: Any = Field(default=None, sa_column=Column(Document))  # core.breaker: writes of the last minutes, by field
    synced_at: datetime | None = Field(default=None, sa_column=Column(Instant))


class Due(SQLModel, table=True):
    """A pair to be looked at. `revision` moves with every observation; a flush removes only the revision it took."""

    __tablename__ = "change"
    __table_args__ = (Index("change_due", "tenant", "connection", "rank", "first_at", "not_before"), CLUSTERED)

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    cause: str = ""
    rank: int = Field(default=0, sa_column_kwargs={"server_default": "0"})  # records.Rank: what goes first


class Stale(SQLModel, table=True):
    """A record that must be read again before its view can be trusted."""

    __tablename__ = "stale"
    __table_args__ = (Index("stale_due", "tenant", "endpoint", "not_before", "first_at"),)

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    attempts: int = 0  # starts without an end: what killed the process counts too
    failures: int = 0  # ends that were passing trouble, in a row
    reason: str = ""  # core.trouble.Reason: why it is read no more
    error: str = ""
    cause: str = ""


class LaneState(SQLModel, table=True):
    """A lane that rests because its endpoint failed: until when, how often in a row, and why if it is suspended."""

    __tablename__ = "lane"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    work: str = Field(primary_key=True)
    not_before: datetime | None = Field(default=None, sa_column=Column(Instant))
    suspended: str = ""
    attempts: int = 0


class Suspension(SQLModel, table=True):
    """An endpoint whose credential or account is the trouble, or was until lately: see `store.suspensions`."""

    __tablename__ = "suspension"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    since: datetime = Field(sa_column=Column(Instant, nullable=False))
    reason: str
    look_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    probes: int = 0
    trial: bool = False


class Cursor(SQLModel, table=True):
    """How far a feed was read. Moves only in the transaction that stores the rows it covers."""

    __tablename__ = "cursor"

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    feed: str = Field(primary_key=True)
    position: str | None = None
    began_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    more: bool = False
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    read_at: datetime | None = Field(default=None, sa_column=Column(Instant))


class History(SQLModel, table=True):
    """Why a field holds its value: one row per field written, or deliberately not written."""

    __tablename__ = "history"
    __table_args__ = (
        Index("history_pair", "tenant", "kirim_id", "id"),
        Index("history_at", "at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
    tenant: str
    connection: str
    kind: str
    kirim_id: str
    field: str  # the Kirim field; empty for what concerns the whole record
    side: str  # kirim | crm: which side the row is about
    old: Any = Field(default=None, sa_column=Column(Document))
    new: Any = Field(default=None, sa_column=Column(Document))
    competing: Any = Field(default=None, sa_column=Column(Document))
    rule: str
    outcome: str
    cause: str
    note: str = ""
    changed_at: datetime | None = Field(default=None, sa_column=Column(Instant))  # the platform's own time, if it told


class Fire(SQLModel, table=True):
    """A planned moment of a schedule, claimed by the one node that acts on it. `note` says what came of that."""

    __tablename__ = "fire"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    slot: datetime = Field(sa_column=Column(Instant, primary_key=True))
    node: str
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
    note: str = ""


class Chore(SQLModel, table=True):
    """What is looked after now and then for a tenant: when it is due, when it was done, and what came of it."""

    __tablename__ = "chore"

    tenant: str = Field(primary_key=True)
    work: str = Field(primary_key=True)  # store.lanes.Work
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    done_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    state: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))


class Replay(SQLModel, table=True):
    """A dead delivery of Kirim's that it was asked to send again, and how often that was done for its event."""

    __tablename__ = "replay"
    __table_args__ = (Index("replay_event", "tenant", "event"), Index("replay_at", "at"))

    tenant: str = Field(primary_key=True)
    id: str = Field(primary_key=True)  # Kirim's id of the delivery
    event: str = ""
    times: int
    at: datetime = Field(sa_column=Column(Instant, nullable=False))


class MessageRow(SQLModel, table=True):
    """What is known of one message. `said` has what is not needed to find it: its words, its status, its file."""

    __tablename__ = "message"
    __table_args__ = (
        Index("message_wamid", "tenant", "wamid", unique=True),
        Index("message_kirim_id", "tenant", "kirim_id", unique=True),
        Index("message_thread", "tenant", "conversation_id", "at"),
        Index("message_phone", "tenant", "phone", "at"),
        Index("message_first_at", "first_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    wamid: str | None = None
    kirim_id: str | None = None
    conversation_id: str | None = None
    contact_id: str | None = None
    phone: str | None = None
    number_id: str | None = None
    at: datetime | None = Field(default=None, sa_column=Column(Instant))
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    said: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))


class TimelineEntry(SQLModel, table=True):
    """An entry on a CRM's timeline: a message, or what was said in a thread on a day. It is due when `not_before` says.

    `sent` is the digest of the text that stands there; `attempts` counts the sendings that came to no end.
    """

    __tablename__ = "timeline"
    __table_args__ = (
        Index("timeline_due", "tenant", "connection", "not_before"),
        Index("timeline_message", "tenant", "message_id"),
    )

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    message_id: int | None = Field(default=None, sa_column=Column(BigInteger))
    thread: str = ""
    day: str = ""
    revision: int = Field(sa_column=Column(BigInteger, nullable=False))
    crm_id: str | None = None
    sent: str = ""
    attempts: int = 0
    failures: int = 0
    first_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    reason: str = ""
    error: str = ""
    cause: str = ""


class Run(SQLModel, table=True):
    """A piece of work that goes through many records, page by page, and where it stands: see `store.runs`."""

    __tablename__ = "run"
    __table_args__ = (
        Index(
            "run_due",
            "due_at",
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True, autoincrement=True))
    tenant: str
    kind: str
    endpoint: str  # whose lane it is worked in just now
    state: str
    options: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    place: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    counts: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    steps: int = 0  # moves with every step: whoever holds an older number is late
    began_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    moved_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    ended_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    error: str = ""


class Sighting(SQLModel, table=True):
    """A record that a run saw; `held` is what it held, where that is not what its view says."""

    __tablename__ = "sighting"
    __table_args__ = (CLUSTERED,)

    tenant: str = Field(primary_key=True)
    run: int = Field(sa_column=Column(BigInteger, primary_key=True))
    endpoint: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    held: Any = Field(default=None, sa_column=Column(Document))


class Candidate(SQLModel, table=True):
    """A CRM record that a contact without one may be: a person decides, and a refusal is remembered."""

    __tablename__ = "candidate"

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    crm_id: str = Field(primary_key=True)
    choice: str  # store.matches.Choice
    found_by: str
    shown: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    at: datetime = Field(sa_column=Column(Instant, nullable=False))


class ConflictRow(SQLModel, table=True):
    """A field that both sides changed, or that went back and forth, as it was then: see `store.conflicts`.

    `decree` is the value that a person chose, in a list of one, until both sides hold it.
    """

    __tablename__ = "conflict"
    __table_args__ = (Index("conflict_at", "at"),)

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    field: str = Field(primary_key=True)
    state: str  # store.conflicts.State
    at: datetime = Field(sa_column=Column(Instant, nullable=False))
    kirim: Any = Field(default=None, sa_column=Column(Document))
    crm: Any = Field(default=None, sa_column=Column(Document))
    won: str = ""  # the side whose value stood; empty for a frozen field
    owner: str
    times: int
    cause: str
    sequence: Any = Field(default=None, sa_column=Column(Document))
    decree: Any = Field(default=None, sa_column=Column(Document))
    decreed_at: datetime | None = Field(default=None, sa_column=Column(Instant))


class SegmentState(SQLModel, table=True):
    """A label that a segment manages: when it is due, and how the last walk went.

    `generation` moves with every chunk that Kirim accepted: the same chunk later is another request.
    """

    __tablename__ = "segment"
    __table_args__ = (Index("segment_due", "tenant", "connection", "due_at"),)

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    due_at: datetime = Field(sa_column=Column(Instant, nullable=False))
    generation: int = Field(sa_column=Column(BigInteger, nullable=False))
    permitted: bool = False  # a person allowed the next walk to take the label from however many
    done_at: datetime | None = Field(default=None, sa_column=Column(Instant))
    told: dict[str, Any] = Field(sa_column=Column(Document, nullable=False))
    error: str = ""


class SegmentMember(SQLModel, table=True):
    """A contact that has a segment's label from us, or is about to get or lose it."""

    __tablename__ = "segment_member"

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    standing: str  # core.segments.Standing
    since: datetime = Field(sa_column=Column(Instant, nullable=False))


class PersonRow(SQLModel, table=True):
    """A user that records belong to, as an endpoint names them."""

    __tablename__ = "person"
    __table_args__ = (Index("person_email", "tenant", "endpoint", "email"),)

    tenant: str = Field(primary_key=True)
    endpoint: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    email: str | None = None
    name: str | None = None
    active: bool = True
    seen_at: datetime = Field(sa_column=Column(Instant, nullable=False))


class Planned(SQLModel, table=True):
    """What a plan would write for one pair; and once a person approved of it, how far that came.

    `fingerprint` tells whether what would be written now is still what was planned.
    """

    __tablename__ = "planned"
    __table_args__ = (
        Index("planned_due", "tenant", "connection", "not_before"),
        Index("planned_run", "run", "kind", "kirim_id"),
    )

    tenant: str = Field(primary_key=True)
    connection: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    kirim_id: str = Field(primary_key=True)
    run: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    fingerprint: str
    state: str  # store.plans.State
    item: Any = Field(default=None, sa_column=Column(Document))
    not_before: datetime = Field(sa_column=Column(Instant, nullable=False))
    attempts: int = 0
    error: str = ""
