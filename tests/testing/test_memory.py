"""What the CRM in memory does beyond the contract: lag, respelling, faults, ledger and hooks, all on request."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from crmsync.connector import Outcome
from crmsync.errors import Reject, Retry
from crmsync.model import (
    CONTACT_LINK,
    Activity,
    ActivityKind,
    Can,
    Change,
    FieldInfo,
    FieldType,
    Item,
    Kind,
    Ref,
    Write,
    Written,
)
from crmsync.testing.clock import START, ManualClock
from crmsync.testing.fake import FakeCrm, Trouble
from crmsync.testing.memory import KeylessMemoryConnector, MemoryConnector, MemoryCrm, Respelling

CONTACT = Kind.CONTACT
LAG = timedelta(seconds=30)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def one(connector: MemoryConnector, write: Write, kind: Kind = CONTACT) -> Outcome:
    """The outcome of one write."""
    return connector.upsert(kind, [write])[0]


def heard(crm: MemoryCrm) -> list[Change | None]:
    """What the hooks that were rung say, after their signature was checked."""
    connector = crm.connect()
    items: list[Item] = []
    for body in crm.take_hooks():
        connector.verify(crm.sign(body))
        items += connector.parse(body)
    return [item.change for item in items]


def test_it_is_a_fake_of_the_kit(clock: ManualClock) -> None:
    """Without an adapter."""
    fake: FakeCrm = MemoryCrm(clock)

    assert fake.sample.kind is CONTACT


def test_the_same_steps_give_the_same_world(clock: ManualClock) -> None:
    """Ids are counted, times are the clock's."""

    def steps() -> Sequence[object]:
        crm = MemoryCrm(ManualClock())
        crm.add("ctc_1", {"name": "Ana"})
        one(crm.connect(), Write("ctc_2", {"name": "Bea"}))
        return [*crm.records(), *crm.ledger, *crm.take_hooks()]

    assert steps() == steps()


def test_the_index_lags_behind_and_the_records_do_not(clock: ManualClock) -> None:
    """What was just written is fetched, and found only later, with its old content until then."""
    crm = MemoryCrm(clock, index_lag=LAG)
    connector = crm.connect()
    id = crm.add("ctc_1", {"email": "old@example.com"})
    early = connector.find(CONTACT, "email", ["old@example.com"])["old@example.com"]
    clock.advance(LAG)
    crm.edit(id, {"email": "new@example.com"})
    found = connector.find(CONTACT, "email", ["old@example.com", "new@example.com"])

    assert early == ()
    assert [len(records) for records in found.values()] == [1, 0]
    assert connector.fetch(CONTACT, [Ref(id=id)]) == [crm.record(id)]

    clock.advance(LAG)
    found = connector.find(CONTACT, "email", ["old@example.com", "new@example.com"])

    assert [len(records) for records in found.values()] == [0, 1]


def test_without_a_unique_key_a_lagging_index_lets_duplicates_in(clock: ManualClock) -> None:
    """That is what a reservation is for."""
    crm = MemoryCrm(clock, unique_key=False, index_lag=LAG)
    crm.connector = KeylessMemoryConnector
    connector = crm.connect()
    for _ in range(2):
        one(connector, Write("ctc_1", {"name": "Ana"}))
    clock.advance(LAG)
    third = one(connector, Write("ctc_1", {"name": "Ana"}))

    assert Can.NATIVE_UPSERT not in connector.can
    assert len(crm.ids()) == 2
    assert isinstance(third, Written)
    assert not third.created


def test_a_unique_key_does_not_wait_for_the_index(clock: ManualClock) -> None:
    """However far the index is behind."""
    crm = MemoryCrm(clock, index_lag=LAG)
    for _ in range(3):
        one(crm.connect(), Write("ctc_1", {"name": "Ana"}))

    assert len(crm.ids()) == 1


