"""What a flush has to know before it can decide: the record of a pair in the CRM, looked up, or matched.

Part of the one path that writes; reads from platforms, and stores nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from crmsync.connecting.pages import portions
from crmsync.connector import Connector
from crmsync.core.decide import Side
from crmsync.core.mapping import OnCrmDelete, Rules
from crmsync.core.matching import Match, find, spellings
from crmsync.core.people import introduce, named
from crmsync.core.retry import ATTEMPTS
from crmsync.core.trouble import LOOKUP, digest_of_lookup
from crmsync.core.views import Source
from crmsync.core.views import observe as judge
from crmsync.errors import Reject
from crmsync.flows.work import Surroundings, Work, contact_of
from crmsync.model import Can, Kind, Record, Ref
from crmsync.store import aliases, matches, pairs, people
from crmsync.store.matches import Desk
from crmsync.store.pairs import Taken
from crmsync.store.people import assignee
from crmsync.store.records import KIRIM

CONTACT_DELETED = "its contact's record was deleted in the CRM"
PEOPLE_KEPT = timedelta(hours=1)
"""How long the CRM's users are believed to be the same."""


def gather(around: Surroundings, due: Sequence[Taken]) -> list[Work]:
    """The pairs with both views. A record that no pair of ours has seen in the CRM is looked up by its Kirim id.

    Where there is none and the rules say so, one that is the same person's is looked for before another is made.
    """
    rules = {kind: _rules(around, kind, due) for kind in {pair.kind for pair in due}}
    works = [Work(pair, pair.crm, pair.crm_id, rules[pair.kind]) for pair in due]
    works = _without_the_deleted(around, works)
    _with_contacts(around, [work for work in works if work.pair.kind is Kind.CONVERSATION])
    asked = [
        work
        for work in works
        if work.crm is None and not work.waits and known_in_kirim(work.pair) and work.pair.attempts <= ATTEMPTS
    ]
    asked = [
        work
        for work in asked
        if not work.recall(Side.CRM, LOOKUP, partial(digest_of_lookup, work.pair.kirim_id, work.crm_id))
    ]
    size = around.connection.connector.batch_size
    for kind in {work.pair.kind for work in asked}:
        of_kind = [work for work in asked if work.pair.kind is kind]
        adopted: set[str] = set()
        for some in portions(of_kind, size):
            _look_up(around.connection.connector, kind, some)
            unknown = [work for work in some if work.crm is None and Side.CRM not in work.outcomes]
            _match(around, kind, unknown, adopted)
    return works


def _without_the_deleted(around: Surroundings, works: Sequence[Work]) -> list[Work]:
    """Records that were deleted in the CRM, where that is wanted, are none: they are made anew. Merged ones are not."""
    gone = {work.crm_id: work for work in works if work.crm is not None and not work.crm.exists and work.crm_id}
    if not gone:
        return list(works)
    tenant, name = around.tenant.id, around.connection.name
    for kind in {work.pair.kind for work in gone.values()}:
        merged = around.database.read(lambda tx, kind=kind: aliases.survivors(tx, tenant, name, kind, gone))  # type: ignore[misc]
        for id, survivor in merged.items():
            if gone[id].pair.kind is kind:
                gone[id].merged = survivor
    return [_anew(work) if work.crm_id in gone and not work.merged and _recreated(work) else work for work in works]


def _recreated(work: Work) -> bool:
    return work.rules.on_crm_delete is OnCrmDelete.RECREATE and work.rules.creates and known_in_kirim(work.pair)


def _anew(work: Work) -> Work:
    """What was agreed with a record that is gone says nothing about the next."""
    pair = replace(work.pair, crm=None, crm_id=None, base={}, noted={}, recent={})
    return Work(pair, None, None, work.rules)


def _rules(around: Surroundings, kind: Kind, due: Sequence[Taken]) -> Rules:
    """The rules of a kind; where they name users, with those that both ends know."""
    rules, connector = around.connection.rules[kind], around.connection.connector
    if not named(rules):
        return rules
    tenant, name, now = around.tenant.id, around.connection.name, around.clock()
    seen = [person for pair in due if pair.kirim and (person := assignee(pair.kirim.fields)) is not None]
    if seen:
        around.database.write(lambda tx: people.learn(tx, tenant, KIRIM, seen, now))
    read_at = around.database.read(lambda tx: people.read_at(tx, tenant, name))
    if Can.PEOPLE in connector.can and (read_at is None or now - read_at > PEOPLE_KEPT):
        found = connector.people()
        around.database.write(lambda tx: people.replace_all(tx, tenant, name, found, now))
    both = around.database.read(lambda tx: [people.known(tx, tenant, end).values() for end in (KIRIM, name)])
    return introduce(rules, *both)


