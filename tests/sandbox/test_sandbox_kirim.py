"""The Kirim emulator's REST interface, in the readings that its switches offer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from crmsync.sandbox.kirim import NUMBER, Behaviour, Existing, KirimEmulator, Metadata

CONTACTS = f"/v1/{NUMBER}/contacts"
CONVERSATIONS = f"/v1/{NUMBER}/conversations"
OTHER = "106540352242923"


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **span: float) -> None:
        """Lets time pass."""
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def kirim(clock: Hands) -> Iterator[KirimEmulator]:
    numbers = ((NUMBER, "+62 851-1760-0829"), (OTHER, "+62 851-1760-0830"))
    with KirimEmulator(clock=clock, numbers=numbers) as emulator:
        yield emulator


@pytest.fixture
def http(kirim: KirimEmulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=kirim.url, headers={"Authorization": f"Bearer {kirim.key}"}) as client:
        yield client


def error(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()["error"]
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return answer.status_code, body["code"]


def walk(http: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        body = http.get(path, params={**params, **({"cursor": cursor} if cursor else {})}).json()
        rows += body["data"]
        cursor = body["next_cursor"]
        assert body["has_more"] is (cursor is not None)
        if cursor is None:
            return rows


# -- envelope, access, limits, idempotency


def test_every_answer_carries_a_request_id(http: httpx.Client) -> None:
    answer = http.get("/v1/me")

    assert re.fullmatch(r"req_[0-9A-HJKMNP-TV-Z]{26}", answer.json()["request_id"])
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"]
    assert answer.json()["data"]["organization"]["object"] == "organization"


def test_a_wrong_key_is_401_and_health_needs_none(kirim: KirimEmulator) -> None:
    assert error(httpx.get(f"{kirim.url}/v1/me", headers={"Authorization": "Bearer x"})) == (401, "invalid_api_key")
    assert error(httpx.get(f"{kirim.url}/v1/me")) == (401, "missing_api_key")
    assert httpx.get(f"{kirim.url}/v1/health").status_code == 200


def test_accounts_are_one_page(http: httpx.Client) -> None:
    body = http.get("/v1/accounts").json()

    assert [row["phone_number_id"] for row in body["data"]] == [NUMBER, OTHER]
    assert (body["has_more"], body["next_cursor"]) == (False, None)


def test_ids_are_no_ulids(kirim: KirimEmulator) -> None:
    first = {kirim.create_contact(f"+62811{n:07}")[4] for n in range(300)}

    assert len(first) == 32


def test_a_key_answers_once_and_repeats_what_it_said(kirim: KirimEmulator, http: httpx.Client, clock: Hands) -> None:
    def create(phone: str, key: str = "k") -> httpx.Response:
        return http.post(CONTACTS, json={"phone_number": phone}, headers={"Idempotency-Key": key})

    first, again = create("+6281111111"), create("+6281111111")

    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert [a.headers["Idempotent-Replayed"] for a in (first, again)] == ["false", "true"]
    assert error(create("+6282222222")) == (422, "idempotency_key_reuse")
    assert error(create("+6282222222", "k" * 256)) == (400, "invalid_field_value")
    assert [effect.idempotency for effect in kirim.ledger] == ["k"]

    clock.move(hours=24)
    assert error(create("+6281111111")) == (409, "contact_already_exists")


def test_the_buckets_of_reads_and_writes_are_apart_and_refill(
    kirim: KirimEmulator, http: httpx.Client, clock: Hands
) -> None:
    kirim.behaviour.write_limit, kirim.behaviour.read_limit = 60, 600

    writes = [http.post("/v1/labels", json={"name": f"l{n}"}) for n in range(61)]

    assert [answer.status_code for answer in writes] == [201] * 60 + [429]
    assert error(writes[60]) == (429, "rate_limit_exceeded")
    assert (writes[0].headers["X-RateLimit-Limit"], writes[0].headers["X-RateLimit-Remaining"]) == ("60", "59")
    assert writes[60].headers["Retry-After"] == "1"
    assert int(writes[60].headers["X-RateLimit-Reset"]) - clock.now.timestamp() == pytest.approx(60, abs=1)
    assert http.get("/v1/labels").headers["X-RateLimit-Remaining"] == "599"
    clock.move(seconds=2)
    assert [http.post("/v1/labels", json={"name": f"m{n}"}).status_code for n in range(3)] == [201, 201, 429]


def test_what_is_no_json_or_no_route_is_refused(http: httpx.Client) -> None:
    assert error(http.post(CONTACTS, content=b"{")) == (400, "invalid_field_value")
    assert error(http.post(CONTACTS, json=[])) == (400, "invalid_field_value")
    assert error(http.get("/v1/planets")) == (404, "resource_not_found")


def test_faults_speak_kirims_envelope(kirim: KirimEmulator, http: httpx.Client) -> None:
    kirim.faults.fail_next(1, "429")
    kirim.faults.fail_next(1, "500")

    assert http.get("/v1/me").json()["error"]["code"] == "rate_limit_exceeded"
    assert http.get("/v1/me").json()["error"]["type"] == "api_error"


# -- contacts


def test_a_contact_is_created_read_and_changed(kirim: KirimEmulator, http: httpx.Client, clock: Hands) -> None:
    made = http.post(CONTACTS, json={"phone_number": "+628111111111", "name": "Ana"})
    contact_id = made.json()["data"]["id"]
    clock.move(seconds=5)
    changed = http.patch(f"{CONTACTS}/{contact_id}", json={"name": None, "email": "ana@example.com"})

    assert made.status_code == 201
    assert set(made.json()["data"]) == {
        *("id", "object", "phone_number", "name", "email", "metadata", "whatsapp_account"),
        *("created_at", "updated_at"),
    }
    assert changed.json()["data"]["name"] is None
    assert changed.json()["data"]["updated_at"] == "2026-11-20T12:00:05Z"
    assert http.get(f"{CONTACTS}/{contact_id}").json()["data"] == changed.json()["data"]
    assert [(effect.verb, effect.changed) for effect in kirim.ledger] == [
        ("create", ("phone_number", "name")),
        ("update", ("name", "email")),
    ]


def test_a_change_that_changes_nothing_leaves_the_time_alone(
    kirim: KirimEmulator, http: httpx.Client, clock: Hands
) -> None:
    contact_id = kirim.create_contact("+628111111111", name="Ana")
    clock.move(seconds=5)

    answer = http.patch(f"{CONTACTS}/{contact_id}", json={"name": "Ana"}).json()["data"]

    assert answer["updated_at"] == answer["created_at"]
    assert kirim.ledger.effects("update")[0].changed == ()


def test_times_may_have_milliseconds(kirim: KirimEmulator, http: httpx.Client) -> None:
    kirim.behaviour.milliseconds = True
    contact_id = kirim.create_contact("+628111111111")

    assert http.get(f"{CONTACTS}/{contact_id}").json()["data"]["created_at"] == "2026-11-20T12:00:00.250Z"


@pytest.mark.parametrize(
    ("reading", "expected"),
    [(Metadata.MERGE, {"a": 1, "c": 3}), (Metadata.REPLACE, {"b": None, "c": 3})],
)
def test_metadata_is_merged_or_replaced(
    kirim: KirimEmulator, http: httpx.Client, reading: Metadata, expected: dict[str, Any]
) -> None:
    kirim.behaviour.metadata = reading
    contact_id = kirim.create_contact("+628111111111", metadata={"a": 1, "b": 2})

    answer = http.patch(f"{CONTACTS}/{contact_id}", json={"metadata": {"b": None, "c": 3}})

    assert answer.json()["data"]["metadata"] == expected
    assert http.patch(f"{CONTACTS}/{contact_id}", json={"metadata": None}).json()["data"]["metadata"] is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_required_field"),
        ({"phone_number": "0811"}, "invalid_phone_number"),
        ({"phone_number": "+628111111111", "email": "nobody"}, "invalid_field_value"),
        ({"phone_number": "+628111111111", "name": 1}, "invalid_field_value"),
        ({"phone_number": "+628111111111", "metadata": []}, "invalid_field_value"),
    ],
)
def test_a_bad_contact_is_refused(http: httpx.Client, body: dict[str, Any], code: str) -> None:
    assert error(http.post(CONTACTS, json=body)) == (400, code)


@pytest.mark.parametrize("body", [{}, {"unknown": 1}, {"phone_number": "+628"}])
def test_a_change_of_nothing_or_of_the_number_is_refused(
    kirim: KirimEmulator, http: httpx.Client, body: dict[str, Any]
) -> None:
    contact_id = kirim.create_contact("+628111111111")

    assert http.patch(f"{CONTACTS}/{contact_id}", json=body).status_code == 400


def test_a_number_that_exists_is_a_conflict_or_an_update(kirim: KirimEmulator, http: httpx.Client) -> None:
    contact_id = kirim.create_contact("+628111111111", name="Ana")
    body = {"phone_number": "+628111111111", "name": "Budi"}

    assert error(http.post(CONTACTS, json=body)) == (409, "contact_already_exists")
    kirim.behaviour.existing = Existing.UPDATE
    assert http.post(CONTACTS, json=body).json()["data"]["id"] == contact_id
    assert kirim.get(contact_id)["name"] == "Budi"


def test_a_contact_is_found_under_its_own_number_only(kirim: KirimEmulator, http: httpx.Client) -> None:
    contact_id = kirim.create_contact("+628111111111", number=OTHER)

    assert error(http.get(f"{CONTACTS}/{contact_id}")) == (404, "resource_not_found")
    assert http.get(f"/v1/{OTHER}/contacts/{contact_id}").status_code == 200
    assert http.get(f"/v1/contacts/{contact_id}").status_code == 200
    assert error(http.get("/v1/999999/contacts")) == (404, "resource_not_found")
    assert error(http.get(f"{CONTACTS}/ctc_short")) == (400, "invalid_field_value")


def test_the_older_paths_can_be_switched_off(kirim: KirimEmulator, http: httpx.Client) -> None:
    assert http.get("/v1/contacts").status_code == 200
    kirim.behaviour.org_paths = False
    assert error(http.get("/v1/contacts")) == (404, "resource_not_found")


def test_the_older_form_names_the_number_in_the_body(http: httpx.Client) -> None:
    body = {"phone_number": "+628111111111"}

    assert error(http.post("/v1/contacts", json=body)) == (400, "missing_required_field")
    made = http.post("/v1/contacts", json={**body, "from": "+6285117600830"}).json()["data"]
    assert made["whatsapp_account"] == {"phone_number": "+62 851-1760-0830"}


def test_a_walk_sees_every_contact_once_newest_first(kirim: KirimEmulator, http: httpx.Client, clock: Hands) -> None:
    made = []
    for n in range(230):
        made.append(kirim.create_contact(f"+62811{n:07}"))
        clock.move(seconds=n % 2)

    rows = walk(http, CONTACTS, limit=100)

    assert len(rows) == 230
    assert {row["id"] for row in rows} == set(made)
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)


def test_contacts_are_filtered(kirim: KirimEmulator, http: httpx.Client, clock: Hands) -> None:
    kirim.create_contact("+628111111111", name="Ana", email="x@example.com")
    clock.move(days=1)
    later = kirim.create_contact("+628222222222", name="Budi")

    def found(**params: str) -> list[str]:
        return [row["name"] for row in http.get(CONTACTS, params=params).json()["data"]]

    assert found(phone="+628222222222") == ["Budi"]
    assert found(search="an") == ["Ana"]
    assert found(search="EXAMPLE.com") == ["Ana"]
    assert found(created_after="2026-11-21T00:00:00Z") == ["Budi"]
    assert found(colour="red") == ["Budi", "Ana"]
    kirim.behaviour.created_after = False
    assert found(created_after="2026-11-21T00:00:00Z") == ["Budi", "Ana"]
    assert kirim.get(later)["name"] == "Budi"


@pytest.mark.parametrize("limit", ["0", "101", "-1", "abc", "²"])
def test_a_limit_outside_its_bounds_is_refused(http: httpx.Client, limit: str) -> None:
    assert error(http.get(CONTACTS, params={"limit": limit})) == (400, "invalid_limit")


def test_a_cursor_is_bound_to_its_filters(kirim: KirimEmulator, http: httpx.Client) -> None:
    for n in range(3):
        kirim.create_contact(f"+62811{n:07}", name="Ana")
    cursor = http.get(CONTACTS, params={"limit": 1, "search": "ana"}).json()["next_cursor"]

    assert http.get(CONTACTS, params={"cursor": cursor, "search": "ana"}).status_code == 200
    for params in ({"cursor": cursor}, {"cursor": f"x{cursor}"}, {"cursor": "ctc_1"}, {"cursor": "e30"}):
        assert error(http.get(CONTACTS, params=params)) == (400, "invalid_cursor")


# -- labels


def test_labels_have_a_life(kirim: KirimEmulator, http: httpx.Client) -> None:
    made = http.post("/v1/labels", json={"name": "VIP", "color": "red"}).json()["data"]
    path = f"/v1/labels/{made['id']}"

    assert error(http.post("/v1/labels", json={"name": "VIP"})) == (400, "invalid_field_value")
    assert error(http.post("/v1/labels", json={"name": "x", "color": "mauve"})) == (400, "invalid_field_value")
    assert error(http.post("/v1/labels", json={"name": ""})) == (400, "invalid_field_value")
    assert http.patch(path, json={"name": "Gold"}).json()["data"]["color"] == "red"
    assert [row["name"] for row in walk(http, "/v1/labels", limit=1)] == ["Gold"]
    assert http.delete(path).json()["data"]["deleted"] is True
    assert error(http.get(path)) == (404, "resource_not_found")


def test_labels_are_put_on_and_taken_off(kirim: KirimEmulator, http: httpx.Client) -> None:
    contact_id = kirim.create_contact("+628111111111")
    label_id = http.post("/v1/labels", json={"name": "VIP"}).json()["data"]["id"]
    path = f"{CONTACTS}/{contact_id}/labels"

    answers = [http.post(path, json={"label_id": label_id}).json()["data"] for _ in range(2)]

    assert answers == [{"contact_id": contact_id, "label_id": label_id, "attached": True}] * 2
    assert kirim.get(contact_id)["labels"] == ["VIP"]
    assert http.delete(f"{path}/{label_id}").json()["data"]["attached"] is False
    assert kirim.get(contact_id)["labels"] == []
    assert [effect.changed for effect in kirim.ledger.effects("attach")] == [("labels",), ()]


def test_bulk_label_skips_strangers_and_takes_a_thousand(kirim: KirimEmulator, http: httpx.Client) -> None:
    label_id = http.post("/v1/labels", json={"name": "VIP"}).json()["data"]["id"]
    ours = [kirim.create_contact(f"+62811{n:07}") for n in range(2)]

    def bulk(ids: list[str], operation: str = "attach") -> httpx.Response:
        body = {"contact_ids": ids, "label_id": label_id, "operation": operation}
        return http.post(f"{CONTACTS}/bulk_label", json=body)

    answer = bulk([*ours, "ctc_00000000000000000000000000"])

    assert answer.json()["data"] == {"applied": 2, "skipped_cross_org": 1, "skipped_team_mismatch": 0}
    assert [kirim.get(one)["labels"] for one in ours] == [["VIP"]] * 2
    assert bulk(ours, "detach").json()["data"]["applied"] == 2
    assert error(bulk(["x"] * 1001)) == (400, "invalid_field_value")
    assert error(bulk(ours, "paint")) == (400, "invalid_field_value")


def test_a_deleted_label_leaves_every_contact(kirim: KirimEmulator, http: httpx.Client) -> None:
    contact_id = kirim.create_contact("+628111111111")
    label_id = kirim.label(contact_id, "VIP")

    http.delete(f"/v1/labels/{label_id}")

    assert kirim.get(contact_id)["labels"] == []


# -- conversations


def test_conversations_come_latest_message_first(kirim: KirimEmulator, http: httpx.Client, clock: Hands) -> None:
    silent = kirim.begin_conversation(kirim.create_contact("+628000000001"))
    for n in (2, 3):
        clock.move(minutes=1)
        kirim.receive_message(f"+62800000000{n}", "hello")

    rows = walk(http, CONVERSATIONS, limit=1)

    assert [row["contact"]["phone_number"] for row in rows] == ["+628000000003", "+628000000002", "+628000000001"]
    assert rows[2]["id"] == silent
    assert (rows[0]["unread_count"], rows[2]["last_message_at"], rows[0]["assignee"]) == (1, None, None)


def test_a_conversation_is_assigned_and_closed(kirim: KirimEmulator, http: httpx.Client) -> None:
    conversation_id = kirim.begin_conversation(kirim.create_contact("+628000000001"))
    user_id = kirim.add_user("Sari", "sari@example.com")
    path = f"{CONVERSATIONS}/{conversation_id}"

    changed = http.patch(path, json={"assigned_to": user_id, "status": "resolved"}).json()["data"]

    assert changed["assignee"] == {"id": user_id, "name": "Sari", "email": "sari@example.com"}
    assert changed["status"] == "resolved"
    assert http.get(CONVERSATIONS, params={"status": "open"}).json()["data"] == []
    assert http.patch(path, json={"assigned_to": None}).json()["data"]["assignee"] is None
    assert error(http.patch(path, json={})) == (400, "missing_required_field")
    assert error(http.patch(path, json={"status": "lost"})) == (400, "invalid_field_value")
    assert error(http.patch(path, json={"assigned_to": "usr_x"})) == (400, "invalid_field_value")
    assert error(http.get(f"{CONVERSATIONS}/cnv_x")) == (404, "resource_not_found")


def test_behaviour_of_the_first_generation_is_one_call() -> None:
    first = Behaviour.first_generation()

    assert (first.livemode, first.disable_after, first.label_changes_are_events) == (False, 20, False)


# -- subscriptions


def test_a_subscription_tells_its_secret_once(kirim: KirimEmulator, http: httpx.Client) -> None:
    body = {"url": "https://example.com/hooks", "events": ["contact.created"], "description": "sync"}

    made = http.post("/v1/webhook_subscriptions", json=body).json()["data"]

    assert made["initial_secret"].startswith("whsec_")
    assert made["status"] == "active"
    shown = http.get(f"/v1/webhook_subscriptions/{made['id']}").json()["data"]
    assert "initial_secret" not in shown
    assert [row["id"] for row in walk(http, "/v1/webhook_subscriptions")] == [made["id"]]
    assert http.delete(f"/v1/webhook_subscriptions/{made['id']}").json()["data"]["deleted"] is True
    assert error(http.get(f"/v1/webhook_subscriptions/{made['id']}")) == (404, "resource_not_found")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"url": "http://example.com"}, "invalid_webhook_url"),
        ({"url": None}, "invalid_webhook_url"),
        ({"events": []}, "invalid_field_value"),
        ({"events": ["contact.exploded"]}, "invalid_field_value"),
    ],
)
def test_a_bad_subscription_is_refused(
    kirim: KirimEmulator, http: httpx.Client, change: dict[str, Any], code: str
) -> None:
    kirim.behaviour.allow_http = False
    body = {"url": "https://example.com/hooks", "events": ["contact.created"], **change}

    assert error(http.post("/v1/webhook_subscriptions", json=body)) == (400, code)


def test_secrets_are_added_listed_and_removed(kirim: KirimEmulator, http: httpx.Client, clock: Hands) -> None:
    subscription = kirim.subscribe("https://example.com/hooks")
    path = f"/v1/webhook_subscriptions/{subscription.id}/secrets"
    [first] = http.get(path).json()["data"]

    added = http.post(path, json={"expires_in_hours": 1}).json()["data"]

    assert added["secret"].startswith("whsec_")
    assert added["expires_at"] == "2026-11-20T13:00:00Z"
    assert len(subscription.active_secrets(clock.now)) == 2
    clock.move(hours=1)
    assert len(subscription.active_secrets(clock.now)) == 1
    assert http.delete(f"{path}/{added['id']}").status_code == 200
    assert error(http.delete(f"{path}/{first['id']}")) == (409, "last_secret")
    assert error(http.post(path, json={"expires_in_hours": 0})) == (400, "invalid_field_value")


def test_an_expiry_may_mean_the_secrets_before(kirim: KirimEmulator, http: httpx.Client, clock: Hands) -> None:
    kirim.behaviour.expiring_secret = "previous"
    subscription = kirim.subscribe("https://example.com/hooks")

    added = http.post(f"/v1/webhook_subscriptions/{subscription.id}/secrets", json={"expires_in_hours": 1}).json()[
        "data"
    ]
    clock.move(hours=2)

    assert subscription.active_secrets(clock.now) == [added["secret"]]
