"""The Kirim emulator as a sender of webhooks: what it says, how it signs, when it tries again, when it gives up."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from support.receiver import Received, Receiver

from crmsync.sandbox.kirim import NUMBER, Behaviour, Generation, KirimEmulator, Subscription
from crmsync.sandbox.kirim.deliveries import SCHEDULE
from crmsync.sandbox.server import Server

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FAST = 1e-7


@pytest.fixture
def kirim() -> Iterator[KirimEmulator]:
    with KirimEmulator(clock=lambda: NOON, behaviour=Behaviour(time_scale=FAST)) as emulator:
        yield emulator


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def subscription(kirim: KirimEmulator, receiver: Receiver) -> Subscription:
    return kirim.subscribe(receiver.url)


def ask(kirim: KirimEmulator, method: str, path: str, **options: Any) -> Any:
    answer = httpx.request(
        method, f"{kirim.url}/v1/{path}", headers={"Authorization": f"Bearer {kirim.key}"}, **options
    )
    return answer.raise_for_status().json()["data"]


def marks(request: Received) -> tuple[str, list[str]]:
    """The time and every v1 of a signature."""
    found = re.fullmatch(r"t=(\d+)((?:,v1=[0-9a-f]{64})+)", request.headers["x-kirim-signature"])
    assert found
    return found[1], re.findall(r"v1=([0-9a-f]+)", found[2])


def mark(secret: str, moment: str, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()


# -- what is said


def test_a_delivery_carries_every_header_of_the_contract(
    kirim: KirimEmulator, receiver: Receiver, subscription: Subscription
) -> None:
    kirim.create_contact("+628111111111", name="Ana", acquisition_source="ctwa_ad")
    [request] = receiver.wait_for(1)

    envelope = request.json()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-kirim-source"] == "kirim"
    assert request.headers["x-kirim-event"] == envelope["type"] == "contact.created"
    assert request.headers["x-kirim-event-id"] == envelope["id"]
    assert request.headers["x-kirim-delivery-id"].startswith("wbd_")
    assert request.headers["x-kirim-attempt"] == "1"
    assert envelope["livemode"] is True
    assert envelope["data"]["acquisition_source"] == "ctwa_ad"
    assert marks(request) == (
        str(int(NOON.timestamp())),
        [mark(subscription.secret, str(int(NOON.timestamp())), request.body)],
    )


def test_each_active_secret_signs(kirim: KirimEmulator, receiver: Receiver, subscription: Subscription) -> None:
    old = subscription.secret
    new = ask(kirim, "POST", f"webhook_subscriptions/{subscription.id}/secrets", json={})["secret"]

    kirim.create_contact("+628111111111")
    [request] = receiver.wait_for(1)

    moment, found = marks(request)
    assert found == [mark(secret, moment, request.body) for secret in (old, new)]


def test_only_selected_events_are_sent(kirim: KirimEmulator, receiver: Receiver) -> None:
    kirim.subscribe(receiver.url, ["contact.updated"])

    contact_id = kirim.create_contact("+628111111111")
    kirim.edit_contact(contact_id, name="Ana", email=None)
    kirim.edit_contact(contact_id, name="Ana")
    assert kirim.wait_idle()

    [request] = receiver.requests
    assert request.json()["data"]["changed_fields"] == ["name"]


def test_a_write_by_the_api_comes_back_as_an_event(
    kirim: KirimEmulator, receiver: Receiver, subscription: Subscription
) -> None:
    made = ask(kirim, "POST", f"{NUMBER}/contacts", json={"phone_number": "+628111111111"})
    ask(kirim, "PATCH", f"{NUMBER}/contacts/{made['id']}", json={"name": "Ana"})
    assert kirim.wait_idle()

    assert sorted(request.json()["type"] for request in receiver.requests) == ["contact.created", "contact.updated"]
    created = next(r.json() for r in receiver.requests if r.json()["type"] == "contact.created")
    assert created["data"]["acquisition_source"] == "manual"


@pytest.mark.parametrize(
    ("generation", "present", "absent"),
    [
        (Generation.G1, "whatsapp_account", "phone_number_id"),
        (Generation.G2, "phone_number_id", "whatsapp_account"),
    ],
)
def test_the_contact_of_an_event_has_the_shape_of_its_generation(
    kirim: KirimEmulator, receiver: Receiver, generation: Generation, present: str, absent: str
) -> None:
    kirim.behaviour.contact_shape, kirim.behaviour.livemode = generation, False
    kirim.subscribe(receiver.url)
    kirim.create_contact("+628111111111")
    [request] = receiver.wait_for(1)

    contact = request.json()["data"]["contact"]
    assert present in contact
    assert absent not in contact
    assert "livemode" not in request.json()


@pytest.mark.parametrize("events", [True, False])
def test_label_changes_are_events_with_labels_or_not(kirim: KirimEmulator, receiver: Receiver, events: bool) -> None:
    kirim.behaviour.labels_in_events, kirim.behaviour.label_changes_are_events = True, events
    kirim.subscribe(receiver.url, ["contact.updated"])
    label_id = kirim.label(kirim.create_contact("+628111111111"), "VIP")
    assert kirim.wait_idle()

    labels = [request.json()["data"]["contact"]["labels"] for request in receiver.requests]
    assert labels == ([[{"id": label_id, "name": "VIP"}]] if events else [])


def test_conversation_events_name_no_contact(
    kirim: KirimEmulator, receiver: Receiver, subscription: Subscription
) -> None:
    conversation_id = kirim.begin_conversation(kirim.create_contact("+628111111111"))
    sari, budi = kirim.add_user("Sari", "s@example.com"), kirim.add_user("Budi", "b@example.com")
    for user in (sari, budi, budi):
        kirim.assign(conversation_id, user)
    kirim.close(conversation_id, by=budi)
    kirim.close(conversation_id, by=sari)
    assert kirim.wait_idle()

    events = [r.json() for r in receiver.requests if r.json()["type"].startswith("conversation")]
    found = {(e["type"], str(e["data"].get("assignee", {}).get("previous_user_id"))) for e in events}
    assert len(events) == 3
    assert found == {
        ("conversation.assigned", "None"),
        ("conversation.assigned", sari),
        ("conversation.closed", "None"),
    }
    closed = next(e["data"]["conversation"] for e in events if e["type"] == "conversation.closed")
    assert closed == {
        "id": conversation_id,
        "object": "conversation",
        "status": "resolved",
        "closed_by_user_id": budi,
    }


def test_a_message_of_a_stranger_makes_a_contact(
    kirim: KirimEmulator, receiver: Receiver, subscription: Subscription
) -> None:
    wamid = kirim.receive_message("+628111111111", "hello", name="Ana")
    assert kirim.wait_idle()

    by_type = {request.headers["x-kirim-event"]: request for request in receiver.requests}
    message = by_type["message.received"]
    value = message.json()["entry"][0]["changes"][0]["value"]
    assert set(by_type) == {"contact.created", "message.received"}
    assert (message.headers["x-kirim-source"], message.headers["x-kirim-event-id"]) == ("meta", wamid)
    assert value["metadata"]["phone_number_id"] == NUMBER
    assert value["messages"][0]["from"] == "628111111111"
    assert set(message.json()) == {"object", "entry"}


def test_statuses_of_a_message_share_one_event_id(
    kirim: KirimEmulator, receiver: Receiver, subscription: Subscription
) -> None:
    kirim.behaviour.kirim_block = True
    wamid = kirim.send_message(kirim.create_contact("+628111111111"))
    for status in ("sent", "delivered", "failed"):
        kirim.message_status(wamid, status)
    assert kirim.wait_idle()

    statuses = [r for r in receiver.requests if r.headers["x-kirim-event"] == "message.status"]
    entries = [r.json()["entry"][0]["changes"][0]["value"]["statuses"][0] for r in statuses]
    assert {r.headers["x-kirim-event-id"] for r in statuses} == {wamid}
    assert {entry["status"] for entry in entries} == {"sent", "delivered", "failed"}
    assert [entry["errors"][0]["code"] for entry in entries if entry["status"] == "failed"] == [131026]
    assert statuses[0].json()["kirim"]["phone_number_id"] == NUMBER
    created = next(r.json() for r in receiver.requests if r.headers["x-kirim-event"] == "message.created")
    assert created["data"]["message"]["to"] == "628111111111"


# -- when it is tried again


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_success(kirim: KirimEmulator, status: int) -> None:
    with Receiver(status) as receiver:
        kirim.subscribe(receiver.url)
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()

    [taken] = kirim.acknowledged
    assert (taken.event_type, taken.attempt, taken.at) == ("contact.created", 1, NOON)
    assert [one.status for one in kirim.deliveries()] == ["succeeded"]


@pytest.mark.parametrize("status", [301, 408, 429, 500, 503])
def test_passing_trouble_is_tried_again_with_the_same_event(kirim: KirimEmulator, status: int) -> None:
    with Receiver(status, status) as receiver:
        kirim.subscribe(receiver.url)
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()

    assert [request.headers["x-kirim-attempt"] for request in receiver.requests] == ["1", "2", "3"]
    assert len({request.headers["x-kirim-delivery-id"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    assert [taken.attempt for taken in kirim.acknowledged] == [3]


@pytest.mark.parametrize("status", [400, 401, 404, 410])
@pytest.mark.parametrize("word", ["dead", "failed"])
def test_most_4xx_are_final_at_once(kirim: KirimEmulator, status: int, word: str) -> None:
    kirim.behaviour.dead_status = word
    with Receiver(status) as receiver:
        kirim.subscribe(receiver.url)
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()

    assert len(receiver.requests) == 1
    [dead] = ask(kirim, "GET", "webhook_deliveries", params={"status": word})
    assert (dead["attempts"], dead["response_status"]) == (1, status)


def test_eight_attempts_are_all(kirim: KirimEmulator) -> None:
    with Receiver(answer=lambda request: 500) as receiver:
        kirim.subscribe(receiver.url)
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()

    assert len(receiver.requests) == 8 == len(SCHEDULE)
    assert [one.status for one in kirim.deliveries("dead")] == ["dead"]
    assert kirim.acknowledged == []


def test_nobody_listening_is_passing_trouble(kirim: KirimEmulator) -> None:
    with Receiver() as receiver:
        kirim.subscribe(receiver.url)
        receiver.server.refuse()
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()

    [delivery] = kirim.deliveries()
    assert (delivery.attempts, delivery.response_status, delivery.status) == (8, None, "dead")


@pytest.mark.parametrize("resign", [True, False])
def test_attempts_are_signed_anew_or_once(resign: bool) -> None:
    times = iter(range(1000))
    kirim = KirimEmulator(
        clock=lambda: datetime.fromtimestamp(1_000_000 + next(times), UTC),
        behaviour=Behaviour(time_scale=FAST, resign=resign, signature_skew=-400),
    )
    with kirim, Receiver(500) as receiver:
        kirim.subscribe(receiver.url)
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()

    first, second = (int(marks(request)[0]) for request in receiver.requests)
    assert (first != second) is resign
    assert first < 1_000_000


def test_failures_in_a_row_switch_a_subscription_off(kirim: KirimEmulator) -> None:
    kirim.behaviour.disable_after = 3
    with Receiver(404, 404, 200, 404, 404, 404) as receiver:
        subscription = kirim.subscribe(receiver.url)
        for n in range(6):
            assert subscription.status == "active"
            kirim.create_contact(f"+62811111111{n}")
            assert kirim.wait_idle()
        kirim.create_contact("+628111111119")
        assert kirim.wait_idle()
        assert len(receiver.requests) == 6
        path = f"webhook_subscriptions/{subscription.id}"
        assert ask(kirim, "GET", path)["status"] == "disabled"

        ask(kirim, "PATCH", path, json={"status": "active"})
        kirim.create_contact("+628111111118")
        assert kirim.wait_idle()
        assert len(receiver.requests) == 7


# -- replay


def test_a_replay_is_a_new_delivery_of_the_same_event(kirim: KirimEmulator) -> None:
    with Receiver(404) as receiver:
        kirim.subscribe(receiver.url)
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()
        [dead] = kirim.deliveries("dead")

        made = ask(kirim, "POST", f"webhook_deliveries/{dead.id}/replay")
        assert kirim.wait_idle()

        first, second = receiver.requests
        assert made["replayed_from"] == dead.id != made["id"]
        assert second.headers["x-kirim-delivery-id"] == made["id"]
        assert second.headers["x-kirim-event-id"] == first.headers["x-kirim-event-id"]
        assert second.headers["x-kirim-attempt"] == "1"
        assert ask(kirim, "GET", f"webhook_deliveries/{made['id']}")["status"] == "succeeded"
        assert ask(kirim, "GET", f"webhook_deliveries/{dead.id}")["status"] == "dead"


def test_a_bulk_replay_is_capped_at_a_thousand(kirim: KirimEmulator) -> None:
    kirim.behaviour.disable_after = None
    with Receiver(*[404] * 1001) as receiver:
        subscription = kirim.subscribe(receiver.url)
        for n in range(1001):
            kirim.create_contact(f"+62811{n:07}")
        assert kirim.wait_idle(60)
        body = {"subscription_id": subscription.id}

        assert ask(kirim, "POST", "webhook_deliveries/bulk_replay", json={**body, "status": "failed"}) == {
            "enqueued": 0,
            "capped": False,
        }
        narrow = {**body, "event_type": "contact.created", "created_after": "2026-11-20T12:00:00Z"}
        assert ask(kirim, "POST", "webhook_deliveries/bulk_replay", json=narrow)["enqueued"] == 0
        assert ask(kirim, "POST", "webhook_deliveries/bulk_replay", json=body) == {"enqueued": 1000, "capped": True}
        assert kirim.wait_idle(60)

    assert len(kirim.acknowledged) == 1000


def test_dead_deliveries_are_listed_page_by_page(kirim: KirimEmulator) -> None:
    with Receiver(answer=lambda request: 404) as receiver:
        subscription = kirim.subscribe(receiver.url)
        for n in range(5):
            kirim.create_contact(f"+62811{n:07}")
        assert kirim.wait_idle()

    seen: list[str] = []
    params: dict[str, Any] = {"subscription_id": subscription.id, "status": "dead", "limit": 2}
    while True:
        answer = httpx.get(
            f"{kirim.url}/v1/webhook_deliveries", params=params, headers={"Authorization": f"Bearer {kirim.key}"}
        ).json()
        seen += [row["id"] for row in answer["data"]]
        if not answer["has_more"]:
            break
        params["cursor"] = answer["next_cursor"]
    assert sorted(seen) == sorted(one.id for one in kirim.deliveries("dead"))


# -- disorder


def test_deliveries_are_repeated_and_out_of_order_when_told(kirim: KirimEmulator, receiver: Receiver) -> None:
    kirim.behaviour.duplicates, kirim.behaviour.disorder = 0.4, 0.5
    kirim.subscribe(receiver.url, ["contact.updated"])
    contact_id = kirim.create_contact("+628111111111")

    for n in range(60):
        kirim.edit_contact(contact_id, name=f"n{n:02}")
    assert kirim.wait_idle()

    names = [request.json()["data"]["contact"]["name"] for request in receiver.requests]
    assert len(set(names)) == 60 < len(names) == len(kirim.acknowledged)
    assert names != sorted(names)


def test_events_before_the_start_are_sent_after_it(receiver: Receiver) -> None:
    kirim = KirimEmulator()
    kirim.subscribe(receiver.url)
    kirim.create_contact("+628111111111")
    assert not kirim.idle()

    with kirim:
        assert kirim.wait_idle()
    assert len(receiver.requests) == 1


def test_what_was_not_delivered_before_a_stop_is_delivered_after_the_next_start(receiver: Receiver) -> None:
    kirim = KirimEmulator()
    receiver.statuses = [503]
    with kirim:
        kirim.subscribe(receiver.url)
        kirim.create_contact("+628111111111")
        receiver.wait_for(1)

    with kirim:
        assert kirim.wait_idle()
    assert len(receiver.requests) == 2


def test_many_threads_may_act_at_once(kirim: KirimEmulator, receiver: Receiver, subscription: Subscription) -> None:
    contact_id = kirim.create_contact("+628111111111")

    def edit(name: str) -> None:
        for n in range(25):
            kirim.edit_contact(contact_id, name=f"{name}{n}")

    threads = [threading.Thread(target=edit, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kirim.wait_idle()

    assert len(kirim.acknowledged) == 101 == len({taken.event_id for taken in kirim.acknowledged})
    assert len(kirim.human) == 101


def test_no_more_than_so_many_deliveries_are_under_way_at_once() -> None:
    under_way, most = 0, 0
    full = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            full.set()
        await full.wait()
        under_way -= 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with KirimEmulator(width=3) as kirim, Server(app) as server:
        kirim.subscribe(server.url)
        for n in range(12):
            kirim.create_contact(f"+62811111{n:04}")
        assert kirim.wait_idle()

    assert most == 3
    assert len(kirim.acknowledged) == 12
