"""What is peculiar to Salesforce: sessions, quotas, rows that are refused in their own ways, late commits, merges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError
from support.salesforce_org import CONSUMER, SECRET, WANTED, connect, prepared_org, seen_by

from connectors.salesforce import Salesforce
from connectors.salesforce.values import to_salesforce
from crmsync.errors import Reject, Retry, Suspend, Throttled
from crmsync.http import Unlimited
from crmsync.model import CONTACT_LINK, Activity, ActivityKind, Kind, Logged, MessageStatus, Ref, Write, Written
from crmsync.sandbox.salesforce import Behaviour, DuplicateRule, Field, SalesforceEmulator

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
CONTACT, CASE = Kind.CONTACT, Kind.CONVERSATION


def one(outcomes: Any) -> Any:
    (outcome,) = outcomes
    return outcome


class Told(Unlimited):
    """A budget that remembers what it was told."""

    def __init__(self) -> None:
        self.observed: list[tuple[int, int, str]] = []
        self.held: list[timedelta] = []

    def observe(self, remaining: int, limit: int, bucket: str = "") -> None:
        self.observed.append((remaining, limit, bucket))

    def hold(self, until: timedelta, bucket: str = "") -> None:
        self.held.append(until)


# -- sessions


def test_a_session_that_ended_is_renewed_and_the_request_sent_again_with_its_headers(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    salesforce.fields(CONTACT)
    org.expire_sessions()
    seen = seen_by(org)
    outcome = one(salesforce.upsert(CONTACT, [Write("ctc_1", {"LastName": "Ana"})]))

    assert isinstance(outcome, Written)
    (sent,) = (each.call for each in seen if each.call.method == "PATCH" and each.reply and each.reply.status == 200)
    assert sent.headers["sforce-duplicate-rule-header"] == "allowSave=false"
    assert org.tokens.granted == 2


def test_a_session_that_ends_at_once_is_renewed_only_once(org: SalesforceEmulator) -> None:
    org.behaviour.session_seconds = -1
    connector = connect(org)
    with pytest.raises(Suspend):
        connector.fields(CONTACT)
    connector.close()

    assert org.tokens.granted == 2


def test_a_wrong_secret_suspends_and_is_not_told(org: SalesforceEmulator) -> None:
    connector = connect(org, consumer_secret="another-secret")
    with pytest.raises(Suspend, match="invalid_client") as raised:
        connector.fields(CONTACT)
    connector.close()

    assert "another-secret" not in str(raised.value)


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """A private key and its public one, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    none, pem = serialization.NoEncryption(), serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def test_a_signed_assertion_opens_a_session_and_another_key_does_not(keys: tuple[str, str]) -> None:
    private, public = keys
    with prepared_org(public_key=public) as org:
        good = connect(org, username="crmsync@example.com", private_key=private)
        assert good.fields(CONTACT)
        good.close()
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        bad = connect(org, username="crmsync@example.com", private_key=pem.decode())
        with pytest.raises(Suspend, match="invalid_grant"):
            bad.fields(CONTACT)
        bad.close()