def test_respelling_is_stable(clock: ManualClock) -> None:
    """Writing back what was answered changes nothing."""
    spelling = Respelling(trim=True, lower_email=True, cut_at=20, spaced_phone=True)
    crm = MemoryCrm(clock, spelling=spelling)
    connector = crm.connect()
    sent = {"name": "  Ana Maria of the Long Name ", "email": "ANA@Example.com", "phone": "+62 851-1760-0829"}
    first = one(connector, Write("ctc_1", sent))
    assert isinstance(first, Written)
    assert first.record is not None
    held = {name: first.record.fields[name] for name in sent}
    clock.advance(LAG)
    second = one(connector, Write("ctc_1", held))

    assert held == {"name": "Ana Maria of the Lon", "email": "ana@example.com", "phone": "+6285 1176 0082 9"}
    assert isinstance(second, Written)
    assert second.record == first.record
    assert not crm.ledger[-1].changed


def test_a_rule_of_ones_own_can_respell(clock: ManualClock) -> None:
    """Any function from field and value to value."""

    def rounded(info: FieldInfo, value: object) -> int | None:
        return round(float(str(value))) if info.type is FieldType.NUMBER and value is not None else None

    crm = MemoryCrm(clock, spelling=rounded)
    id = crm.add(None, {"score": 2.6})

    assert crm.held(id)["score"] == 3


def test_zero_and_false_are_not_empty(clock: ManualClock) -> None:
    """Only no text and no choice are."""
    crm = MemoryCrm(clock)
    id = crm.add(None, {"score": 0, "vip": False, "name": "", "tags": ()})

    assert [crm.held(id)[name] for name in ("score", "vip", "name", "tags")] == [0, False, None, None]


def test_the_ledger_has_what_was_done_though_no_answer_came(clock: ManualClock) -> None:
    """And only that: what was refused is not in it."""
    crm = MemoryCrm(clock)
    connector = crm.connect()
    for trouble in (Trouble.LOST, Trouble.CUT, Trouble.RESET, Trouble.TIMEOUT, Trouble.HTML, 500):
        crm.fail_next(trouble)
        outcome = one(connector, Write(f"ctc_{trouble}", {"name": "Ana"}))
        assert isinstance(outcome, Retry)

    assert [effect.after.external_id for effect in crm.ledger] == ["ctc_lost", "ctc_cut"]
    assert list(crm.requests) == ["write"] * 6


def test_the_ledger_tells_who_did_what(clock: ManualClock) -> None:
    """Each effect with its time, its author and the fields it moved."""
    crm = MemoryCrm(clock)
    id = crm.add("ctc_1", {"name": "Ana"})
    clock.advance(LAG)
    one(crm.connect(), Write("ctc_1", {"name": "Bea"}))
    crm.delete(id)

    assert [(effect.operation, effect.by_api, effect.at) for effect in crm.ledger] == [
        ("create", False, START),
        ("update", True, START + LAG),
        ("delete", False, START + LAG),
    ]
    assert crm.ledger[1].changed == {"name": "Bea"}


def test_a_write_that_changes_nothing_is_quiet(clock: ManualClock) -> None:
    """It is in the ledger, it moves no version, and rings no hook."""
    crm = MemoryCrm(clock)
    id = crm.add("ctc_1", {"name": "Ana"})
    crm.take_hooks()
    clock.advance(LAG)
    one(crm.connect(), Write("ctc_1", {"name": "Ana"}))

    assert crm.record(id).version == START
    assert len(crm.ledger) == 2
    assert crm.take_hooks() == []


def test_a_hook_states_what_changed(clock: ManualClock) -> None:
    """And nothing else: what it leaves out is unknown."""
    crm = MemoryCrm(clock)
    id = crm.add("ctc_1", {"name": "Ana", "company": "Oak"})
    crm.take_hooks()
    crm.edit(id, {"name": None})
    record = replace(crm.record(id), fields={"name": None})

    assert heard(crm) == [Change(CONTACT, id, record)]


