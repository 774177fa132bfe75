"""Connectors and platforms with one planted mistake each, and the checks of the kit that have to notice it.

Every mistake is one that connectors were seen to make. `MISTAKES` is read by `test_contract_bites.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import orjson
from pydantic import ConfigDict

from crmsync.connector import Connector, ConnectorSettings, Outcome, halving
from crmsync.errors import BadPayload, BadSignature, ConnectorError, Doubt, Reject, Retry, Suspend
from crmsync.model import Can, FieldInfo, Item, Kind, Page, Record, Ref, WebhookRequest, Write, Written
from crmsync.testing.account import Answer, Refused, Silent
from crmsync.testing.clock import ManualClock
from crmsync.testing.memory import (
    SIGNATURE,
    TIMESTAMP,
    MemoryConnector,
    MemoryCrm,
    MemorySettings,
    Respelling,
    UpdateOnlyMemoryConnector,
    signature,
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A broken connector, the platform on which its mistake shows, and the checks that must fail."""

    name: str
    connector: type[MemoryConnector]
    bites: tuple[str, ...]
    platform: Mapping[str, Any]
    settings: MemorySettings
    crm: type[MemoryCrm]

    def make_fake(self) -> MemoryCrm:
        """The platform with this connector."""
        crm = self.crm(ManualClock(), page_size=3, **self.platform)
        crm.connector, crm.settings = self.connector, self.settings
        return crm


MISTAKES: list[Mistake] = []


def bitten_by(
    *checks: str,
    settings: MemorySettings | None = None,
    crm: type[MemoryCrm] = MemoryCrm,
    **platform: Any,
) -> Callable[[type[MemoryConnector]], type[MemoryConnector]]:
    """Enters a broken connector into the list. The names are given without their `test_`."""

    def enter(connector: type[MemoryConnector]) -> type[MemoryConnector]:
        names = tuple(f"test_{check}" for check in checks)
        MISTAKES.append(Mistake(connector.__name__, connector, names, platform, settings or MemorySettings(), crm))
        return connector

    return enter


# What it says about itself


@bitten_by("it_is_named_after_its_entry_point_or_its_module")
class CallsItselfSomethingElse(MemoryConnector):
    name = "hubspot"


@bitten_by("it_declares_exactly_what_it_implements")
class BoastsOfPeople(MemoryConnector):
    people = Connector.people


@bitten_by("it_declares_exactly_what_it_implements", "what_it_does_not_declare_raises_unsupported")
class HidesItsFeed(MemoryConnector):
    can = MemoryConnector.can - {Can.CHANGES}


@bitten_by("its_limits_are_possible")
class HasNoBatch(MemoryConnector):
    batch_size = 0


@bitten_by("fields_has_every_field_of_the_mapping")
class LeavesCustomFieldsOut(MemoryConnector):
    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        return super().fields(kind)[:2]


@bitten_by("fields_tells_what_can_be_written")
class CallsEverythingWritable(MemoryConnector):
    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        return [replace(info, writable=True) for info in super().fields(kind)]


@bitten_by("planning_makes_nothing", "what_was_prepared_is_not_missing", missing=["A field is missing."])
class MakesWhatItShouldPlan(MemoryConnector):
    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        return super().prepare(kind, plan_only=False)


@bitten_by("what_was_prepared_is_not_missing", missing=["A field is missing."])
class PlansOnly(MemoryConnector):
    def prepare(self, kind: Kind, *, plan_only: bool = True) -> Sequence[str]:
        return super().prepare(kind)


@bitten_by("what_was_prepared_is_not_missing", missing=["A field is missing."])
class MakesWhatItOnlyTells(MemoryConnector):
    prepares = False


class LaxSettings(MemorySettings):
    model_config = ConfigDict(extra="ignore", frozen=False)


@bitten_by("settings_refuse_an_unknown_key", "settings_cannot_be_changed", settings=LaxSettings())
class IgnoresMisspeltSettings(MemoryConnector):
    Settings: ClassVar[type[ConnectorSettings]] = LaxSettings


class OpenSettings(MemorySettings):
    password: str = "memory-password-55d0"


