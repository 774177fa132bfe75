"""HubSpot's own ways, over a real socket: what it refuses, how it fails, and what that costs in requests."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from support.hubspot_spec import checked_hubspot

from connectors.hubspot import HubSpot
from crmsync.connector import Surroundings
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.model import FieldType, Kind, Rate, Ref, Write, Written
from crmsync.sandbox.emulator import Call, Exchange, Reply
from crmsync.sandbox.faults import Fault
from crmsync.sandbox.hubspot import HubSpotEmulator, Partial
from crmsync.testing.loopback import LOOPBACK

TOKEN = "pat-eu1-sandbox"
KEY = "kirim_contact_id"
WANTED = frozenset({"firstname", "lastname", "email", "phone", "company", "hobbies", "birthday", "lifecyclestage"})
UPSERT = "POST /crm/v3/objects/contacts/batch/upsert"
UPDATE = "POST /crm/v3/objects/contacts/batch/update"
READ = "POST /crm/v3/objects/contacts/batch/read"
SEARCH = "POST /crm/v3/objects/contacts/search"
PROPERTIES = "GET /crm/v3/properties/contacts"


@dataclass
class Notes:
    """A budget that writes down what it is told."""

    taken: list[str] = field(default_factory=list)
    held: list[tuple[timedelta, str]] = field(default_factory=list)
    observed: list[tuple[int, int, str]] = field(default_factory=list)

    def take(self, bucket: str = "") -> None:
        self.taken.append(bucket)

    def hold(self, until: timedelta, bucket: str = "") -> None:
        self.held.append((until, bucket))

    def observe(self, remaining: int, limit: int, bucket: str = "") -> None:
        self.observed.append((remaining, limit, bucket))


@pytest.fixture
def account() -> Iterator[HubSpotEmulator]:
    """An account whose every exchange has to keep to HubSpot's published contract."""
    with checked_hubspot(token=TOKEN) as emulator:
        emulator.properties.define(KEY, unique=True)
        yield emulator


@pytest.fixture
def budget() -> Notes:
    return Notes()


@pytest.fixture
def hubspot(account: HubSpotEmulator, budget: Notes) -> Iterator[HubSpot]:
    connector = connect(account.url, budget)
    connector.fields(Kind.CONTACT)
    account.calls.clear()
    budget.taken.clear()
    yield connector
    connector.close()


def connect(url: str, budget: Notes, wanted: frozenset[str] = WANTED, **settings: Any) -> HubSpot:
    given = HubSpot.Settings(**{"access_token": TOKEN, "base_url": url, "timeout_seconds": 5, **settings})
    return HubSpot(given, Surroundings("acme", "hubspot", "https://x", budget, {Kind.CONTACT: wanted}, reach=LOOPBACK))


def row(number: int, **fields: Any) -> Write:
    return Write(f"ctc_{number}", {"firstname": f"P{number}", **fields})


def upsert(hubspot: HubSpot, *writes: Write) -> list[Any]:
    return list(hubspot.upsert(Kind.CONTACT, writes))


def bodies(account: HubSpotEmulator) -> list[Any]:
    """Requests' bodies as they arrive from now on."""
    seen: list[Any] = []
    account.on_exchange.append(lambda exchange: seen.append(exchange.call.json()))
    return seen


# -- settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://api.hubapi.com"},
        {"base_url": "https://user:pass@api.hubapi.com"},
        {"base_url": "https://api.hubapi.com/crm"},
        {"base_url": "https://"},
        {"external_id": "Kirim Id"},
        {"portal_id": "abc"},
        {"requests_per_10s": 0},
        {"poll_overlap_seconds": 0},
        {"access_token": "two words-hidden"},
        {"access_token": ""},
        {"client_secrets": ["one-hidden", ""]},
    ],
)
def test_settings_refuse_what_cannot_be_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        HubSpot.Settings(**{"access_token": "t", **wrong})

    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("url", ["https://api.hubapi.com/", "http://127.0.0.1:9001", "http://hubspot-emulator:8080"])
def test_where_plain_http_may_lead_is_the_configurations_business(url: str) -> None:
    assert HubSpot.Settings.model_validate({"access_token": "t", "base_url": url}).base_url == url.rstrip("/")


