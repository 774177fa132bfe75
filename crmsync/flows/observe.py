"""Deliveries become observations: parsed, told apart into items, taken into the views. Writes to no platform."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from crmsync import crash
from crmsync.core.canonical import storable
from crmsync.core.retry import ALONE_FROM, ATTEMPTS, MIDDLE, alone
from crmsync.core.trouble import Reason
from crmsync.core.views import Source, Verdict, View
from crmsync.errors import BadPayload
from crmsync.flows.tenant import Tenant
from crmsync.model import Change, Item, Kind
from crmsync.store import deliveries, echoes, records, timeline
from crmsync.store.database import Database
from crmsync.store.deliveries import EndedItem, Ending, Pending
from crmsync.store.lanes import Fence
from crmsync.store.records import Observation

BATCH = 200
BATCH_BYTES = 4 * 1024 * 1024
PORTION = 200
"""Items in one transaction. A delivery is stored whole, however many it has."""
SUSPECTS = 4
"""Deliveries that are worked on alone in one turn."""

ENDINGS: Mapping[Verdict, Ending] = {
    Verdict.NEW: Ending.APPLIED,
    Verdict.CHANGED: Ending.APPLIED,
    Verdict.SAME: Ending.SUPERSEDED,
    Verdict.OLD: Ending.SUPERSEDED,
    Verdict.UNCLEAR: Ending.REREAD,
}
NOT_LOGGED = "not_mapped"
BROKEN = frozenset({"schema", "unrouted"})
"""The reasons of items that could not be read although their neighbours could, or belong to nobody configured."""


@dataclass(frozen=True, slots=True)
class Read:
    """A delivery after parsing: its items, or why it has none."""

    delivery: Pending
    items: Sequence[Item] = ()
    dead: str = ""


def observe(database: Database, tenant: Tenant, source: str, fence: Fence, clock: Callable[[], datetime]) -> int:
    """Takes in the oldest deliveries of a source; says how many. Every one that is taken comes to an end.

    A delivery that ended the process before is worked on alone and less and less often, and is dead after a few
    starts.
    """
    now = clock()
    pending = database.write(
        lambda tx: deliveries.take(
            tx, tenant.id, source, BATCH, now, together=ALONE_FROM, alone=SUSPECTS, most_bytes=BATCH_BYTES
        )
    )
    crash.point("observe.counted")
    spent = [delivery for delivery in pending if delivery.attempts > ATTEMPTS]
    healthy = [delivery for delivery in pending if delivery.attempts <= ALONE_FROM]
    suspects = [delivery for delivery in pending if ALONE_FROM < delivery.attempts <= ATTEMPTS]
    batches = [[Read(delivery, dead=Reason.EXHAUSTED.value) for delivery in spent]] if spent else []
    for reads in (*batches, *_portions([_parse(tenant, source, delivery) for delivery in healthy])):
        _store(database, tenant, source, reads, fence, clock())
    for suspect in sorted(suspects, key=lambda delivery: delivery.attempts):
        until = clock() + alone(suspect.attempts, MIDDLE)
        database.write(partial(deliveries.start, delivery=suspect, until=until))
        _store(database, tenant, source, [_parse(tenant, source, suspect)], fence, clock())
    return len(pending)


def _portions(reads: Sequence[Read]) -> Iterator[list[Read]]:
    """In transactions of a bounded number of items: while one is stored, no other tenant's is."""
    portion: list[Read] = []
    size = 0
    for read in reads:
        if portion and size + len(read.items) > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(read)
        size += len(read.items)
    if portion:
        yield portion


def _parse(tenant: Tenant, source: str, delivery: Pending) -> Read:
    crash.point("observe.parse", delivery.body)
    try:
        return Read(delivery, tenant.endpoint(source).parse(delivery.body))
    except BadPayload as error:
        return Read(delivery, dead=str(error))