class CrmWithAPassword(MemoryCrm):
    @property
    def secrets(self) -> Sequence[str]:
        return [*super().secrets, "memory-password-55d0"]


@bitten_by("secrets_are_kept_as_secrets", "no_secret_is_shown", settings=OpenSettings(), crm=CrmWithAPassword)
class KeepsItsPasswordAsText(MemoryConnector):
    Settings: ClassVar[type[ConnectorSettings]] = OpenSettings


# Reading


@bitten_by("what_is_there_is_fetched_by_external_id")
class KnowsOnlyItsOwnIds(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        return super().fetch(kind, [Ref(id=ref.id) for ref in refs])


@bitten_by("what_is_there_is_fetched_by_id", "the_own_id_goes_before_the_external_id")
class KnowsOnlyExternalIds(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        return super().fetch(kind, [Ref(external_id=ref.external_id) for ref in refs])


@bitten_by("records_come_in_the_order_asked", "a_missing_record_is_none")
class LeavesMissingRecordsOut(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        return [record for record in super().fetch(kind, refs) if record]


@bitten_by("a_missing_record_is_none")
class MakesMissingRecordsUp(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        found = super().fetch(kind, refs)
        return [record or Record(kind, ref.id or "?") for record, ref in zip(found, refs, strict=True)]


@bitten_by("records_come_in_the_order_asked")
class AnswersInThePlatformsOrder(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        found = super().fetch(kind, refs)
        return sorted(found, key=lambda record: record.id if record else "~")


@bitten_by("nothing_asked_is_nothing_answered")
class SendsEmptyRequests(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        if not refs:
            raise Reject("memory answered 400")
        return super().fetch(kind, refs)


@bitten_by("a_full_batch_can_be_fetched")
class ReadsOnePageOfABatch(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        return [*super().fetch(kind, refs[:10]), *(None for _ in refs[10:])]


@bitten_by("a_merged_record_is_found_under_its_survivor")
class LosesMergedRecords(MemoryConnector):
    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        found = super().fetch(kind, refs)
        return [record if record and record.id == ref.id else None for record, ref in zip(found, refs, strict=True)]


class Translates(MemoryConnector):
    """Base of those that get a record's content wrong."""

    def _translated(self, record: Record) -> Record:
        return self.wrong(super()._translated(record))

    def wrong(self, record: Record) -> Record:
        raise NotImplementedError


@bitten_by(
    "times_say_that_they_are_utc", "the_feed_has_everything_oldest_first", "times_in_a_delivery_say_that_they_are_utc"
)
class TellsNaiveTimes(Translates):
    def wrong(self, record: Record) -> Record:
        return replace(record, version=record.version.replace(tzinfo=None) if record.version else None)


@bitten_by("a_version_moves_forward")
class TakesTheTimeOfCreationForTheVersion(Translates):
    def wrong(self, record: Record) -> Record:
        created = record.fields.get("created_at")
        return replace(record, version=datetime.fromisoformat(str(created))) if created else record


@bitten_by("an_empty_field_is_none_and_not_absent")
class DropsEmptyFields(Translates):
    def wrong(self, record: Record) -> Record:
        return replace(record, fields={name: value for name, value in record.fields.items() if value is not None})


@bitten_by("a_text_is_read_as_it_is_held")
class TakesDigitsForNumbers(Translates):
    def wrong(self, record: Record) -> Record:
        name = record.fields.get("name")
        number = int(name) if isinstance(name, str) and name.isdigit() else name
        return replace(record, fields={**record.fields, "name": number})


@bitten_by("a_phone_number_is_read_as_it_is_held")
class DropsThePlus(Translates):
    def wrong(self, record: Record) -> Record:
        phone = str(record.fields.get("phone") or "").lstrip("+")
        return replace(record, fields={**record.fields, "phone": phone or None})


@bitten_by("find_gives_none_one_and_many")
class FindsOnlyTheFirst(MemoryConnector):
    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        return {value: found[:1] for value, found in super().find(kind, field, values).items()}


@bitten_by("find_takes_a_value_literally")
class BuildsQueriesFromValues(MemoryConnector):
    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        everything = tuple(self._translated(record) for record in self.crm.records(kind))
        found = super().find(kind, field, values)
        return {value: everything if "'" in value else found[value] for value in values}


@bitten_by("several_threads_can_read_at_once", "several_threads_can_write_at_once")
class IsForOneThread(MemoryConnector):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.thread = threading.get_ident()

    def _call(self, request: Callable[[], Any]) -> Any:
        if self.thread != threading.get_ident():
            raise RuntimeError("made in another thread")
        return super()._call(request)


# Following the feed


@bitten_by("an_empty_feed_ends_and_goes_on")
class GivesNoCursorForAnEmptyFeed(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        page = super().changed(kind, cursor or None, since)
        return page if page.records else replace(page, cursor=f"{datetime.max.replace(tzinfo=UTC).isoformat()}||")


@bitten_by("the_feed_has_everything_oldest_first")
class GivesTheNewestFirst(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        page = super().changed(kind, cursor, since)
        return replace(page, records=page.records[::-1])


@bitten_by("the_feed_has_everything_oldest_first", "a_page_that_shrinks_hides_nothing")
class StopsAfterOnePage(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return replace(super().changed(kind, cursor, since), more=False)


@bitten_by("records_of_one_instant_are_neither_skipped_nor_repeated_for_ever")
class SkipsWhatSharesAnInstant(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        page = super().changed(kind, cursor, since)
        at, id, began = page.cursor.split("|")
        return replace(page, cursor=f"{at}|~|{began}" if id else page.cursor)


@bitten_by("records_of_one_instant_are_neither_skipped_nor_repeated_for_ever")
class LoopsOnWhatSharesAnInstant(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        page = super().changed(kind, cursor, since)
        at, id, began = page.cursor.split("|")
        return replace(page, cursor=f"{at}||{began}" if id else page.cursor)


@bitten_by("since_leaves_older_records_out")
class IgnoresSince(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return super().changed(kind, cursor)


@bitten_by("since_leaves_older_records_out")
class LeavesOutTheVeryInstant(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        return super().changed(kind, cursor, since + timedelta(microseconds=1) if since else None)


@bitten_by("a_row_that_becomes_visible_late_is_seen")
class NeverLooksBack(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        if cursor and cursor.endswith("||"):
            return super().changed(kind, None, datetime.fromisoformat(cursor[:-2]))
        return super().changed(kind, cursor, since)


@bitten_by("an_edit_is_seen_after_the_end", "an_edit_between_two_pages_is_seen")
class GivesWhatItSawBefore(MemoryConnector):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: dict[str, Record] = {}

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        page = super().changed(kind, cursor, since)
        return replace(page, records=tuple(self.seen.setdefault(record.id, record) for record in page.records))


@bitten_by("a_page_that_shrinks_hides_nothing")
class CountsOffPages(MemoryConnector):
    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        records = sorted(self.crm.records(kind), key=lambda record: (record.version, record.id))
        start = int(cursor or 0)
        end = start + self.crm.page_size
        return Page(tuple(records[start:end]), str(end), end < len(records))


# Writing


class Sends(MemoryConnector):
    """Base of those that send something else than they were given."""

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return super().upsert(kind, [self.wrong(write) for write in writes])

    def wrong(self, write: Write) -> Write:
        raise NotImplementedError


class Tells(MemoryConnector):
    """Base of those that get an outcome wrong."""

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        outcomes = super().upsert(kind, writes)
        return [self.wrong(write, outcome) for write, outcome in zip(writes, outcomes, strict=True)]

    def wrong(self, write: Write, outcome: Outcome) -> Outcome:
        raise NotImplementedError


@bitten_by(
    "a_created_record_reads_back_by_its_external_id",
    "twice_is_once",
    "an_adopted_record_is_stamped_with_the_external_id",
)
class ForgetsTheExternalId(MemoryConnector):
    def _send(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        for write in writes:
            known = write.id or next((r.id for r in self.crm.records(kind) if r.external_id == write.external_id), None)
            id = known or self.crm.add(None, {})
            stamp = self.crm.record(id).external_id or id
            answer = self.crm.write(kind, [replace(write, id=id, external_id=stamp)])[0]
            outcomes.append(self._outcome(replace(answer, created=known is None)))
        return outcomes


@bitten_by("without_the_capability_nothing_is_created")
class CreatesWithoutSayingSo(UpdateOnlyMemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return [self._outcome(answer) for answer in self._call(lambda: self.crm.write(kind, writes))]


@bitten_by("only_the_given_fields_change")
class TakesAbsentForEmpty(Sends):
    def wrong(self, write: Write) -> Write:
        return replace(write, fields={"name": None, "company": None, **write.fields})


@bitten_by("none_clears")
class IgnoresNone(Sends):
    def wrong(self, write: Write) -> Write:
        return replace(write, fields={name: value for name, value in write.fields.items() if value is not None})


@bitten_by("none_clears")
class WritesTheWordNone(Sends):
    def wrong(self, write: Write) -> Write:
        return replace(write, fields={name: str(value) for name, value in write.fields.items()})


@bitten_by("a_text_arrives_as_it_was_written")
class SendsAscii(Sends):
    def wrong(self, write: Write) -> Write:
        fields = {n: v.encode("ascii", "ignore").decode() if isinstance(v, str) else v for n, v in write.fields.items()}
        return replace(write, fields=fields)


@bitten_by("an_adopted_record_is_stamped_with_the_external_id")
class IgnoresAKnownId(Sends):
    def wrong(self, write: Write) -> Write:
        return replace(write, id=None)


@bitten_by("a_known_id_that_is_gone_is_rejected")
class RevivesWhatIsGone(Sends):
    def wrong(self, write: Write) -> Write:
        gone = write.id is not None and write.id not in self.crm.ids()
        return replace(write, id=None) if gone else write


@bitten_by("a_known_id_is_written_to")
class AlwaysCreates(MemoryConnector):
    def _send(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        made = [self.crm.add(None, {}) for _ in writes]
        return super()._send(
            kind, [replace(w, id=id, external_id=f"x{id}") for w, id in zip(writes, made, strict=True)]
        )


@bitten_by(
    "twice_is_once",
    "a_lost_answer_does_not_make_two_records",
    "one_external_id_from_several_threads_is_one_record",
    unique_key=False,
    index_lag=timedelta(seconds=30),
)
class LooksInALaggingIndex(MemoryConnector):
    """Declares that the platform keeps the external id unique, which it does not."""


@bitten_by("the_outcome_has_the_record_as_it_is_held", spelling=Respelling(lower_email=True))
class TellsWhatItSent(Tells):
    def wrong(self, write: Write, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Written) or outcome.record is None:
            return outcome
        return replace(outcome, record=replace(outcome.record, fields={**outcome.record.fields, **write.fields}))


@bitten_by("the_outcome_has_the_record_as_it_is_held")
class TellsWhatItReadBefore(MemoryConnector):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: dict[str, Record] = {}

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        found = super().fetch(kind, refs)
        self.seen |= {record.id: record for record in found if record}
        return found

    def _outcome(self, answer: Answer | None) -> Outcome:
        outcome = super()._outcome(answer)
        if isinstance(outcome, Written) and outcome.record and outcome.record.id in self.seen:
            return replace(outcome, record=self.seen[outcome.record.id])
        return outcome


@bitten_by("a_refused_field_is_named", "one_bad_row_does_not_harm_the_others")
class KeepsARefusalToItself(Tells):
    def wrong(self, write: Write, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Reject):
            return Written(None)
        return replace(outcome, refused={}) if isinstance(outcome, Written) else outcome


@bitten_by("a_refused_field_is_named")
class DropsTheRowForOneField(Tells):
    def wrong(self, write: Write, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Written) and outcome.refused:
            return Reject("memory answered 400", tuple(outcome.refused))
        return outcome


@bitten_by("outcomes_come_in_the_order_of_the_writes", "creates_and_updates_mix")
class TakesThePlatformsOrderForItsOwn(MemoryConnector):
    def _send(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return [self._outcome(answer) for answer in self._call(lambda: self.crm.write(kind, writes))]


@bitten_by("creates_and_updates_mix", "twice_is_once")
class CallsEverythingNew(Tells):
    def wrong(self, write: Write, outcome: Outcome) -> Outcome:
        return replace(outcome, created=True) if isinstance(outcome, Written) else outcome


@bitten_by("one_bad_row_does_not_harm_the_others")
class DropsRejectedRows(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return [outcome for outcome in super().upsert(kind, writes) if not isinstance(outcome, Reject)]


@bitten_by("a_full_batch_works")
class SendsOnlyTheFirstRows(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return super().upsert(kind, writes[:10])


@bitten_by("one_bad_row_does_not_harm_the_others", "a_known_id_that_is_gone_is_rejected", whole_batches=True)
class RejectsEveryRowForOne(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        try:
            return self._send(kind, writes)
        except Reject as refused:
            return [refused] * len(writes)


@bitten_by("one_bad_row_does_not_harm_the_others", "nothing_asked_is_nothing_answered")
class RaisesForOneRow(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        outcomes = super().upsert(kind, writes)
        for outcome in outcomes:
            if isinstance(outcome, ConnectorError):
                raise outcome
        return outcomes or [Retry("nothing")]


@bitten_by("every_outcome_is_true_when_a_request_fails", whole_batches=True, partial_rows=False)
class ForgetsTheHalfThatWasWritten(MemoryConnector):
    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return halving(writes, lambda part: self._send(kind, part))


# Trouble


class Misjudges(MemoryConnector):
    """Base of those that make the wrong error of an answer."""

    def _call(self, request: Callable[[], Any]) -> Any:
        try:
            return super()._call(request)
        except ConnectorError as error:
            raise self.wrong(error) from error.__cause__

    def wrong(self, error: ConnectorError) -> Exception:
        raise NotImplementedError


@bitten_by("trouble_becomes_the_right_error")
class RaisesKeyError(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        return KeyError("results")


@bitten_by("trouble_becomes_the_right_error")
class RetriesAnExpiredToken(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        return Retry(str(error)) if isinstance(error, Suspend) else error


@bitten_by("trouble_becomes_the_right_error")
class TakesPassingTroubleForRefusal(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        return Reject(str(error)) if isinstance(error, Retry) else error


@bitten_by("trouble_becomes_the_right_error", "a_create_that_may_have_been_applied_says_so")
class TriesAgainByItself(MemoryConnector):
    def _call(self, request: Callable[[], Any]) -> Any:
        try:
            return super()._call(request)
        except Retry:
            return super()._call(request)


@bitten_by("retry_after_reaches_the_caller")
class SwallowsRetryAfter(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        return Retry(str(error), ambiguous=error.ambiguous) if isinstance(error, Retry) else error


@bitten_by("retry_after_reaches_the_caller")
class ReadsOnlySeconds(MemoryConnector):
    def _call(self, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except (Refused, Silent) as error:
            after = getattr(error, "retry_after", None) or "0"
            raise Retry("memory", timedelta(seconds=int(after)) if after.isdigit() else None) from error


@bitten_by("no_time_is_made_up")
class MakesATimeUp(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        return Retry(str(error), error.after or timedelta(seconds=1)) if isinstance(error, Retry) else error


@bitten_by("a_create_that_may_have_been_applied_says_so", "an_update_that_was_applied_unheard_says_so")
class IsSureThatNothingHappened(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        return Retry(str(error), error.after) if isinstance(error, Retry) else error


@bitten_by("not_found_is_no_accident")
class StumblesOverNotFound(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        return LookupError("404") if "404" in str(error) else error


@bitten_by("no_message_tells_a_secret_or_a_value")
class TellsItsToken(Misjudges):
    def wrong(self, error: ConnectorError) -> Exception:
        token = self.settings.token.get_secret_value()
        return type(error)(f"{error} with Bearer {token}") if isinstance(error, Suspend) else error


@bitten_by("no_message_tells_a_secret_or_a_value")
class TellsWhatWasRefused(MemoryConnector):
    def _send(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        try:
            return super()._send(kind, writes)
        except Reject as refused:
            raise Reject(str(refused)) from ValueError(f"body was {writes[0].fields}")


# Webhooks


@bitten_by("every_delivery_means_exactly_its_changes")
class TakesADeletionForAnEdit(MemoryConnector):
    def parse(self, body: bytes) -> Sequence[Item]:
        return [
            replace(item, change=replace(item.change, deleted=False)) if item.change else item
            for item in super().parse(body)
        ]


@bitten_by("every_item_has_an_identity_of_its_own")
class CountsItsItems(MemoryConnector):
    counted = 0

    def parse(self, body: bytes) -> Sequence[Item]:
        items = super().parse(body)
        type(self).counted += len(items)
        return [replace(item, key=f"{self.counted}-{place}") for place, item in enumerate(items)]


@bitten_by("every_item_has_an_identity_of_its_own")
class GivesNoReason(MemoryConnector):
    def parse(self, body: bytes) -> Sequence[Item]:
        return [replace(item, reason="") for item in super().parse(body)]


@bitten_by("every_configured_secret_works")
class KnowsOnlyTheNewSecret(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        if super().verify(request) != "0":
            raise BadSignature(Doubt.MISMATCH)
        return "0"


@bitten_by("nothing_is_parsed_to_verify")
class ParsesBeforeItVerifies(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        orjson.loads(request.body)
        return super().verify(request)


@bitten_by("a_missing_header_is_not_believed")
class BelievesTheUnsigned(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        return super().verify(request) if request.header(SIGNATURE) else "unsigned"


@bitten_by("a_missing_header_is_not_believed")
class StumblesOverAMissingHeader(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        request.header(TIMESTAMP)[0]
        return super().verify(request)


@bitten_by("one_wrong_header_is_not_believed")
class ComparesText(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        [value.decode("ascii") for value in request.header(SIGNATURE)]
        return super().verify(request)


@bitten_by("one_wrong_header_is_not_believed")
class ComparesTheBeginning(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        stamps, codes = request.header(TIMESTAMP), request.header(SIGNATURE)
        if stamps and codes and codes[0]:
            for secret in self.settings.webhook_secrets:
                if codes[0].startswith(signature(secret, stamps[0], request.body)):
                    codes = [codes[0][:64]]
        headers = ((TIMESTAMP, stamp) for stamp in stamps)
        return super().verify(replace(request, headers=(*headers, *((SIGNATURE, code) for code in codes))))


@bitten_by("a_changed_body_is_not_believed")
class SignsWithoutWhiteSpace(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        return super().verify(replace(request, body=request.body.strip()))


@bitten_by("a_wrong_time_is_not_believed")
class BelievesTheOld(MemoryConnector):
    def _check_age(self, stamp: int, received_at: datetime) -> None:
        if stamp > received_at.timestamp():
            super()._check_age(stamp, received_at)


@bitten_by("a_wrong_time_is_not_believed")
class BelievesTheFuture(MemoryConnector):
    def _check_age(self, stamp: int, received_at: datetime) -> None:
        if stamp < received_at.timestamp():
            super()._check_age(stamp, received_at)


@bitten_by("a_wrong_time_is_not_believed", "one_wrong_header_is_not_believed")
class LooksAtTheAgeFirst(MemoryConnector):
    def verify(self, request: WebhookRequest) -> str:
        stamps = request.header(TIMESTAMP)
        if stamps and stamps[0].isdigit():
            self._check_age(int(stamps[0][:11]), request.received_at)
        return super().verify(request)


@bitten_by("a_clock_may_be_a_minute_off")
class TrustsItsOwnClock(MemoryConnector):
    def _check_age(self, stamp: int, received_at: datetime) -> None:
        if stamp > received_at.timestamp():
            raise BadSignature(Doubt.FUTURE)


@bitten_by("what_cannot_be_read_is_a_bad_payload")
class TakesTheUnreadableForNothing(MemoryConnector):
    def parse(self, body: bytes) -> Sequence[Item]:
        try:
            return super().parse(body)
        except BadPayload:
            return []


@bitten_by("one_broken_entry_does_not_harm_the_others", "no_body_does_harm")
class GivesUpOnOneEntry(MemoryConnector):
    def _item(self, entry: Any) -> Item:
        return self._readable(entry)


@bitten_by("one_broken_entry_does_not_harm_the_others")
class ThrowsAwayTheWholeDelivery(MemoryConnector):
    def _item(self, entry: Any) -> Item:
        try:
            return self._readable(entry)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise BadPayload("unreadable entry") from None
