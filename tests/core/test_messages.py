"""Messages: whatever the order of their events, the same is known in the end, and nothing that was said is lost."""

from datetime import UTC, date, datetime, timedelta
from functools import reduce
from itertools import permutations
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmsync.core.messages import LONGEST, day_of, digest, due_at, entry, merge, thread, told_of, without_body
from crmsync.model import Direction, Message, MessageStatus

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SENT = Message(
    id="wamid.1",
    kirim_id="msg_1",
    direction=Direction.OUTBOUND,
    phone="+628111",
    at=NOON,
    type="text",
    text="Halo",
    status=MessageStatus.QUEUED,
)
OUTBOUND = [status for status in MessageStatus if status is not MessageStatus.RECEIVED]

statuses = st.sampled_from(OUTBOUND)
moments = st.none() | st.integers(0, 5).map(lambda minutes: NOON + timedelta(minutes=minutes))
words = st.none() | st.sampled_from(["a", "b"])
tellings = st.builds(
    Message,
    id=words,
    phone=words,
    text=words,
    contact_name=words,
    at=moments,
    status=st.none() | statuses,
    status_at=moments,
    error=words,
)


def status(word: MessageStatus, minute: int) -> Message:
    return Message(id="wamid.1", status=word, status_at=NOON + timedelta(minutes=minute))


@pytest.mark.parametrize(
    "words", [[], *permutations(OUTBOUND, 2), *permutations(OUTBOUND)], ids=lambda words: ">".join(words)
)
def test_every_order_of_statuses_ends_in_the_farthest(words: list[MessageStatus]) -> None:
    told = [status(word, OUTBOUND.index(word)) for word in words]
    ended = reduce(merge, told, SENT)
    assert ended.status is max([MessageStatus.QUEUED, *words], key=OUTBOUND.index)


@given(tellings, tellings, tellings)
def test_the_order_of_events_does_not_matter_and_repeating_them_changes_nothing(
    one: Message, two: Message, three: Message
) -> None:
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(merge(one, two), two) == merge(one, two)
    assert merge(one, one) == one


def test_what_one_event_did_not_say_another_one_adds() -> None:
    created = Message(kirim_id="msg_1", direction=Direction.OUTBOUND, type="text", status=MessageStatus.QUEUED)
    whole = merge(merge(created, SENT), status(MessageStatus.READ, 3))
    assert (whole.kirim_id, whole.id, whole.text, whole.status) == ("msg_1", "wamid.1", "Halo", MessageStatus.READ)


def test_a_status_alone_does_not_tell_what_the_message_is() -> None:
    assert not told_of(Message(id="wamid.1", direction=Direction.OUTBOUND, status=MessageStatus.READ))
    assert told_of(SENT)


def test_an_entry_says_who_said_what_with_file_and_standing() -> None:
    inbound = Message(
        direction=Direction.INBOUND,
        contact_name="Ana",
        type="document",
        text="the bill",
        media="https://files.example/7",
        filename="bill.pdf",
        status=MessageStatus.RECEIVED,
    )
    assert entry(inbound).title == "WhatsApp message from Ana"
    assert entry(inbound).body == "Customer: the bill\n[document] bill.pdf https://files.example/7"
    failed = merge(SENT, Message(status=MessageStatus.FAILED, error="131047 re-engagement"))
    assert entry(failed).body == "Agent: Halo\nNot delivered: 131047 re-engagement"


def test_without_bodies_only_the_kind_of_message_is_left() -> None:
    bare = entry(without_body(SENT))
    assert "Halo" not in bare.body
    assert bare.body == "Agent: [text]"


def test_a_digest_is_in_order_and_in_the_tenants_time() -> None:
    zone = ZoneInfo("Asia/Jakarta")
    later = Message(id="wamid.2", direction=Direction.INBOUND, at=NOON + timedelta(minutes=1), type="text", text="Hai")
    text = digest(date(2026, 11, 20), [later, SENT], zone)
    assert text.body == "19:00 Agent: Halo\n19:01 Customer: Hai"
    assert text.title == "WhatsApp with the customer on 2026-11-20: 2 messages"
    assert text == digest(date(2026, 11, 20), [SENT, later], zone)


def test_a_day_begins_at_midnight_where_the_tenant_is() -> None:
    evening = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)
    assert day_of(evening, ZoneInfo("Asia/Jakarta")) == date(2026, 11, 21)


def test_what_does_not_fit_is_counted() -> None:
    long = [
        Message(
            id=f"wamid.{n}", direction=Direction.INBOUND, at=NOON + timedelta(seconds=n), type="text", text="x" * 9_000
        )
        for n in range(9)
    ]
    body = digest(date(2026, 11, 20), long, UTC).body
    assert len(body) <= LONGEST + 60
    assert body.endswith("… and 3 more, which do not fit here")
    assert "more characters" in entry(Message(direction=Direction.INBOUND, type="text", text="y" * 70_000)).body


def test_a_message_belongs_to_its_conversation_or_else_to_its_two_numbers() -> None:
    assert thread(SENT) == ":+628111"
    assert thread(merge(SENT, Message(conversation_id="cnv_1"))) == "cnv_1"


def test_an_entry_waits_until_it_is_known_what_the_message_is_and_for_what_comes_right_after() -> None:
    inbound = Message(direction=Direction.INBOUND, type="text", text="Hai")
    assert due_at(inbound, NOON, stands=False, now=NOON) == NOON
    assert due_at(SENT, NOON, stands=False, now=NOON) == NOON + timedelta(seconds=2)
    assert due_at(SENT, NOON, stands=True, now=NOON) == NOON + timedelta(seconds=10)
    assert due_at(Message(status=MessageStatus.SENT), NOON, stands=False, now=NOON) is None
