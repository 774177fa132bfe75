"""The builds that are broken on purpose: the invariant each breaks, the change that does it, and what has to notice.

The tests named are quick ones; most of these mistakes are noticed by more tests than that. An `old` text that is no
longer there exactly once fails, so that the list cannot fall behind the code.
"""

from __future__ import annotations

from mutants.workshop import Mutant

ALONE = "tests/flows/test_flow_tenants.py::test_a_tenant_lives_as_if_it_were_alone[sqlite]"
TENANT = '        {}.c.tenant == bindparam("tenant"),\n'
# what is left of a query without its tenant
VIEW = '        _view.c.endpoint == bindparam("endpoint"),\n'
ITEM = '_item.c.source == bindparam("of_source")'
DELIVERY = "\n            _delivery.c.source == source,\n            _delivery.c.state == DeliveryState.PENDING"
LINK = "_OWNERS = Lookup(select(_pair.c.crm_id, _pair.c.kirim_id).where(*_LINKED"
CHANGE = '        _due.c.connection == bindparam("endpoint"),\n'
DONE = "_LEAVE = Bulk(lambda insert: delete(_due).where("
HINT = "_stale.c.endpoint == endpoint, _stale.c.not_before <= now"

MUTANTS = (
    # nothing that was acknowledged is lost
    Mutant(
        "dedupe before persist",
        "D2",
        "crmsync/store/inbox.py",
        "    cursor = driver.execute(_STATEMENTS[len(rows)], [value for row in rows for value in row])\n",
        """\
    claims = [value for row in rows for value in (*row[:3], b"", *row[4:])]
    cursor = driver.execute(_STATEMENTS[len(rows)], claims)
    payload = "UPDATE delivery SET body = ? WHERE tenant = ? AND source = ? AND key = ? AND body = x''"
    driver.executemany(payload, [(row[3], *row[:3]) for row in rows])
""",
        ("tests/store/test_inbox.py::test_a_full_disk_is_said_and_cured_by_itself",),
    ),
    Mutant(
        "acknowledged when it is in memory",
        "D1",
        "crmsync/store/inbox.py",
        "            group.waiting.append(future)\n",
        "            group.waiting.append(future)\n            future.set_result(True)\n",
        ("tests/store/test_inbox.py::test_nothing_is_acknowledged_before_the_commit[sqlite]",),
    ),
    Mutant(
        "told before the commit",
        "D1",
        "crmsync/store/writer.py",
        "                ended[-1] = (job, *_attempt(connection, job))\n",
        "                job.done(*_attempt(connection, job))\n                ended.pop()\n",
        ("tests/store/test_commit.py::test_a_commit_that_fails_is_everyones_failure",),
    ),
    Mutant(
        "a commit that a power cut may undo",
        "D1",
        "crmsync/store/writer.py",
        "'FULL' if durable else 'NORMAL'",
        "'NORMAL'",
        ("tests/store/test_database.py::test_sqlite_promises_what_it_commits",),
    ),
    Mutant(
        "a store that is down says ok",
        "D4",
        "crmsync/flows/intake.py",
        "            return self._counted(source, STORE_DOWN)\n",
        "            return self._counted(source, KNOWN)\n",
        ("tests/web/test_hooks.py::test_a_full_disk_is_answered_503_and_cured_by_itself",),
    ),
    Mutant(
        "what does not verify is refused for good",
        "D4",
        "crmsync/flows/intake.py",
        "Answer(503, reason, UNVERIFIED_WAIT)",
        "Answer(401, reason)",
        (
            "tests/web/test_hooks.py::test_the_answer_to[forged]",
            "tests/web/test_hooks.py::test_a_crm_is_asked_again_only_if_its_signature_was_there",
        ),
    ),
    Mutant(
        "a delivery's attempt is counted after the work",
        "D7",
        "crmsync/store/deliveries.py",
        "    if calm:\n",
        "    if False:\n",
        (
            "tests/flows/test_flow_observe.py"
            "::test_a_delivery_that_raises_is_dead_after_its_attempts_and_takes_no_other_with_it[sqlite]",
        ),
    ),
    Mutant(
        "a record's attempt is counted after the work",
        "D7",
        "crmsync/store/pairs.py",
        "    _COUNT.run(",
        "    0 and _COUNT.run(",
        ("tests/flows/test_flow_sync.py::test_a_pair_whose_starts_never_end_is_parked[sqlite]",),
    ),
    # every effect once
    Mutant(
        "identities are forgotten after an hour",
        "D6",
        "crmsync/daemon/schedule.py",
        "KEEP_KEYS = timedelta(days=45)",
        "KEEP_KEYS = timedelta(hours=1)",
        ("tests/daemon/test_housekeeping.py::test_what_a_sender_can_still_repeat_is_known[sqlite]",),
    ),
    Mutant(
        "every status of a message is one event",
        "D6",
        "crmsync/kirim/meta.py",
        'return f"s:{message_id}:{status}"',
        'return f"s:{message_id}"',
        ("tests/kirim/test_kirim_events.py::test_every_status_of_a_message_is_a_thing_of_its_own",),
    ),
    Mutant(
        "the event id of the header is the identity",
        "S2",
        "crmsync/flows/intake.py",
        '        crash.point("hook.verified")\n',
        """\
        crash.point("hook.verified")
        claimed, seen = request.header(b"x-kirim-event-id"), self.__dict__.setdefault("_seen", set())
        if seen.intersection(claimed):
            return self._counted(source, KNOWN)
        seen.update(claimed)
""",
        ("tests/flows/test_flow_intake_headers.py::test_what_no_signature_covers_makes_no_delivery_known[sqlite]",),
    ),
    Mutant(
        "a contact is made without a look whether it is there",
        "C6",
        "crmsync/flows/gathering.py",
        "if work.crm is None and not work.waits and",
        "if False and not work.waits and",
        ("tests/flows/test_flow_ambiguous.py::test_a_create_without_an_answer_is_looked_up_before_another[sqlite]",),
    ),
    # nothing goes in circles, nothing goes backwards
    Mutant(
        "an echo is read again",
        "C3",
        "crmsync/flows/observe.py",
        "    if not view.exists or change.deleted",
        "    if True or not view.exists or change.deleted",
        ("tests/flows/test_flow_echo.py::test_the_echo_of_a_write_ends_where_it_came_in[sqlite]",),
    ),
    Mutant(
        "what is known counts as changed",
        "C3",
        "crmsync/core/views.py",
        "    if (seen.fields, seen.external_id, seen.exists) == (view.fields, view.external_id, view.exists):\n",
        "    if False:\n",
        ("tests/core/test_views.py::test_the_version_moves_even_if_nothing_else_does",),
    ),
    Mutant(
        "only one spelling is agreed on",
        "C3",
        "crmsync/core/decide.py",
        "            if agreed is not None:\n",
        "            agreed = Agreed(step.value, step.value)\n            if agreed is not None:\n",
        (
            "tests/core/test_decide.py::test_what_a_platform_makes_of_a_value_counts_as_agreement_and_is_told",
            "tests/core/test_decide_properties.py::test_deciding_again_after_the_answers_writes_nothing",
        ),
    ),
    Mutant(
        "values are compared as they are spelt",
        "C3",
        "crmsync/core/decide.py",
        "        return canonical(self.rule.type, value, self.rules.region)\n",
        "        return value\n",
        ("tests/core/test_decide.py::test_a_set_is_the_same_in_any_order",),
    ),
    Mutant(
        "the last writer wins",
        "C2",
        "crmsync/core/decide.py",
        "    return case.write(Why.RESTORED, owner.other)\n",
        "    return case.write(Why.RESTORED, owner)\n",
        ("tests/core/test_decide_properties.py::test_only_seeding_writes_to_the_side_that_owns_the_field",),
    ),
    Mutant(
        "an older statement overwrites a newer one",
        "C5",
        "crmsync/core/views.py",
        "        return view, Verdict.OLD\n",
        "        return replace(view, fields={**view.fields, **record.fields}), Verdict.CHANGED\n",
        (
            "tests/core/test_views.py::test_whole_statements_end_the_same_in_any_order_and_number",
            "tests/flows/test_flow_observe.py::test_old_news_and_news_of_the_same_age_end_as_such[sqlite]",
        ),
    ),
    Mutant(
        "what a statement leaves out is empty",
        "C7",
        "crmsync/core/views.py",
        "fields={**view.fields, **record.fields},\n",
        "fields={**dict.fromkeys(view.fields), **record.fields},\n",
        ("tests/core/test_views.py::test_an_observation_of_a_known_record",),
    ),
    Mutant(
        "what is not known is empty",
        "C7",
        "crmsync/core/decide.py",
        "        crm = base.crm if base else _stranger(rule, pair.crm)\n",
        "        crm = None\n",
        ("tests/core/test_decide_properties.py::test_nothing_is_cleared_without_a_base_and_nothing_by_what_is_absent",),
    ),
    Mutant(
        "a change during a write is taken for written",
        "C1",
        "crmsync/store/pairs.py",
        'keyed(_due, *PAIR), _due.c.revision == bindparam("at_revision"))',
        'keyed(_due, *PAIR), _due.c.revision >= bindparam("at_revision"))',
        ("tests/store/test_pairs.py::test_ending_removes_only_the_revision_that_was_taken[sqlite]",),
    ),
    Mutant(
        "a hint during a reading is taken for read",
        "C1",
        "crmsync/store/stale.py",
        '_stale.c.revision == bindparam("at_revision")',
        '_stale.c.revision >= bindparam("at_revision")',
        ("tests/flows/test_flow_observe.py::test_a_record_that_is_marked_while_it_is_read_stays_stale[sqlite]",),
    ),
    # one turn, one batch, one feed
    Mutant(
        "the cursor is saved before its rows",
        "F5",
        "crmsync/flows/poll.py",
        "    def store(tx: Connection) -> None:\n",
        """\
    database.write(lambda tx: cursors.save(tx, tenant.id, endpoint, feed, page.cursor, more=page.more, now=now))

    def store(tx: Connection) -> None:
""",
        ("tests/flows/test_flow_poll.py::test_a_page_that_could_not_be_stored_is_read_again[sqlite]",),
    ),
    Mutant(
        "one refused record refuses its batch",
        "F4",
        "crmsync/connector.py",
        "        if len(rows) == 1:\n            return [refused]\n",
        "        return [refused] * len(rows)\n",
        (
            "tests/flows/test_flow_sync.py::test_one_record_that_is_refused_delays_only_itself[sqlite]",
            "tests/connectors/test_hubspot.py::test_an_unnamed_refusal_is_narrowed_down_to_its_row",
        ),
    ),
    Mutant(
        "a lane that was lost is written in",
        "O4",
        "crmsync/flows/settling.py",
        "    around.fence(tx)\n",
        "",
        ("tests/flows/test_flow_sync.py::test_a_fenced_transaction_changes_nothing[sqlite]",),
    ),
    Mutant(
        "the fence always holds",
        "O4",
        "crmsync/daemon/engine.py",
        "            if self._busy.get(lane) is not turn:\n",
        "            if False:\n",
        ("tests/daemon/test_engine.py::TestLocalEngine::test_the_fence_refuses_although_another_turn_is_in_the_lane",),
    ),
    Mutant(
        "the platform's wait is not kept",
        "F1",
        "crmsync/http.py",
        "        if wait is not None and response.status_code in PASSING:\n",
        "        if False:\n",
        ("tests/kirim/test_kirim_client.py::test_too_many_requests_name_their_time",),
    ),
    Mutant(
        "the budget is not held",
        "F1",
        "crmsync/core/budget.py",
        "return max(held.held_until - held.at, ",
        "return max(held.at - held.at, ",
        ("tests/daemon/test_budgets.py::test_nothing_is_sent_before_the_time_that_the_platform_named",),
    ),
    # who may say what, and to whom
    Mutant(
        "eight bytes of the signature are enough",
        "S1",
        "crmsync/kirim/signature.py",
        "hmac.compare_digest(digest, candidate)",
        "hmac.compare_digest(digest[:8], candidate[:8])",
        ("tests/kirim/test_kirim_signature.py::test_one_wrong_digit_is_enough",),
    ),
    Mutant(
        "a signature never grows old",
        "S1",
        "crmsync/kirim/signature.py",
        "    if age > max(limit, oldest.total_seconds()):\n",
        "    if False:\n",
        ("tests/kirim/test_kirim_signature.py::test_outside_the_tolerance_is_authentic_but_not_fresh",),
    ),
    Mutant(
        "a job that ends late overwrites what is newer",
        "C5",
        "connectors/salesforce/jobs.py",
        '"operation": "insert"',
        '"operation": "upsert", "externalIdFieldName": "Kirim_Contact_Id__c"',
        ("tests/connectors/test_salesforce_jobs.py::test_a_job_that_ends_late_changes_nothing_that_is_newer",),
    ),
    *(
        Mutant(f"another tenant's {what}", "S3", f"crmsync/store/{file}", old, new, (ALONE,))
        for what, file, old, new in (
            ("views are ours", "records.py", TENANT.format("_view") + VIEW, VIEW),
            ("items are seen", "deliveries.py", '_item.c.tenant == bindparam("of_tenant"), ' + ITEM, ITEM),
            ("deliveries are ours", "deliveries.py", "_delivery.c.tenant == tenant," + DELIVERY, DELIVERY),
            ("links are ours", "pairs.py", LINK, LINK + "[1:]"),
            ("changes are due", "pairs.py", TENANT.format("_due") + CHANGE, CHANGE),
            ("changes are done", "pairs.py", DONE + "_ITS_TURN", DONE + "*_ITS_TURN.clauses[1:]"),
            ("hints are followed", "stale.py", "_stale.c.tenant == tenant, " + HINT, HINT),
        )
    ),
)
