"""The emulated org refuses what Salesforce refuses, and keeps a ledger of what really happened."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from support.salesforce_org import CONSUMER, SECRET, prepared_org

from crmsync.sandbox.salesforce import Field, RowError, SalesforceEmulator
from crmsync.sandbox.salesforce.objects import record_id

DATA = "/services/data/v66.0"
KEY = "Kirim_Contact_Id__c"


@pytest.fixture
def org() -> Iterator[SalesforceEmulator]:
    with prepared_org() as org:
        yield org


@pytest.fixture
def client(org: SalesforceEmulator) -> Iterator[httpx.Client]:
    basic = base64.b64encode(f"{CONSUMER}:{SECRET}".encode()).decode()
    with httpx.Client(base_url=org.url, trust_env=False) as client:
        form = {"grant_type": "client_credentials"}
        granted = client.post("/services/oauth2/token", data=form, headers={"Authorization": f"Basic {basic}"}).json()
        client.headers["Authorization"] = f"Bearer {granted['access_token']}"
        yield client


def query(client: httpx.Client, text: str, path: str = "query", **headers: str) -> Any:
    return client.get(f"{DATA}/{path}", params={"q": text}, headers=headers).json()


def names(client: httpx.Client, text: str) -> list[str]:
    answer = query(client, text)
    assert isinstance(answer, dict), answer
    return [row["LastName"] for row in answer["records"]]


def upsert(client: httpx.Client, *rows: dict[str, Any], **headers: str) -> httpx.Response:
    records = [{"attributes": {"type": "Contact"}, **row} for row in rows]
    body = {"allOrNone": False, "records": records}
    return client.patch(f"{DATA}/composite/sobjects/Contact/{KEY}", json=body, headers=headers)


def test_ids_tell_upper_from_lower_case_in_their_last_three_characters() -> None:
    assert record_id("001", 0)[15:] == "AAA"
    assert (
        len({record_id("003", number)[:15].lower() + record_id("003", number)[15:] for number in range(5000)}) == 5000
    )


def test_without_a_session_nothing_is_answered(org: SalesforceEmulator, client: httpx.Client) -> None:
    assert client.get(f"{DATA}/query?q=x", headers={"Authorization": "Bearer x"}).json()[0]["errorCode"] == (
        "INVALID_SESSION_ID"
    )
    org.expire_sessions()
    assert client.get(f"{DATA}/query?q=x").status_code == 401


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("LastName = 'ana'", ["Ana"]),
        ("LastName IN ('ANA','Eva')", ["Ana", "Eva"]),
        ("LastName NOT IN ('Ana')", ["Eva", "O'Hara"]),
        ("LastName LIKE '%va' AND Phone != null", ["Eva"]),
        ("(LastName = 'Ana' OR LastName = 'Eva') AND Phone = null", ["Ana"]),
        (r"LastName = 'O\'Hara'", ["O'Hara"]),
        ("NOT LastName = 'Ana'", ["Eva", "O'Hara"]),
        ("SystemModstamp >= 2020-01-01T00:00:00Z AND IsDeleted = FALSE", ["Ana", "Eva", "O'Hara"]),
    ],
)
def test_queries_answer_what_is_asked(
    org: SalesforceEmulator, client: httpx.Client, condition: str, expected: list[str]
) -> None:
    for name, phone in (("Ana", None), ("Eva", "1"), ("O'Hara", "2")):
        org.create("Contact", LastName=name, Phone=phone)

    assert names(client, f"SELECT LastName FROM Contact WHERE {condition} ORDER BY LastName") == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT Nonsense FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Nonsense", "INVALID_TYPE"),
        ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > '2020-01-01'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE LastName = 'a' OR LastName = 'b' AND Phone = null", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact WHERE LastName = 'x' OR '1' = '1'", "MALFORMED_QUERY"),
        ("SELECT FROM Contact", "MALFORMED_QUERY"),
        ("SELECT Id FROM Contact; DELETE", "MALFORMED_QUERY"),
    ],
)
def test_queries_that_are_none_are_refused(client: httpx.Client, text: str, code: str) -> None:
    assert query(client, text)[0]["errorCode"] == code


def test_long_answers_come_in_pages(org: SalesforceEmulator, client: httpx.Client) -> None:
    for number in range(450):
        org.create("Contact", LastName=f"{number:03}")
    page = query(client, "SELECT Id FROM Contact ORDER BY LastName", **{"Sforce-Query-Options": "batchSize=200"})
    sizes = [len(page["records"])]
    while not page["done"]:
        last = page["nextRecordsUrl"]
        page = client.get(last, headers={"Sforce-Query-Options": "batchSize=200"}).json()
        sizes.append(len(page["records"]))

    assert (sizes, page["totalSize"] <= 450) == ([200, 200, 50], True)
    assert client.get(last).json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


def test_deleted_and_merged_records_are_in_query_all_only(org: SalesforceEmulator, client: httpx.Client) -> None:
    ana, eva = (org.create("Contact", LastName=name) for name in ("Ana", "Eva"))
    org.merge(ana, eva)
    text = "SELECT Id, IsDeleted, MasterRecordId FROM Contact ORDER BY LastName"

    assert [row["Id"] for row in query(client, text)["records"]] == [ana]
    assert [row["MasterRecordId"] for row in query(client, text, "queryAll")["records"]] == [None, ana]


def test_a_collection_answers_row_by_row_in_order(org: SalesforceEmulator, client: httpx.Client) -> None:
    rows = [
        {KEY: "1", "LastName": "A"},
        {KEY: "2"},
        {KEY: "3", "LastName": "C"},
        {KEY: "3", "LastName": "C"},
        {"LastName": "D"},
        {KEY: "5", "LastName": "E", "CreatedDate": "2020-01-01"},
    ]
    answer = upsert(client, *rows).json()

    assert [one["success"] or one["errors"][0]["statusCode"] for one in answer] == [
        True,
        "REQUIRED_FIELD_MISSING",
        "DUPLICATE_EXTERNAL_ID",
        "DUPLICATE_EXTERNAL_ID",
        "MISSING_ARGUMENT",
        "INVALID_FIELD_FOR_INSERT_UPDATE",
    ]
    assert [(effect.verb, effect.external_id) for effect in org.ledger] == [("create", "1")]


def test_a_collection_that_is_none_is_refused_as_a_whole(org: SalesforceEmulator, client: httpx.Client) -> None:
    many = [{KEY: str(number), "LastName": "A"} for number in range(201)]

    assert upsert(client, *many).json()[0]["errorCode"] == "EXCEEDED_MAX_SIZE_REQUEST"
    assert upsert(client, {KEY: "1", "Nonsense": "x"}).json()[0]["errorCode"] == "INVALID_FIELD"
    assert client.patch(f"{DATA}/composite/sobjects/Contact/LastName", json={"records": []}).status_code == 404
    assert len(org.ledger) == 0


def test_a_single_record_is_upserted_by_its_key(org: SalesforceEmulator, client: httpx.Client) -> None:
    place = f"{DATA}/sobjects/Contact/{KEY}/ctc_1"

    assert client.patch(place, json={"LastName": "A"}).status_code == 201
    assert client.patch(place, json={"LastName": "B"}).status_code == 200
    assert client.patch(place, json={KEY: "ctc_1"}).status_code == 400
    assert [held["LastName"] for held in org.all().values()] == ["B"]


def test_people_are_refused_what_the_api_is_refused(org: SalesforceEmulator) -> None:
    org.define("Contact", Field("Code__c", unique=True))
    org.create("Contact", LastName="A", Code__c="1")
    for values in ({"LastName": "B", "Code__c": "1"}, {}, {"LastName": "x" * 81}, {"LastName": "A", "Birthdate": "x"}):
        with pytest.raises(RowError):
            org.create("Contact", **values)
    assert [effect.verb for effect in org.human if effect.kind == "contact"] == ["create"]


def test_what_is_updated_and_deleted_is_told_up_to_the_oldest_open_transaction() -> None:
    clock = [datetime(2026, 11, 20, 12, tzinfo=UTC)]
    with prepared_org(clock=lambda: clock[0]) as org:
        table = org.org.tables["Contact"]
        late = org.create("Contact", LastName="Late")
        org.hide(late)
        began = clock[0]
        clock[0] += timedelta(minutes=30)
        assert org.org.covered(table, clock[0]) == began
        assert org.org.seen(table, deleted=True) == []
        org.show(late)
        assert org.org.covered(table, clock[0]) == clock[0]


def test_a_bulk_job_is_worked_on_after_it_was_closed_and_keeps_what_became_of_each_row(
    org: SalesforceEmulator, client: httpx.Client
) -> None:
    org.create("Contact", LastName="Old", Phone="1", Kirim_Contact_Id__c="ctc_1")
    jobs = f"{DATA}/jobs/ingest"
    job = client.post(jobs, json={"object": "Contact", "operation": "upsert", "externalIdFieldName": KEY}).json()
    place = f"{jobs}/{job['id']}"
    text = f"{KEY},LastName,Phone,HasOptedOutOfEmail\nctc_1,New,#N/A,true\nctc_2,Made,,\nctc_3,,5,\n"
    uploaded = client.put(f"{place}/batches", content=text, headers={"Content-Type": "text/csv"})
    assert (job["state"], uploaded.status_code) == ("Open", 201)
    assert client.delete(place).status_code == 400
    assert client.patch(place, json={"state": "UploadComplete"}).json()["state"] == "UploadComplete"
    states = [client.get(place).json() for _ in range(2)]

    assert [one["state"] for one in states] == ["InProgress", "JobComplete"]
    assert (states[1]["numberRecordsProcessed"], states[1]["numberRecordsFailed"]) == (3, 1)
    held = {values[KEY]: values for values in org.all().values()}
    assert (held["ctc_1"]["LastName"], "Phone" in held["ctc_1"], held["ctc_1"]["HasOptedOutOfEmail"]) == (
        "New",
        False,
        True,
    )
    good = client.get(f"{place}/successfulResults")
    assert good.headers["content-type"] == "text/csv"
    assert [line.split(",")[1:3] for line in good.text.splitlines()[1:]] == [["false", "ctc_1"], ["true", "ctc_2"]]
    assert "REQUIRED_FIELD_MISSING" in client.get(f"{place}/failedResults").text
    assert client.get(f"{place}/unprocessedrecords").text.splitlines() == [text.splitlines()[0]]
    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == 404


def test_a_bulk_job_can_be_given_up_and_fails_over_a_column_that_is_none(
    org: SalesforceEmulator, client: httpx.Client
) -> None:
    jobs = f"{DATA}/jobs/ingest"
    for operation, key in (("upsert", None), ("upsert", "LastName"), ("hardDelete", None)):
        asked = {"object": "Contact", "operation": operation, "externalIdFieldName": key}
        assert client.post(jobs, json=asked).status_code == 400
    ends = []
    for state in ("Aborted", "UploadComplete"):
        job = client.post(jobs, json={"object": "Contact", "operation": "insert"}).json()
        client.put(f"{jobs}/{job['id']}/batches", content="LastName,Nonsense\nA,B\n")
        client.patch(f"{jobs}/{job['id']}", json={"state": state})
        ends.append([client.get(f"{jobs}/{job['id']}").json()["state"] for _ in range(2)][-1])

    assert ends == ["Aborted", "Failed"]
    assert org.all() == {}
