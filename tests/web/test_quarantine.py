"""What did not prove itself is kept, bounded, and taken in once it is proved: never twice, never by another tenant."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import timedelta

import pytest
from support.gate import HOOK, NEWER, OLDER, OTHERS, SECRET, Gate, T, kirim, signed

from crmsync.errors import StoreUnavailable
from crmsync.flows import report
from crmsync.flows.quarantine import Outcome, look_again
from crmsync.store import quarantine, tables
from crmsync.store.quarantine import Limits

BODY = b'{"id":"evt_1","type":"contact.updated","data":{"contact":{"id":"ctc_1"}}}'


def bodies(count: int) -> list[bytes]:
    return [b'{"id":"evt_%d"}' % number for number in range(count)]


@pytest.fixture
def gate(database_url: str) -> Iterator[Gate]:
    with Gate(database_url) as running:
        yield running


@pytest.fixture
def sqlite_gate(sqlite_url: str) -> Iterator[Gate]:
    with Gate(sqlite_url) as running:
        yield running


# Promotion


def test_a_secret_that_was_missing_for_two_hours_has_lost_nothing(gate: Gate) -> None:
    for body in bodies(20):
        assert gate.deliver(body, NEWER).status == 503
    assert len(gate.kept()) == 20
    received = gate.now
    gate.now += timedelta(hours=2)
    gate.configure(SECRET, NEWER)

    assert gate.look_again() == Outcome(promoted=20)
    assert gate.kept() == []
    assert {row.body for row in gate.stored()} == set(bodies(20))
    assert {row.received_at for row in gate.stored()} == {received}
    assert len({row.secret for row in gate.stored()}) == 1
    assert gate.deliver(bodies(20)[0], NEWER).status == 200
    assert gate.words()["known"] == 1


def test_a_second_look_with_the_same_secrets_changes_nothing(gate: Gate) -> None:
    gate.deliver(BODY, NEWER)
    before = gate.kept()

    assert gate.look_again() == Outcome(kept=1)
    assert gate.kept() == before


def test_what_came_again_and_was_proved_meanwhile_is_dropped_and_stored_once(gate: Gate) -> None:
    gate.deliver(BODY, NEWER)
    gate.deliver(BODY, NEWER, t=T + 10)
    gate.configure(SECRET, NEWER)
    assert gate.deliver(BODY, NEWER, t=T + 20).status == 200

    assert gate.look_again() == Outcome(known=2)
    assert (len(gate.stored()), gate.kept()) == (1, [])


def test_freshness_is_judged_by_when_it_came(gate: Gate) -> None:
    gate.deliver(b"fresh", NEWER)
    gate.deliver(b"stale", NEWER, t=T - 3600)
    gate.deliver(b"future", NEWER, t=T + 3600)
    gate.now += timedelta(hours=1)
    gate.configure(NEWER)

    assert gate.look_again() == Outcome(promoted=1, kept=2)
    assert [row.body for row in gate.stored()] == [b"fresh"]
    assert [(row.body, row.reason) for row in gate.kept()] == [(b"stale", "stale"), (b"future", "future")]


def test_what_is_stale_and_stored_by_now_is_dropped(gate: Gate) -> None:
    gate.deliver(BODY, t=T - 3600)
    assert gate.deliver(BODY).status == 200

    assert gate.look_again() == Outcome(known=1)
    assert (len(gate.stored()), gate.kept()) == (1, [])


def test_late_deliveries_are_taken_in_where_the_tenant_wants_them(gate: Gate) -> None:
    gate.deliver(b"before", t=T - 3600)
    gate.configure(SECRET, accept_stale_hours=2)

    assert gate.deliver(b"late", t=T - 7200).status == 200
    assert gate.deliver(b"too late", t=T - 7201).status == 503
    assert gate.deliver(b"early", t=T + 301).status == 503
    assert gate.look_again() == Outcome(promoted=1, kept=2)
    assert {row.body for row in gate.stored()} == {b"before", b"late"}


def test_what_another_tenant_signed_is_never_given_to_it(gate: Gate) -> None:
    assert gate.deliver(BODY, OTHERS).status == 503
    [row] = gate.kept()
    assert (row.tenant, row.reason) == ("acme", "cross_tenant")

    assert gate.look_again() == Outcome(kept=1)
    assert [(row.tenant, row.reason) for row in gate.kept()] == [("acme", "cross_tenant")]
    assert gate.stored() == []


def test_a_compressed_body_is_inflated_once_its_signature_is_right(gate: Gate) -> None:
    packed = gzip.compress(BODY)
    gate.post((*signed(packed), ("Content-Encoding", "gzip")), packed)
    gate.post((*signed(BODY), ("Content-Encoding", "gzip")), packed, HOOK)  # the proxy's doing: cannot be proved
    bomb = gzip.compress(b"0" * 1_000_000)
    gate.post((*signed(bomb), ("Content-Encoding", "gzip")), bomb)

    assert gate.look_again() == Outcome(promoted=2, kept=1)
    assert {row.body for row in gate.stored()} == {BODY, bomb}


def test_a_crms_deliveries_wait_and_are_taken_in_alike(gate: Gate) -> None:
    stamp = signed(BODY, "crm-another-0123456789")[0][1]
    assert gate.post((("X-Crm-Signature", stamp),), BODY, "/hooks/acme/crm").status == 503
    assert [(row.source, row.headers) for row in gate.kept()] == [("crm", [["x-crm-signature", stamp]])]
    right = signed(BODY, "crm-0123456789abcdef")[0][1]
    assert gate.post((("X-Crm-Signature", right),), BODY, "/hooks/acme/crm").status == 200


def test_a_row_of_an_endpoint_that_is_gone_waits_until_it_is_too_old(gate: Gate) -> None:
    gate.deliver(BODY, NEWER)
    gate.settle()

    assert look_again(gate.database, {}) == Outcome()
    assert len(gate.kept()) == 1
    assert gate.database.write(lambda tx: quarantine.purge(tx, gate.now)) == 0
    assert gate.database.write(lambda tx: quarantine.purge(tx, gate.now + timedelta(seconds=1))) == 1


def test_a_promotion_that_fails_leaves_everything_as_it_was(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.deliver(BODY, NEWER)
    gate.settle()
    gate.configure(NEWER)

    def broken(*_: object) -> None:
        raise StoreUnavailable("pulled out")

    with monkeypatch.context() as broke:
        broke.setattr(quarantine, "drop", broken)
        with pytest.raises(StoreUnavailable):
            gate.look_again()
    assert (gate.stored(), len(gate.kept())) == ([], 1)
    assert gate.look_again() == Outcome(promoted=1)


def test_pages_are_worked_through_to_the_end(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    for body in bodies(23):
        gate.deliver(body, NEWER)
    gate.deliver(b"x" * 50_000, NEWER)
    gate.settle()
    gate.configure(NEWER)
    monkeypatch.setattr(quarantine, "PAGE_ROWS", 5)
    monkeypatch.setattr(quarantine, "PAGE_BYTES", 10_000)

    assert gate.look_again() == Outcome(promoted=24)


def test_with_no_secret_at_all_nothing_is_believed(gate: Gate) -> None:
    gate.take(kirim("acme"))
    for secret in (SECRET, OLDER, "", "\0"):
        assert gate.deliver(BODY, secret).status == 503
    assert gate.stored() == []


# Bounds


def test_what_is_full_takes_nothing_more_and_keeps_what_it_has(database_url: str) -> None:
    with Gate(database_url, limits=Limits(rows=8)) as gate:
        for body in bodies(10):
            assert gate.deliver(body, NEWER).status == 503
            gate.settle()
        assert [row.body for row in gate.kept()] == bodies(6)  # three quarters for what nobody signed
        assert {fate: count for (_, _, fate), count in gate.pen.counts.items()} == {"kept": 6, "full": 4}
        for number in range(4):
            gate.deliver(b"late %d" % number, t=T - 3600)
            gate.settle()
        assert [row.body for row in gate.kept()][6:] == [b"late 0", b"late 1"]


def test_the_ring_is_bounded_in_bytes_too(database_url: str) -> None:
    with Gate(database_url, limits=Limits(bytes=10_000)) as gate:
        for letter in (b"a", b"b", b"c"):
            gate.deliver(letter * 3_000, NEWER)
            gate.settle()
        assert [row.body[:1] for row in gate.kept()] == [b"a", b"b"]


def test_the_same_request_again_takes_no_more_room(gate: Gate) -> None:
    for _ in range(3):
        gate.deliver(BODY, NEWER)
    gate.deliver(BODY, NEWER, t=T + 1)

    assert len(gate.kept()) == 2
    assert gate.pen.counts == {("acme", "kirim", "kept"): 2, ("acme", "kirim", "known"): 2}


def test_a_forgery_of_the_same_body_does_not_keep_the_real_one_out(gate: Gate) -> None:
    gate.deliver(BODY, "whsec_forged")
    gate.deliver(BODY, NEWER)
    gate.settle()
    gate.configure(NEWER)

    assert gate.look_again() == Outcome(promoted=1, kept=1)


def test_what_is_old_makes_room(database_url: str) -> None:
    with Gate(database_url, limits=Limits(rows=4)) as gate:
        for body in bodies(4):
            gate.deliver(body, NEWER)
        gate.settle()
        assert len(gate.kept()) == 3
        gate.now += timedelta(days=7, seconds=1)
        gate.pen._full_until.clear()
        gate.deliver(b"new", NEWER)
        assert [row.body for row in gate.kept()] == [b"new"]


def test_one_tenants_flood_leaves_room_for_anothers(sqlite_url: str) -> None:
    with Gate(sqlite_url, limits=Limits(rows=4)) as gate:
        for body in bodies(10):
            gate.deliver(body, NEWER)
        gate.deliver(BODY, NEWER, path="/hooks/other/kirim")
        assert [(row.tenant, row.body) for row in gate.kept()][-1] == ("other", BODY)


def test_a_flood_that_the_store_cannot_follow_is_not_kept_and_real_deliveries_are_stored(sqlite_url: str) -> None:
    with Gate(sqlite_url, pause=3600) as gate:  # after its first transaction the pen takes an hour off
        gate.pen._most_rows, gate.pen._share = 8, 0.5
        for number in range(20):
            assert gate.deliver(b"forged %d" % number, NEWER).status == 503
            assert gate.deliver(b"real %d" % number).status == 200
        fates = {fate: count for (_, _, fate), count in gate.pen.counts.items()}
        assert fates["busy"] >= 10
        assert len(gate.stored()) == 20
        gate.running.loop.call_soon_threadsafe(gate.pen._draining.cancel)


def test_a_store_that_is_down_changes_no_answer(sqlite_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(sqlite_gate.database, "write", down)
    assert sqlite_gate.deliver(BODY, NEWER).status == 503
    sqlite_gate.settle()
    assert sqlite_gate.pen.counts == {("acme", "kirim", "failed"): 1}


# What people see


def test_status_tells_rows_bytes_and_age_by_reason(gate: Gate) -> None:
    gate.deliver(BODY, NEWER)
    gate.deliver(BODY, t=T - 3600)
    gate.settle()
    rows = gate.database.read(lambda tx: report.status(tx, gate.now + timedelta(minutes=5)))["quarantine"]

    assert [(row["tenant"], row["source"], row["reason"], row["rows"]) for row in rows] == [
        ("acme", "kirim", "mismatch", 1),
        ("acme", "kirim", "stale", 1),
    ]
    assert all(row["age_seconds"] == 300 and row["bytes"] > len(BODY) for row in rows)


def test_three_failures_in_a_minute_raise_the_alarm_and_say_what_to_do(gate: Gate) -> None:
    assert gate.deliver(b"real").status == 200
    assert gate.intake.alarm.active() == []
    for number in range(3):
        gate.deliver(b"forged %d" % number, NEWER)

    [alarm] = gate.intake.alarm.active()
    assert (alarm["alarm"], alarm["tenant"], alarm["reason"]) == ("signature_failing", "acme", "mismatch")
    assert "secret" in alarm["advice"]


def test_rows_hold_no_header_that_could_be_a_credential(gate: Gate) -> None:
    gate.post((*signed(BODY, NEWER), ("Authorization", "Bearer 123"), ("Cookie", "session=1")), BODY)
    assert [[name for name, _ in row.headers] for row in gate.kept()] == [["x-kirim-signature"]]
    assert gate.rows(tables.Delivery) == []