def test_a_key_that_is_none_suspends_without_being_told(org: SalesforceEmulator) -> None:
    connector = connect(org, username="crmsync@example.com", private_key="not-a-pem")
    with pytest.raises(Suspend, match="private key") as raised:
        connector.fields(CONTACT)
    connector.close()

    assert "not-a-pem" not in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"consumer_secret": SECRET, "username": "a@example.com"},
        {"username": "a@example.com"},
        {"consumer_secret": SECRET, "login_url": "https://login.salesforce.com"},
        {"consumer_secret": SECRET, "login_url": "https://salesforce.com.example.net"},
        {"consumer_secret": SECRET, "login_url": "https://acme.my.salesforce.com/path"},
        {"consumer_secret": SECRET, "login_url": "https://acme.my.salesforce.com", "contact_object": "Account"},
    ],
)
def test_settings_that_cannot_work_are_refused(keys: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Salesforce.Settings.model_validate({"consumer_key": CONSUMER, **keys})


# -- quotas


def test_what_is_left_of_the_day_is_told_to_the_budget(org: SalesforceEmulator) -> None:
    org.behaviour.daily_limit = 15_000
    budget = Told()
    connector = connect(org, budget=budget)
    connector.fields(CONTACT)
    connector.close()

    assert set(budget.observed) == {(14_999, 15_000, ""), (14_999, 15_000, "day")}


def test_a_day_that_is_used_up_suspends_for_an_hour(org: SalesforceEmulator) -> None:
    org.behaviour.daily_limit = 0
    budget = Told()
    connector = connect(org, budget=budget)
    with pytest.raises(Suspend, match="REQUEST_LIMIT_EXCEEDED") as raised:
        connector.fields(CONTACT)
    connector.close()

    assert raised.value.after == timedelta(hours=1)
    assert budget.held == [timedelta(hours=1)]


def test_too_many_long_requests_at_once_are_passing_trouble(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    org.behaviour.too_many_at_once = True
    with pytest.raises(Retry):
        salesforce.fields(CONTACT)


# -- rows


def test_every_row_has_its_own_end(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    locked = org.create("Contact", LastName="Locked", Kirim_Contact_Id__c="ctc_2")
    taken = org.create("Contact", LastName="Taken", Kirim_Contact_Id__c="ctc_9")
    deleted = org.create("Contact", LastName="Deleted")
    org.delete(deleted)
    org.org.locked.add(locked)
    org.define("Contact", Field("Code__c", unique=True))
    org.edit(taken, Code__c="A1")
    connector = connect(org, {CONTACT: WANTED[CONTACT] | {"Code__c"}})
    outcomes = connector.upsert(
        CONTACT,
        [
            Write("ctc_1", {"LastName": "Good"}),
            Write("ctc_2", {"LastName": "Waits"}),
            Write("ctc_3", {"LastName": "Clash", "Code__c": "A1"}),
            Write("ctc_4", {"LastName": "Mail", "Email": "no address"}),
            Write("ctc_5", {"LastName": "Gone"}, id=deleted),
            Write("ctc_6", {"LastName": "x" * 81, "Phone": "1"}),
        ],
    )
    connector.close()
    good, waits, clash, mail, gone, long = outcomes

    assert isinstance(good, Written)
    assert good.created
    assert isinstance(waits, Retry)
    assert not waits.ambiguous
    assert isinstance(clash, Reject)
    assert clash.candidate == taken[:15]
    assert isinstance(mail, Written)
    assert dict(mail.refused) == {"Email": "INVALID_EMAIL_ADDRESS"}
    assert isinstance(gone, Reject)
    assert "ENTITY_IS_DELETED" in str(gone)
    assert isinstance(long, Reject)  # without the name there would be no name
    assert long.fields == ("LastName",)


def test_a_column_that_went_away_costs_that_field(org: SalesforceEmulator) -> None:
    org.define("Contact", Field("Code__c"))
    connector = connect(org, {CONTACT: WANTED[CONTACT] | {"Code__c"}})
    connector.fields(CONTACT)
    del org.objects["Contact"].fields["Code__c"]
    writes = [Write(f"ctc_{number}", {"LastName": "A", "Code__c": "1"}) for number in range(3)]
    outcomes = connector.upsert(CONTACT, writes)
    page = connector.changed(CONTACT, None)
    connector.close()

    assert [dict(outcome.refused) for outcome in outcomes if isinstance(outcome, Written)] == [
        {"Code__c": "INVALID_FIELD"}
    ] * 3
    assert len(page.records) == 3


def test_our_own_field_that_went_away_suspends(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    salesforce.fields(CONTACT)
    del org.objects["Contact"].fields["Kirim_Contact_Id__c"]
    for call in (
        lambda: salesforce.upsert(CONTACT, [Write("ctc_1", {"LastName": "A"})]),
        lambda: salesforce.changed(CONTACT, None),
    ):
        with pytest.raises((Suspend, Reject), match="Kirim_Contact_Id__c"):
            one(call())
    assert any("Kirim_Contact_Id__c" in sentence for sentence in salesforce.prepare(CONTACT))


@pytest.mark.parametrize(
    ("rule", "allow", "saved"),
    [
        (DuplicateRule.ALERT, False, False),
        (DuplicateRule.ALERT, True, True),
        (DuplicateRule.BLOCK, True, False),
    ],
)
def test_duplicate_rules_are_obeyed(org: SalesforceEmulator, rule: DuplicateRule, allow: bool, saved: bool) -> None:
    other = org.create("Contact", LastName="Ana", Email="ana@example.com")
    org.behaviour.duplicate_rule = rule
    connector = connect(org, allow_duplicates=allow)
    outcome = one(connector.upsert(CONTACT, [Write("ctc_1", {"LastName": "A", "Email": "ana@example.com"})]))
    connector.close()

    assert isinstance(outcome, Written) is saved
    if isinstance(outcome, Reject):
        assert outcome.candidate == other


def test_what_the_orgs_own_code_makes_of_a_value_is_told(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    org.behaviour.trigger = lambda name, values: {"Email": values["Email"].lower()} if values.get("Email") else {}
    written = one(salesforce.upsert(CONTACT, [Write("ctc_1", {"LastName": "  Ana ", "Email": "ANA@example.com"})]))

    assert written.record.fields["Email"] == "ana@example.com"
    assert written.record.fields["LastName"] == "Ana"


def test_blanks_are_nothing(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    salesforce.upsert(CONTACT, [Write("ctc_1", {"LastName": "Ana", "FirstName": "Eva"})])
    written = one(salesforce.upsert(CONTACT, [Write("ctc_1", {"FirstName": "   "})]))

    assert written.record.fields["FirstName"] is None


def test_what_somebody_else_made_of_a_record_at_once_is_not_taken_for_our_answer(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    salesforce.fields(CONTACT)

    def edit(exchange: Any) -> None:
        if exchange.call.method == "PATCH":
            org.edit(org.by_external_id("ctc_1")[0], LastName="Beatrice")

    org.on_exchange.append(edit)
    written = one(salesforce.upsert(CONTACT, [Write("ctc_1", {"LastName": "Ana"})]))

    assert (written.record.fields, written.record.version) == ({"LastName": "Ana"}, None)


def test_a_write_that_cannot_be_read_again_is_told_as_it_was_sent(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    salesforce.fields(CONTACT)
    org.faults.fail_next(1, "503", "/data/query")
    written = one(salesforce.upsert(CONTACT, [Write("ctc_1", {"LastName": "Ana"})]))

    assert (written.created, written.record.fields) == (True, {"LastName": "Ana"})
    assert org.by_external_id("ctc_1") == [written.record.id]


def test_once_the_wire_is_in_trouble_nothing_more_is_sent(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    id = org.create("Contact", LastName="A")
    salesforce.fields(CONTACT)
    org.faults.fail_next(1, "reset_after", "/data/composite")
    lost, waits = salesforce.upsert(CONTACT, [Write("ctc_1", {"Phone": "1"}, id=id), Write("ctc_2", {"LastName": "B"})])

    assert isinstance(lost, Retry)
    assert lost.ambiguous
    assert isinstance(waits, Throttled)
    assert org.by_external_id("ctc_2") == []


# -- names


def test_who_has_no_last_name_gets_the_number_and_is_read_without_one(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    written = one(salesforce.upsert(CONTACT, [Write("ctc_1", {"FirstName": "Ana", "Phone": "+62 812-3456-7890"})]))
    bare = one(salesforce.upsert(CONTACT, [Write("ctc_2", {"Email": "b@example.com"})]))
    org.edit(written.record.id, Phone="0062 812 3456 7890".removeprefix("00"))

    assert org.get(written.record.id)["LastName"] == "+62 812-3456-7890"
    assert org.get(bare.record.id)["LastName"] == "ctc_2"
    assert [
        record and record.fields["LastName"] for record in salesforce.fetch(CONTACT, [Ref(external_id="ctc_1")])
    ] == [None]


def test_who_has_a_name_keeps_it_and_one_that_is_cleared_is_stood_in_for(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    id = org.create("Contact", LastName="Ana", Phone="1", Kirim_Contact_Id__c="ctc_1")
    salesforce.upsert(CONTACT, [Write("ctc_1", {"Email": "a@example.com"})])
    assert org.get(id)["LastName"] == "Ana"
    cleared = one(salesforce.upsert(CONTACT, [Write("ctc_1", {"LastName": None}, id=id, held={"Phone": "1"})]))

    assert org.get(id)["LastName"] == "1"
    assert cleared.record.fields["LastName"] is None


def test_a_lead_may_stand_for_a_contact(org: SalesforceEmulator) -> None:
    connector = connect(org, contact_object="Lead")
    bare, whole = connector.upsert(
        CONTACT, [Write("ctc_1", {"LastName": "A"}), Write("ctc_2", {"LastName": "B", "Company": "Batik"})]
    )
    task = one(connector.log([entry(contact=whole.record.id, conversation=org.create("Case", Subject="S"))]))
    connector.close()

    assert isinstance(bare, Reject)
    assert bare.fields == ("Company",)
    assert "WhatId" not in org.get(task.id)


# -- cases


def test_a_case_belongs_to_its_contact_and_to_whom_it_was_given(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    ana, eva = (org.create("Contact", LastName=name) for name in ("Ana", "Eva"))
    made = one(salesforce.upsert(CASE, [Write("cnv_1", {"Subject": "S", CONTACT_LINK: (ana,)})]))
    assert made.record.fields[CONTACT_LINK] == (ana,)
    org.edit(made.record.id, ContactId=eva)
    fields = {"Subject": "T", CONTACT_LINK: (ana, eva)}
    kept = one(salesforce.upsert(CASE, [Write("cnv_1", fields, id=made.record.id, held={CONTACT_LINK: (eva,)})]))

    assert kept.record.fields[CONTACT_LINK] == (eva,)


def test_a_lookup_to_a_merged_contact_goes_to_its_survivor_and_one_to_nowhere_is_refused(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    ana, eva, gone = (org.create("Contact", LastName=name) for name in ("Ana", "Eva", "Gone"))
    org.merge(ana, eva)
    org.delete(gone)
    moved, lost = salesforce.upsert(
        CASE,
        [
            Write("cnv_1", {"Subject": "S", CONTACT_LINK: (eva,)}),
            Write("cnv_2", {"Subject": "T", CONTACT_LINK: (gone,)}),
        ],
    )
    assert isinstance(moved, Written)
    assert moved.record
    assert moved.record.fields[CONTACT_LINK] == (ana,)
    assert isinstance(lost, Written)
    assert dict(lost.refused) == {CONTACT_LINK: "INVALID_CROSS_REFERENCE_KEY"}


def test_what_was_written_stays_written_where_a_survivor_cannot_be_looked_up(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    ana, eva = (org.create("Contact", LastName=name) for name in ("Ana", "Eva"))
    org.merge(ana, eva)
    salesforce.fields(CASE)
    org.faults.fail_next(1, "503", "/data/query")
    good, waits = salesforce.upsert(
        CASE,
        [
            Write("cnv_1", {"Subject": "S", "OwnerId": org.person}),
            Write("cnv_2", {"Subject": "T", CONTACT_LINK: (eva,)}),
        ],
    )

    assert isinstance(good, Written)
    assert isinstance(waits, Retry)
    assert (len(org.by_external_id("cnv_1", "Case")), org.by_external_id("cnv_2", "Case")) == (1, [])


def test_an_owner_who_left_costs_that_field(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    left = org.add_user("left@example.com", active=False)
    outcome = one(salesforce.upsert(CASE, [Write("cnv_1", {"Subject": "S", "OwnerId": left})]))

    assert dict(outcome.refused) == {"OwnerId": "INACTIVE_OWNER_OR_USER"}
    assert [person.active for person in salesforce.people() if person.id == left] == [False]


@pytest.mark.parametrize("rules", [False, True])
def test_assignment_rules_run_only_where_the_settings_say_so(org: SalesforceEmulator, rules: bool) -> None:
    connector = connect(org, assignment_rules=rules)
    seen = seen_by(org)
    connector.upsert(CASE, [Write("cnv_1", {"Subject": "S"})])
    connector.close()

    (sent,) = (each.call for each in seen if each.call.method == "PATCH")
    assert sent.headers.get("sforce-auto-assign") == (None if rules else "FALSE")


# -- timelines


def entry(key: str = "wamid.1", **other: Any) -> Activity:
    given = {"contact": "", "title": "WhatsApp", "body": "Customer: Halo", **other}
    return Activity(key, ActivityKind.MESSAGE, NOW, **given)


def test_an_entry_is_one_task_however_often_it_is_sent(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    ana, case = org.create("Contact", LastName="Ana"), org.create("Case", Subject="S")
    message = entry(contact=ana, conversation=case, status=MessageStatus.SENT)
    org.faults.fail_next(1, "reset_after", "/data/composite")
    assert one(salesforce.log([message])).ambiguous
    first, again = (one(salesforce.log([message])) for _ in range(2))

    assert first == again == Logged(next(iter(org.all("Task"))), created=False)
    held = org.get(first.id)
    assert (held["WhoId"], held["WhatId"], held["Kirim_Status__c"]) == (ana, case, "sent")
    assert (held["ActivityDate"], held["Status"], held["Description"]) == ("2026-11-20", "Completed", "Customer: Halo")


def test_a_task_that_somebody_deleted_is_not_made_again(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    ana = org.create("Contact", LastName="Ana")
    made = one(salesforce.log([entry(contact=ana)]))
    org.delete(made.id)

    assert isinstance(one(salesforce.log([entry(contact=ana, id=made.id)])), Reject)
    assert org.all("Task") == {}


def test_tasks_follow_merges_do_without_cases_that_are_gone_and_are_cut(
    org: SalesforceEmulator, salesforce: Salesforce
) -> None:
    ana, eva = (org.create("Contact", LastName=name) for name in ("Ana", "Eva"))
    case = org.create("Case", Subject="S")
    org.merge(ana, eva)
    org.delete(case)
    body = "\n".join(["x" * 999] * 40)
    done = one(salesforce.log([entry(contact=eva, conversation=case, body=body, title="t" * 300)]))
    held = org.get(done.id)

    assert (held["WhoId"], "WhatId" in held) == (ana, False)
    assert held["Description"].endswith("[…]")
    assert len(held["Subject"]) == 255


def test_an_entry_of_a_contact_that_is_gone_is_refused(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    gone = org.create("Contact", LastName="Gone")
    org.delete(gone)
    bad, good = salesforce.log([entry("1", contact=gone), entry("2", contact=org.create("Contact", LastName="A"))])

    assert isinstance(bad, Reject)
    assert isinstance(good, Logged)


# -- the feed


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def followed(connector: Salesforce, cursor: str | None, since: datetime | None = None) -> tuple[list[Any], str]:
    """A walk to the end."""
    records: list[Any] = []
    while True:
        page = connector.changed(CONTACT, cursor, since)
        records += page.records
        if not page.more:
            return records, page.cursor
        cursor, since = page.cursor, None


def test_a_transaction_that_ends_long_after_it_began_is_not_missed(clock: Clock) -> None:
    """Longer than the overlap: `latestDateCovered` stays where the transaction began."""
    with prepared_org(clock=clock, behaviour=Behaviour(commit_lag=3_000)) as org:
        connector = connect(org, clock=clock)
        late = org.create("Contact", LastName="Late")
        org.behaviour.commit_lag = 0
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(12):
            clock.at += timedelta(minutes=5)
            org.create("Contact", LastName="Other")
            records, cursor = followed(connector, cursor, NOW)
            seen.update(record.id for record in records)
        connector.close()

    assert late in seen


def test_what_is_covered_is_asked_every_five_minutes_and_a_quiet_org_is_not_read_again(clock: Clock) -> None:
    with prepared_org(clock=clock) as org:
        connector = connect(org, clock=clock)
        org.create("Contact", LastName="Ana")
        _, cursor = followed(connector, None, NOW)
        for _ in range(20):
            clock.at += timedelta(minutes=1)
            records, cursor = followed(connector, cursor)
        connector.close()

    assert org.calls["GET /data/sobjects/{object}/updated/"] == 5
    assert records == []


def test_deletions_and_merges_are_in_the_feed_and_what_left_the_recycle_bin_too(clock: Clock) -> None:
    with prepared_org(clock=clock) as org:
        connector = connect(org, clock=clock)
        ana, eva, bin, gone = (org.create("Contact", LastName=name) for name in "ABCD")
        _, cursor = followed(connector, None, NOW)
        clock.at += timedelta(minutes=20)
        org.merge(ana, eva)
        org.delete(bin)
        org.delete(gone, purge=True)
        clock.at += timedelta(minutes=2)
        records, _ = followed(connector, cursor)
        connector.close()

    assert {record.id for record in records if record.archived} == {bin, gone}
    assert [record.aliases for record in records if record.id == ana and record.aliases] == [(eva,)]
    assert eva not in {record.id for record in records}


def test_a_chain_of_merges_leads_to_the_last_survivor(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    first, second, third = (org.create("Contact", LastName=name) for name in "ABC")
    org.merge(second, first)
    org.merge(third, second)
    found = one(salesforce.fetch(CONTACT, [Ref(id=first)]))

    assert (found.id, set(found.aliases)) == (third, {first, second})


def test_a_walk_has_every_live_record_and_their_number_is_known(org: SalesforceEmulator) -> None:
    connector = connect(org, page_size=200)
    ids = [org.create("Contact", LastName=str(number)) for number in range(450)]
    org.delete(ids[3])
    seen: list[str] = []
    cursor: str | None = None
    more, pages = True, 0
    while more:
        page = connector.walk(CONTACT, cursor)
        seen += [record.id for record in page.records]
        cursor, more, pages = page.cursor, page.more, pages + 1
    counted = connector.count(CONTACT)
    connector.close()

    assert (pages, counted) == (3, 449)
    assert seen == sorted(set(ids) - {ids[3]})


def test_a_cursor_of_another_feed_is_refused(salesforce: Salesforce) -> None:
    for cursor in ("", "{}x", '{"floor": 1}', '{"floor": "", "id": "\'"}', '{"nonsense": 1}'):
        with pytest.raises(Reject):
            salesforce.changed(CONTACT, cursor)


# -- segments


def members(connector: Salesforce, segment: str) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    cursor: str | None = None
    while True:
        page = connector.members(segment, cursor)
        found += [(member.id, member.external_id) for member in page.members]
        if not page.more:
            return found
        cursor = page.cursor


def test_campaigns_and_list_views_are_segments(org: SalesforceEmulator) -> None:
    connector = connect(org, page_size=200)
    ids = [
        org.create("Contact", LastName=f"N{number:03}", Kirim_Contact_Id__c=f"ctc_{number}") for number in range(450)
    ]
    lead = org.create("Lead", LastName="L", Company="C")
    stranger = org.create("Contact", LastName="Stranger")
    campaign = org.create("Campaign", Name="VIP", NumberOfContacts=451)
    for id in (*ids, stranger):
        org.create("CampaignMember", CampaignId=campaign, ContactId=id)
    org.create("CampaignMember", CampaignId=campaign, LeadId=lead)
    view = org.list_views.define("Everybody", "LastName LIKE 'N%'")
    for number in range(205):
        org.list_views.define(f"View {number}")
    listed = {segment.id: segment for segment in connector.segments()}

    assert (listed[campaign].name, listed[campaign].size, listed[campaign].dynamic) == ("VIP", 451, False)
    assert (listed[view].name, listed[view].dynamic, len(listed)) == ("Everybody", True, 207)
    assert members(connector, campaign) == [(id, f"ctc_{number}") for number, id in enumerate(ids)] + [(stranger, None)]
    assert members(connector, view) == [(id, f"ctc_{number}") for number, id in enumerate(ids)]
    connector.close()


def test_a_segment_that_is_not_there_is_refused(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    for segment in ("7015g0000000009AAA", "00B5g0000000009AAA", "0035g0000000001AAA", "x' OR Id != '"):
        with pytest.raises(Reject):
            salesforce.members(segment)


def test_an_org_without_campaigns_has_its_list_views(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    org.behaviour.campaigns = False
    view = org.list_views.define("Everybody")

    assert [segment.id for segment in salesforce.segments()] == [view]


# -- preparing


def test_what_is_missing_is_told_with_the_steps_to_it_and_nothing_is_made() -> None:
    with SalesforceEmulator() as org:
        connector = connect(org)
        told = [*connector.prepare(CONTACT, plan_only=False), *connector.prepare(CASE, plan_only=False)]
        seen = org.calls.copy()
        with pytest.raises(Suspend, match="Kirim_Contact_Id__c"):
            connector.upsert(CONTACT, [Write("ctc_1", {"LastName": "A"})])
        connector.close()

    assert [sentence.split(" for ")[0] for sentence in told] == [
        "Contact needs Kirim_Contact_Id__c",
        "Task needs Kirim_Key__c",
        "Task needs Kirim_Status__c",
        "Case needs Kirim_Conversation_Id__c",
    ]
    assert "Object Manager, Activity" in told[1]
    assert all(not call.startswith(("PATCH", "POST /data")) for call in seen)


def test_a_field_that_does_not_tell_records_apart_is_no_key(org: SalesforceEmulator, salesforce: Salesforce) -> None:
    org.define("Contact", Field("Kirim_Contact_Id__c", length=64))

    assert "External ID, Unique" in one(salesforce.prepare(CONTACT))


@pytest.mark.parametrize(
    ("type", "value", "sent"),
    [
        ("double", "12", 12),
        ("double", "1.5", 1.5),
        ("double", "nan", "nan"),
        ("double", float("inf"), "inf"),
        ("double", None, None),
        ("boolean", "true", True),
        ("boolean", False, False),
        ("date", "2026-11-20T23:30:00+00:00", "2026-11-20"),
        ("datetime", "2026-11-20T23:30:00+07:00", "2026-11-20T16:30:00Z"),
        ("datetime", "soon", "soon"),
        ("multipicklist", ("a", "b"), "a;b"),
        ("multipicklist", (), None),
        ("string", 7, "7"),
        ("string", "half \ud83d", "half \ufffd"),
    ],
)
def test_values_are_sent_as_their_fields_want_them(type: str, value: Any, sent: Any) -> None:
    assert to_salesforce(value, {"type": type}) == sent