# -- schema


def test_properties_are_fields_with_types(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    account.properties.define("score", type="number")
    account.properties.define("vip", type="bool")
    fields = {info.name: info for info in hubspot.fields(Kind.CONTACT)}
    types = {name: fields[name].type for name in ("email", "phone", "firstname", "score", "vip", "createdate")}

    assert types == {
        "email": FieldType.EMAIL,
        "phone": FieldType.PHONE,
        "firstname": FieldType.TEXT,
        "score": FieldType.NUMBER,
        "vip": FieldType.BOOLEAN,
        "createdate": FieldType.DATETIME,
    }
    assert fields["lifecyclestage"].type is FieldType.CHOICE
    assert "lead" in fields["lifecyclestage"].options
    assert (fields[KEY].unique, fields[KEY].writable, fields["createdate"].writable) == (True, True, False)


def test_preparing_makes_the_key_property_once(account: HubSpotEmulator, budget: Notes) -> None:
    hubspot = connect(account.url, budget, external_id="kirim_id")

    assert len(hubspot.prepare(Kind.CONTACT)) == 1
    assert account.properties.get("kirim_id") is None
    assert len(hubspot.prepare(Kind.CONTACT, plan_only=False)) == 1
    made = account.properties.get("kirim_id")
    assert made is not None
    assert (made.unique, made.raw["formField"], made.group) == (True, False, "contactinformation")
    assert hubspot.prepare(Kind.CONTACT, plan_only=False) == []


def test_a_key_property_that_somebody_else_made_meanwhile_will_do(account: HubSpotEmulator, budget: Notes) -> None:
    hubspot = connect(account.url, budget, external_id="kirim_id")
    define = account.properties.define
    account.on_exchange.append(lambda exchange: define("kirim_id", unique=True) if _is_listing(exchange) else None)

    assert len(hubspot.prepare(Kind.CONTACT, plan_only=False)) == 1


def _is_listing(exchange: Exchange) -> bool:
    return exchange.call.method == "GET"


def test_a_property_without_unique_values_cannot_be_the_key(account: HubSpotEmulator, budget: Notes) -> None:
    hubspot = connect(account.url, budget, external_id="jobtitle")

    with pytest.raises(Reject, match="external_id:"):
        hubspot.prepare(Kind.CONTACT)


def test_a_deleted_key_property_suspends_instead_of_refusing_every_row(
    account: HubSpotEmulator, hubspot: HubSpot
) -> None:
    account.properties.delete(Call("DELETE", "", "", {"name": KEY}, {}, {}, b""))

    with pytest.raises(Suspend, match=f"{KEY}.*prepare"):
        upsert(hubspot, *(row(number) for number in range(100)))
    assert account.calls.total() <= 2


# -- values


def test_values_go_out_in_hubspots_spelling(account: HubSpotEmulator, hubspot: HubSpot, budget: Notes) -> None:
    checkbox = {"name": "hobbies", "label": "x", "type": "enumeration", "fieldType": "checkbox"}
    options = [{"label": name, "value": name, "displayOrder": 0, "hidden": False} for name in ("a", "b", "c")]
    body = json.dumps({**checkbox, "groupName": "contactinformation", "options": options}).encode()
    account.properties.create(Call("POST", "", "", {}, {}, {}, body))
    for name, kind in (("score", "number"), ("vip", "bool"), ("birthday", "date"), ("seen_at", "datetime")):
        account.properties.define(name, type=kind)
    hubspot.fields(Kind.CONTACT)
    fields = {"hobbies": ("c", "a"), "score": 5.0, "vip": True, "birthday": "1990-03-01T00:00:00+00:00"}
    (outcome,) = upsert(hubspot, row(1, **fields, seen_at="2026-11-20T17:00:00+07:00", company=None))
    held = account.get(outcome.record.id)

    assert {name: held[name] for name in ("hobbies", "score", "vip", "birthday", "seen_at")} == {
        "hobbies": "c;a",
        "score": "5",
        "vip": "true",
        "birthday": "1990-03-01",
        "seen_at": "2026-11-20T10:00:00.000Z",
    }
    assert outcome.record.fields["hobbies"] == ("c", "a")
    assert outcome.record.fields["birthday"] == "1990-03-01"
    assert "seen_at" not in outcome.record.fields  # nobody asked for it


def test_a_lone_surrogate_does_not_spoil_the_batch(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    good, bad = upsert(hubspot, row(1), row(2, company="x\ud800y"))

    assert isinstance(good, Written)
    assert account.get(bad.record.id)["company"] == "x\ufffdy"
    assert account.calls == Counter({UPSERT: 1})


# -- creating


def test_a_contact_without_a_name_is_called_by_its_number(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    outcomes = upsert(hubspot, Write("ctc_1", {"phone": "+62811"}), Write("ctc_2", {"company": "Acme"}))

    assert [outcome.created for outcome in outcomes] == [True, True]
    assert [account.get(outcome.record.id)["firstname"] for outcome in outcomes] == ["+62811", "ctc_2"]


def test_a_contact_that_is_there_keeps_its_name(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    id = account.create_contact(firstname="Ana", kirim_contact_id="ctc_1")
    (outcome,) = upsert(hubspot, Write("ctc_1", {"phone": "+62811"}))

    assert not outcome.created
    assert (account.get(id)["firstname"], account.get(id)["phone"]) == ("Ana", "+62811")
    assert account.calls == Counter({READ: 1, UPSERT: 1})


def test_a_batch_with_names_is_one_request(account: HubSpotEmulator, hubspot: HubSpot, budget: Notes) -> None:
    upsert(hubspot, *(row(number) for number in range(100)))

    assert account.calls == Counter({UPSERT: 1})
    assert budget.taken == [""]


def test_each_row_carries_its_key_three_times(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    sent = bodies(account)
    upsert(hubspot, row(1))

    assert sent == [
        {
            "inputs": [
                {
                    "id": "ctc_1",
                    "idProperty": KEY,
                    "objectWriteTraceId": "ctc_1",
                    "properties": {"firstname": "P1", KEY: "ctc_1"},
                }
            ]
        }
    ]


def test_a_known_record_is_updated_by_its_id_and_stamped(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    id = account.create_contact(firstname="Ana")
    (outcome,) = upsert(hubspot, Write("ctc_1", {}, id=id))

    assert account.get(id)[KEY] == "ctc_1"
    assert (outcome.record.id, outcome.record.external_id, outcome.created) == (id, "ctc_1", False)
    assert account.calls == Counter({UPDATE: 1})


def test_a_write_to_a_merged_record_reaches_the_survivor(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    one, two = account.create_contact(firstname="A"), account.create_contact(firstname="B")
    survivor = account.merge(one, two)
    (outcome,) = upsert(hubspot, Write("ctc_1", {"company": "Acme"}, id=two))

    assert outcome.record.id == survivor
    assert two in outcome.record.aliases
    assert account.get(survivor)["company"] == "Acme"


# -- refusals


@pytest.mark.parametrize("partial", Partial)
def test_a_bad_value_costs_one_field_of_one_row(account: HubSpotEmulator, hubspot: HubSpot, partial: Partial) -> None:
    account.behaviour.partial = partial
    writes = [row(number, email=f"p{number}@example.com") for number in range(20)]
    writes[7] = row(7, email="nonsense", company="Acme")
    outcomes = upsert(hubspot, *writes)

    assert [type(outcome) for outcome in outcomes] == [Written] * 20
    assert [number for number, outcome in enumerate(outcomes) if outcome.refused] == [7]
    assert outcomes[7].refused == {"email": "INVALID_EMAIL"}
    held = account.get(outcomes[7].record.id)
    assert ("email" in held, held["company"]) == (False, "Acme")
    assert account.calls[UPSERT] <= 2 + 2 * 5  # log2(20) halvings of two requests each


@pytest.mark.parametrize("partial", Partial)
def test_a_taken_email_names_the_record_that_has_it(
    account: HubSpotEmulator, hubspot: HubSpot, partial: Partial
) -> None:
    account.behaviour.partial = partial
    holder = account.create_contact(email="taken@example.com")
    good, bad = upsert(hubspot, row(1), row(2, email="taken@example.com"))

    assert isinstance(good, Written)
    assert type(bad) is Reject
    assert bad.candidate == holder
    assert "taken@" not in str(bad)
    assert account.by_external_id("ctc_2") == []


def test_a_key_that_another_record_has_names_that_record(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    holder = account.create_contact(firstname="A", kirim_contact_id="ctc_1")
    other = account.create_contact(firstname="B")
    (outcome,) = upsert(hubspot, Write("ctc_1", {"company": "Acme"}, id=other))

    assert type(outcome) is Reject
    assert outcome.candidate == holder


@pytest.mark.parametrize("partial", Partial)
@pytest.mark.parametrize("field", ["gone_property", "createdate"])
def test_a_property_that_nobody_can_write_costs_few_requests(
    account: HubSpotEmulator, hubspot: HubSpot, partial: Partial, field: str
) -> None:
    """A property deleted in HubSpot is in every row of a mapping, not in one."""
    account.behaviour.partial = partial
    outcomes = upsert(hubspot, *(row(number, **{field: "1"}) for number in range(50)))

    assert [type(outcome) for outcome in outcomes] == [Written] * 50
    assert all(set(outcome.refused) == {field} for outcome in outcomes)
    if partial is not Partial.EMPTY:
        assert account.calls[UPSERT] == 2


def test_a_row_of_which_nothing_is_left_is_refused_and_creates_nothing(
    account: HubSpotEmulator, hubspot: HubSpot
) -> None:
    (outcome,) = upsert(hubspot, Write("ctc_1", {"email": "nonsense"}))

    assert type(outcome) is Reject
    assert outcome.fields == ("email",)
    assert account.all() == {}


def test_an_unnamed_refusal_is_narrowed_down_to_its_row(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    account.behaviour.partial = Partial.WHOLE_BATCH
    known = [account.create_contact(firstname="A", kirim_contact_id=f"ctc_{number}") for number in range(32)]
    account.archive(known[11])
    outcomes = upsert(hubspot, *(Write(f"ctc_{n}", {"company": "Acme"}, id=id) for n, id in enumerate(known)))

    assert [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, Written)] == [11]
    assert type(outcomes[11]) is Reject


def scripted(account: HubSpotEmulator, method: str, path: str, *replies: Reply) -> None:
    """Answers the next requests of an operation with these, in order."""
    for reply in replies:
        fault = Fault.error(reply.status, body=reply.body)
        account.faults.fail_next(1, fault, path, method=method)


def answer(*results: Any, errors: Any = ()) -> Reply:
    body = {"status": "COMPLETE", "results": list(results), "errors": list(errors), "numErrors": len(errors)}
    return Reply(207 if errors else 200, body)


def result(id: str, key: str | None, trace: str | None = None) -> dict[str, Any]:
    shown = {"id": id, "properties": {KEY: key} if key else {}, "updatedAt": "2026-11-20T10:00:00.000Z"}
    return {**shown, "objectWriteTraceId": trace} if trace else shown


def test_results_are_told_apart_by_trace_key_or_id_never_by_place(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    scripted(
        account,
        "POST",
        "/crm/v3/objects/contacts/batch/update",
        answer(result("3", None), result("77", "ctc_9"), result("22", "ctc_2"), result("1", None, trace="ctc_1")),
    )
    outcomes = upsert(hubspot, *(Write(f"ctc_{n}", {"company": "x"}, id=str(n)) for n in (1, 2, 3)))

    assert [outcome.record.id for outcome in outcomes] == ["1", "22", "3"]
    assert outcomes[1].record.aliases == ("2",)


def test_an_answer_without_the_row_is_ambiguous(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    scripted(account, "POST", "/crm/v3/objects/contacts/batch/upsert", answer())
    (outcome,) = upsert(hubspot, row(1))

    assert isinstance(outcome, Retry)
    assert outcome.ambiguous


def test_rows_an_answer_forgets_are_sent_again_alone(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    scripted(account, "POST", "/crm/v3/objects/contacts/batch/upsert", answer(result("5", "ctc_1")))
    outcomes = upsert(hubspot, row(1), row(2), row(3))

    assert [type(outcome) for outcome in outcomes] == [Written] * 3
    assert account.calls[UPSERT] == 3


@pytest.mark.parametrize(
    ("category", "meaning", "ambiguous"),
    [("RATE_LIMITS", Retry, False), ("INTERNAL_ERROR", Retry, True), ("OBJECT_NOT_FOUND", Reject, None)],
)
def test_a_rows_error_means_what_its_category_says(
    account: HubSpotEmulator, hubspot: HubSpot, category: str, meaning: type, ambiguous: bool | None
) -> None:
    error = {"category": category, "message": "x", "context": {"objectWriteTraceId": ["ctc_2"]}}
    reply = answer(result("1", "ctc_1"), errors=[error])
    scripted(account, "POST", "/crm/v3/objects/contacts/batch/upsert", reply)
    good, bad = upsert(hubspot, row(1), row(2))

    assert isinstance(good, Written)
    assert type(bad) is meaning
    assert getattr(bad, "ambiguous", None) is ambiguous


# -- trouble


def test_after_trouble_nothing_more_is_sent(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    known = account.create_contact(firstname="A")
    account.faults.fail_next(1, "504", "/crm/v3/objects/contacts/batch/update")
    first, second = upsert(hubspot, Write("ctc_1", {"company": "x"}, id=known), row(2))

    assert (type(first), first.ambiguous) == (Retry, True)
    assert (type(second), second.ambiguous) == (Throttled, False)
    assert account.calls == Counter({UPDATE: 1})


def test_what_was_written_before_trouble_is_told(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    known = account.create_contact(firstname="A")
    account.faults.fail_next(1, "401", "/crm/v3/objects/contacts/batch/upsert")
    first, second = upsert(hubspot, Write("ctc_1", {"company": "x"}, id=known), row(2))

    assert isinstance(first, Written)
    assert isinstance(second, Suspend)


def test_rows_of_a_part_that_was_never_sent_did_not_fail(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    """Two parts: the known go first. What was written before the trouble stays written."""
    known = [account.create_contact(firstname=name) for name in "AB"]
    account.behaviour.partial = Partial.WHOLE_BATCH
    account.archive(known[1])
    account.faults.fail_next(2, Fault.slow(0), "/crm/v3/objects/contacts/batch/update")  # the whole, then its half
    account.faults.fail_next(1, Fault.error(429, after=7), "/crm/v3/objects/contacts/batch/update")
    writes = [Write(f"ctc_{n}", {"company": "x"}, id=id) for n, id in enumerate(known)]
    outcomes = upsert(hubspot, *writes, row(2))

    assert [type(outcome) for outcome in outcomes] == [Written, Retry, Throttled]
    assert outcomes[2].after == timedelta(seconds=7)
    assert account.calls == Counter({UPDATE: 3})


def test_trouble_before_anything_was_written_is_everyones(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    known = account.create_contact(firstname="A")
    account.faults.fail_next(1, Fault.error(429, after=7), "/crm/v3/objects/contacts/batch/update")
    with pytest.raises(Retry) as raised:
        upsert(hubspot, row(2), Write("ctc_1", {"company": "x"}, id=known))

    assert (type(raised.value), raised.value.after) == (Retry, timedelta(seconds=7))
    assert account.calls == Counter({UPDATE: 1})


def test_a_row_that_was_sent_once_without_an_answer_is_ambiguous_whatever_comes_after(
    account: HubSpotEmulator, hubspot: HubSpot
) -> None:
    path = "/crm/v3/objects/contacts/batch/upsert"
    scripted(account, "POST", path, answer(result("5", "ctc_1")))
    account.faults.fail_next(1, Fault.error(429), path)
    outcomes = upsert(hubspot, row(1), row(2), row(3))

    assert [type(outcome) for outcome in outcomes] == [Written, Retry, Retry]
    assert [outcome.ambiguous for outcome in outcomes[1:]] == [True, True]


def failure(hubspot: HubSpot) -> ConnectorError:
    with pytest.raises(ConnectorError) as raised:
        hubspot.fetch(Kind.CONTACT, [Ref(id="1")])
    return raised.value


def test_the_ten_second_limit_holds_everyone_for_ten_seconds(
    account: HubSpotEmulator, hubspot: HubSpot, budget: Notes
) -> None:
    account.behaviour.rate_limit = 1
    assert account.calls.total() == 0
    failures = [failure(hubspot) for _ in range(2)]

    assert [type(error) for error in failures] == [Retry, Retry]
    assert failures[-1].after == timedelta(seconds=10)  # type: ignore[attr-defined]
    assert budget.held[-1] == (timedelta(seconds=10), "")
    assert (0, 1, "") in budget.observed


def test_the_daily_limit_suspends_the_connection(account: HubSpotEmulator, hubspot: HubSpot, budget: Notes) -> None:
    account.behaviour.daily_limit = 0
    error = failure(hubspot)

    assert isinstance(error, Suspend)
    assert error.after == timedelta(hours=1)
    assert budget.held == [(timedelta(hours=1), "")]


def test_the_search_limit_is_a_second(account: HubSpotEmulator, hubspot: HubSpot, budget: Notes) -> None:
    account.behaviour.search_rate = 0
    with pytest.raises(Retry) as raised:
        hubspot.changed(Kind.CONTACT, None)

    assert raised.value.after == timedelta(seconds=1)
    assert budget.taken == ["search"]
    assert budget.held == [(timedelta(seconds=1), "search")]


@pytest.mark.parametrize(
    ("policy", "held"), [("SECONDLY", "search"), ("", "search"), ("TEN_SECONDLY_ROLLING", ""), ("DAILY", "")]
)
def test_a_search_that_was_too_much_holds_what_its_policy_is_about(
    account: HubSpotEmulator, hubspot: HubSpot, budget: Notes, policy: str, held: str
) -> None:
    body = {"status": "error", "errorType": "RATE_LIMIT", "policyName": policy}
    account.faults.fail_next(1, Fault.error(429, after=3, body=body))
    with pytest.raises(ConnectorError):
        hubspot.find(Kind.CONTACT, "company", ["x"])

    assert budget.held == [(timedelta(seconds=3), held)]


@pytest.mark.parametrize(
    ("status", "named", "after"),
    [(423, None, 2), (423, 1, 2), (423, 7, 7), (477, None, 60), (477, 900, 900), (503, None, None), (521, 5, 5)],
)
def test_passing_trouble_waits_as_long_as_hubspot_says(
    account: HubSpotEmulator, hubspot: HubSpot, status: int, named: int | None, after: int | None
) -> None:
    account.faults.fail_next(1, Fault.error(status, after=named))
    error = failure(hubspot)

    assert isinstance(error, Retry)
    assert error.after == (None if after is None else timedelta(seconds=after))
    assert not error.ambiguous


def test_a_locked_record_holds_nobody_else(account: HubSpotEmulator, hubspot: HubSpot, budget: Notes) -> None:
    account.faults.fail_next(1, Fault.error(423))
    failure(hubspot)

    assert budget.held == []


def test_a_missing_scope_is_named(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    body = {
        "status": "error",
        "category": "MISSING_SCOPES",
        "correlationId": "0123456789abcdef",
        "errors": [{"message": "x", "context": {"requiredGranularScopes": ["crm.objects.contacts.read"]}}],
    }
    account.faults.fail_next(1, Fault.error(403, body=body))
    error = failure(hubspot)

    assert isinstance(error, Suspend)
    assert "crm.objects.contacts.read" in str(error)
    assert "0123456789abcdef" in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(budget: Notes, status: int) -> None:
    class Moved(HubSpotEmulator):
        def finish(self, call: Call, reply: Reply) -> Reply:
            return Reply(status, {}, {"Location": f"{self.url}/elsewhere"})

    with Moved(token=TOKEN) as account:
        error = failure(connect(account.url, budget))

        assert type(error) is Reject
        assert "redirect" in str(error)
        assert account.calls.total() == 1


def test_a_closed_door_is_not_ambiguous(budget: Notes) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Retry, match="could not be reached") as raised:
            upsert(connect(url, budget), row(1))

    assert not raised.value.ambiguous


def test_a_get_is_not_repeated_behind_our_back(account: HubSpotEmulator, hubspot: HubSpot, budget: Notes) -> None:
    account.faults.outage("reset_before")
    with pytest.raises(Retry):
        hubspot.fields(Kind.CONTACT)

    assert account.calls == Counter({PROPERTIES: 1})
    assert budget.taken == [""]


def test_the_connection_is_kept(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    for _ in range(3):
        hubspot.fetch(Kind.CONTACT, [Ref(id="1")])
        hubspot.find(Kind.CONTACT, "company", ["x"])
    (pool,) = hubspot.wire._client.rest_client.pool_manager.pools._container.values()

    assert pool.num_connections == 1


def raw_answers(*answers: bytes) -> tuple[socket.socket, str]:
    """A server that gives each connection the next bytes and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def serve() -> None:
        for data in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                try:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(65_536)
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()
    return listener, url


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense\r\n\r\n",
        HEAD + b'Content-Length: 500\r\n\r\n{"results":',
        HEAD + b"Content-Length: 2\r\n\r\n[]",
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b'Content-Length: 16\r\n\r\n{"results":null}',
        HEAD + b'Content-Length: 20\r\n\r\n{"results":[{"a":1}]',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        HEAD + b"Content-Type: text/html; charset=martian\r\nContent-Length: 4\r\n\r\n\xff\xfe\xff\xfe",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\n\xff\xfe\xff\xfe",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        HEAD + b"\r\n" + b" " * (17 << 20),
    ],
    ids=range(13),
)
def test_whatever_comes_back_is_one_of_our_errors(budget: Notes, data: bytes) -> None:
    listener, url = raw_answers(data)
    hubspot = connect(url, budget)
    with listener, pytest.raises(ConnectorError):
        hubspot.fetch(Kind.CONTACT, [Ref(id="1")])
    hubspot.close()


def test_an_answer_that_never_ends_is_cut_off(budget: Notes) -> None:
    """Each byte comes in time; the whole does not."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(HEAD + b"\r\n")
            try:
                while not ended.wait(0.01):
                    connection.sendall(b" ")
            except OSError:
                pass

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    hubspot = connect(f"http://127.0.0.1:{listener.getsockname()[1]}", budget, timeout_seconds=0.2)
    with listener, pytest.raises(Retry):
        hubspot.fetch(Kind.CONTACT, [Ref(id="1")])
    ended.set()
    thread.join()
    hubspot.close()


# -- reading


def test_ids_and_keys_are_two_requests(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    one = account.create_contact(firstname="A", kirim_contact_id="ctc_1")
    two = account.create_contact(firstname="B", kirim_contact_id="ctc_2")
    found = hubspot.fetch(
        Kind.CONTACT,
        [
            Ref(external_id="ctc_2"),
            Ref(id=one),
            Ref(id="999"),
            Ref(id="not a number"),
            Ref(id="998", external_id="ctc_1"),
        ],
    )

    assert [record and record.id for record in found] == [two, one, None, None, one]
    assert account.calls == Counter({READ: 2})


def test_a_survivor_that_does_not_tell_whom_it_absorbed_is_found(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    ids = [account.create_contact(firstname=name) for name in "ABCD"]
    survivor = account.merge(ids[0], ids[1])
    del account.contacts.by_id[int(survivor)].properties["hs_merged_object_ids"]
    found = hubspot.fetch(Kind.CONTACT, [Ref(id=id) for id in (ids[2], ids[1], "999", ids[0], ids[3])])

    assert [record and record.id for record in found] == [ids[2], survivor, None, survivor, ids[3]]
    assert found[1] is not None
    assert ids[1] in found[1].aliases


def test_a_reading_that_failed_in_part_is_no_absence(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    error = {"category": "INTERNAL_ERROR", "message": "x", "context": {"ids": ["1"]}}
    scripted(account, "POST", "/crm/v3/objects/contacts/batch/read", answer(errors=[error]))

    assert isinstance(failure(hubspot), Retry)


def test_find_goes_in_portions_that_a_search_has_room_for(
    account: HubSpotEmulator, hubspot: HubSpot, budget: Notes
) -> None:
    emails = [f"Person.Number.{number}@Example.com" for number in range(150)]
    for email in emails[::2]:
        account.create_contact(email=email)
    found = hubspot.find(Kind.CONTACT, "email", emails)

    assert [len(found[email]) for email in emails] == [1, 0] * 75
    assert set(budget.taken) == {"search"}


def test_a_mapping_too_long_for_a_search_is_completed_by_reading(account: HubSpotEmulator, budget: Notes) -> None:
    names = [f"property_with_a_rather_long_name_{number:03d}" for number in range(100)]
    for name in names:
        account.properties.define(name)
    hubspot = connect(account.url, budget, frozenset(names))
    account.create_contact(firstname="A", **{names[99]: "here"})
    page = hubspot.changed(Kind.CONTACT, None)

    assert page.records[0].fields[names[99]] == "here"
    assert set(page.records[0].fields) == set(names)


def test_the_feed_goes_past_the_most_that_a_search_pages_through(
    account: HubSpotEmulator, hubspot: HubSpot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is 10,000 rows at HubSpot and 400 here; there are 700 of one instant, and some later ones."""
    monkeypatch.setattr("crmsync.sandbox.hubspot.search.MOST_HITS", 400)
    moment = account.now()
    for later, count in ((0, 700), (1, 5)):
        account.clock = lambda later=later: moment + timedelta(seconds=later)  # type: ignore[misc]
        for number in range(count):
            account.create_contact(firstname=f"P{number}")
    seen: set[str] = set()
    cursor, more = None, True
    while more:
        page = hubspot.changed(Kind.CONTACT, cursor)
        seen |= {record.id for record in page.records}
        cursor, more = page.cursor, page.more

    assert seen == set(account.all())
    assert account.calls == Counter({SEARCH: 7})


def test_a_cursor_of_another_feed_is_refused(hubspot: HubSpot) -> None:
    for cursor in ("", "null", "[]", "7", '{"x":1}', '{"floor":"1"}', "\ud800"):
        with pytest.raises(Reject):
            hubspot.changed(Kind.CONTACT, cursor)


def test_the_configured_rate_replaces_the_documented_one() -> None:
    settings = HubSpot.Settings.model_validate({"access_token": "t", "requests_per_10s": 100})
    oauth = {"client_id": "id", "client_secret": "s", "refresh_token": "r"}

    assert HubSpot.Settings.model_validate(oauth).limits({"": HubSpot.rate})[""].requests == 110
    assert settings.limits({"": HubSpot.rate, **HubSpot.buckets}) == {
        "": Rate(100, 10, rolling=True),
        "search": Rate(5, 1, rolling=True),
        "associations": Rate(100, 10, rolling=True),
    }


def test_a_property_that_is_named_in_prose_only_is_left_out(account: HubSpotEmulator, hubspot: HubSpot) -> None:
    body = {"status": "error", "category": "VALIDATION_ERROR", "message": 'Property "company" does not exist'}
    account.faults.fail_next(1, Fault.error(400, body=body), "/crm/v3/objects/contacts/batch/upsert")
    outcomes = upsert(hubspot, row(1, company="x"), row(2))

    assert [outcome.refused for outcome in outcomes] == [{"company": "PROPERTY_DOESNT_EXIST"}, {}]


@pytest.mark.parametrize("code", ["PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"])
def test_a_refused_key_property_is_no_rows_fault(account: HubSpotEmulator, hubspot: HubSpot, code: str) -> None:
    named = json.dumps([{"isValid": False, "message": "x", "error": code, "name": KEY}])
    body = {"status": "error", "message": f"Property values were not valid: {named}"}
    account.faults.fail_next(1, Fault.error(400, body=body), "/crm/v3/objects/contacts/batch/upsert")

    with pytest.raises(Suspend, match=KEY):
        upsert(hubspot, row(1), row(2))


def test_a_full_account_cannot_be_prepared(account: HubSpotEmulator, budget: Notes) -> None:
    """HubSpot allows ten properties with unique values."""
    for number in range(9):
        account.properties.define(f"unique_{number}", unique=True)
    hubspot = connect(account.url, budget, external_id="kirim_id")

    with pytest.raises(Reject) as refused:
        hubspot.prepare(Kind.CONTACT, plan_only=False)
    assert type(refused.value) is Reject
