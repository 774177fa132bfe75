"""The calls of Kirim's API over a real socket: against the emulator, and against answers nobody should give."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kirim.canned import KEY, NUMBER, SECOND, Canned, RecordingBudget, data, raw, refusal, settings

from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.http import Unlimited
from crmsync.kirim.client import KirimClient, Limits
from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.kirim import Behaviour, KirimEmulator
from crmsync.testing.loopback import LOOPBACK

CONTACT = "ctc_01HXYZABCDEFGHJKMNPQRSTVWX"


@pytest.fixture
def kirim() -> Iterator[KirimEmulator]:
    behaviour = Behaviour(read_limit=6000, write_limit=600)
    with KirimEmulator(key=KEY, behaviour=behaviour, numbers=((NUMBER, "+62 811"), (SECOND, "+62 822"))) as emulator:
        yield emulator


@pytest.fixture
def budget() -> RecordingBudget:
    return RecordingBudget()


@pytest.fixture
def client(kirim: KirimEmulator, budget: RecordingBudget) -> Iterator[KirimClient]:
    made = KirimClient(settings(kirim.url), budget, reach=LOOPBACK)
    yield made
    made.close()


@pytest.fixture
def canned() -> Iterator[Callable[[Callable[[Call], Reply]], tuple[Canned, KirimClient]]]:
    opened: list[Any] = []

    def open_both(answer: Callable[[Call], Reply]) -> tuple[Canned, KirimClient]:
        server = Canned(answer)
        server.start()
        client = KirimClient(settings(server.url), Unlimited(), reach=LOOPBACK)
        opened.extend((client.close, server.stop))
        return server, client

    yield open_both
    for close in opened:
        close()


def test_the_account_and_its_limits(client: KirimClient) -> None:
    assert client.me()["api_key"]["last4"] == KEY[-4:]
    assert client.limits() == Limits(6000, 600)
    assert [account["phone_number_id"] for account in client.accounts()] == [NUMBER, SECOND]


def test_contacts_are_walked_page_by_page(kirim: KirimEmulator, client: KirimClient) -> None:
    ids = {kirim.create_contact(f"+6281{number:08d}") for number in range(230)}
    rows = list(client.contacts(NUMBER))
    assert {row["id"] for row in rows} == ids
    assert len(rows) == len(ids)
    assert kirim.calls["GET /v1/{number}/contacts"] == 3
    assert list(client.contacts(SECOND)) == []


def test_contacts_are_found_by_phone_and_by_search(kirim: KirimEmulator, client: KirimClient) -> None:
    kirim.create_contact("+628111111111", name="Ana", email="ana@example.com")
    kirim.create_contact("+628222222222", name="Bea")
    assert [row["name"] for row in client.contacts(NUMBER, phone="+628222222222")] == ["Bea"]
    assert [row["name"] for row in client.contacts(NUMBER, search="ana@")] == ["Ana"]


def test_a_contact_is_made_read_and_changed(client: KirimClient) -> None:
    made = client.create_contact(NUMBER, {"phone_number": "+628111111111", "name": "Ana"})
    read = client.contact(NUMBER, made["id"])
    changed = client.patch_contact(NUMBER, made["id"], {"name": "Bea"})
    assert read is not None
    assert changed is not None
    assert (read["name"], changed["name"]) == ("Ana", "Bea")


@pytest.mark.parametrize("contact_id", [CONTACT, "ctc_1", "no/../such?id", "ü", ".", "..", ""])
def test_a_contact_that_is_not_there_is_none(client: KirimClient, contact_id: str) -> None:
    assert client.contact(NUMBER, contact_id) is None


def test_another_numbers_contact_is_not_there(kirim: KirimEmulator, client: KirimClient) -> None:
    made = kirim.create_contact("+628111111111")
    assert client.contact(SECOND, made) is None
    assert client.patch_contact(SECOND, made, {"name": "x"}) is None


def test_a_refused_question_about_a_proper_id_is_no_absence(kirim: KirimEmulator, client: KirimClient) -> None:
    kirim.faults.fail_next(1, Fault.error(400))
    with pytest.raises(Reject):
        client.contact(NUMBER, CONTACT)


def test_the_older_paths_have_no_number(kirim: KirimEmulator) -> None:
    made = kirim.create_contact("+628111111111", name="Ana")
    client = KirimClient(settings(kirim.url, paths="organisation", phone_number_ids=[]), Unlimited(), reach=LOOPBACK)
    found = client.contact("", made)
    rows = list(client.contacts(""))
    client.close()
    assert found is not None
    assert found["name"] == "Ana"
    assert [row["id"] for row in rows] == [made]
    assert set(kirim.calls) <= {"GET /v1/contacts/{id}", "GET /v1/contacts", "GET /v1/{number}/contacts"}


def test_labels_are_made_put_on_and_taken_off(kirim: KirimEmulator, client: KirimClient) -> None:
    ids = [kirim.create_contact(f"+6281{number:08d}") for number in range(3)]
    label = client.create_label("VIP", color="teal")
    assert [row["name"] for row in client.labels()] == ["VIP"]
    client.attach_label(NUMBER, ids[0], label["id"])
    assert kirim.get(ids[0])["labels"] == ["VIP"]
    client.detach_label(NUMBER, ids[0], label["id"])
    assert kirim.get(ids[0])["labels"] == []
    labelled = client.bulk_label(NUMBER, [*ids, CONTACT], label["id"], attach=True)
    assert (labelled.applied, labelled.skipped_cross_org) == (3, 1)
    assert client.bulk_label(NUMBER, ids, label["id"], attach=False).applied == 3
    assert [kirim.get(one)["labels"] for one in ids] == [[], [], []]


def test_bulk_labelling_knows_its_bounds(kirim: KirimEmulator, client: KirimClient) -> None:
    assert client.bulk_label(NUMBER, [], "lbl_1", attach=True).applied == 0
    with pytest.raises(ValueError, match="1000"):
        client.bulk_label(NUMBER, ["ctc_1"] * 1001, "lbl_1", attach=True)
    assert sum(kirim.calls.values()) == 0


def test_conversations_are_listed_read_and_changed(kirim: KirimEmulator, client: KirimClient) -> None:
    contact, user = kirim.create_contact("+628111111111"), kirim.add_user("Ana", "ana@example.com")
    made = kirim.begin_conversation(contact)
    assert [row["id"] for row in client.conversations(NUMBER, status="open", contact_id=contact)] == [made]
    changed = client.patch_conversation(NUMBER, made, {"status": "resolved", "assigned_to": user})
    assert changed is not None
    assert (changed["status"], changed["assignee"]["email"]) == ("resolved", "ana@example.com")
    cleared = client.patch_conversation(NUMBER, made, {"assigned_to": None})
    assert cleared is not None
    assert cleared["assignee"] is None
    assert client.conversation(NUMBER, "cnv_" + "0" * 26) is None


def test_subscriptions_and_their_secrets(client: KirimClient) -> None:
    made = client.create_subscription("http://127.0.0.1:9/hook", ["contact.created"], description="d")
    assert made["initial_secret"].startswith("whsec_")
    read = client.subscription(made["id"])
    assert read is not None
    assert "initial_secret" not in read
    assert [row["id"] for row in client.subscriptions()] == [made["id"]]
    changed = client.patch_subscription(made["id"], {"status": "active", "events": ["contact.updated"]})
    assert changed is not None
    assert changed["events"] == ["contact.updated"]
    secret = client.create_secret(made["id"], expires_in_hours=1)
    client.delete_secret(made["id"], secret["id"])
    client.delete_subscription(made["id"])
    client.delete_subscription(made["id"])
    assert client.subscription(made["id"]) is None


def test_dead_deliveries_are_listed_and_sent_again(kirim: KirimEmulator, client: KirimClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kirim.behaviour.time_scale = 0.000001
        subscription = kirim.subscribe(f"http://127.0.0.1:{taken.getsockname()[1]}/hook")
        kirim.create_contact("+628111111111")
        assert kirim.wait_idle()
        (dead,) = client.deliveries(subscription.id, status="dead")
        assert list(client.deliveries(subscription.id, status="failed")) == []
        again = client.replay(dead["id"])
        assert again["replayed_from"] == dead["id"]
        replayed = client.bulk_replay(
            subscription.id,
            event_type="contact.created",
            created_after=datetime(2020, 1, 1, tzinfo=UTC),
            created_before=datetime(2100, 1, 1, tzinfo=UTC),
        )
        assert replayed.enqueued >= 1
        assert not replayed.capped
        assert kirim.wait_idle()


def test_every_post_has_an_idempotency_key_of_its_own_or_the_callers(canned: Any) -> None:
    server, client = canned(lambda call: data({"id": "x"}))
    client.create_label("VIP")
    client.create_label("VIP")
    client.create_label("VIP", idempotency_key="mine")
    client.patch_contact(NUMBER, CONTACT, {"name": "x"})
    keys = [call.headers.get("idempotency-key") for call in server.seen]
    assert keys[2:] == ["mine", None]
    assert len({*keys[:2]}) == 2
    assert all(key and 16 <= len(key) <= 255 for key in keys[:2])


def test_a_repeated_key_is_answered_from_memory(kirim: KirimEmulator, client: KirimClient) -> None:
    one, two = (client.create_label("VIP", idempotency_key="same") for _ in range(2))
    assert one["id"] == two["id"]
    with pytest.raises(Reject, match="422 idempotency_key_reuse"):
        client.create_label("Other", idempotency_key="same")


def test_ids_cannot_leave_their_place_in_the_path(canned: Any) -> None:
    server, client = canned(lambda call: refusal(404, "resource_not_found"))
    assert client.contact(NUMBER, "../x?y=1#z") is None
    assert [(call.path, call.query) for call in server.seen] == [(f"/v1/{NUMBER}/contacts/../x?y=1#z", {})]
    for nowhere in (".", "..", ""):
        with pytest.raises(Reject):
            client.patch_contact(NUMBER, nowhere, {"name": "x"})
        with pytest.raises(Reject):
            client.delete_subscription(nowhere)
    assert len(server.seen) == 1


def test_the_budget_is_asked_and_told_by_kind_of_request(
    kirim: KirimEmulator, client: KirimClient, budget: RecordingBudget
) -> None:
    client.me()
    client.create_label("VIP")
    assert budget.taken == ["read", "write"]
    assert [(limit, bucket) for _, limit, bucket in budget.observed] == [(6000, "read"), (600, "write")]
    assert all(0 <= remaining < limit for remaining, limit, _ in budget.observed)


def test_limits_are_told_on_refusals_too(kirim: KirimEmulator, client: KirimClient, budget: RecordingBudget) -> None:
    client.contact(NUMBER, CONTACT)
    assert [bucket for _, _, bucket in budget.observed] == ["read"]


@pytest.mark.parametrize("header", ["", "-1", "x", "1.5", "٣", "9" * 5000])
def test_a_limit_that_is_no_number_is_not_told(header: str) -> None:
    budget = RecordingBudget()
    answer = Reply(200, {"data": {}}, {"X-RateLimit-Limit": header.encode().decode("latin-1")})
    server = Canned(lambda call: Reply(200, answer.body, {**answer.headers, "X-RateLimit-Remaining": "5"}))
    with server:
        client = KirimClient(settings(server.url), budget, reach=LOOPBACK)
        client.me()
        client.close()
    assert budget.observed == []


def test_too_many_requests_name_their_time(kirim: KirimEmulator, client: KirimClient, budget: RecordingBudget) -> None:
    kirim.faults.fail_next(1, Fault.error(429, after=7))
    with pytest.raises(Retry) as caught:
        client.me()
    assert caught.value.after == timedelta(seconds=7)
    assert not caught.value.ambiguous
    assert budget.held == [timedelta(seconds=7)]


ERRORS: list[tuple[Reply, type[ConnectorError], str]] = [
    (refusal(400, "invalid_field_value", param="email"), Reject, "400 invalid_field_value"),
    (refusal(401, "expired_api_key"), Suspend, "401 expired_api_key"),
    (refusal(403, "plan_limit"), Suspend, "403 plan_limit"),
    (refusal(404, "resource_not_found"), Reject, "404 resource_not_found"),
    (refusal(409, "idempotency_in_progress"), Retry, "409 idempotency_in_progress"),
    (refusal(409, "conflict"), Reject, "409 conflict"),
    (refusal(422, "idempotency_key_reuse"), Reject, "422 idempotency_key_reuse"),
    (refusal(429, "rate_limit_exceeded"), Retry, "429 rate_limit_exceeded"),
    (refusal(500, "internal_error"), Retry, "500 internal_error"),
    (refusal(500, 131047), Reject, "500 131047"),
    (refusal(500, "131047"), Reject, "500 131047"),
    (refusal(503, 131047), Retry, "503 131047"),
    (refusal(500, {"a": "secret payload"}), Retry, "500"),
    (refusal(400, "secret payload"), Reject, "400"),
    (Reply(502, ["secret payload"]), Retry, "502"),
    (Reply(502, None), Retry, "502"),
    (Reply(301, None, {"Location": "http://127.0.0.1:9/"}), Reject, "301: redirects are not followed"),
]


@pytest.mark.parametrize(("answer", "kind", "said"), ERRORS)
def test_every_refusal_says_what_to_do_next(canned: Any, answer: Reply, kind: type[ConnectorError], said: str) -> None:
    server, client = canned(lambda call: answer)
    with pytest.raises(kind) as caught:
        client.create_label("VIP")
    assert type(caught.value) is kind
    assert str(caught.value) == f"kirim answered {said}"
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("email", ("email",)),
        ("/metadata/crm_id", ("metadata.crm_id",)),
        ("metadata.crm_id", ("metadata.crm_id",)),
        ("", ()),
        ("/", ()),
        ("a b", ()),
        (None, ()),
        (7, ()),
    ],
)
def test_a_refusal_names_the_field_it_points_at(canned: Any, param: Any, fields: tuple[str, ...]) -> None:
    _, client = canned(lambda call: refusal(400, "invalid_field_value", param=param))
    with pytest.raises(Reject) as caught:
        client.patch_contact(NUMBER, CONTACT, {"email": "x"})
    assert caught.value.fields == fields


@pytest.mark.parametrize(
    "text", ["[]", "7", "null", '{"data":[]}', '{"data":"x"}', '{"data":{"a":NaN}}', "[" * 100_000, "{", "<html>"]
)
def test_a_success_of_another_shape_is_a_passing_trouble(canned: Any, text: str) -> None:
    _, client = canned(lambda call: raw(text))
    with pytest.raises(Retry) as caught:
        client.create_label("VIP")
    assert caught.value.ambiguous


@pytest.mark.parametrize("text", ['{"data":{}}', '{"data":null}', '{"data":[1]}', '{"data":[null]}', "{}"])
def test_a_list_of_another_shape_is_a_passing_trouble(canned: Any, text: str) -> None:
    _, client = canned(lambda call: raw(text))
    with pytest.raises(Retry):
        client.contacts_page(NUMBER)


def test_a_success_without_a_body_is_an_empty_one(canned: Any) -> None:
    _, client = canned(lambda call: Reply(204, None))
    assert client.create_label("VIP") == {}
    client.delete_subscription("wbs_1")


@pytest.mark.parametrize("following", [None, "", 7, {}])
def test_more_without_a_cursor_is_an_error(canned: Any, following: Any) -> None:
    _, client = canned(lambda call: data([], has_more=True, next_cursor=following))
    with pytest.raises(Retry):
        list(client.contacts(NUMBER))


def test_a_cursor_that_comes_back_is_an_error_and_no_circle(canned: Any) -> None:
    turns = iter(["a", "b", "a", "b", "a"])
    server, client = canned(lambda call: data([{"id": "x"}], has_more=True, next_cursor=next(turns)))
    with pytest.raises(Retry):
        list(client.contacts(NUMBER))
    assert len(server.seen) == 3


def test_a_last_page_may_still_name_a_cursor(canned: Any) -> None:
    _, client = canned(lambda call: data([{"id": "x"}], has_more=False, next_cursor="a"))
    assert client.contacts_page(NUMBER).next_cursor is None


def test_lone_surrogates_and_long_integers_are_read_and_sent_back(canned: Any) -> None:
    stored = '{"data":{"id":"x","metadata":{"a":"\\ud800","b":123456789012345678901234567890}}}'
    server, client = canned(lambda call: raw(stored))
    row = client.contact(NUMBER, CONTACT)
    assert row is not None
    client.patch_contact(NUMBER, CONTACT, {"metadata": row["metadata"]})
    assert server.seen[-1].body == b'{"metadata":{"a":"\\ud800","b":123456789012345678901234567890}}'


def test_a_value_that_json_cannot_say_is_refused_before_it_is_sent(canned: Any) -> None:
    server, client = canned(lambda call: data({}))
    with pytest.raises(Reject):
        client.patch_contact(NUMBER, CONTACT, {"metadata": {"a": float("nan")}})
    assert server.seen == []


def test_a_get_without_a_connection_is_tried_three_times_and_a_post_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        budget = RecordingBudget()
        client = KirimClient(settings(f"http://127.0.0.1:{taken.getsockname()[1]}"), budget, reach=LOOPBACK)
        with pytest.raises(Retry) as read:
            client.me()
        with pytest.raises(Retry) as written:
            client.create_label("VIP")
        client.close()
    assert budget.taken == ["read"] * 3 + ["write"]
    assert not read.value.ambiguous
    assert not written.value.ambiguous


def test_a_door_that_opens_again_is_gone_through(kirim: KirimEmulator, client: KirimClient) -> None:
    kirim.server.refuse()
    kirim_opens = iter([None])

    class OpensOnSecondTry(RecordingBudget):
        def take(self, bucket: str = "") -> None:
            super().take(bucket)
            if len(self.taken) == 2 and next(kirim_opens, "done") is None:
                kirim.server.accept()

    budget = OpensOnSecondTry()
    patient = KirimClient(settings(kirim.url), budget, reach=LOOPBACK)
    assert patient.me()
    patient.close()
    assert len(budget.taken) == 2


def test_a_write_whose_answer_is_lost_is_ambiguous(kirim: KirimEmulator, client: KirimClient) -> None:
    made = kirim.create_contact("+628111111111", name="Ana")
    kirim.faults.fail_next(1, "reset_after")
    with pytest.raises(Retry) as caught:
        client.patch_contact(NUMBER, made, {"name": "Bea"})
    assert caught.value.ambiguous
    assert kirim.get(made)["name"] == "Bea"


def test_the_key_is_in_no_error(kirim: KirimEmulator) -> None:
    client = KirimClient(settings(kirim.url, api_key="kdv_live_wrong"), Unlimited(), reach=LOOPBACK)
    with pytest.raises(Suspend) as caught:
        client.me()
    client.close()
    assert "kdv_live_wrong" not in repr(caught.value)
