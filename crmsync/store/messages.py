"""Messages, as far as events told of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select, update
from sqlalchemy import insert as plain_insert

from crmsync.core import messages as core
from crmsync.model import Direction, Kind, Message, MessageStatus
from crmsync.store import tables
from crmsync.store.records import KIRIM, chunks

_message = tables.MessageRow.__table__  # type: ignore[attr-defined]
_entry = tables.TimelineEntry.__table__  # type: ignore[attr-defined]
_view = tables.View.__table__  # type: ignore[attr-defined]
_pair = tables.Pair.__table__  # type: ignore[attr-defined]

COLUMNS = ("wamid", "kirim_id", "conversation_id", "contact_id", "phone", "number_id", "at")
_TIMES = ("at", "status_at")


@dataclass(frozen=True, slots=True)
class Kept:
    """A message as it is stored. `first_at` is when it was first heard of, and stands in where it tells no time."""

    row: int
    message: Message
    first_at: datetime

    @property
    def at(self) -> datetime:
        """When it was said, as far as we know."""
        return self.message.at or self.first_at


def learn(connection: Connection, tenant: str, message: Message, now: datetime) -> tuple[Kept, Kept | None]:
    """The message after this event, and as it was before."""
    known = _known(connection, tenant, message)
    before = known[0] if known else None
    merged = message
    for each in known:
        merged = core.merge(merged, each.message)
    for double in known[1:]:
        connection.execute(delete(_message).where(_message.c.id == double.row))
        connection.execute(
            update(_entry)
            .where(_entry.c.tenant == tenant, _entry.c.message_id == double.row)
            .values(message_id=known[0].row)
        )
    if before is not None:
        if merged != before.message or known[1:]:
            connection.execute(update(_message).where(_message.c.id == before.row).values(**_columns(merged)))
        return replace(before, message=merged), before
    row = connection.execute(
        plain_insert(_message).returning(_message.c.id), {"tenant": tenant, "first_at": now, **_columns(merged)}
    ).scalar_one()
    return Kept(row, merged, now), None


def _known(connection: Connection, tenant: str, message: Message) -> list[Kept]:
    """The rows that an event is about, at most two; the oldest first."""
    names = [
        column == id
        for column, id in ((_message.c.wamid, message.id), (_message.c.kirim_id, message.kirim_id))
        if id is not None
    ]
    if not names:
        return []
    rows = connection.execute(select(_message).where(_message.c.tenant == tenant, or_(*names)).order_by(_message.c.id))
    return [_kept(row) for row in rows]


def _columns(message: Message) -> dict[str, Any]:
    document = asdict(message)
    columns = {name: document.pop("id" if name == "wamid" else name) for name in COLUMNS}
    return {**columns, "said": {name: value for name, value in document.items() if value is not None}}


def _kept(row: Any) -> Kept:
    said = dict(row.said)
    if "status_at" in said:
        said["status_at"] = datetime.fromisoformat(said["status_at"])
    for name, kind in (("direction", Direction), ("status", MessageStatus)):
        if name in said:
            said[name] = kind(said[name])
    named = {name: getattr(row, name) for name in COLUMNS if name != "wamid"}
    return Kept(row.id, Message(id=row.wamid, **named, **said), row.first_at)


def messages(connection: Connection, tenant: str, rows: Collection[int]) -> dict[int, Kept]:
    """Messages by their row."""
    found: dict[int, Kept] = {}
    for some in chunks([str(row) for row in rows]):
        chosen = and_(_message.c.tenant == tenant, _message.c.id.in_([int(row) for row in some]))
        found.update({row.id: _kept(row) for row in connection.execute(select(_message).where(chosen))})
    return found


def on_day(connection: Connection, tenant: str, thread: str, day: date, zone: tzinfo) -> list[Kept]:
    """What was said in a thread on a day, where the tenant is."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    number, _, phone = thread.partition(":")
    here = (
        and_(
            _message.c.conversation_id.is_(None),
            func.coalesce(_message.c.number_id, "") == number,
            func.coalesce(_message.c.phone, "") == phone,
        )
        if ":" in thread
        else _message.c.conversation_id == thread
    )
    moment = func.coalesce(_message.c.at, _message.c.first_at)
    rows = connection.execute(
        select(_message).where(
            _message.c.tenant == tenant,
            here,
            moment >= bindparam("start", start, tables.Instant()),
            moment < bindparam("stop", start + timedelta(days=1), tables.Instant()),
        )
    )
    return [_kept(row) for row in rows]


def contacts(connection: Connection, tenant: str, some: Sequence[Message]) -> dict[Message, str]:
    """Whose messages they are, as far as it can be told from here: said so, by conversation, or by an earlier one."""
    found = {message: message.contact_id for message in some if message.contact_id}
    conversations = {message.conversation_id for message in some if message.conversation_id}
    views = _conversation_contacts(connection, tenant, {id for id in conversations if id})
    callers: dict[tuple[str | None, str | None], str] = {}
    phones = {message.phone for message in some if message.phone and message not in found}
    for part in chunks([phone for phone in phones if phone]):
        rows = connection.execute(
            select(_message.c.number_id, _message.c.phone, _message.c.contact_id).where(
                _message.c.tenant == tenant, _message.c.phone.in_(part), _message.c.contact_id.is_not(None)
            )
        )
        callers.update({(row.number_id, row.phone): row.contact_id for row in rows})
    for message in some:
        contact = views.get(message.conversation_id or "") or callers.get((message.number_id, message.phone))
        if message not in found and contact:
            found[message] = contact
    return found


def _conversation_contacts(connection: Connection, tenant: str, ids: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(ids):
        rows = connection.execute(
            select(_view.c.id, _view.c.fields).where(
                _view.c.tenant == tenant,
                _view.c.endpoint == KIRIM,
                _view.c.kind == Kind.CONVERSATION,
                _view.c.id.in_(some),
            )
        )
        found.update({row.id: contact for row in rows if (contact := row.fields.get("contact"))})
    return found


def belongs(connection: Connection, tenant: str, rows: Mapping[int, str]) -> None:
    """Remembers whose messages they are."""
    if rows:
        connection.execute(
            update(_message)
            .where(_message.c.tenant == tenant, _message.c.id == bindparam("of_row"))
            .values(contact_id=bindparam("to_contact")),
            [{"of_row": row, "to_contact": contact} for row, contact in rows.items()],
        )
