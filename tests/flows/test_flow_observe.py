"""Deliveries come to an end, each its own: applied, superseded, read again, or dead; and none holds up another."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select
from support.household import Crm, CrmConnector, Household

from crmsync.errors import BadPayload, Fenced, Reject, Retry, Suspend
from crmsync.flows.observe import ATTEMPTS
from crmsync.model import Item, Kind, Record, Ref
from crmsync.store import deliveries, tables
from crmsync.store.database import Database
from crmsync.store.deliveries import DeliveryState
from crmsync.store.records import KIRIM


class Touchy(CrmConnector):
    """A connector with a fault: some bodies and some records are too much for it."""

    def parse(self, body: bytes) -> Sequence[Item]:
        if b"poison" in body:
            raise RuntimeError("a fault of ours")
        if b"nonsense" in body:
            raise BadPayload("no changes")
        return super().parse(body)

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        self.crm.asked.append([ref.id for ref in refs])
        for ref in refs:
            if ref.id in self.crm.trouble:
                raise self.crm.trouble[ref.id]
        return super().fetch(kind, refs)


@pytest.fixture
def home(database: Database) -> Household:
    crm = Crm()
    crm.connector = Touchy
    crm.trouble, crm.asked = {}, []
    crm.hooks_say_values = False
    return Household(database, crms={"crm": crm})


def states(home: Household) -> list[tuple[int, str]]:
    table = tables.Delivery.__table__
    rows = home.database.read(lambda tx: tx.execute(select(table).order_by(table.c.id)).all())
    return [(row.state, row.reason) for row in rows]


def endings(home: Household) -> dict[str, str]:
    table = tables.SeenItem.__table__
    return {row.key: row.outcome for row in home.database.read(lambda tx: tx.execute(select(table)).all())}


def said(key: str, id: str, at: Any, **more: Any) -> bytes:
    entry = {"key": key, "type": "contact.updated", "id": id, "at": at.isoformat(), **more}
    return orjson.dumps({"changes": [entry]})


def test_an_item_is_applied_once_however_often_it_is_delivered(home: Household) -> None:
    at = home.clock()
    first = said("k1", "c1", at, version=at.isoformat(), fields={"name": "Ana"})
    later = said("k2", "c1", at, version=(at + timedelta(seconds=1)).isoformat(), fields={"name": "Ani"})
    for body in (first, later, first + b" ", later + b"  "):
        home.arrive("crm", body)
        home.observe("crm")

    assert home.view("crm", "c1").fields["name"] == "Ani"
    assert endings(home) == {"k1": "applied", "k2": "applied"}
    assert states(home) == [(DeliveryState.DONE, "")] * 4


def test_a_hint_that_was_followed_is_not_followed_again(home: Household) -> None:
    body = said("k1", home.crm.add(None, {"name": "Ana"}), home.clock())
    home.crm.take_hooks()
    home.arrive("crm", body)
    home.observe("crm")
    home.reread("crm")
    home.arrive("crm", body + b" ")
    home.observe("crm")

    assert home.stale("crm") == {}


def test_old_news_and_news_of_the_same_age_end_as_such(home: Household) -> None:
    at = home.clock()
    version = at.isoformat()
    home.arrive("crm", said("k1", "c1", at, version=version, fields={"name": "Ana"}))
    home.arrive("crm", said("k2", "c1", at, version=(at - timedelta(days=1)).isoformat(), fields={"name": "Old"}))
    home.arrive("crm", said("k3", "c1", at, version=version, fields={"name": "Ana"}))
    home.arrive("crm", said("k4", "c1", at, version=version, fields={"name": "Other"}))
    home.observe("crm")

    assert endings(home) == {"k1": "applied", "k2": "superseded", "k3": "superseded", "k4": "reread"}
    assert home.view("crm", "c1").fields["name"] == "Ana"
    assert list(home.stale("crm")) == ["c1"]


def test_a_statement_that_is_not_whole_is_read_even_if_it_says_nothing_new(home: Household) -> None:
    """What it leaves out may have changed in a delivery that is still to come, and will then look old."""
    id = home.crm.add(None, {"name": "Ana", "company": "a"})
    home.database.write(lambda tx: None)
    home.settle()
    assert home.view("crm", id).fields["company"] == "a"
    home.clock.advance(timedelta(seconds=1))
    home.crm.edit(id, {"company": "b"})
    second = home.clock.advance(timedelta(seconds=1))
    home.crm.edit(id, {"name": "Ana Lee"})
    home.crm.edit(id, {"name": "Ana"})
    home.crm.take_hooks()
    home.arrive("crm", said("k9", id, second, version=second.isoformat(), fields={"name": "Ana"}, partial=True))
    home.arrive(
        "crm", said("k8", id, second, version=(second - timedelta(seconds=1)).isoformat(), fields={"company": "b"})
    )
    home.settle()

    assert home.view("crm", id).fields["company"] == "b"


def test_a_body_that_cannot_be_understood_is_dead_and_says_why(home: Household) -> None:
    home.arrive("crm", b"nonsense")
    home.arrive("crm", said("k1", "c1", home.clock(), version=home.clock().isoformat(), fields={"name": "Ana"}))
    home.observe("crm")

    assert states(home) == [(DeliveryState.DEAD, "no changes"), (DeliveryState.DONE, "")]


def test_a_delivery_that_raises_is_dead_after_its_attempts_and_takes_no_other_with_it(home: Household) -> None:
    at = home.clock()
    home.arrive("crm", b"poison")
    for number in range(5):
        home.arrive("crm", said(f"k{number}", f"c{number}", at, version=at.isoformat(), fields={"name": "Ana"}))
    raised = 0
    for _ in range(3 * ATTEMPTS):
        try:
            home.observe("crm")
        except RuntimeError:
            raised += 1
        home.clock.advance(timedelta(minutes=1))

    assert raised == ATTEMPTS
    assert states(home) == [(DeliveryState.DEAD, "attempts_exhausted")] + [(DeliveryState.DONE, "")] * 5
    assert len(endings(home)) == 5


def test_what_arrives_while_a_poisoned_delivery_is_tried_is_taken_in(home: Household) -> None:
    at = home.clock()
    home.arrive("crm", b"poison")
    for number in range(ATTEMPTS + 1):
        home.arrive("crm", said(f"k{number}", f"c{number}", at, version=at.isoformat(), fields={"name": "Ana"}))
        try:
            home.observe("crm")
        except RuntimeError:
            continue

    assert len(endings(home)) == ATTEMPTS + 1


def test_a_fenced_turn_takes_nothing_in(home: Household) -> None:
    home.arrive("crm", said("k1", "c1", home.clock(), version=home.clock().isoformat(), fields={"name": "Ana"}))
    home.fence_breaks = 1
    with pytest.raises(Fenced):
        home.observe("crm")

    assert (states(home), endings(home), home.view("crm", "c1")) == ([(DeliveryState.PENDING, "")], {}, None)
    home.observe("crm")
    assert endings(home) == {"k1": "applied"}


def test_a_hint_has_its_record_read(home: Household) -> None:
    id = home.crm.add(None, {"name": "Ana"})
    home.arrive_all()
    home.observe("crm")

    assert home.view("crm", id) is None
    home.reread("crm")
    assert home.view("crm", id).fields["name"] == "Ana"
    assert home.stale("crm") == {}


def test_a_record_that_is_marked_while_it_is_read_stays_stale(home: Household) -> None:
    id = home.crm.add(None, {"name": "Ana"})
    home.arrive_all()
    home.observe("crm")
    read = home.tenant.connections["crm"].connector.fetch

    def reading(kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        held = read(kind, refs)
        home.clock.advance(timedelta(seconds=1))
        home.crm.edit(id, {"name": "Ani"})
        home.arrive_all()
        home.observe("crm")
        return held

    home.tenant.connections["crm"].connector.fetch = reading  # type: ignore[method-assign]
    home.reread("crm")
    assert list(home.stale("crm")) == [id]
    home.tenant.connections["crm"].connector.fetch = read  # type: ignore[method-assign]
    home.reread("crm")
    assert home.view("crm", id).fields["name"] == "Ani"
    assert home.stale("crm") == {}


def test_what_a_lagging_place_says_is_read_again_later(home: Household) -> None:
    at = home.clock.advance(timedelta(minutes=1))
    id = home.crm.add(None, {"name": "Ana"})
    home.crm.take_hooks()
    newer = (at + timedelta(seconds=5)).isoformat()
    home.arrive("crm", said("k1", id, at, version=newer, fields={"name": "Ani"}, partial=True))
    home.observe("crm")
    home.reread("crm")
    assert list(home.stale("crm")) == [id]

    home.clock.advance(timedelta(seconds=5))
    home.crm.edit(id, {"name": "Ani", "company": "Acme"})
    home.crm.take_hooks()
    home.reread("crm")

    assert home.view("crm", id).fields["company"] == "Acme"
    assert home.stale("crm") == {}


def marked(home: Household, count: int) -> list[str]:
    ids = [home.crm.add(None, {"name": f"n{number}"}) for number in range(count)]
    home.arrive_all()
    home.observe("crm")
    return ids


def test_an_id_that_is_refused_counts_as_gone_and_the_others_are_read(home: Household) -> None:
    ids = marked(home, 7)
    home.crm.trouble = {ids[3]: Reject("malformed")}
    home.reread("crm")

    assert home.stale("crm") == {}
    assert [home.view("crm", id).exists for id in ids] == [True, True, True, False, True, True, True]


def test_a_record_that_cannot_be_read_does_not_keep_the_others_from_being_read(home: Household) -> None:
    ids = marked(home, 7)
    home.crm.trouble = {ids[0]: Retry("always busy")}
    for _ in range(6):
        with contextlib.suppress(Retry):
            home.reread("crm")
        home.clock.advance(timedelta(minutes=20))

    assert list(home.stale("crm")) == [ids[0]]
    assert all(home.view("crm", id) is not None for id in ids[1:])
    home.crm.trouble = {}
    home.reread("crm")
    assert home.stale("crm") == {}


def test_a_platform_that_fails_altogether_is_not_asked_for_each_record(home: Household) -> None:
    ids = marked(home, 20)
    home.crm.trouble = {id: Retry("down") for id in ids}
    for _ in range(4):
        home.crm.asked.clear()
        with pytest.raises(Retry):
            home.reread("crm")

    assert len(home.crm.asked) <= 3


def test_a_suspended_platform_leaves_everything_stale(home: Household) -> None:
    ids = marked(home, 3)
    home.crm.trouble = {ids[0]: Suspend("expired")}
    with pytest.raises(Suspend):
        home.reread("crm")

    assert sorted(home.stale("crm")) == sorted(ids)


def test_a_poll_stores_its_rows_and_its_cursor_together(home: Household) -> None:
    home.poll("crm")
    home.clock.advance(timedelta(minutes=1))
    id = home.crm.add(None, {"name": "Ana"})
    home.fence_breaks = 1
    with pytest.raises(Fenced):
        home.poll("crm")
    assert home.view("crm", id) is None

    home.poll("crm")
    assert home.view("crm", id).fields["name"] == "Ana"


def test_a_poll_with_more_pages_stays_due_until_the_last(home: Household) -> None:
    home.poll("crm")
    home.clock.advance(timedelta(minutes=1))
    home.crm.page_size = 2
    ids = [home.crm.add(None, {"name": f"n{number}"}) for number in range(5)]
    home.crm.take_hooks()
    home.poll("crm")
    home.settle()

    assert all(home.view("crm", id) is not None for id in ids)


def test_deliveries_are_counted_and_purged_when_they_are_understood(home: Household) -> None:
    at = home.clock()
    home.arrive("crm", said("k1", "c1", at, version=at.isoformat(), fields={"name": "Ana"}))
    home.arrive("crm", b"nonsense")
    home.observe("crm")
    home.arrive(KIRIM, b"{}")
    since = at - timedelta(minutes=1)

    counted = {
        row.source: (row.pending, row.dead) for row in home.database.read(lambda tx: deliveries.counts(tx, since))
    }
    assert counted == {"crm": (0, 1), KIRIM: (1, 0)}
    assert home.database.write(lambda tx: deliveries.purge(tx, at + timedelta(days=46))) == 1
    assert states(home) == [(DeliveryState.DEAD, "no changes"), (DeliveryState.PENDING, "")]
