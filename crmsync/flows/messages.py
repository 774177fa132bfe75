"""Messages go onto the timelines of CRM records: the only place that logs activities. One way, and never twice.

An entry that was sent without an answer is looked for before it is made again; one that stands is changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction

from crmsync import crash
from crmsync.connector import LogOutcome
from crmsync.core import messages as core
from crmsync.core.messages import Logging, Text
from crmsync.core.retry import ATTEMPTS, FAILURES, LONGEST, wait
from crmsync.core.trouble import Reason
from crmsync.core.views import Source
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.flows.work import Surroundings
from crmsync.model import Activity, ActivityKind, Kind, Logged, Message, Record
from crmsync.store import messages, pairs, records, timeline
from crmsync.store.messages import Kept
from crmsync.store.records import KIRIM, Observation
from crmsync.store.timeline import EndedEntry, Entry

UNLINKED = "its contact has no record in the CRM yet"
UNKNOWN = "Kirim knows no contact with its number"
TICKETLESS = "its conversation has no record in the CRM yet"
PATIENCE = timedelta(seconds=10)
"""How long the record of a conversation is waited for before its messages are logged without it."""
SOON = timedelta(milliseconds=300)
"""How long an entry waits at first for what it belongs to: mostly both were told of at once."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry with what it is made of. Without `said` there is nothing to say any more."""

    entry: Entry
    said: tuple[Kept, ...]
    contact: str | None = None

    @property
    def message(self) -> Message:
        """The one message, or for a digest the latest: whose they are is the same for all."""
        return max(self.said, key=lambda kept: kept.at).message

    @property
    def conversation(self) -> str | None:
        """Kirim's conversation, where one of the messages names it."""
        return next((kept.message.conversation_id for kept in self.said if kept.message.conversation_id), None)


def log(around: Surroundings, rules: Logging) -> int:
    """Puts what is due onto the timelines of one connection; says how many entries were taken.

    Raises the error that stopped the connection, after every outcome was stored.
    """
    limit = around.connection.connector.batch_size
    return _log(around, rules, limit) + _log(around, rules, 1, suspected=True)


def _log(around: Surroundings, rules: Logging, limit: int, *, suspected: bool = False) -> int:
    """One batch; or one entry alone, which may be what ends the process each time, and takes no others down with it."""
    tenant, name = around.tenant.id, around.connection.name
    taken = around.database.write(
        lambda tx: timeline.take(tx, tenant, name, limit, around.clock(), suspected=suspected)
    )
    if not taken:
        return 0
    crash.point("log.counted")
    drafts = around.database.read(lambda tx: _drafts(tx, tenant, taken, rules))
    try:
        drafts = _with_contacts(around, drafts)
    except ConnectorError:
        around.database.write(lambda tx: timeline.give_back(tx, tenant, name, taken))
        raise
    linked = around.database.read(lambda tx: _linked(tx, around, drafts))
    ended = list(_idle(around, drafts, linked, rules))
    settled = {each.entry.key for each in ended}
    sending = [(draft, _activity(draft, linked, rules)) for draft in drafts if draft.entry.key not in settled]
    stopped: ConnectorError | None = None
    if sending:
        outcomes, stopped = _send(around, [activity for _, activity in sending])
        ended += [_ended(around, d, a, o) for (d, a), o in zip(sending, outcomes, strict=True)]
    around.database.write(lambda tx: _store(tx, around, ended, linked.unseen))
    crash.point("log.stored")
    if stopped is not None:
        raise stopped
    return len(taken)


def _store(tx: Transaction, around: Surroundings, ended: Sequence[EndedEntry], unseen: Iterable[str]) -> None:
    """The ends; and contacts that only messages told of are to be read, so that they get a record."""
    around.fence(tx)
    tenant, now = around.tenant.id, around.clock()
    timeline.end(tx, tenant, around.connection.name, ended, now)
    records.mark_stale(tx, tenant, KIRIM, Kind.CONTACT, dict.fromkeys(unseen, "lookup:message"), now)