def known_in_kirim(pair: Taken) -> bool:
    """Whether Kirim's record was seen, and is there."""
    return pair.kirim is not None and pair.kirim.exists


def _with_contacts(around: Surroundings, works: Sequence[Work]) -> None:
    """The records of conversations' contacts: a conversation that has no record yet waits until its contact has one."""
    contacts = {contact for work in works if (contact := contact_of(work.pair)) is not None}
    if not works:
        return
    linked = around.database.read(
        lambda tx: pairs.crm_ids(tx, around.tenant.id, around.connection.name, Kind.CONTACT, contacts)
    )
    deleted = around.database.read(
        lambda tx: pairs.unlinked(tx, around.tenant.id, around.connection.name, Kind.CONTACT, contacts - linked.keys())
    )
    for work in works:
        work.contact = linked.get(contact_of(work.pair) or "")
        if work.contact is None and work.crm is None and work.crm_id is None:
            work.orphaned = contact_of(work.pair) in deleted
            work.waits = CONTACT_DELETED if work.orphaned else "its contact has no record in the CRM yet"


def _look_up(connector: Connector[Any], kind: Kind, works: Sequence[Work]) -> None:
    """Finds the records that these belong to; one that the platform refuses to be asked about is refused alone."""
    try:
        found = connector.fetch(kind, [Ref(work.crm_id, work.pair.kirim_id) for work in works])
    except Reject as error:
        if len(works) == 1:
            works[0].outcomes[Side.CRM], works[0].unread = error, True
            return
        middle = len(works) // 2
        _look_up(connector, kind, works[:middle])
        _look_up(connector, kind, works[middle:])
        return
    for work, held in zip(works, found, strict=True):
        if held is not None:
            _found(work, held)


def _found(work: Work, held: Record) -> None:
    work.found, work.crm_id = held, held.id
    work.crm, _ = judge(None, held, Source.READ)


def _match(around: Surroundings, kind: Kind, works: Sequence[Work], adopted: set[str]) -> None:
    """Looks for records that are the same person's. One is adopted, and then no other's; of several a person has to
    choose."""
    rules = around.connection.rules[kind]
    if not works or not rules.match or Can.FIND not in around.connection.connector.can:
        return
    desk, name = Desk(around.tenant.id, around.connection.name, kind), around.connection.name
    found = _candidates(around, kind, works)
    known = {record.id for records in found.values() for record in records}
    refused = around.database.read(lambda tx: matches.refused(tx, desk, {work.pair.kirim_id for work in works}))
    owners = around.database.read(lambda tx: pairs.owners(tx, around.tenant.id, name, kind, known))
    for work in works:
        id = work.pair.kirim_id
        others = {crm_id for crm_id, owner in owners.items() if owner != id} | adopted
        finding = find(
            rules.match,
            work.pair.kirim.fields if work.pair.kirim else {},
            found[id],
            taken=others,
            refused=refused.get(id, ()),
            region=rules.region,
        )
        if finding.match is not Match.NEW:
            work.finding = finding
        if finding.record is not None:
            adopted.add(finding.record.id)  # two contacts of one flush may be alike: the first has it
            _found(work, finding.record)


def _candidates(around: Surroundings, kind: Kind, works: Sequence[Work]) -> dict[str, list[Record]]:
    """What the CRM names for each contact: all of them are asked for at once, rule by rule."""
    rules, connector = around.connection.rules[kind], around.connection.connector
    found: dict[str, list[Record]] = {work.pair.kirim_id: [] for work in works}
    for rule in rules.match:
        asked = {
            work.pair.kirim_id: spellings(rule, work.pair.kirim.fields.get(rule.kirim), rules.region)
            for work in works
            if work.pair.kirim is not None
        }
        values = sorted({value for several in asked.values() for value in several})
        answers = connector.find(kind, rule.crm, values) if values else {}
        for id, several in asked.items():
            found[id] += [record for value in several for record in answers.get(value, ())]
    return found
