"""Who is in a segment, and who works with the CRM."""

from __future__ import annotations

from typing import Any

import pytest

from crmsync.connector import Connector
from crmsync.errors import Reject
from crmsync.model import Can, Member, Members
from crmsync.testing.checks.base import Checks, arranged, key, needs, populate
from crmsync.testing.fake import FakeCrm, WithPeople, WithSegments

SEVERAL_PEOPLE = 230
"""More than a page of users has anywhere."""


class Segments(Checks):
    """`segments` and `members`."""

    def test_every_segment_is_told_with_its_name(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Each once, also an empty one; a size that is told is right."""
        lists = _lists(fake, connector)
        ids = populate(fake, 3)
        made = {lists.add_segment("VIP", ids): ("VIP", 3), lists.add_segment("Nobody yet", []): ("Nobody yet", 0)}
        told = connector.segments()

        assert len({segment.id for segment in told}) == len(told)
        assert {segment.id: segment.name for segment in told} == {id: name for id, (name, _) in made.items()}
        assert [segment for segment in told if segment.size not in (None, made[segment.id][1])] == []

    def test_members_have_the_external_ids_they_carry(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """And none where they carry none."""
        lists = _lists(fake, connector)
        known, other = populate(fake, 2)
        stranger = fake.add(None, {fake.sample.text: "Stranger"})
        found = _members(connector, lists.add_segment("VIP", [known, stranger]))

        assert {member.id: member.external_id for member in found} == {known: key(1), stranger: None}
        assert other not in {member.id for member in found}

    def test_every_page_of_a_segment_is_there(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """A walk through it ends, and has named everybody."""
        lists = _lists(fake, connector)
        ids = populate(fake, fake.sample.several_pages)
        segment = lists.add_segment("All", ids)
        assert connector.members(segment).more, "sample.several_pages fits on one page"

        assert {member.id for member in _members(connector, segment)} == set(ids)

    def test_who_leaves_between_two_pages_hides_nobody(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """Whoever is a member all the time is named."""
        lists = _lists(fake, connector)
        ids = populate(fake, fake.sample.several_pages)
        segment = lists.add_segment("All", ids)
        page = connector.members(segment)
        left = [member.id for member in page.members][:2]
        for id in left:
            lists.leave(segment, id)
        seen = {member.id for member in (*page.members, *_members(connector, segment, page))}

        assert seen >= set(ids) - set(left)

    def test_nobody_is_in_an_empty_segment(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """That is no error, and not everybody."""
        lists = _lists(fake, connector)
        populate(fake, 2)

        assert _members(connector, lists.add_segment("Nobody", [])) == []

    @pytest.mark.parametrize("segment", ["987654321", "no such segment", "../contacts", "'", "%"])
    def test_an_unknown_segment_is_rejected(self, fake: FakeCrm, connector: Connector[Any], segment: str) -> None:
        """It is not an empty one: everybody in it would lose the label."""
        lists = _lists(fake, connector)
        lists.add_segment("VIP", populate(fake, 1))
        with pytest.raises(Reject):
            connector.members(segment)


class People(Checks):
    """`people`."""

    def test_everybody_is_told_also_who_has_left(self, fake: FakeCrm, connector: Connector[Any]) -> None:
        """By id, with the address by which they are recognised."""
        needs(connector, Can.PEOPLE)
        office: WithPeople = arranged(fake, WithPeople)
        made = {
            office.add_person(f"agent{number}@example.com", f"Agent {number}"): (f"agent{number}@example.com", True)
            for number in range(SEVERAL_PEOPLE)
        }
        made[office.add_person("gone@example.com", "Gone Away", active=False)] = ("gone@example.com", False)
        told = connector.people()

        assert len({person.id for person in told}) == len(told)
        assert {person.id: (person.email, person.active) for person in told if person.id in made} == made


def _lists(fake: FakeCrm, connector: Connector[Any]) -> WithSegments:
    needs(connector, Can.SEGMENTS)
    lists: WithSegments = arranged(fake, WithSegments)
    return lists


def _members(connector: Connector[Any], segment: str, after: Members | None = None) -> list[Member]:
    """Everybody whom a walk names, or the rest of one."""
    found: list[Member] = []
    cursor = after.cursor if after else None
    used = {cursor}
    while after is None or after.more:
        after = connector.members(segment, cursor)
        found += after.members
        cursor = after.cursor
        assert cursor not in used or not after.more, "the pages turn in circles: the same cursor came twice"
        used.add(cursor)
    return found
