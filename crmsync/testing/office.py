"""What the CRM in memory has besides records: whose a conversation is, segments, users, and timelines.

Timelines know no unique key, as those of most platforms: an entry that is sent twice stands there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from crmsync.model import CONTACT_LINK, Activity, FieldInfo, Fields, Kind, Person, Record, Segment, Value
from crmsync.testing.account import Entered, Refused
from crmsync.testing.fake import Entry
from crmsync.testing.platform import Platform

Rule = Callable[[Record], bool]


@dataclass
class _Segment:
    id: str
    name: str
    rule: Rule | None
    joined: set[str] = field(default_factory=set)


class Office(Platform):
    """A platform whose contacts have conversations, segments, owners and timelines."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._segments: dict[str, _Segment] = {}
        self._people: list[Person] = []
        self._entries: dict[str, Activity] = {}

    # What a test arranges and looks at

    def add_segment(self, name: str, members: Iterable[str] = (), *, rule: Rule | None = None) -> str:
        """A person makes a segment; with a rule it is dynamic. Returns its id."""
        with self._lock:
            made = _Segment(f"s{len(self._segments) + 1:06d}", name, rule, set(members))
            self._segments[made.id] = made
            return made.id

    def join(self, segment: str, member: str) -> None:
        """A person puts a contact into a segment."""
        with self._lock:
            self._segments[segment].joined.add(member)

    def leave(self, segment: str, member: str) -> None:
        """A person takes a contact out of a segment."""
        with self._lock:
            self._segments[segment].joined.discard(member)

    def add_person(self, email: str, name: str, *, active: bool = True) -> str:
        """A user joins; returns the id."""
        with self._lock:
            self._people.append(Person(f"u{len(self._people) + 1:06d}", email, name, active))
            return self._people[-1].id

    def timeline(self, id: str) -> Sequence[Entry]:
        """What stands beside a contact or a conversation, in the order in which it was made."""
        with self._lock:
            return [
                Entry(made, "\n".join((each.title, each.body, *each.media)), each.status)
                for made, each in self._entries.items()
                if id in (self._now(each.contact), each.conversation)
            ]

    # What its API offers

    def total(self, kind: Kind) -> int:
        """How many records there are."""
        return self._answer("total", lambda: len(list(self._all(kind))))

    def people(self) -> Sequence[Person]:
        """Every user."""
        return self._answer("people", lambda: tuple(self._people))

    def segments(self) -> Sequence[Segment]:
        """Every segment."""
        return self._answer("segments", lambda: [self._shown(each) for each in self._segments.values()])

    def segment_page(self, id: str, after: str) -> tuple[Sequence[Record], bool]:
        """The members behind an id, in the order of their ids, and whether there are more. 404 for an unknown one."""
        return self._answer("segment_page", lambda: self._segment_page(id, after))

    def entries(self, contacts: Collection[str]) -> Sequence[tuple[str, str]]:
        """Id and key of everything that stands beside these contacts, the latest first."""
        return self._answer("entries", lambda: self._beside(contacts))

    def enter(self, entries: Sequence[Activity]) -> Sequence[Entered]:
        """Makes entries, and changes those that have an id. Answers come in the platform's order."""
        return self._answer("enter", lambda: self._enter(entries))

    # How it works inside; the lock is held

    def _shown(self, segment: _Segment) -> Segment:
        return Segment(segment.id, segment.name, segment.rule is not None, len(self._members(segment)))

    def _members(self, segment: _Segment) -> Sequence[Record]:
        if segment.rule is not None:
            return [row.record for row in self._all(Kind.CONTACT) if segment.rule(row.record)]
        live = [record for id in segment.joined if (record := self._find_live(id, Kind.CONTACT))]
        return list({record.id: record for record in live}.values())

    def _segment_page(self, id: str, after: str) -> tuple[Sequence[Record], bool]:
        if id not in self._segments:
            raise Refused(404)
        behind = sorted(
            (member for member in self._members(self._segments[id]) if member.id > after), key=lambda seen: seen.id
        )
        return behind[: self.page_size], len(behind) > self.page_size

    def _beside(self, contacts: Collection[str]) -> Sequence[tuple[str, str]]:
        wanted = {self._now(contact) for contact in contacts}
        found = [(id, each.key) for id, each in self._entries.items() if self._now(each.contact) in wanted]
        return found[::-1]

    def _enter(self, entries: Sequence[Activity]) -> Sequence[Entered]:
        if self.whole_batches and any(self._objection_to(each) for each in entries):
            raise Refused(400)
        return [self._enter_one(each) for each in sorted(entries, key=lambda each: each.key)]

    def _enter_one(self, entry: Activity) -> Entered:
        if status := self._objection_to(entry):
            return Entered(entry.key, status)
        id = entry.id or f"n{len(self._entries) + 1:06d}"
        self._entries[id] = replace(entry, id=id, doubtful=False)
        return Entered(entry.key, 200, id, created=entry.id is None)

    def _objection_to(self, entry: Activity) -> int:
        if entry.id:
            return 0 if entry.id in self._entries else 404
        return 0 if self._find_live(entry.contact, Kind.CONTACT) else 404

    def _now(self, id: str) -> str:
        """The id under which a record is to be found now."""
        live = self._find_live(id)
        return live.id if live else id

    def _objection(self, info: FieldInfo | None, value: Value) -> str:
        objection = super()._objection(info, value)
        if objection or info is None or info.name != CONTACT_LINK or not isinstance(value, tuple):
            return objection
        return "" if all(self._find_live(id, Kind.CONTACT) for id in value) else "unknown_contact"

    def _update(self, record: Record, fields: Fields, *, by_api: bool, external_id: str | None = None) -> Record:
        """Through the API contacts are added to a conversation; only people take them away."""
        if CONTACT_LINK in fields and by_api:
            held, added = record.fields.get(CONTACT_LINK), fields[CONTACT_LINK]
            fields = {**fields, CONTACT_LINK: _together(held, added)}
        return super()._update(record, fields, by_api=by_api, external_id=external_id)

    def _spelt(self, kind: Kind, fields: Fields) -> Fields:
        spelt = dict(super()._spelt(kind, fields))
        if isinstance(linked := spelt.get(CONTACT_LINK), tuple):
            spelt[CONTACT_LINK] = tuple(sorted({self._now(id) for id in linked}))
        return spelt

    def merge(self, winner: str, loser: str) -> str:
        """Conversations, entries and segments of both are the survivor's."""
        with self._lock:
            kept = super().merge(winner, loser)
            for row in list(self._all(Kind.CONVERSATION)):
                linked = row.record.fields.get(CONTACT_LINK)
                if isinstance(linked, tuple) and loser in linked:
                    self._update(row.record, {CONTACT_LINK: linked}, by_api=False)
            return kept


def _together(held: Value, added: Value) -> Value:
    members = [*(held if isinstance(held, tuple) else ()), *(added if isinstance(added, tuple) else ())]
    return tuple(dict.fromkeys(members))
