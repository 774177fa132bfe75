"""Conversations belong to contacts, and stay with them."""

from __future__ import annotations

from typing import Any

import pytest

from crmsync.connector import Connector
from crmsync.errors import Reject
from crmsync.model import CONTACT_LINK, NOTHING, Can, Fields, Kind, Record, Ref, Value, Write, Written
from crmsync.testing.checks.base import Checks, conversation_of, declared, fetched, key, needs, populate, write, written
from crmsync.testing.fake import FakeCrm

KEY = key(1, Kind.CONVERSATION)


class Conversations(Checks):
    """What is particular to a kind of record that belongs to another one's."""

    def test_a_conversation_tells_whose_it_is(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """From the moment at which it is made."""
        new = _new(fake, connector)
        contact, _ = populate(fake, 2)
        outcome = written(write(connector, Kind.CONVERSATION, Write(KEY, {**new, CONTACT_LINK: (contact,)})))

        assert outcome.created
        assert _contacts(_read(connector)) == {contact}

    def test_a_contact_is_added_and_none_is_taken_away(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Whom a person has put there belongs there."""
        new = _new(fake, connector)
        contact, other = populate(fake, 2)
        held: Fields = NOTHING
        for linked in ((contact,), (other,), None):
            fields: dict[str, Value] = {**new, CONTACT_LINK: linked}
            written(write(connector, Kind.CONVERSATION, Write(KEY, fields, held=held)))
            held = _read(connector).fields

        assert _contacts(_read(connector)) == ({contact} if fake.sample.contacts == 1 else {contact, other})

    def test_other_fields_leave_the_contacts_alone(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """What is absent is not touched."""
        new = _new(fake, connector)
        (contact,) = populate(fake, 1)
        text = next(iter(new))
        written(write(connector, Kind.CONVERSATION, Write(KEY, {**new, CONTACT_LINK: (contact,)})))
        written(write(connector, Kind.CONVERSATION, Write(KEY, {text: "Another"})))
        record = _read(connector)

        assert record.fields[text] == "Another"
        assert _contacts(record) == {contact}

    def test_an_unknown_contact_is_refused_and_named(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Alone or with its row; never dropped in silence."""
        new = _new(fake, connector)
        outcome = write(connector, Kind.CONVERSATION, Write(KEY, {**new, CONTACT_LINK: ("987654321",)}))

        if isinstance(outcome, Written):
            assert set(outcome.refused) == {CONTACT_LINK}
            assert _contacts(_read(connector)) == set()
        else:
            assert isinstance(outcome, Reject)
            assert set(outcome.fields) <= {CONTACT_LINK}

    def test_a_conversation_stays_with_a_merged_contact(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """It is the survivor's then."""
        new = _new(fake, connector)
        winner, loser = populate(fake, 2)
        written(write(connector, Kind.CONVERSATION, Write(KEY, {**new, CONTACT_LINK: (loser,)})))
        survivor = fake.merge(winner, loser)

        assert _contacts(_read(connector)) == {survivor}

    def test_contacts_and_conversations_are_told_apart(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """By kind, whatever their ids."""
        new = _new(fake, connector)
        (contact,) = populate(fake, 1)
        written(write(connector, Kind.CONVERSATION, Write(KEY, new)))
        found = connector.fetch(Kind.CONTACT, [Ref(external_id=KEY)])

        assert list(found) == [None]
        assert _read(connector).kind is Kind.CONVERSATION
        assert connector.fetch(Kind.CONVERSATION, [Ref(external_id=key(1))])[0] is None
        assert fetched(connector, Kind.CONTACT, Ref(id=contact)).kind is Kind.CONTACT


def _new(fake: FakeCrm, connector: Connector[Any]) -> Fields:
    """What a new conversation is made with."""
    if Kind.CONVERSATION not in connector.kinds:
        pytest.skip(f"{connector.name} keeps no {Kind.CONVERSATION}")
    needs(connector, Can.CREATE)
    if fake.sample.kind is not Kind.CONTACT:
        pytest.skip("conversations are checked with the fake whose sample is contacts")
    return declared(conversation_of(fake), "fields of a new conversation")


def _read(connector: Connector[Any]) -> Record:
    return fetched(connector, Kind.CONVERSATION, Ref(external_id=KEY))


def _contacts(record: Record) -> set[str]:
    linked = record.fields.get(CONTACT_LINK)
    return set(linked) if isinstance(linked, tuple) else {str(linked)} if linked else set()
