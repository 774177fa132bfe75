"""Jobs of Bulk API 2.0: thousands of new records with a handful of requests, and never anything older over newer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from support.salesforce_org import connect, prepared_org, seen_by

from connectors.salesforce import MOST_LOADED, Salesforce
from connectors.salesforce.jobs import PATIENCE
from crmsync.errors import Retry
from crmsync.model import CONTACT_LINK, Kind, Write, Written
from crmsync.sandbox.emulator import Exchange
from crmsync.sandbox.faults import UNAVAILABLE
from crmsync.sandbox.salesforce import Behaviour, DuplicateRule, SalesforceEmulator

CONTACT, CASE = Kind.CONTACT, Kind.CONVERSATION
KEY = "Kirim_Contact_Id__c"
JOBS = "/data/jobs/ingest/"


def people(count: int, **more: str) -> list[Write]:
    return [Write(f"ctc_{number:026d}", {"LastName": f"Person {number}", **more}) for number in range(count)]


def at_once(seconds: float) -> bool:
    return seconds > 0


def asked(seen: list[Exchange]) -> Counter[str]:
    """Requests, by what they are about."""
    return Counter(
        f"{each.call.method} {'job' if '/jobs/' in each.call.path else each.call.path.rsplit('/', 1)[-1]}"
        for each in seen
    )


def test_thousands_are_made_with_a_handful_of_requests_and_read_again(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    salesforce.fields(CONTACT)
    org.behaviour.bulk_looks = 3
    seen, pauses = seen_by(org), list[float]()
    outcomes = salesforce.load(CONTACT, people(2_500), lambda seconds: pauses.append(seconds) is None)

    assert all(isinstance(outcome, Written) and outcome.created for outcome in outcomes)
    assert len(org.all()) == 2_500
    assert asked(seen) == {"POST job": 1, "PUT job": 1, "PATCH job": 1, "GET job": 5, "GET query": 13}
    assert pauses == [2.0, 3.0, 4.5, 6.75]
    assert [effect.verb for effect in org.ledger] == ["create"] * 2_500


def test_a_job_that_ends_late_changes_nothing_that_is_newer(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    """The daemon gave it up or died, and the org works on it all the same."""
    seen = seen_by(org)
    with pytest.raises(Retry) as raised:
        salesforce.load(CONTACT, people(3), lambda seconds: False)
    newer = Write("ctc_00000000000000000000000001", {"LastName": "Newer"})
    assert isinstance(salesforce.upsert(CONTACT, [newer])[0], Written)
    (job,) = {each.call.path.split("/")[4] for each in seen if each.call.path.startswith(JOBS)}
    states = [salesforce.wire.call(f"jobs/ingest/{job}")["state"] for _ in range(2)]

    assert raised.value.ambiguous
    assert states[-1] == "JobComplete"
    assert sorted(row["LastName"] for row in org.all().values()) == ["Newer", "Person 0", "Person 2"]
    assert [effect.verb for effect in org.ledger].count("create") == 3


def test_what_a_job_does_not_take_goes_as_ever(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    """Who is there already, and whom a rule of the org warns of: each comes to the end it has with any other write."""
    org.behaviour.duplicate_rule = DuplicateRule.ALERT
    org.create("Contact", LastName="Old", Email="a@example.com")
    there = org.create("Contact", LastName="Known", **{KEY: "ctc_00000000000000000000000000"})
    writes = people(3)
    writes[2] = Write(writes[2].external_id, {**writes[2].fields, "Email": "a@example.com"})
    known, made, doubled = salesforce.load(CONTACT, writes, at_once)

    assert isinstance(known, Written)
    assert (known.created, known.record.id if known.record else "") == (False, there)
    assert isinstance(made, Written)
    assert made.created
    assert "DUPLICATES_DETECTED" in str(doubled)
    assert len(org.all()) == 3


def test_a_job_that_fails_as_a_whole_costs_nobody_anything(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    """A field that is no field is refused of every row."""
    outcomes = salesforce.load(CONTACT, people(5, Nonsense__c="x"), at_once)

    assert [set(outcome.refused) for outcome in outcomes if isinstance(outcome, Written)] == [{"Nonsense__c"}] * 5
    assert len(org.all()) == 5


def test_where_a_job_would_have_no_rows_none_is_begun(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    """The text of the only row is what a job takes for nothing."""
    seen = seen_by(org)
    outcomes = salesforce.load(CONTACT, [Write("ctc_1", {"LastName": "#N/A"})], at_once)

    assert isinstance(outcomes[0], Written)
    assert asked(seen)["POST job"] == 0
    assert [row["LastName"] for row in org.all().values()] == ["#N/A"]


def test_whoever_has_no_name_is_made_with_a_stand_in(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    (outcome,) = salesforce.load(CONTACT, [Write("ctc_1", {"Email": "a@example.com"})], at_once)

    assert isinstance(outcome, Written)
    assert [row["LastName"] for row in org.all().values()] == ["ctc_1"]


def test_cases_go_with_their_contact_and_past_the_job_where_rules_give_them_away(org: SalesforceEmulator) -> None:
    contact = org.create("Contact", LastName="Ana")
    writes = [Write(f"cnv_{number}", {"Subject": "Order", CONTACT_LINK: (contact,)}) for number in range(3)]
    for rules, jobs in ((False, 1), (True, 0)):
        salesforce = connect(org, assignment_rules=rules)
        seen = seen_by(org)
        some = [Write(f"{write.external_id}_{rules}", write.fields) for write in writes]
        assert all(isinstance(outcome, Written) for outcome in salesforce.load(CASE, some, at_once))
        assert asked(seen)["POST job"] == jobs
        org.on_exchange.clear()
        salesforce.close()

    assert {row["ContactId"] for row in org.all("Case").values()} == {contact}
    assert len(org.all("Case")) == 6


@pytest.mark.parametrize(("failures", "ends_well"), [(PATIENCE - 1, True), (PATIENCE, False)])
def test_looking_at_a_job_may_fail_some_times(
    org: SalesforceEmulator, salesforce: Salesforce, failures: int, ends_well: bool
) -> None:
    def pause(seconds: float) -> bool:
        if not org.faults.met:
            org.faults.fail_next(failures, UNAVAILABLE, JOBS, method="GET")
        return True

    load: Callable[[], object] = lambda: salesforce.load(CONTACT, people(3), pause)  # noqa: E731
    if ends_well:
        load()
        assert len(org.all()) == 3
        return
    with pytest.raises(Retry) as raised:
        load()
    assert raised.value.ambiguous


def test_a_session_may_end_while_a_job_is_worked_on(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    def pause(seconds: float) -> bool:
        org.expire_sessions()
        return True

    assert all(isinstance(outcome, Written) for outcome in salesforce.load(CONTACT, people(3), pause))
    assert len(org.all()) == 3


def test_a_job_without_an_end_is_given_up() -> None:
    with prepared_org(behaviour=Behaviour(bulk_looks=10_000)) as org:
        salesforce = connect(org)
        with pytest.raises(Retry) as raised:
            salesforce.load(CONTACT, people(3), at_once)
        salesforce.close()

    assert raised.value.ambiguous


@pytest.mark.parametrize(
    ("settings", "loads"),
    [
        ({}, range(2_000, MOST_LOADED + 1)),
        ({"bulk_from": 500}, range(500, MOST_LOADED + 1)),
        ({"bulk_from": 0}, range(0)),
    ],
)
def test_how_many_are_worth_a_job_is_for_people_to_say(
    org: SalesforceEmulator, settings: dict[str, int], loads: range
) -> None:
    salesforce = connect(org, **settings)
    salesforce.close()

    assert salesforce.loads == loads