def test_a_hook_can_be_a_mere_hint(clock: ManualClock) -> None:
    """As with platforms whose deliveries carry no content."""
    crm = MemoryCrm(clock)
    crm.hooks_say_values = False
    id = crm.add("ctc_1", {"name": "Ana"})
    crm.delete(id)

    assert heard(crm) == [Change(CONTACT, id), Change(CONTACT, id, deleted=True)]


def test_a_merge_rings_for_both(clock: ManualClock) -> None:
    """The survivor is stated, the other is to be read again: it is found under the survivor."""
    crm = MemoryCrm(clock)
    winner, loser = crm.add("ctc_1", {"name": "Ana"}), crm.add("ctc_2", {"name": "Bea", "company": "Oak"})
    crm.take_hooks()
    crm.merge(winner, loser)
    stated, hint = heard(crm)

    assert stated == Change(CONTACT, winner, replace(crm.record(winner), fields={"company": "Oak"}, aliases=()))
    assert hint == Change(CONTACT, loser)
    assert crm.held(loser) == {**crm.held(winner), "name": "Ana", "company": "Oak"}


def test_a_unique_value_names_the_record_in_the_way(clock: ManualClock) -> None:
    """As HubSpot does for e-mail addresses."""
    schema = {CONTACT: (FieldInfo("name", FieldType.TEXT), FieldInfo("email", FieldType.EMAIL, unique=True))}
    crm = MemoryCrm(clock, schema=schema)
    id = crm.add(None, {"email": "ana@example.com"})
    outcome = one(crm.connect(), Write("ctc_1", {"name": "Ana", "email": "ana@example.com"}))

    assert isinstance(outcome, Reject)
    assert outcome.candidate == id
    assert crm.ids() == [id]


def test_an_external_id_is_not_stamped_on_two_records(clock: ManualClock) -> None:
    """The one that has it stands in the way."""
    crm = MemoryCrm(clock)
    owner, other = crm.add("ctc_1", {"name": "Ana"}), crm.add(None, {"name": "Ana"})
    outcome = one(crm.connect(), Write("ctc_1", {"name": "Ana"}, id=other))

    assert isinstance(outcome, Reject)
    assert outcome.candidate == owner


def test_a_value_can_be_declared_unwanted(clock: ManualClock) -> None:
    """For rules that an administrator set."""
    crm = MemoryCrm(clock)
    crm.refuse("company", "Oak")
    outcome = one(crm.connect(), Write("ctc_1", {"name": "Ana", "company": "Oak"}))

    assert isinstance(outcome, Written)
    assert dict(outcome.refused) == {"company": "refused"}


def test_a_bad_row_in_a_batch_that_is_refused_whole_costs_few_requests(clock: ManualClock) -> None:
    """It is isolated by halving, and the others are written."""
    crm = MemoryCrm(clock, whole_batches=True, partial_rows=False)
    writes = [Write(f"ctc_{number}", {"name": "Ana"}) for number in range(16)]
    writes[5] = Write("ctc_5", {"stage": "nonsense"})
    outcomes = crm.connect().upsert(CONTACT, writes)

    assert [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, Written)] == [5]
    assert len(crm.ids()) == 15
    assert len(crm.requests) == 9


def test_conversations_are_kept_apart_from_contacts(clock: ManualClock) -> None:
    """One kind does not see the other's records, even under one external id."""
    crm = MemoryCrm(clock)
    connector = crm.connect()
    one(connector, Write("x", {"name": "Ana"}))
    one(connector, Write("x", {"subject": "Hello"}), Kind.CONVERSATION)
    contact, conversation = (connector.fetch(kind, [Ref(external_id="x")])[0] for kind in Kind)

    assert contact is not None
    assert conversation is not None
    assert contact.id != conversation.id
    assert connector.fetch(CONTACT, [Ref(id=conversation.id)]) == [None]
    assert [record.id for record in connector.changed(Kind.CONVERSATION, None).records] == [conversation.id]


