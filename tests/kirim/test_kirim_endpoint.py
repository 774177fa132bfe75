"""Kirim as an endpoint over a real socket: both readings of PATCH, several numbers, walks, searches and webhooks."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kirim.canned import KEY, NUMBER, SECOND, SECRET, Canned, around, data, raw, refusal, settings

from crmsync.errors import BadPayload, BadSignature, Doubt, Reject, Retry, Suspend, Unsupported
from crmsync.http import Unlimited
from crmsync.kirim.endpoint import Kirim
from crmsync.kirim.numbers import NumberBook
from crmsync.kirim.signature import Secret, sign
from crmsync.model import Kind, Ref, WebhookRequest, Write, Written
from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.kirim import Behaviour, KirimEmulator, Metadata

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONTACT = "ctc_01HXYZABCDEFGHJKMNPQRSTVWX"


@pytest.fixture(params=list(Metadata), ids=lambda reading: reading.value)
def reading(request: pytest.FixtureRequest) -> Metadata:
    """Whether PATCH merges metadata or replaces it: nobody says, so everything has to work under both."""
    found: Metadata = request.param
    return found


@pytest.fixture
def platform() -> Iterator[KirimEmulator]:
    with KirimEmulator(key=KEY, numbers=((NUMBER, "+62 811"), (SECOND, "+62 822"))) as emulator:
        yield emulator


@pytest.fixture
def kirim(platform: KirimEmulator) -> Iterator[Kirim]:
    made = connect(platform.url, phone_number_ids=[NUMBER, SECOND])
    yield made
    made.close()


def connect(url: str, **more: Any) -> Kirim:
    return Kirim(settings(url, **more), around(Unlimited()))


def write(kirim: Kirim, contact_id: str, **fields: Any) -> Written:
    (outcome,) = kirim.upsert(Kind.CONTACT, [Write(contact_id, {n.replace("__", "."): v for n, v in fields.items()})])
    assert isinstance(outcome, Written), outcome
    return outcome


def patches(platform: KirimEmulator) -> int:
    return platform.calls["PATCH /v1/{number}/contacts/{id}"]


def walk(kirim: Kirim, cursor: str | None = None, since: datetime | None = None) -> tuple[list[str], str]:
    ids: list[str] = []
    while True:
        page = kirim.changed(Kind.CONTACT, cursor, since)
        ids += [record.id for record in page.records]
        cursor, since = page.cursor, None
        if not page.more:
            return ids, cursor


# -- writing


def test_foreign_metadata_survives(platform: KirimEmulator, kirim: Kirim, reading: Metadata) -> None:
    platform.behaviour.metadata = reading
    foreign = {"theirs": {"deep": [1, {"ü": None}]}, "n": 1.5, "list": ["a"]}
    made = platform.create_contact("+628111111111", name="Ana", metadata={**foreign, "crm_id": "old"})
    written = write(kirim, made, metadata__crm_id="new", metadata__segment="vip")
    assert platform.get(made)["metadata"] == {**foreign, "crm_id": "new", "segment": "vip"}
    assert written.record is not None
    assert written.record.fields["metadata.crm_id"] == "new"
    assert written.record.fields["metadata.list"] == ("a",)


def test_a_null_of_somebody_else_survives_and_costs_a_second_call_once_at_most(
    platform: KirimEmulator, kirim: Kirim, reading: Metadata
) -> None:
    """Where metadata is merged a null that is sent removes its key; where it is replaced one that is not sent does."""
    platform.behaviour.metadata = reading
    foreign = {"theirs": None, "name": None, "also": 0}
    made = [platform.create_contact(f"+62811111111{number}", metadata=dict(foreign)) for number in range(3)]
    for contact in made:
        written = write(kirim, contact, name="Ana", metadata__crm_id="7")
        assert platform.get(contact)["metadata"] == {**foreign, "crm_id": "7"}
        assert written.record is not None
        assert written.record.fields["metadata.crm_id"] == "7"
    assert patches(platform) == (3 if reading is Metadata.MERGE else 4)

    write(kirim, made[0], metadata__crm_id=None)
    write(kirim, made[0], metadata__segment="vip")
    held = platform.get(made[0])["metadata"]
    assert {key: held[key] for key in foreign} == foreign
    assert (held.get("crm_id"), held["segment"]) == (None, "vip")
    assert patches(platform) == (5 if reading is Metadata.MERGE else 6)


@pytest.mark.parametrize("refused", [False, True])
def test_a_null_is_put_back_also_where_an_answer_shows_no_metadata(refused: bool) -> None:
    """And if that is refused, what was written stays written."""
    sent: list[Any] = []
    held: dict[str, Any] = {"theirs": None, "crm_id": "old"}

    def answer(call: Call) -> Reply:
        if call.method == "GET":
            return data({"id": CONTACT, "metadata": held})
        sent.append(call.json()["metadata"])
        if refused and len(sent) > 1:
            return refusal(400, "invalid_field_value")
        held.clear()
        held.update(sent[-1])
        return data({"id": CONTACT})

    with Canned(answer) as server:
        kirim = connect(server.url)
        record = write(kirim, CONTACT, metadata__crm_id="7").record
        kirim.close()
    assert sent == [{"crm_id": "7"}, {"crm_id": "7", "theirs": None}]
    assert record is not None
    assert record.fields["metadata.crm_id"] == "7"


def test_a_cleared_key_is_empty_and_the_others_stay(platform: KirimEmulator, kirim: Kirim, reading: Metadata) -> None:
    platform.behaviour.metadata = reading
    made = platform.create_contact("+628111111111", metadata={"theirs": 1, "crm_id": "old"})
    written = write(kirim, made, metadata__crm_id=None)
    held = platform.get(made)["metadata"]
    assert (held.get("crm_id"), held["theirs"]) == (None, 1)
    assert written.record is not None
    assert written.record.fields["metadata.crm_id"] is None
    write(kirim, made, metadata__crm_id=None)
    assert patches(platform) == 1


def test_nothing_is_sent_if_nothing_differs(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", name="Ana", metadata={"crm_id": "7", "tags": ["a"], "yes": True})
    written = write(
        kirim, made, name="Ana", email=None, metadata__crm_id="7", metadata__tags=("a",), metadata__gone=None
    )
    assert patches(platform) == 0
    assert written.record is not None
    assert written.record.fields["name"] == "Ana"
    write(kirim, made, metadata__yes=1)
    assert patches(platform) == 1


def test_only_what_differs_is_sent(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", name="Ana", email="ana@example.com", metadata={"crm_id": "7"})
    write(kirim, made, name="Ana", email="bea@example.com", metadata__crm_id="7")
    (effect,) = platform.ledger.effects("update")
    assert set(effect.fields) == {"email"}


def test_the_answer_is_what_kirim_holds(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", name="Ana", email="ana@example.com")
    record = write(kirim, made, name="Bea").record
    assert record is not None
    assert (record.id, record.external_id) == (made, made)
    assert (record.fields["name"], record.fields["email"]) == ("Bea", "ana@example.com")
    assert record.version is not None


def test_a_contact_that_is_not_there_is_rejected_and_never_made(platform: KirimEmulator, kirim: Kirim) -> None:
    (outcome,) = kirim.upsert(Kind.CONTACT, [Write(CONTACT, {"name": "x"})])
    assert isinstance(outcome, Reject)
    assert platform.all() == {}


def test_a_contact_that_goes_before_it_is_written_is_rejected() -> None:
    def answer(call: Call) -> Reply:
        return data({"id": CONTACT, "name": "x"}) if call.method == "GET" else refusal(404, "resource_not_found")

    with Canned(answer) as server:
        kirim = connect(server.url)
        (outcome,) = kirim.upsert(Kind.CONTACT, [Write(CONTACT, {"name": "y"})])
        kirim.close()
    assert isinstance(outcome, Reject)


def test_a_contact_that_goes_right_after_it_was_written_is_rejected() -> None:
    turns = iter([data({"id": CONTACT, "name": "x"}), Reply(204, None), refusal(404, "resource_not_found")])
    with Canned(lambda call: next(turns)) as server:
        kirim = connect(server.url)
        (outcome,) = kirim.upsert(Kind.CONTACT, [Write(CONTACT, {"name": "y"})])
        kirim.close()
    assert isinstance(outcome, Reject)


def test_a_write_without_an_answer_body_is_read_back() -> None:
    held = {"id": CONTACT, "name": "x"}

    def answer(call: Call) -> Reply:
        if call.method == "GET":
            return data(held)
        held.update(json.loads(call.body))
        return Reply(204, None)

    with Canned(answer) as server:
        kirim = connect(server.url)
        record = write(kirim, CONTACT, name="y").record
        kirim.close()
    assert record is not None
    assert record.fields["name"] == "y"


def test_what_kirim_does_not_take_is_named_and_the_rest_written(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", name="Ana")
    written = write(kirim, made, name="Bea", phone_number="+628222222222")
    assert dict(written.refused) == {"phone_number": "read_only"}
    assert platform.get(made)["name"] == "Bea"
    (outcome,) = kirim.upsert(Kind.CONTACT, [Write(made, {"phone_number": "+628222222222"})])
    assert isinstance(outcome, Reject)
    assert outcome.fields == ("phone_number",)


def test_a_refused_field_does_not_hold_the_others_back(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", name="Ana")
    written = write(kirim, made, name="Bea", email="no address", metadata__crm_id="7")
    assert dict(written.refused) == {"email": "kirim answered 400 invalid_field_value"}
    held = platform.get(made)
    assert (held["name"], held["email"], held["metadata"]) == ("Bea", None, {"crm_id": "7"})
    (outcome,) = kirim.upsert(Kind.CONTACT, [Write(made, {"email": "no address"})])
    assert isinstance(outcome, Reject)
    assert outcome.fields == ("email",)


def test_refused_metadata_means_every_key_we_write() -> None:
    def answer(call: Call) -> Reply:
        if call.method == "PATCH" and b"metadata" in call.body:
            return refusal(400, "invalid_field_value", param="/metadata")
        return data({"id": CONTACT, "name": "Bea" if call.method == "PATCH" else "Ana"})

    with Canned(answer) as server:
        kirim = connect(server.url)
        written = write(kirim, CONTACT, name="Bea", metadata__a="1", metadata__b="2")
        kirim.close()
    assert set(written.refused) == {"metadata.a", "metadata.b"}
    assert written.record is not None
    assert written.record.fields["name"] == "Bea"


def test_a_failing_write_does_not_affect_the_others(platform: KirimEmulator, kirim: Kirim) -> None:
    ids = [platform.create_contact(f"+6281{number:08d}", name="old") for number in range(5)]
    platform.faults.fail_next(1, "500", f"/v1/{NUMBER}/contacts/{ids[2]}", method="PATCH")
    platform.faults.fail_next(1, Fault.error(422), f"/v1/{NUMBER}/contacts/{ids[3]}", method="PATCH")
    outcomes = kirim.upsert(Kind.CONTACT, [Write(one, {"name": "new"}) for one in ids])
    assert [type(outcome) for outcome in outcomes] == [Written, Written, Retry, Reject, Written]
    assert [platform.get(one)["name"] for one in ids] == ["new", "new", "old", "old", "new"]
    assert isinstance(outcomes[2], Retry)
    assert outcomes[2].ambiguous


def test_a_key_that_is_revoked_suspends_the_whole_batch(platform: KirimEmulator, kirim: Kirim) -> None:
    ids = [platform.create_contact(f"+6281{number:08d}", name="old") for number in range(3)]
    platform.faults.outage("401")
    with pytest.raises(Suspend):
        kirim.upsert(Kind.CONTACT, [Write(one, {"name": "new"}) for one in ids])


def test_two_writers_of_one_contacts_metadata_do_not_undo_each_other(
    platform: KirimEmulator, kirim: Kirim, reading: Metadata
) -> None:
    platform.behaviour.metadata = reading
    made = platform.create_contact("+628111111111", metadata={"theirs": 1})
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: write(kirim, made, **{f"metadata__k{number}": "x"}), range(12)))
    assert platform.get(made)["metadata"] == {"theirs": 1} | {f"k{number}": "x" for number in range(12)}


# -- reading


def test_a_contact_is_found_under_whichever_number_has_it(platform: KirimEmulator, kirim: Kirim) -> None:
    first = platform.create_contact("+628111111111", name="Ana", number=NUMBER)
    second = platform.create_contact("+628111111111", name="Bea", number=SECOND)
    found = kirim.fetch(Kind.CONTACT, [Ref(second), Ref(CONTACT), Ref(external_id=first), Ref("."), Ref()])
    assert [record and record.fields["name"] for record in found] == ["Bea", None, "Ana", None, None]
    assert found[0] is not None
    assert found[0].fields["phone_number_id"] == SECOND
    write(kirim, second, name="Cia")
    assert platform.get(second)["name"] == "Cia"
    assert platform.get(first)["name"] == "Ana"


def test_the_number_of_a_contact_is_remembered(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", number=SECOND)
    kirim.fetch(Kind.CONTACT, [Ref(made)])
    before = platform.calls["GET /v1/{number}/contacts/{id}"]
    kirim.fetch(Kind.CONTACT, [Ref(made)])
    assert platform.calls["GET /v1/{number}/contacts/{id}"] == before + 1


def test_the_number_is_learnt_from_events(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", number=SECOND)
    contact = {"id": made, "phone_number_id": SECOND}
    kirim.parse(json.dumps({"id": "evt_1", "type": "contact.updated", "data": {"contact": contact}}).encode())
    kirim.fetch(Kind.CONTACT, [Ref(made)])
    assert platform.calls["GET /v1/{number}/contacts/{id}"] == 1


def test_the_memory_of_numbers_is_bounded() -> None:
    book = NumberBook([NUMBER, SECOND], size=2)
    for record in ("a", "b", "c"):
        book.note(record, SECOND)
    book.note("c", "333333333")
    assert [book.likely(record)[0] for record in ("a", "b", "c")] == [NUMBER, SECOND, SECOND]
    assert all(set(book.likely(record)) == {NUMBER, SECOND} for record in ("a", "b"))


def test_a_wrong_memory_costs_a_search_only(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", name="Ana", number=NUMBER)
    contact = {"id": made, "phone_number_id": SECOND}
    kirim.parse(json.dumps({"id": "evt_1", "type": "contact.updated", "data": {"contact": contact}}).encode())
    (record,) = kirim.fetch(Kind.CONTACT, [Ref(made)])
    assert record is not None
    assert record.fields["phone_number_id"] == NUMBER


def test_the_older_paths_serve_the_same_contacts(platform: KirimEmulator) -> None:
    made = platform.create_contact("+628111111111", name="Ana", number=SECOND)
    kirim = connect(platform.url, paths="organisation", phone_number_ids=[])
    (record,) = kirim.fetch(Kind.CONTACT, [Ref(made)])
    assert record is not None
    assert "phone_number_id" not in record.fields
    write(kirim, made, name="Bea")
    assert platform.get(made)["name"] == "Bea"
    assert walk(kirim)[0] == [made]
    assert [one.id for one in kirim.find(Kind.CONTACT, "name", ["Bea"])["Bea"]] == [made]
    kirim.close()


def test_find_looks_into_every_number(platform: KirimEmulator, kirim: Kirim) -> None:
    both = [platform.create_contact("+628111111111", name="Ana", number=number) for number in (NUMBER, SECOND)]
    platform.create_contact("+628222222222", name="Ana Maria", email="ana@example.com")
    found = kirim.find(Kind.CONTACT, "phone_number", ["+628111111111", "08111", "anonymous", ""])
    assert {value: [record.id for record in records] for value, records in found.items()} == {
        "+628111111111": both,
        "08111": [],
        "anonymous": [],
        "": [],
    }
    assert [record.id for record in kirim.find(Kind.CONTACT, "name", ["ANA"])["ANA"]] == both
    assert len(kirim.find(Kind.CONTACT, "email", ["ANA@example.com"])["ANA@example.com"]) == 1
    assert kirim.find(Kind.CONTACT, "email", ["x" * 201]) == {"x" * 201: ()}
    with pytest.raises(Reject):
        kirim.find(Kind.CONTACT, "metadata.crm_id", ["7"])


def test_a_walk_sees_every_number_and_begins_again(platform: KirimEmulator, kirim: Kirim) -> None:
    ids = [platform.create_contact(f"+6281{number:08d}", number=NUMBER) for number in range(130)]
    ids += [platform.create_contact(f"+6281{number:08d}", number=SECOND) for number in range(120)]
    seen, cursor = walk(kirim)
    assert sorted(seen) == sorted(ids)
    assert sorted(walk(kirim, cursor)[0]) == sorted(ids)


def test_a_walk_goes_on_in_another_process(platform: KirimEmulator, kirim: Kirim) -> None:
    ids = [platform.create_contact(f"+6281{number:08d}", number=NUMBER) for number in range(130)]
    page = kirim.changed(Kind.CONTACT, None)
    other = connect(platform.url, phone_number_ids=[NUMBER, SECOND])
    rest, _ = walk(other, page.cursor)
    other.close()
    assert sorted([record.id for record in page.records] + rest) == sorted(ids)


def test_since_is_kept_through_a_walk_and_the_next(platform: KirimEmulator, kirim: Kirim) -> None:
    clock = NOW - timedelta(days=10)
    platform.clock = platform.workspace._now = lambda: clock
    for number in range(150):
        platform.create_contact(f"+6281{number:08d}")
    clock = NOW
    new = platform.create_contact("+628999999999", number=SECOND)
    seen, cursor = walk(kirim, since=NOW - timedelta(days=1))
    assert seen == [new]
    assert walk(kirim, cursor)[0] == [new]


def test_a_cursor_that_kirim_no_longer_takes_begins_the_number_again(platform: KirimEmulator, kirim: Kirim) -> None:
    ids = [platform.create_contact(f"+6281{number:08d}") for number in range(130)]
    page = kirim.changed(Kind.CONTACT, None)
    platform.faults.fail_next(1, Fault.error(400))
    rest, _ = walk(kirim, page.cursor)
    assert sorted(rest) == sorted(ids)


@pytest.mark.parametrize(
    "cursor", ["", "garbage", "ü", urlsafe_b64encode(b"[]").decode(), urlsafe_b64encode(b"{}").decode()]
)
def test_a_cursor_that_is_not_ours_begins_a_walk(platform: KirimEmulator, kirim: Kirim, cursor: str) -> None:
    made = platform.create_contact("+628111111111")
    assert walk(kirim, cursor)[0] == [made]


def test_a_number_that_is_no_longer_configured_begins_a_new_walk(platform: KirimEmulator, kirim: Kirim) -> None:
    for number in range(130):
        platform.create_contact(f"+6281{number:08d}", number=NUMBER)
    made = platform.create_contact("+628111111111", number=SECOND)
    cursor = kirim.changed(Kind.CONTACT, None).cursor
    other = connect(platform.url, phone_number_ids=[SECOND])
    assert walk(other, cursor)[0] == [made]
    other.close()


def test_one_unreadable_contact_does_not_keep_a_page_back() -> None:
    rows = [{"id": "ctc_1", "name": {"not": "text"}}, {"id": "ctc_2", "name": "B\0ea", "metadata": {"n": "\ud800"}}]
    with Canned(lambda call: raw(json.dumps({"data": rows}))) as server:
        kirim = connect(server.url)
        first, second = kirim.changed(Kind.CONTACT, None).records
        kirim.close()
    assert (first.id, first.fields, first.version) == ("ctc_1", {}, None)
    assert (second.fields["name"], second.fields["metadata.n"]) == ("Bea", "\ufffd")


def test_a_row_without_an_id_is_a_passing_trouble() -> None:
    with Canned(lambda call: data([{"name": "x"}])) as server:
        kirim = connect(server.url)
        with pytest.raises(Retry):
            kirim.changed(Kind.CONTACT, None)
        kirim.close()


# -- the account


def test_fields_has_the_mapped_metadata_and_checks_key_and_numbers(platform: KirimEmulator, kirim: Kirim) -> None:
    fields = {info.name: info for info in kirim.fields(Kind.CONTACT)}
    assert fields["name"].writable
    assert fields["metadata.crm_id"].writable
    assert not fields["phone_number"].writable
    assert not fields["labels"].writable
    wrong = connect(platform.url, phone_number_ids=[NUMBER, "999999999"])
    with pytest.raises(Reject):
        wrong.fields(Kind.CONTACT)
    wrong.close()
    stranger = connect(platform.url, api_key="kdv_live_wrong")
    with pytest.raises(Suspend):
        stranger.fields(Kind.CONTACT)
    stranger.close()


def test_limits_are_configured_or_asked_for(platform: KirimEmulator) -> None:
    platform.behaviour.read_limit, platform.behaviour.write_limit = 6000, 600
    for configured, expected in (
        ({}, (6000, 600)),
        ({"write_per_minute": 30}, (6000, 30)),
        ({"read_per_minute": 100, "write_per_minute": 30}, (100, 30)),
    ):
        kirim = connect(platform.url, **configured)
        limits = kirim.limits()
        kirim.close()
        assert (limits.read_per_minute, limits.write_per_minute) == expected
    assert platform.calls["GET /v1/me"] == 2


def test_limits_of_an_account_that_names_none_are_those_of_the_free_tier() -> None:
    with Canned(lambda call: data({"organization": {}})) as server:
        kirim = connect(server.url)
        limits = kirim.limits()
        kirim.close()
    assert (limits.read_per_minute, limits.write_per_minute) == (600, 60)


# -- conversations


@pytest.fixture
def talk(platform: KirimEmulator) -> str:
    """A conversation under the second number, given to somebody."""
    contact = platform.create_contact("+628111111111", name="Ana", number=SECOND)
    conversation = platform.begin_conversation(contact)
    platform.assign(conversation, platform.add_user("Budi", "budi@example.com"))
    return conversation


def test_a_conversation_is_read_with_contact_assignee_and_number(
    platform: KirimEmulator, kirim: Kirim, talk: str
) -> None:
    (record,) = kirim.fetch(Kind.CONVERSATION, [Ref(talk)])
    assert record is not None
    held = platform.workspace.conversations[talk]
    told = {name: record.fields[name] for name in ("status", "contact", "contact_phone", "contact_name", "closed_at")}
    assert told == {
        "status": "open",
        "contact": held.contact.id,
        "contact_phone": "+628111111111",
        "contact_name": "Ana",
        "closed_at": None,
    }
    assert (record.fields["assignee_email"], record.fields["phone_number_id"]) == ("budi@example.com", SECOND)
    assert (record.id, record.external_id, record.kind) == (talk, talk, Kind.CONVERSATION)


def test_closing_and_giving_away_reach_kirim_and_only_what_differs_is_sent(
    platform: KirimEmulator, kirim: Kirim, talk: str
) -> None:
    (done,) = kirim.upsert(Kind.CONVERSATION, [Write(talk, {"status": "resolved", "assignee": None})])
    assert isinstance(done, Written)
    assert done.record is not None
    assert (done.record.fields["status"], done.record.fields["assignee"]) == ("resolved", None)
    assert done.record.fields["closed_at"] == done.record.fields["updated_at"]
    before = len(platform.ledger)
    kirim.upsert(Kind.CONVERSATION, [Write(talk, {"status": "resolved", "assignee": None})])
    assert len(platform.ledger) == before


def test_what_kirim_refuses_of_a_conversation_is_said(kirim: Kirim, talk: str) -> None:
    (unknown_user,) = kirim.upsert(Kind.CONVERSATION, [Write(talk, {"assignee": "usr_nobody"})])
    assert isinstance(unknown_user, Reject)
    (read_only,) = kirim.upsert(Kind.CONVERSATION, [Write(talk, {"contact_name": "Bea"})])
    assert isinstance(read_only, Reject)
    assert read_only.fields == ("contact_name",)
    (nowhere,) = kirim.upsert(Kind.CONVERSATION, [Write("cnv_unknown", {"status": "open"})])
    assert isinstance(nowhere, Reject)


def test_a_walk_names_every_conversation_of_every_number(platform: KirimEmulator, kirim: Kirim) -> None:
    made = set()
    for number in (NUMBER, SECOND):
        for digit in range(3):
            contact = platform.create_contact(f"+62811111111{digit}", number=number)
            made.add(platform.begin_conversation(contact))
    found, cursor = set(), None
    while True:
        page = kirim.walk(Kind.CONVERSATION, cursor)
        found |= {record.id for record in page.records}
        cursor = page.cursor
        if not page.more:
            break
    assert found == made
    with pytest.raises(Unsupported):
        kirim.find(Kind.CONVERSATION, "contact_name", ["Ana"])


# -- labels


def test_labels_are_put_on_and_taken_off_one_by_one(platform: KirimEmulator) -> None:
    kirim = connect(platform.url, phone_number_ids=[NUMBER, SECOND], create_labels=True)
    made = platform.create_contact("+628111111111")
    platform.label(made, "by hand")
    platform.label(made, "old")
    asked = Write(made, {"labels": ("old", "new")}, held={"labels": ("old",)})
    (done,) = kirim.upsert(Kind.CONTACT, [asked])
    assert isinstance(done, Written)
    assert done.record is not None
    assert done.record.fields["labels"] == ("old", "new")
    assert platform.get(made)["labels"] == ["by hand", "new", "old"]
    kirim.upsert(Kind.CONTACT, [Write(made, {"labels": ()}, held={"labels": ("old", "new")})])
    assert platform.get(made)["labels"] == ["by hand"]
    kirim.close()


def test_what_is_not_known_is_not_taken_off(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111")
    platform.label(made, "VIP")
    platform.label(made, "other")
    (done,) = kirim.upsert(Kind.CONTACT, [Write(made, {"labels": ("VIP",)})])
    assert isinstance(done, Written)
    assert platform.get(made)["labels"] == ["VIP", "other"]


def test_a_label_that_is_nowhere_is_named_and_the_others_are_put_on(platform: KirimEmulator, kirim: Kirim) -> None:
    made = platform.create_contact("+628111111111", name="Ana")
    platform.label(platform.create_contact("+628111111112"), "VIP")
    (done,) = kirim.upsert(Kind.CONTACT, [Write(made, {"labels": ("nowhere", "VIP"), "name": "Bea"})])
    assert isinstance(done, Written)
    assert dict(done.refused) == {"labels": "kirim has no label nowhere; make it there, or say create_labels: true"}
    assert (platform.get(made)["labels"], platform.get(made)["name"]) == (["VIP"], "Bea")


def test_contacts_are_labelled_in_bulk_under_their_own_numbers_and_once_for_a_key(
    platform: KirimEmulator, kirim: Kirim
) -> None:
    here, there = (platform.create_contact("+628111111111", number=number) for number in (NUMBER, SECOND))
    label = kirim.label_id("VIP", create=True)
    assert label is not None
    groups = kirim.group_by_number([here, there])
    assert groups == {NUMBER: [here], SECOND: [there]}
    for _ in range(2):
        answer = kirim.bulk_label(NUMBER, [here, "ctc_01HXYZABCDEFGHJKMNPQRSTVWX"], label, attach=True, key="once")
        assert (answer.applied, answer.skipped_cross_org) == (1, 1)
    assert platform.get(here)["labels"] == ["VIP"]
    assert [effect.verb for effect in platform.ledger if effect.kind == "contact_label"] == ["attach"]


# -- webhooks


def request(header: str, body: bytes = b"{}", name: bytes = b"x-kirim-signature") -> WebhookRequest:
    return WebhookRequest("POST", "/hooks/acme/kirim", ((name, header.encode()),), body, NOW)


def test_a_request_is_verified_with_every_secret(kirim: Kirim) -> None:
    header = sign(SECRET, b"{}", int(NOW.timestamp()))
    assert kirim.verify(request(header)) == Secret.of(SECRET).label
    assert kirim.verify(request(header, name=b"x-kirim-signature-256")) == Secret.of(SECRET).label
    with pytest.raises(BadSignature) as caught:
        kirim.verify(request(header, name=b"x-signature"))
    assert caught.value.doubt is Doubt.MISSING


def test_the_tolerance_is_configured(platform: KirimEmulator) -> None:
    kirim = connect(platform.url, tolerance_seconds=30)
    with pytest.raises(BadSignature) as caught:
        kirim.verify(request(sign(SECRET, b"{}", int(NOW.timestamp()) - 31)))
    kirim.close()
    assert caught.value.doubt is Doubt.STALE


def test_what_the_emulator_sends_is_understood(platform: KirimEmulator, kirim: Kirim) -> None:
    bodies: list[bytes] = []
    platform.workspace._publish = lambda kind, key, source, body: bodies.append(body)
    contact = platform.create_contact("+628111111111", name="Ana", metadata={"crm_id": "7"})
    platform.behaviour.labels_in_events = platform.behaviour.kirim_block = True
    platform.label(contact, "VIP")
    conversation, user = platform.begin_conversation(contact), platform.add_user("Bea", "bea@example.com")
    platform.assign(conversation, user)
    platform.assign(conversation, None)
    platform.close(conversation)
    wamid = platform.send_message(contact)
    for word in ("sent", "delivered", "read"):
        platform.message_status(wamid, word)
    platform.receive_message("+628111111111", "Halo")
    items = [item for body in bodies for item in kirim.parse(body)]
    assert [(item.type, item.reason) for item in items] == [
        ("contact.created", ""),
        ("contact.updated", ""),
        ("conversation.assigned", "not_mapped"),
        ("conversation.assigned", "not_mapped"),
        ("conversation.closed", "not_mapped"),
        ("message.created", ""),
        *[("message.status", "")] * 3,
        ("message.received", ""),
    ]
    assert len({item.key for item in items}) == len(items)
    change = items[1].change
    assert change is not None
    assert change.record is not None
    assert not change.partial
    assert change.record.fields["labels"] == ("VIP",)


@pytest.mark.parametrize("behaviour", [Behaviour(), Behaviour.first_generation()], ids=["G2", "G1"])
def test_an_event_and_a_reading_state_the_same(behaviour: Behaviour) -> None:
    bodies: list[bytes] = []
    with KirimEmulator(key=KEY, behaviour=behaviour, numbers=((NUMBER, "+62 811"),)) as platform:
        platform.workspace._publish = lambda kind, key, source, body: bodies.append(body)
        made = platform.create_contact("+628111111111", name="Ana", email="a@b.c", metadata={"crm_id": "7", "x": [1]})
        kirim = connect(platform.url)
        (item,) = kirim.parse(bodies[0])
        (read,) = kirim.fetch(Kind.CONTACT, [Ref(made)])
        kirim.close()
    assert item.change is not None
    stated = item.change.record
    assert stated is not None
    assert read is not None
    assert (stated.id, stated.version, stated.external_id) == (read.id, read.version, read.external_id)
    for name in stated.fields.keys() & read.fields.keys():
        assert stated.fields[name] == read.fields[name]
    assert {"name", "email", "phone_number", "metadata.crm_id"} <= stated.fields.keys() & read.fields.keys()


def test_a_time_that_is_days_ahead_of_ours_is_not_believed() -> None:
    kirim = Kirim(settings("http://127.0.0.1:9"), replace(around(Unlimited()), clock=lambda: NOW))
    for ahead, believed in ((timedelta(hours=1), True), (timedelta(days=3), False)):
        contact = {"id": CONTACT, "updated_at": (NOW + ahead).isoformat()}
        (item,) = kirim.parse(json.dumps({"type": "contact.updated", "data": {"contact": contact}}).encode())
        assert item.change is not None
        assert item.change.record is not None
        assert (item.change.record.version is not None) is believed
    kirim.close()


def test_test_mode_is_taken_only_where_it_is_allowed(platform: KirimEmulator, kirim: Kirim) -> None:
    body = json.dumps(
        {"id": "evt_1", "type": "contact.created", "livemode": False, "data": {"contact": {"id": CONTACT}}}
    ).encode()
    assert [item.reason for item in kirim.parse(body)] == ["test_mode"]
    allowing = connect(platform.url, accept_test_mode=True)
    assert [item.change is not None for item in allowing.parse(body)] == [True]
    allowing.close()
    with pytest.raises(BadPayload):
        kirim.parse(b"[]")
