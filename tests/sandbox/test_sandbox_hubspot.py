"""The HubSpot emulator refuses, forgets and respells as HubSpot does. Every exchange is held to the contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hubspot import HubSpot
from support.hubspot_spec import Violations, checked_hubspot, needs_spec
from support.receiver import Receiver

from crmsync.sandbox.hubspot import Behaviour, HubSpotEmulator, Partial, Respelling, sign

KEY = "kirim_contact_id"
CONTACTS = "/crm/v3/objects/contacts"


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += timedelta(seconds=seconds)


class Client:
    """Talks to the emulator as a connector would."""

    def __init__(self, emulator: HubSpotEmulator) -> None:
        self.http = httpx.Client(base_url=emulator.url, headers={"Authorization": f"Bearer {emulator.token}"})

    def upsert(self, *inputs: dict[str, Any], key: str = KEY) -> httpx.Response:
        """Upserts each {id, …properties}."""
        rows = []
        for given in inputs:
            values = dict(given)
            number = values.pop("id")
            rows.append({"id": number, "idProperty": key, "objectWriteTraceId": number, "properties": values})
        return self.http.post(f"{CONTACTS}/batch/upsert", json={"inputs": rows})

    def read(self, *keys: str, key: str | None = KEY, properties: tuple[str, ...] = ("email",)) -> httpx.Response:
        """Reads by key."""
        body: dict[str, Any] = {"inputs": [{"id": one} for one in keys], "propertiesWithHistory": []}
        body["properties"] = list(properties)
        if key:
            body["idProperty"] = key
        return self.http.post(f"{CONTACTS}/batch/read", json=body)

    def search(self, *filters: dict[str, Any], **more: Any) -> httpx.Response:
        """Searches with one group of filters."""
        groups = [{"filters": list(filters)}] if filters else []
        return self.http.post(f"{CONTACTS}/search", json={"filterGroups": groups, **more})


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def crm(clock: Hands) -> Iterator[HubSpotEmulator]:
    with checked_hubspot(clock=clock) as emulator:
        emulator.properties.define(KEY, unique=True)
        yield emulator


@pytest.fixture
def client(crm: HubSpotEmulator) -> Iterator[Client]:
    client = Client(crm)
    yield client
    client.http.close()


def by_key(answer: httpx.Response) -> dict[str, dict[str, Any]]:
    return {row["properties"][KEY]: row for row in answer.json()["results"]}


# -- access


def test_without_the_token_nothing_is_told(crm: HubSpotEmulator) -> None:
    answer = httpx.get(crm.url + CONTACTS, headers={"Authorization": "Bearer other"})

    assert (answer.status_code, answer.json()["category"]) == (401, "INVALID_AUTHENTICATION")


def test_missing_scopes_are_403(crm: HubSpotEmulator, client: Client) -> None:
    crm.behaviour.missing_scopes = True

    answer = client.http.get(CONTACTS)

    assert (answer.status_code, answer.json()["category"]) == (403, "MISSING_SCOPES")


@pytest.mark.parametrize("version", ["2026-03", "2026-09"])
def test_dated_paths_are_the_same_operations(crm: HubSpotEmulator, client: Client, version: str) -> None:
    number = crm.create_contact(email="a@example.com")

    assert client.http.get(f"/crm/objects/{version}/contacts/{number}").json()["id"] == number
    assert client.http.get(f"/crm/properties/{version}/contacts/email").json()["name"] == "email"


def test_the_vendors_own_client_understands_every_answer(crm: HubSpotEmulator) -> None:
    api = HubSpot(access_token=crm.token, host=crm.url).crm
    batch = api.contacts.batch_api
    row = {"id": "ctc_1", "idProperty": KEY, "properties": {"firstname": "Ana"}}

    [made] = batch.upsert({"inputs": [row]}).results
    page = api.contacts.basic_api.get_page(limit=1, properties=["firstname"])
    found = api.contacts.search_api.do_search({"filterGroups": [], "properties": ["firstname"]})

    assert (made.new, page.results[0].properties["firstname"], found.total) == (True, "Ana", 1)
    api.contacts.basic_api.archive(made.id)
    assert api.contacts.basic_api.get_page(archived=True).results[0].archived
    assert "email" in {known.name for known in api.properties.core_api.get_all("contacts").results}


# -- writing


def test_upsert_creates_then_updates_by_the_key(crm: HubSpotEmulator, client: Client) -> None:
    first = by_key(client.upsert({"id": "ctc_1", "firstname": "Ana"}, {"id": "ctc_2", "firstname": "Budi"}))
    second = by_key(client.upsert({"id": "ctc_1", "phone": "+628111"}))

    assert [row["new"] for row in first.values()] == [True, True]
    assert second["ctc_1"]["new"] is False
    assert second["ctc_1"]["id"] == first["ctc_1"]["id"]
    assert crm.get(first["ctc_1"]["id"])["firstname"] == "Ana"
    assert [(effect.verb, effect.external_id, effect.idempotency) for effect in crm.ledger] == [
        ("create", "ctc_1", "ctc_1"),
        ("create", "ctc_2", "ctc_2"),
        ("update", "ctc_1", "ctc_1"),
    ]


def test_results_come_in_any_order(client: Client) -> None:
    rows = [{"id": f"ctc_{n:02}", "firstname": "x"} for n in range(30)]

    answer = client.upsert(*rows)

    assert sorted(by_key(answer)) == [row["id"] for row in rows] != list(by_key(answer))


def test_a_key_twice_in_one_batch_is_refused(crm: HubSpotEmulator, client: Client) -> None:
    answer = client.upsert({"id": "ctc_1", "firstname": "a"}, {"id": "ctc_1", "firstname": "b"})

    assert answer.status_code == 400
    assert crm.all() == {}


def test_a_hundred_rows_are_the_most(client: Client) -> None:
    rows = [{"id": f"ctc_{n}", "firstname": "x"} for n in range(101)]

    assert client.upsert(*rows).status_code == 400
    assert client.upsert(*rows[:100]).status_code == 200


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"firstname": "a", "nonsense": "1"}, "PROPERTY_DOESNT_EXIST"),
        ({"email": "not an address"}, "INVALID_EMAIL"),
        ({"firstname": "a", "lifecyclestage": "nobody"}, "INVALID_OPTION"),
        ({"firstname": "a", "hs_object_id": "1"}, "READ_ONLY_VALUE"),
        ({"firstname": "a" * 70_000}, "PROPERTY_TOO_LONG"),
    ],
)
def test_a_bad_value_is_named_in_the_error(client: Client, values: dict[str, str], code: str) -> None:
    answer = client.http.post(CONTACTS, json={"properties": values})

    assert answer.status_code == 400
    assert [error["code"] for error in answer.json()["errors"]] == [code]
    assert code in answer.json()["message"]


def test_typed_properties_take_only_their_type(crm: HubSpotEmulator, client: Client) -> None:
    for name in ("number", "datetime", "bool"):
        crm.properties.define(f"a_{name}", type=name)
    good = {"a_number": "1.5", "a_datetime": "2026-11-20T00:00:00Z", "a_bool": "true"}

    answer = client.http.post(CONTACTS, json={"properties": {"firstname": "x", **dict.fromkeys(good, "soon")}})

    assert {e["code"] for e in answer.json()["errors"]} == {"INVALID_LONG", "INVALID_DATE", "INVALID_BOOLEAN"}
    assert client.http.post(CONTACTS, json={"properties": {"firstname": "x", **good}}).status_code == 201


def test_a_contact_needs_a_name_or_an_address(client: Client) -> None:
    assert client.http.post(CONTACTS, json={"properties": {"phone": "+628111"}}).status_code == 400


def test_an_email_belongs_to_one_contact(crm: HubSpotEmulator, client: Client) -> None:
    number = crm.create_contact(email="ana@example.com")

    created = client.http.post(CONTACTS, json={"properties": {"email": "ANA@example.com"}})
    upserted = client.upsert({"id": "ctc_1", "email": "ana@example.com"}, {"id": "ctc_2", "firstname": "b"})

    assert (created.status_code, created.json()["category"]) == (409, "CONFLICT")
    assert f"Existing ID: {number}" in created.json()["message"]
    assert upserted.status_code == 207
    assert upserted.json()["errors"][0]["context"] == {"objectWriteTraceId": ["ctc_1"]}
    assert list(by_key(upserted)) == ["ctc_2"]


def test_a_unique_value_belongs_to_one_contact(crm: HubSpotEmulator, client: Client) -> None:
    crm.create_contact(firstname="a", **{KEY: "ctc_1"})
    other = crm.create_contact(firstname="b")

    answer = client.http.patch(f"{CONTACTS}/{other}", json={"properties": {KEY: "ctc_1"}})

    assert answer.json()["errors"][0]["code"] == "CONFLICTING_UNIQUE_VALUE"


@pytest.mark.parametrize(
    ("partial", "status", "written"),
    [(Partial.MULTI_STATUS, 207, 1), (Partial.EMPTY, 207, 0), (Partial.WHOLE_BATCH, 400, 0)],
)
def test_a_bad_row_in_a_batch_has_three_possible_outcomes(
    crm: HubSpotEmulator, client: Client, partial: Partial, status: int, written: int
) -> None:
    crm.create_contact(firstname="old", **{KEY: "ctc_0"})
    before = crm.all()
    crm.behaviour.partial = partial

    answer = client.upsert({"id": "ctc_0", "firstname": "new"}, {"id": "ctc_bad", "nonsense": "1"})

    assert answer.status_code == status
    assert (crm.all() != before) is bool(written)
    assert len(crm.ledger) == written
    if status == 207:
        assert len(answer.json()["results"]) == written
        assert answer.json()["numErrors"] == 1
        assert ("objectWriteTraceId" in answer.json()["errors"][0]["context"]) is bool(written)


def test_a_batch_refused_as_a_whole_leaves_no_trace(crm: HubSpotEmulator, client: Client) -> None:
    crm.behaviour.partial = Partial.WHOLE_BATCH
    client.upsert({"id": "ctc_1", "email": "a@example.com"}, {"id": "ctc_bad", "nonsense": "1"})

    answer = client.upsert({"id": "ctc_2", "email": "a@example.com"})

    assert answer.status_code == 200
    assert list(crm.all()) == [answer.json()["results"][0]["id"]] == ["1001"]


def test_an_empty_string_clears(crm: HubSpotEmulator, client: Client) -> None:
    number = crm.create_contact(firstname="a", phone="+628111")

    client.http.patch(f"{CONTACTS}/{number}", json={"properties": {"phone": ""}})

    assert "phone" not in crm.get(number)
    assert crm.ledger.effects("update")[0].changed == ("phone",)


def test_a_batch_update_by_record_id_reports_the_unknown(crm: HubSpotEmulator, client: Client) -> None:
    number = crm.create_contact(firstname="a")
    rows = [{"id": number, "properties": {"firstname": "b"}}, {"id": "99", "properties": {"firstname": "c"}}]

    answer = client.http.post(f"{CONTACTS}/batch/update", json={"inputs": rows})

    assert answer.status_code == 207
    assert answer.json()["errors"][0]["context"]["ids"] == ["99"]
    assert crm.get(number)["firstname"] == "b"


def test_the_account_respells_what_it_is_sent(clock: Hands) -> None:
    respelling = Respelling(trim=True, lowercase_email=True, reformat_phone=True, cut_at=12)
    with checked_hubspot(clock=clock, behaviour=Behaviour(respelling=respelling)) as crm:
        client = Client(crm)
        values = {"firstname": " A very long name ", "email": "A@B.co", "phone": "+628123456789"}
        held = client.http.post(CONTACTS, json={"properties": values}).json()["properties"]
        client.http.close()

    assert (held["firstname"], held["email"], held["phone"]) == ("A very long ", "a@b.co", "+62 812-3456")


def test_a_write_moves_the_modification_time_forward(crm: HubSpotEmulator, client: Client, clock: Hands) -> None:
    number = crm.create_contact(firstname="a")
    clock.move(5)
    client.http.patch(f"{CONTACTS}/{number}", json={"properties": {"firstname": "a"}})

    shown = client.http.get(f"{CONTACTS}/{number}").json()

    assert shown["createdAt"] == "2026-11-20T12:00:00.123Z"
    assert shown["updatedAt"] == shown["properties"]["lastmodifieddate"] == "2026-11-20T12:00:05.123Z"

    crm.behaviour.touch_on_noop = False
    clock.move(5)
    client.http.patch(f"{CONTACTS}/{number}", json={"properties": {"firstname": "a"}})
    assert crm.get(number)["lastmodifieddate"] == "2026-11-20T12:00:05.123Z"


def test_contacts_are_created_and_archived_in_batches(crm: HubSpotEmulator, client: Client) -> None:
    rows = [{"properties": {"firstname": name}} for name in ("a", "b")]

    made = client.http.post(f"{CONTACTS}/batch/create", json={"inputs": rows})
    ids = [{"id": row["id"]} for row in made.json()["results"]]
    gone = client.http.post(f"{CONTACTS}/batch/archive", json={"inputs": [*ids, {"id": "99"}]})

    assert (made.status_code, gone.status_code) == (201, 204)
    assert crm.all() == {}
    assert sorted(crm.all(archived=True)) == sorted(row["id"] for row in ids)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/batch/upsert", {"inputs": [{"id": "1", "properties": {"firstname": "a"}}]}),
        ("/batch/upsert", {"inputs": [{"id": "1", "idProperty": "firstname", "properties": {}}]}),
        ("/search", {"query": "x" * 3000}),
        ("/search", {"sorts": ["firstname", "lastname"]}),
        ("/search", {"filterGroups": [{"filters": []}] * 6}),
        ("/search", {"filterGroups": [{"filters": [{"propertyName": "nonsense", "operator": "EQ", "value": "1"}]}]}),
        ("/merge", {"primaryObjectId": "1", "objectIdToMerge": "1"}),
    ],
)
def test_what_the_api_does_not_take_is_400(client: Client, crm: HubSpotEmulator, path: str, body: Any) -> None:
    crm.create_contact(firstname="a")

    assert client.http.post(CONTACTS + path, json=body).status_code == 400


def test_what_is_no_json_is_400() -> None:
    with HubSpotEmulator() as crm:
        headers = {"Authorization": f"Bearer {crm.token}"}
        for path, content in (("/batch/read", b"{"), ("/batch/read", b"{}"), ("", b"[]")):
            assert httpx.post(crm.url + CONTACTS + path, content=content, headers=headers).status_code == 400


# -- reading


@pytest.mark.parametrize("status", [207, 200])
def test_a_read_by_key_reports_the_missing_beside_the_found(crm: HubSpotEmulator, client: Client, status: int) -> None:
    crm.create_contact(firstname="a", **{KEY: "ctc_1"})
    crm.behaviour.read_missing_status = status

    answer = client.read("ctc_1", "ctc_2", properties=(KEY, "email"))

    assert answer.status_code == status
    assert list(by_key(answer)) == ["ctc_1"]
    assert by_key(answer)["ctc_1"]["properties"]["email"] is None
    assert answer.json()["errors"][0]["context"]["ids"] == ["ctc_2"]


def test_history_tells_who_set_a_value(crm: HubSpotEmulator, client: Client) -> None:
    number = crm.create_contact(firstname="a")
    client.http.patch(f"{CONTACTS}/{number}", json={"properties": {"firstname": "b"}})

    shown = client.http.get(f"{CONTACTS}/{number}", params={"propertiesWithHistory": "firstname"}).json()

    history = shown["propertiesWithHistory"]["firstname"]
    assert [(entry["value"], entry["sourceType"]) for entry in history] == [("b", "INTEGRATION"), ("a", "CRM_UI")]


def test_the_list_walks_by_id_to_its_end(crm: HubSpotEmulator, client: Client) -> None:
    numbers = [crm.create_contact(firstname=f"n{n}") for n in range(25)]
    seen, after = [], None
    while True:
        page = client.http.get(CONTACTS, params={"limit": 10, **({"after": after} if after else {})}).json()
        seen += [row["id"] for row in page["results"]]
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]

    assert seen == numbers


def test_archived_records_are_listed_apart_and_free_their_key(crm: HubSpotEmulator, client: Client) -> None:
    number = crm.create_contact(firstname="a", **{KEY: "ctc_1"})
    client.http.delete(f"{CONTACTS}/{number}")

    assert client.http.get(f"{CONTACTS}/{number}").status_code == 404
    assert client.http.get(f"{CONTACTS}/{number}", params={"archived": "true"}).json()["archived"] is True
    assert client.http.get(CONTACTS).json()["results"] == []
    assert [row["id"] for row in client.http.get(CONTACTS, params={"archived": "true"}).json()["results"]] == [number]
    assert client.upsert({"id": "ctc_1", "firstname": "b"}).json()["results"][0]["new"] is True


@pytest.mark.parametrize("keeps_primary", [False, True])
def test_a_merge_answers_to_old_ids_and_loses_the_other_key(
    crm: HubSpotEmulator, client: Client, keeps_primary: bool
) -> None:
    crm.behaviour.merge_keeps_primary = keeps_primary
    primary = crm.create_contact(firstname="a", **{KEY: "ctc_1"})
    other = crm.create_contact(firstname="b", phone="+628111", **{KEY: "ctc_2"})

    survivor = crm.merge(primary, other)

    assert (survivor == primary) is keeps_primary
    assert crm.get(survivor)["phone"] == "+628111"
    assert crm.get(survivor)["firstname"] == "a"
    for old in (primary, other):
        shown = client.http.get(f"{CONTACTS}/{old}", params={"properties": "hs_merged_object_ids"}).json()
        assert shown["id"] == survivor
        assert other in shown["properties"]["hs_merged_object_ids"].split(";")
    assert [row["id"] for row in client.read(other, key=None).json()["results"]] == [survivor]
    assert [row["id"] for row in client.read("ctc_1").json()["results"]] == [survivor]
    assert client.upsert({"id": "ctc_2", "firstname": "b"}).json()["results"][0]["new"] is True


def test_a_merge_by_the_api_and_an_erasure(crm: HubSpotEmulator, client: Client) -> None:
    one, two = crm.create_contact(firstname="a"), crm.create_contact(firstname="b")

    merged = client.http.post(f"{CONTACTS}/merge", json={"primaryObjectId": one, "objectIdToMerge": two})
    erased = client.http.post(f"{CONTACTS}/gdpr-delete", json={"objectId": merged.json()["id"]})

    assert (merged.status_code, erased.status_code) == (200, 204)
    assert crm.all() == {}
    assert [effect.verb for effect in crm.ledger] == ["merge", "erase"]


# -- search


def modified_since(value: object) -> dict[str, Any]:
    return {"propertyName": "lastmodifieddate", "operator": "GTE", "value": str(value)}


def test_search_sees_a_write_only_when_it_is_indexed(crm: HubSpotEmulator, client: Client, clock: Hands) -> None:
    crm.behaviour.index_lag = 30
    number = crm.create_contact(firstname="a")

    assert client.search(modified_since(0)).json()["total"] == 0
    clock.move(30)
    assert client.search(modified_since(0)).json()["total"] == 1

    crm.edit(number, firstname="b")
    [stale] = client.search(modified_since(0)).json()["results"]
    assert stale["properties"]["firstname"] == "a"
    crm.archive(number)
    assert client.search(modified_since(0)).json()["total"] == 0


def test_search_filters_and_sorts_by_time_and_id(crm: HubSpotEmulator, client: Client, clock: Hands) -> None:
    numbers = []
    for name in ("c", "a", "b"):
        numbers.append(crm.create_contact(firstname=name))
        clock.move(1)
    since = int(clock.now.timestamp() * 1000) - 2001

    late = client.search(modified_since(since), sorts=[{"propertyName": "lastmodifieddate", "direction": "ASCENDING"}])
    iso = client.search(modified_since("2026-11-20T12:00:01.000Z"), sorts=["-lastmodifieddate"])
    behind = client.search({"propertyName": "hs_object_id", "operator": "GT", "value": numbers[1]})

    assert [row["id"] for row in late.json()["results"]] == numbers[1:]
    assert [row["id"] for row in iso.json()["results"]] == [numbers[2], numbers[1]]
    assert [row["id"] for row in behind.json()["results"]] == numbers[2:]


def test_text_is_compared_without_case_but_in_wants_lower_case(crm: HubSpotEmulator, client: Client) -> None:
    crm.create_contact(firstname="Ana", email="Ana@Example.com")

    def total(operator: str, **more: Any) -> int:
        return int(client.search({"propertyName": "email", "operator": operator, **more}).json()["total"])

    assert total("EQ", value="ANA@EXAMPLE.COM") == 1
    assert total("IN", values=["ana@example.com", "x"]) == 1
    assert total("IN", values=["Ana@Example.com"]) == 0
    assert total("NEQ", value="x") == 1
    assert total("BETWEEN", value="a", highValue="b") == 1
    assert total("HAS_PROPERTY") == 1
    assert total("NOT_HAS_PROPERTY") == 0


def test_search_pages_and_ends_at_ten_thousand(crm: HubSpotEmulator, client: Client) -> None:
    numbers = [crm.create_contact(firstname="a") for _ in range(5)]

    first = client.search(limit=3).json()
    second = client.search(limit=3, after=first["paging"]["next"]["after"]).json()

    assert [row["id"] for row in (*first["results"], *second["results"])] == numbers
    assert "paging" not in second
    assert client.search(limit=201).status_code == 400
    assert client.search(limit=200, after="9800").status_code == 200
    assert client.search(limit=200, after="9801").status_code == 400


def test_search_has_a_limit_of_its_own_and_tells_none_of_it(crm: HubSpotEmulator, client: Client, clock: Hands) -> None:
    crm.behaviour.rate_limit, crm.behaviour.search_rate = 190, 5

    answers = [client.search() for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert not any(name.lower().startswith("x-hubspot") for answer in answers for name in answer.headers)
    clock.move(1)
    assert client.search().status_code == 200


def test_the_burst_limit_rolls_and_the_daily_one_does_not(crm: HubSpotEmulator, client: Client, clock: Hands) -> None:
    crm.behaviour.rate_limit, crm.behaviour.daily_limit = 3, 5

    answers = [client.http.get(CONTACTS) for _ in range(4)]

    assert [answer.headers["X-HubSpot-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert (answers[3].status_code, answers[3].json()["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    clock.move(10)
    assert client.http.get(CONTACTS).status_code == 200
    assert client.http.get(CONTACTS).json()["policyName"] == "DAILY"


# -- properties


def new_property(name: str, **more: Any) -> dict[str, Any]:
    needed = {"label": name, "type": "string", "fieldType": "text", "groupName": "contactinformation"}
    return {"name": name, **needed, **more}


def test_a_property_is_made_once(client: Client) -> None:
    path = "/crm/v3/properties/contacts"

    made = client.http.post(path, json=new_property("score", hasUniqueValue=True, formField=False))

    assert (made.status_code, made.json()["hasUniqueValue"]) == (201, True)
    assert client.http.post(path, json=new_property("score")).status_code == 409
    assert client.http.get(f"{path}/score").json()["name"] == "score"
    assert client.http.get(f"{path}/nothing").status_code == 404
    assert client.http.post(path, json=new_property("x", groupName="nowhere")).status_code == 400


def test_ten_unique_properties_are_the_most(client: Client) -> None:
    path = "/crm/v3/properties/contacts"

    statuses = [
        client.http.post(path, json=new_property(f"key_{n}", hasUniqueValue=True)).status_code for n in range(10)
    ]

    assert statuses == [201] * 9 + [400]


def test_property_groups_are_made_and_listed(client: Client) -> None:
    path = "/crm/v3/properties/contacts/groups"

    assert client.http.post(path, json={"name": "kirim", "label": "Kirim"}).status_code == 201
    assert client.http.post(path, json={"name": "kirim", "label": "Kirim"}).status_code == 409
    assert "kirim" in {group["name"] for group in client.http.get(path).json()["results"]}


# -- webhooks


def test_webhooks_are_signed_and_say_who_made_the_change(crm: HubSpotEmulator, client: Client) -> None:
    with Receiver() as receiver:
        crm.configure_webhooks(receiver.url, "shh")
        number = crm.create_contact(firstname="a")
        client.http.patch(f"{CONTACTS}/{number}", json={"properties": {"firstname": "b"}})
        crm.archive(number)
        assert crm.wait_idle()

    events = [event for request in receiver.requests for event in request.json()]
    request = receiver.requests[0]
    stamp = request.headers["x-hubspot-request-timestamp"]
    expected = sign("shh", "POST", receiver.url, request.body, stamp)
    assert request.headers["x-hubspot-signature-v3"] == expected
    assert [(event["subscriptionType"], event["changeSource"]) for event in events] == [
        ("contact.creation", "CRM_UI"),
        ("contact.propertyChange", "CRM_UI"),
        ("contact.propertyChange", "INTEGRATION"),
        ("contact.deletion", "CRM_UI"),
    ]
    assert events[2]["sourceId"] == str(crm.app_id)
    assert (events[2]["objectId"], events[2]["propertyValue"]) == (int(number), "b")
    assert len(crm.acknowledged) == 4


def test_a_merge_is_one_event_that_names_all_ids(crm: HubSpotEmulator) -> None:
    one, two = crm.create_contact(firstname="a"), crm.create_contact(firstname="b")
    with Receiver() as receiver:
        crm.configure_webhooks(receiver.url)
        survivor = crm.merge(one, two)
        [request] = receiver.wait_for(1)

    [event] = request.json()
    assert event["subscriptionType"] == "contact.merge"
    assert (event["primaryObjectId"], event["mergedObjectIds"]) == (int(one), [int(two)])
    assert event["newObjectId"] == int(survivor)


def test_webhooks_are_repeated_until_they_are_taken(crm: HubSpotEmulator) -> None:
    crm.behaviour.webhook_retry = 0.001
    with Receiver(500, 401, 302) as receiver:
        crm.configure_webhooks(receiver.url)
        crm.create_contact(firstname="a")
        assert crm.wait_idle()

    assert [request.json()[0]["attemptNumber"] for request in receiver.requests] == [0, 1, 2, 3]
    assert len(crm.acknowledged) == 2


def test_webhooks_come_in_arrays_of_a_hundred_repeated_and_out_of_order(crm: HubSpotEmulator) -> None:
    crm.behaviour.webhook_duplicates, crm.behaviour.webhook_disorder = 0.5, 1.0
    with Receiver() as receiver:
        crm.configure_webhooks(receiver.url)
        with crm.lock:
            for n in range(100):
                crm.create_contact(firstname=f"n{n}")
        assert crm.wait_idle()

    sizes = [len(request.json()) for request in receiver.requests]
    ids = [event["eventId"] for request in receiver.requests for event in request.json()]
    assert max(sizes) == 100
    assert len(set(ids)) == 200 < len(ids)
    assert ids != sorted(ids)


# -- the contract check itself


@needs_spec
@pytest.mark.parametrize(
    ("method", "path", "body", "complaint"),
    [
        ("POST", f"{CONTACTS}/batch/upsert", {"inputs": [], "extra": 1}, "extra"),
        ("POST", CONTACTS, {"properties": {"firstname": None}}, "None is not of type"),
        ("GET", f"{CONTACTS}?colour=red", None, "unknown parameter colour"),
        ("GET", "/crm/v3/objects/planets", None, "no such operation"),
    ],
)
def test_the_contract_check_notices(method: str, path: str, body: Any, complaint: str) -> None:
    violations = Violations()
    with HubSpotEmulator() as crm:
        crm.on_exchange.append(violations)
        httpx.request(method, crm.url + path, json=body, headers={"Authorization": f"Bearer {crm.token}"})

    assert complaint in violations[0]
