"""Entries on timelines: each once, whatever became of the answer, and changed where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from crmsync.connector import Connector, LogOutcome
from crmsync.errors import ConnectorError, Reject, Retry
from crmsync.model import Activity, ActivityKind, Can, Direction, Kind, Logged, MessageStatus, Write
from crmsync.testing.checks.base import (
    TEXTS,
    Checks,
    arranged,
    conversation_of,
    declared,
    key,
    needs,
    populate,
    write,
    written,
)
from crmsync.testing.fake import FakeCrm, Trouble, WithTimelines

NOBODY = "987654321"


class Timelines(Checks):
    """`log`."""

    @pytest.mark.parametrize("kind", ActivityKind)
    def test_an_entry_stands_beside_its_contact(
        self, fake: FakeCrm, connector: Connector[Any], kind: ActivityKind
    ) -> None:
        """With its title and its text, and nowhere else."""
        book = _book(fake, connector)
        one, other = populate(fake, 2)
        made = logged(connector, entry(fake, 1, one, kind=kind))
        (found,) = book.timeline(one)

        assert made.created
        assert found.id == made.id
        assert "WhatsApp with Ana" in found.text
        assert "Hello 1" in found.text
        assert list(book.timeline(other)) == []

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    @pytest.mark.parametrize("kind", ActivityKind)
    def test_what_was_said_is_shown_as_it_was_said(
        self, fake: FakeCrm, connector: Connector[Any], kind: ActivityKind, text: str
    ) -> None:
        """Never taken for markup, a number or a formula."""
        book = _book(fake, connector)
        (contact,) = populate(fake, 1)
        logged(connector, replace(entry(fake, 1, contact, kind=kind), body=text))

        assert text in book.timeline(contact)[0].text

    def test_an_entry_stands_beside_its_conversation_too(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Where conversations are records."""
        book = _book(fake, connector)
        if Kind.CONVERSATION not in connector.kinds:
            pytest.skip(f"{connector.name} keeps no {Kind.CONVERSATION}")
        needs(connector, Can.CREATE)
        fields = declared(conversation_of(fake), "fields of a new conversation")
        (contact,) = populate(fake, 1)
        made = written(write(connector, Kind.CONVERSATION, Write(key(1, Kind.CONVERSATION), fields))).record
        conversation = made.id if made else ""
        done = logged(connector, replace(entry(fake, 1, contact), conversation=conversation))

        assert [each.id for each in book.timeline(conversation)] == [done.id]
        assert [each.id for each in book.timeline(contact)] == [done.id]

    @pytest.mark.parametrize("kind", ActivityKind)
    def test_an_entry_with_an_id_is_changed_where_it_stands(
        self, fake: FakeCrm, connector: Connector[Any], kind: ActivityKind
    ) -> None:
        """A status that moves, a digest that grows."""
        book = _book(fake, connector)
        (contact,) = populate(fake, 1)
        first = replace(entry(fake, 1, contact, kind=kind), status=MessageStatus.SENT)
        made = logged(connector, first)
        news = replace(first, id=made.id, status=MessageStatus.READ, body="Hello again")
        changed = logged(connector, news)
        (found,) = book.timeline(contact)

        assert (changed.id, changed.created) == (made.id, False)
        assert "Hello again" in found.text
        assert "Hello 1" not in found.text
        assert found.status in (None, MessageStatus.READ)

    @pytest.mark.parametrize("kind", ActivityKind)
    def test_a_lost_answer_makes_no_second_entry(
        self, fake: FakeCrm, connector: Connector[Any], kind: ActivityKind
    ) -> None:
        """It was made and nobody said so: it is found by its key, and brought up to date."""
        book = _book(fake, connector)
        (contact,) = populate(fake, 1)
        logged(connector, entry(fake, 0, contact, kind=kind))
        fake.fail_next(Trouble.LOST)
        (lost,) = attempted(connector, [entry(fake, 1, contact, kind=kind)])
        fake.heal()
        again = replace(entry(fake, 1, contact, kind=kind), doubtful=True, body="Hello again")
        found = logged(connector, again)

        assert isinstance(lost, Retry)
        assert lost.ambiguous
        assert not found.created
        assert ["Hello again" in each.text for each in book.timeline(contact)] == [False, True]

    def test_a_doubtful_entry_that_is_not_there_is_made(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Doubt is no reason to leave it out, and another entry is not taken for it."""
        book = _book(fake, connector)
        (contact,) = populate(fake, 1)
        there, missing = entry(fake, 1, contact), entry(fake, 2, contact)
        made = logged(connector, there)
        outcomes = connector.log([replace(missing, doubtful=True), replace(there, doubtful=True)])

        assert [isinstance(each, Logged) and each.created for each in outcomes] == [True, False]
        assert book.timeline(contact)[0].id == made.id
        assert len(book.timeline(contact)) == 2

    def test_a_doubtful_entry_moves_with_a_merged_contact(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """It was made beside a record that has become another one's."""
        book = _book(fake, connector)
        winner, loser = populate(fake, 2)
        made = logged(connector, entry(fake, 1, loser))
        survivor = fake.merge(winner, loser)
        found = logged(connector, replace(entry(fake, 1, loser), doubtful=True))

        assert (found.id, found.created) == (made.id, False)
        assert [each.id for each in book.timeline(survivor)] == [made.id]

    def test_n_entries_have_n_outcomes_in_order(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A full batch; new ones and known ones mixed, of both kinds."""
        book = _book(fake, connector)
        contacts = populate(fake, 2)
        known = logged(connector, entry(fake, 0, contacts[0]))
        size = connector.batch_size
        kinds = list(ActivityKind)
        entries = [entry(fake, n, contacts[n % 2], kind=kinds[n % 3 // 2]) for n in range(1, size)]
        entries.insert(size // 2, replace(entry(fake, 0, contacts[0]), id=known.id, body="Known 0"))
        outcomes = connector.log(entries)
        texts = {each.id: each.text for contact in contacts for each in book.timeline(contact)}

        assert len(outcomes) == size
        for sent, outcome in zip(entries, outcomes, strict=True):
            assert isinstance(outcome, Logged)
            assert sent.body in texts[outcome.id].split("\n")
        assert [outcome.created for outcome in outcomes if isinstance(outcome, Logged)].count(False) == 1

    def test_no_entry_is_no_trouble(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Nothing is asked, nothing is answered."""
        _book(fake, connector)

        assert list(connector.log([])) == []

    @pytest.mark.parametrize("place", [0, 2])
    def test_one_bad_entry_does_not_harm_the_others(self, fake: FakeCrm, connector: Connector[Any], place: int) -> None:
        """One whose contact is gone is refused alone."""
        book = _book(fake, connector)
        (contact,) = populate(fake, 1)
        entries = [entry(fake, number, contact) for number in range(3)]
        entries[place] = replace(entries[place], contact=NOBODY)
        outcomes = list(attempted(connector, entries, size=3 if connector.batch_size >= 3 else 1))
        guilty = outcomes.pop(place)

        assert isinstance(guilty, Reject)
        assert [type(outcome) for outcome in outcomes] == [Logged, Logged]
        assert len(book.timeline(contact)) == 2

    @pytest.mark.parametrize("skip", [0, 1, 2])
    @pytest.mark.parametrize("trouble", [400, 401, 429, 500, Trouble.RESET, Trouble.LOST])
    def test_every_outcome_of_an_entry_is_true_when_a_request_fails(
        self, fake: FakeCrm, connector: Connector[Any], trouble: Trouble | int, skip: int
    ) -> None:
        """What is told as logged stands there; what is told as refused or not sent does not."""
        book = _book(fake, connector)
        (contact,) = populate(fake, 1)
        known = logged(connector, entry(fake, 0, contact))
        entries = [
            replace(entry(fake, 0, contact), id=known.id, body="Hello 9"),
            entry(fake, 1, contact),
            replace(entry(fake, 2, contact), doubtful=True),
            entry(fake, 3, contact, kind=ActivityKind.DIGEST),
        ]
        fake.fail_next(trouble, skip=skip)
        outcomes = attempted(connector, entries, size=connector.batch_size)
        fake.heal()
        said = [each.text for each in book.timeline(contact)]

        for sent, outcome in zip(entries, outcomes, strict=True):
            stands = any(sent.body in text for text in said)
            if isinstance(outcome, Logged):
                assert stands, "told as logged, and not there"
            elif not (isinstance(outcome, Retry) and outcome.ambiguous):
                assert not stands, f"told as {type(outcome).__name__}, and there all the same"


def entry(fake: FakeCrm, number: int, contact: str, *, kind: ActivityKind = ActivityKind.MESSAGE) -> Activity:
    """The n-th entry for a contact."""
    at = fake.now().replace(microsecond=0) - timedelta(hours=1)
    direction = Direction.OUTBOUND if kind is ActivityKind.MESSAGE else None
    return Activity(f"entry-{number}", kind, at, "WhatsApp with Ana", f"Hello {number}", contact, direction=direction)


def logged(connector: Connector[Any], activity: Activity) -> Logged:
    """The entry must be taken."""
    (outcome,) = connector.log([activity])
    assert isinstance(outcome, Logged), f"the entry was not taken: {type(outcome).__name__}"
    return outcome


def attempted(connector: Connector[Any], entries: Sequence[Activity], *, size: int = 1) -> list[LogOutcome]:
    """The outcomes; an error that was raised is the outcome of every entry of its call."""
    outcomes: list[LogOutcome] = []
    for start in range(0, len(entries), size):
        part = entries[start : start + size]
        try:
            answered = list(connector.log(part))
        except ConnectorError as error:
            answered = [error] * len(part)
        assert len(answered) == len(part), f"{len(part)} entries have {len(answered)} outcomes"
        outcomes += answered
    return outcomes


def _book(fake: FakeCrm, connector: Connector[Any]) -> WithTimelines:
    needs(connector, Can.ACTIVITIES)
    book: WithTimelines = arranged(fake, WithTimelines)
    return book