def _drafts(tx: Transaction, tenant: str, taken: Sequence[Entry], rules: Logging) -> list[Draft]:
    single = messages.messages(tx, tenant, {entry.message for entry in taken if entry.message is not None})
    drafts = []
    for entry in taken:
        if entry.message is not None:
            said = tuple(single[row] for row in (entry.message,) if row in single)
        elif entry.day is not None:
            said = tuple(messages.on_day(tx, tenant, entry.thread, entry.day, rules.zone))
        else:
            said = ()
        drafts.append(Draft(entry, tuple(kept for kept in said if core.told_of(kept.message))))
    found = messages.contacts(tx, tenant, [draft.message for draft in drafts if draft.said])
    return [replace(draft, contact=found.get(draft.message)) if draft.said else draft for draft in drafts]


def _with_contacts(around: Surroundings, drafts: Sequence[Draft]) -> list[Draft]:
    """Asks Kirim whose the numbers are that nothing here tells; what it answers is observed, and remembered."""
    lost = [draft for draft in drafts if draft.said and draft.contact is None and draft.message.phone]
    if not lost:
        return list(drafts)
    phones = sorted({draft.message.phone or "" for draft in lost})
    crash.point("log.asking")
    found = around.tenant.kirim.find(Kind.CONTACT, "phone_number", phones)
    theirs = {
        draft.entry.key: record.id
        for draft in lost
        if (record := _under(found.get(draft.message.phone or "", ()), draft.message.number_id)) is not None
    }
    seen = [Observation(record, Source.READ, "lookup:kirim") for several in found.values() for record in several]
    rows = {kept.row: theirs[draft.entry.key] for draft in lost if draft.entry.key in theirs for kept in draft.said}
    followers = around.tenant.followers(Kind.CONTACT)

    def store(tx: Transaction) -> None:
        around.fence(tx)
        records.observe(tx, around.tenant.id, KIRIM, seen, now=around.clock(), followers=followers)
        messages.belongs(tx, around.tenant.id, rows)

    around.database.write(store)
    return [replace(draft, contact=draft.contact or theirs.get(draft.entry.key)) for draft in drafts]


def _under(found: Sequence[Record], number_id: str | None) -> Record | None:
    """Of several contacts with one number, the one of the WhatsApp number that the message went through."""
    own = [record for record in found if record.fields.get("phone_number_id") == number_id]
    return next(iter(own or found), None)


@dataclass(frozen=True, slots=True)
class Linked:
    """The CRM's records of contacts and of conversations, by Kirim's ids; and the contacts that we never saw."""

    contacts: Mapping[str, str]
    conversations: Mapping[str, str]
    unseen: frozenset[str]


def _linked(tx: Transaction, around: Surroundings, drafts: Sequence[Draft]) -> Linked:
    tenant, name = around.tenant.id, around.connection.name
    contacts = {draft.contact for draft in drafts if draft.contact}
    conversations = {draft.conversation for draft in drafts if draft.said and draft.conversation}
    return Linked(
        pairs.crm_ids(tx, tenant, name, Kind.CONTACT, contacts),
        pairs.crm_ids(tx, tenant, name, Kind.CONVERSATION, {id for id in conversations if id}),
        frozenset(contacts - records.views(tx, tenant, KIRIM, Kind.CONTACT, contacts).keys()),
    )


def _idle(around: Surroundings, drafts: Sequence[Draft], linked: Linked, rules: Logging) -> Iterator[EndedEntry]:
    """The ends of entries that need no call: nothing new to say, nobody to say it of, or too many starts."""
    for draft in drafts:
        entry = draft.entry
        same = EndedEntry(entry, entry.crm_id, entry.sent)
        if not draft.said or (entry.crm_id and _text(draft, rules).digest == entry.sent):
            yield same
        elif entry.attempts > ATTEMPTS:
            yield replace(same, error=f"given up after {ATTEMPTS} starts", reason=Reason.EXHAUSTED, doubtful=True)
        elif draft.contact is None or draft.contact not in linked.contacts:
            yield _waits(around, draft, UNKNOWN if draft.contact is None else UNLINKED)
        elif _ticketless(around, draft, linked):
            yield _waits(around, draft, TICKETLESS)