def test_a_segment_can_be_a_rule(clock: ManualClock) -> None:
    """Then it has whoever fits, and says that it is dynamic."""
    crm = MemoryCrm(clock)
    ana, bea = (crm.add(None, {"name": name, "vip": True}) for name in ("Ana", "Bea"))
    segment = crm.add_segment("VIP", rule=lambda record: record.fields["vip"] is True)
    crm.edit(bea, {"vip": False})
    connector = crm.connect()

    assert [member.id for member in connector.members(segment).members] == [ana]
    assert [(told.dynamic, told.size) for told in connector.segments()] == [(True, 1)]


def test_a_person_joins_and_leaves_a_segment(clock: ManualClock) -> None:
    """One that is not dynamic."""
    crm = MemoryCrm(clock)
    ana, bea = (crm.add(None, {"name": name}) for name in ("Ana", "Bea"))
    segment = crm.add_segment("VIP", [ana])
    crm.join(segment, bea)
    crm.leave(segment, ana)

    assert [member.id for member in crm.connect().members(segment).members] == [bea]


def test_an_entry_that_is_sent_twice_stands_there_twice(clock: ManualClock) -> None:
    """The platform knows no unique key: only who looks first makes it once."""
    crm = MemoryCrm(clock)
    ana = crm.add(None, {"name": "Ana"})
    said = Activity("wamid.1", ActivityKind.MESSAGE, START, "WhatsApp", "Hello", ana)
    for entry in (said, said, replace(said, doubtful=True)):
        crm.connect().log([entry])

    assert len(crm.timeline(ana)) == 2


def test_people_take_a_contact_off_a_conversation_and_connectors_do_not(clock: ManualClock) -> None:
    """What the interface only ever adds to."""
    crm = MemoryCrm(clock)
    ana, bea = (crm.add(None, {"name": name}) for name in ("Ana", "Bea"))
    made = crm.add("cnv_1", {CONTACT_LINK: (ana,)}, Kind.CONVERSATION)
    one(crm.connect(), Write("cnv_1", {CONTACT_LINK: (bea,)}), Kind.CONVERSATION)
    both = crm.held(made)[CONTACT_LINK]
    crm.edit(made, {CONTACT_LINK: (bea,)})

    assert (both, crm.held(made)[CONTACT_LINK]) == ((ana, bea), (bea,))


def test_only_wanted_fields_are_read(clock: ManualClock) -> None:
    """The others stay unknown."""
    crm = MemoryCrm(clock)
    crm.add("ctc_1", {"name": "Ana", "company": "Oak"})
    connector = crm.connect(wanted={CONTACT: frozenset({"name"})})
    record = connector.fetch(CONTACT, [Ref(external_id="ctc_1")])[0]

    assert record is not None
    assert record.fields == {"name": "Ana"}


def test_what_is_handed_out_does_not_change_the_platform(clock: ManualClock) -> None:
    """Fields are read-only."""
    crm = MemoryCrm(clock)
    id = crm.add(None, {"name": "Ana"})
    with pytest.raises(TypeError):
        crm.held(id)["name"] = "Bea"  # type: ignore[index]


def test_many_threads_write_without_losing_anything(clock: ManualClock) -> None:
    """Every effect is in the ledger once."""
    crm = MemoryCrm(clock)
    connector = crm.connect()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: one(connector, Write(f"ctc_{n % 20}", {"note": f"{n}"})), range(400)))

    assert len(crm.ids()) == 20
    assert len(crm.ledger) == 400
    assert len({effect.after.fields["note"] for effect in crm.ledger}) == 400


def test_it_needs_no_test_library() -> None:
    """It can serve in a demonstration, where pytest is not installed."""
    program = "import sys, crmsync.testing.memory; print({'pytest', 'hypothesis'} & sys.modules.keys())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "set()"
