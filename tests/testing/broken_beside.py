"""Connectors with one planted mistake each about what is beside records: walks, links, segments, people, timelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from testing.broken import Sends, Tells, bitten_by

from crmsync.connector import LogOutcome, Outcome
from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.http import Unlimited
from crmsync.model import (
    CONTACT_LINK,
    NOTHING,
    Activity,
    ActivityKind,
    Kind,
    Logged,
    Member,
    Members,
    Page,
    Person,
    Record,
    Ref,
    Segment,
    Write,
    Written,
)
from crmsync.testing.memory import MemoryConnector, MemoryCrm

# Walks


@bitten_by("a_walk_names_every_record", "a_walk_that_is_interrupted_goes_on")
class WalksOverOnePage(MemoryConnector):
    def walk(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return replace(super().walk(kind, cursor, since), more=False)


@bitten_by("a_walk_names_every_record")
class WalksWithoutFields(MemoryConnector):
    def walk(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        page = super().walk(kind, cursor, since)
        return replace(page, records=tuple(replace(record, fields=NOTHING) for record in page.records))


@bitten_by("a_walk_that_is_interrupted_goes_on")
class RemembersWhereItWalks(MemoryConnector):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.place: str | None = None

    def walk(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        if cursor and not self.place:
            return Page((), "", False)
        page = super().walk(kind, self.place if cursor else None, since)
        self.place = page.cursor
        return page


@bitten_by("a_walk_since_a_time_leaves_older_records_out")
class AlwaysWalksOverEverything(MemoryConnector):
    def walk(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return super().walk(kind, cursor)


class Undead(MemoryCrm):
    """A platform that goes on listing what was deleted."""

    def delete(self, id: str) -> None:
        self.set_time(self.now() + timedelta(seconds=1))


@bitten_by("a_deleted_record_is_not_walked_over", "a_deleted_record_is_made_anew_by_its_external_id", crm=Undead)
class WalksOverTheDead(MemoryConnector):
    """Has a platform that marks what was deleted, and does not look at the mark."""


@bitten_by("a_count_is_the_number_of_records")
class CountsOnePage(MemoryConnector):
    def count(self, kind: Kind) -> int | None:
        return len(self.changed(kind, None).records)


# Conversations


@bitten_by("a_write_to_a_merged_record_is_not_lost")
class TakesAMergedRecordForWritten(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        gone = [write.id is not None and write.id != self.crm.record(write.id).id for write in writes]
        if any(gone):
            return [Written(None) for _ in writes]
        return super().upsert(kind, writes)


@bitten_by("a_conversation_tells_whose_it_is", "a_conversation_stays_with_a_merged_contact")
class LeavesTheContactOut(Sends):
    def wrong(self, write: Write) -> Write:
        return replace(write, fields={name: value for name, value in write.fields.items() if name != CONTACT_LINK})


@bitten_by("a_contact_is_added_and_none_is_taken_away")
class PutsOneContactForAnother(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        outcomes = super().upsert(kind, writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Written) and outcome.record and CONTACT_LINK in write.fields:
                self.crm.edit(outcome.record.id, {CONTACT_LINK: write.fields[CONTACT_LINK]})
        return outcomes


@bitten_by("other_fields_leave_the_contacts_alone")
class TakesAbsentContactsForNone(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        outcomes = super().upsert(kind, writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Written) and outcome.record and CONTACT_LINK not in write.fields:
                self.crm.edit(outcome.record.id, {CONTACT_LINK: ()})
        return outcomes


@bitten_by("an_unknown_contact_is_refused_and_named")
class KeepsARefusedContactToItself(Tells):
    def wrong(self, write: Write, outcome: Outcome) -> Outcome:
        return replace(outcome, refused={}) if isinstance(outcome, Written) else outcome


class Forgetful(MemoryCrm):
    """A platform whose conversations stay with the contact that is gone."""

    def _spelt(self, kind: Kind, fields: Any) -> Any:
        spelt = dict(super()._spelt(kind, fields))
        return {**spelt, **{name: fields[name] for name in fields if name == CONTACT_LINK and fields[name]}}


@bitten_by("a_conversation_stays_with_a_merged_contact", crm=Forgetful)
class TellsWhoIsGone(MemoryConnector):
    """Hands out the ids of contacts that were merged away, as the platform has them."""


@bitten_by("contacts_and_conversations_are_told_apart")
class KeepsOneDrawer(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        found = super().fetch(Kind.CONTACT, refs), super().fetch(Kind.CONVERSATION, refs)
        return [one or other for one, other in zip(*found, strict=True)]


# Segments and people


@bitten_by("every_segment_is_told_with_its_name")
class LeavesEmptySegmentsOut(MemoryConnector):
    def segments(self) -> Sequence[Segment]:
        return [segment for segment in super().segments() if segment.size]


@bitten_by("every_segment_is_told_with_its_name")
class GuessesTheSize(MemoryConnector):
    def segments(self) -> Sequence[Segment]:
        return [replace(segment, size=1) for segment in super().segments()]


class Answers(MemoryConnector):
    """Base of those that get the members of a segment wrong."""

    def members(self, segment: str, cursor: str | None = None) -> Members:
        page = super().members(segment, cursor)
        return replace(page, members=tuple(self.wrong(member) for member in page.members))

    def wrong(self, member: Member) -> Member:
        raise NotImplementedError


@bitten_by("members_have_the_external_ids_they_carry")
class MakesExternalIdsUp(Answers):
    def wrong(self, member: Member) -> Member:
        return replace(member, external_id=member.external_id or member.id)


@bitten_by("members_have_the_external_ids_they_carry")
class TellsMembersWithoutExternalIds(Answers):
    def wrong(self, member: Member) -> Member:
        return replace(member, external_id=None)


@bitten_by("every_page_of_a_segment_is_there", "who_leaves_between_two_pages_hides_nobody")
class ReadsOnePageOfASegment(MemoryConnector):
    def members(self, segment: str, cursor: str | None = None) -> Members:
        page = super().members(segment, cursor)
        return page if cursor is None else Members((), page.cursor, False)


@bitten_by("who_leaves_between_two_pages_hides_nobody")
class CountsOffMembers(MemoryConnector):
    def members(self, segment: str, cursor: str | None = None) -> Members:
        found: list[Member] = []
        page = Members((), "", True)
        while page.more:
            page = super().members(segment, page.cursor)
            found += page.members
        start = int(cursor or 0)
        end = start + self.crm.page_size
        return Members(tuple(found[start:end]), str(end), end < len(found))


@bitten_by("nobody_is_in_an_empty_segment")
class TakesAnEmptySegmentForMissing(MemoryConnector):
    def members(self, segment: str, cursor: str | None = None) -> Members:
        page = super().members(segment, cursor)
        if not page.members:
            raise Reject("memory has no such segment")
        return page


@bitten_by("an_unknown_segment_is_rejected", "not_found_is_no_accident")
class TakesAMissingSegmentForEmpty(MemoryConnector):
    def members(self, segment: str, cursor: str | None = None) -> Members:
        try:
            return super().members(segment, cursor)
        except Reject:
            return Members((), "", False)


@bitten_by("everybody_is_told_also_who_has_left")
class ForgetsWhoHasLeft(MemoryConnector):
    def people(self) -> Sequence[Person]:
        return [person for person in super().people() if person.active]


@bitten_by("everybody_is_told_also_who_has_left")
class ReadsOnePageOfPeople(MemoryConnector):
    def people(self) -> Sequence[Person]:
        return super().people()[-100:]


# Timelines


class Logs(MemoryConnector):
    """Base of those that send other entries than they were given."""

    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        return super().log([self.wrong(activity) for activity in activities])

    def wrong(self, activity: Activity) -> Activity:
        raise NotImplementedError


@bitten_by("an_entry_stands_beside_its_contact")
class LosesTheTitle(Logs):
    def wrong(self, activity: Activity) -> Activity:
        return replace(activity, title="")


@bitten_by("what_was_said_is_shown_as_it_was_said")
class EscapesWhatIsNoMarkup(Logs):
    def wrong(self, activity: Activity) -> Activity:
        return replace(activity, body=activity.body.replace("<", "&lt;"))


@bitten_by("an_entry_stands_beside_its_conversation_too")
class ForgetsTheConversation(Logs):
    def wrong(self, activity: Activity) -> Activity:
        return replace(activity, conversation=None)


@bitten_by("an_entry_with_an_id_is_changed_where_it_stands", "n_entries_have_n_outcomes_in_order")
class AlwaysMakesAnEntry(Logs):
    def wrong(self, activity: Activity) -> Activity:
        return replace(activity, id=None)


@bitten_by("a_lost_answer_makes_no_second_entry", "a_doubtful_entry_moves_with_a_merged_contact")
class DoubtsNothing(Logs):
    def wrong(self, activity: Activity) -> Activity:
        return replace(activity, doubtful=False)


@bitten_by("a_lost_answer_makes_no_second_entry")
class FindsWithoutChanging(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        known = {key: id for id, key in self.crm.entries({each.contact for each in activities})}
        found = [Logged(known[each.key], created=False) for each in activities if each.doubtful and each.key in known]
        return found or super().log(activities)


@bitten_by("a_doubtful_entry_that_is_not_there_is_made")
class TakesAnyEntryForTheDoubtfulOne(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        beside = self.crm.entries({each.contact for each in activities if each.doubtful})
        taken = [replace(each, id=beside[0][0]) if each.doubtful and beside else each for each in activities]
        return super().log(taken)


@bitten_by("a_doubtful_entry_moves_with_a_merged_contact")
class LooksBesideTheOldId(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        gone = [self.crm.record(each.contact).id != each.contact for each in activities]
        return super().log([replace(each, doubtful=not lost) for each, lost in zip(activities, gone, strict=True)])


@bitten_by("n_entries_have_n_outcomes_in_order")
class TakesThePlatformsOrderOfEntries(MemoryConnector):
    def _enter(self, entries: Sequence[Activity]) -> Sequence[LogOutcome]:
        return [self._logged(answer) for answer in self._call(lambda: self.crm.enter(entries))]


@bitten_by("no_entry_is_no_trouble")
class SendsEmptyEntries(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        if not activities:
            raise Reject("memory answered 400")
        return super().log(activities)


@bitten_by("one_bad_entry_does_not_harm_the_others", whole_batches=True)
class RefusesEveryEntryForOne(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        try:
            return self._enter(activities)
        except Reject as refused:
            return [refused] * len(activities)


@bitten_by("every_outcome_of_an_entry_is_true_when_a_request_fails")
class CallsEveryEntryLogged(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        outcomes = super().log(activities)
        return [Logged("n000001") if isinstance(each, Retry) else each for each in outcomes]


@bitten_by("every_outcome_of_an_entry_is_true_when_a_request_fails")
class RaisesAfterTheFirstKind(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        messages = [each for each in activities if each.kind is ActivityKind.MESSAGE]
        digests = [each for each in activities if each.kind is ActivityKind.DIGEST]
        outcomes = [*super().log(messages), *super().log(digests)]
        for outcome in outcomes:
            if isinstance(outcome, ConnectorError):
                raise outcome
        return outcomes


# Leave to send


@bitten_by("nothing_is_sent_without_leave")
class AsksNobody(MemoryConnector):
    def __init__(self, settings: Any, around: Any, crm: Any) -> None:
        super().__init__(settings, replace(around, budget=Unlimited()), crm)


@bitten_by("nothing_is_sent_without_leave")
class AsksAfterwards(MemoryConnector):
    def _call(self, request: Callable[[], Any]) -> Any:
        budget, around = self.around.budget, self.around
        free = type(self)(self.settings, replace(around, budget=Unlimited()), self.crm)
        answer = super(AsksAfterwards, free)._call(request)
        budget.take()
        return answer


@bitten_by("the_time_that_the_platform_names_holds_the_budget")
class KeepsTheTimeToItself(MemoryConnector):
    def _call(self, request: Callable[[], Any]) -> Any:
        quiet = _Quiet(self.around.budget)
        return super(
            KeepsTheTimeToItself, type(self)(self.settings, replace(self.around, budget=quiet), self.crm)
        )._call(request)


class _Quiet(Unlimited):
    """A budget that is asked and never told."""

    def __init__(self, budget: Any) -> None:
        self.take = budget.take  # type: ignore[method-assign]


@bitten_by("trouble_becomes_the_right_error")
class HidesASuspension(MemoryConnector):
    def log(self, activities: Sequence[Activity]) -> Sequence[LogOutcome]:
        try:
            return super().log(activities)
        except Suspend as error:
            return [Retry(str(error))] * len(activities)


# Loads


@bitten_by("a_load_makes_each_record_once_and_tells_each")
class TellsALoadBackwards(MemoryConnector):
    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        return super().load(kind, writes, pause)[::-1]


@bitten_by("a_load_of_nothing_asks_for_nothing")
class BeginsAJobForNothing(MemoryConnector):
    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        if not writes:
            raise Retry("a job has to have rows")
        return super().load(kind, writes, pause)


@bitten_by("what_is_there_by_then_is_not_made_again_by_a_load", "a_load_that_is_given_up_may_have_come_to_something")
class LoadsWithoutTheKey(MemoryConnector):
    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        if not pause(1.0):
            self.upsert(kind, writes)
            raise Retry("given up", ambiguous=True)
        there = self.fetch(kind, [Ref(external_id=write.external_id) for write in writes])
        made = super().load(kind, writes, pause)
        return [Reject("it is there") if held else outcome for held, outcome in zip(there, made, strict=True)]


@bitten_by("a_refused_value_in_a_load_harms_no_other_row")
class LosesALoadToOneRow(MemoryConnector):
    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        outcomes = super().load(kind, writes, pause)
        bad = [each for each in outcomes if not isinstance(each, Written) or each.refused]
        return [Reject("the job failed")] * len(writes) if bad else outcomes


@bitten_by("a_load_that_is_given_up_may_have_come_to_something")
class GivesNoLoadUp(MemoryConnector):
    def load(self, kind: Kind, writes: Sequence[Write], pause: Callable[[float], bool]) -> Sequence[Outcome]:
        return super().load(kind, writes, lambda seconds: True)