def _store(database: Database, tenant: Tenant, source: str, reads: Sequence[Read], fence: Fence, now: datetime) -> None:
    def store(tx: Connection) -> None:
        fence(tx)
        items = {item.key: (item, read.delivery.id) for read in reads for item in read.items}
        forced = {read.delivery.id for read in reads if read.delivery.forced}
        known = deliveries.known_items(tx, tenant.id, source, items)
        fresh = {key: item for key, (item, id) in items.items() if key not in known or id in forced}
        endings = _take_in(tx, tenant, source, fresh, now)
        ended = [
            EndedItem(key, item.type, items[key][1], endings[key], _reason(item, endings[key]))
            for key, item in fresh.items()
        ]
        crash.point("observe.storing")
        deliveries.end(tx, tenant.id, source, {read.delivery.id: read.dead for read in reads}, ended, now, forced)
        if any(read.dead for read in reads):
            crash.point("observe.dying")

    database.write(store)
    crash.point("observe.stored")


def _reason(item: Item, ending: Ending) -> str:
    """Why an item ended as it did; what is said of messages is no concern of those who log none."""
    return item.reason or (NOT_LOGGED if item.message is not None and ending is Ending.IGNORED else "")


def _take_in(
    tx: Connection, tenant: Tenant, source: str, items: Mapping[str, Item], now: datetime
) -> dict[str, Ending]:
    """Every item's end. Stated records are observed; hints that tell us nothing new end here."""
    endings = {key: Ending.DEAD if item.reason in BROKEN else Ending.IGNORED for key, item in items.items()}
    stated = {key: item.change for key, item in items.items() if item.change and item.change.record}
    observations = {
        key: Observation(change.record, Source.TOLD, f"{source}:{key}", change.partial)
        for key, change in stated.items()
        if change.record
    }
    for kind in {change.kind for change in stated.values()}:
        chosen = [key for key, change in stated.items() if change.kind is kind]
        seen = [observations[key] for key in chosen]
        followers = tenant.followers(kind)
        verdicts = records.observe(tx, tenant.id, source, seen, now=now, followers=followers)
        endings.update({key: ENDINGS[verdict] for key, verdict in zip(chosen, verdicts, strict=True)})
    hints = {key: item.change for key, item in items.items() if item.change and not item.change.record}
    for kind in {change.kind for change in hints.values()}:
        of_kind = {key: change for key, change in hints.items() if change.kind is kind}
        endings.update(_follow_hints(tx, tenant, source, kind, of_kind, now))
    return endings | _take_in_messages(tx, tenant, source, items, now)


def _take_in_messages(
    tx: Connection, tenant: Tenant, source: str, items: Mapping[str, Item], now: datetime
) -> dict[str, Ending]:
    """What is said of messages, if anybody logs them."""
    told = {key: item.message for key, item in items.items() if item.message is not None}
    if not told or not tenant.logging:
        return {}
    timeline.take_in(
        tx, tenant.id, [(f"{source}:{key}", message) for key, message in told.items()], tenant.logging, now
    )
    return dict.fromkeys(told, Ending.APPLIED)


def _follow_hints(
    tx: Connection, tenant: Tenant, source: str, kind: Kind, hints: Mapping[str, Change], now: datetime
) -> dict[str, Ending]:
    """A hint whose values are in the view already is an echo, or old news; any other has its record read again."""
    views = records.views(tx, tenant.id, source, kind, {change.id for change in hints.values()})
    endings, stale, heard = {}, {}, dict[str, tuple[View, str]]()
    for key, change in hints.items():
        view = views.get(change.id)
        if view is not None and _known(view, change):
            endings[key] = Ending.SUPERSEDED
            if echoes.is_echo(view, source):
                heard.setdefault(change.id, (view, f"{source}:{key}"))
        else:
            endings[key] = Ending.REREAD
            stale[change.id] = f"{source}:{key}"
    records.mark_stale(tx, tenant.id, source, kind, stale, now)
    echoes.note(tx, tenant.id, source, kind, list(heard.values()), now, ours=source == records.KIRIM)
    return endings


def _known(view: View, change: Change) -> bool:
    """Whether a hint mentions nothing but what the view has. The two ids are no fields, so they go by value."""
    if not view.exists or change.deleted or not (change.seen or change.created):
        return False
    return all(
        value == view.fields[name] if name in view.fields else value in (view.id, view.external_id)
        for name, value in storable(change.seen).items()
    )