def _ticketless(around: Surroundings, draft: Draft, linked: Linked) -> bool:
    """Whether the conversation is to have a record, and may get it soon."""
    mapped = Kind.CONVERSATION in around.connection.rules and around.clock() - draft.entry.first_at < PATIENCE
    return mapped and draft.conversation is not None and draft.conversation not in linked.conversations


def _waits(around: Surroundings, draft: Draft, why: str) -> EndedEntry:
    """Until there is a record to log it at, for about a day: a quarter longer than it has waited already."""
    entry, failures = draft.entry, draft.entry.failures + 1
    doubtful = entry.attempts > 1
    if failures > FAILURES:
        return EndedEntry(entry, entry.crm_id, entry.sent, why, Reason.UNANSWERED, doubtful=doubtful)
    pause = min(max((around.clock() - entry.first_at) / 4, SOON), LONGEST)
    return EndedEntry(
        entry,
        entry.crm_id,
        entry.sent,
        why,
        again_at=around.clock() + pause,
        failures=failures,
        doubtful=doubtful,
    )


def _text(draft: Draft, rules: Logging) -> Text:
    if draft.entry.day is None:
        return core.entry(draft.message)
    return core.digest(draft.entry.day, [replace(kept.message, at=kept.at) for kept in draft.said], rules.zone)


def _activity(draft: Draft, linked: Linked, rules: Logging) -> Activity:
    entry, text, message = draft.entry, _text(draft, rules), draft.message
    single = entry.day is None
    return Activity(
        key=entry.key,
        kind=ActivityKind.MESSAGE if single else ActivityKind.DIGEST,
        at=min(kept.at for kept in draft.said),
        title=text.title,
        body=text.body,
        contact=linked.contacts[draft.contact or ""],
        conversation=linked.conversations.get(draft.conversation or ""),
        direction=message.direction if single else None,
        status=message.status if single else None,
        media=(message.media,) if single and message.media else (),
        id=entry.crm_id,
        doubtful=entry.crm_id is None and entry.attempts > 1,
    )


def _send(around: Surroundings, activities: Sequence[Activity]) -> tuple[Sequence[LogOutcome], ConnectorError | None]:
    """One outcome for each, and the error that stops the connection, if the call failed as a whole."""
    crash.point("log.sending", " ".join(activity.key for activity in activities).encode())
    try:
        outcomes = around.connection.connector.log(activities)
    except Reject as error:
        return [error] * len(activities), None
    except ConnectorError as error:
        return [Throttled(str(error), getattr(error, "after", None))] * len(activities), error
    crash.point("log.answered")
    return outcomes, next((each for each in outcomes if isinstance(each, Suspend)), None)


def _ended(around: Surroundings, draft: Draft, activity: Activity, outcome: LogOutcome) -> EndedEntry:
    entry, now = draft.entry, around.clock()
    if isinstance(outcome, Logged):
        text = Text(activity.title, activity.body)
        return EndedEntry(entry, outcome.id, text.digest)
    failed = EndedEntry(entry, entry.crm_id, entry.sent, str(outcome), doubtful=activity.doubtful)
    if isinstance(outcome, Reject):
        return replace(failed, reason=Reason.REFUSED)
    if isinstance(outcome, (Throttled, Suspend)):
        return replace(failed, again_at=now + wait(outcome, 0, around.chance()), failures=entry.failures)
    failures = entry.failures + 1
    doubtful = activity.doubtful or (isinstance(outcome, Retry) and outcome.ambiguous)
    if failures > FAILURES:
        return replace(failed, reason=Reason.UNANSWERED, doubtful=doubtful)
    again: datetime = now + wait(outcome, failures, around.chance())
    return replace(failed, again_at=again, failures=failures, doubtful=doubtful)
