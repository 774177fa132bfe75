"""What becomes of a flush: answers into views, bases and notes, ends and history, in one transaction. Decides nothing
about what to write, and calls no platform.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection as Transaction

from crmsync import crash
from crmsync.core.brakes import without
from crmsync.core.decide import Decision, Settled, Side, Why, decide, settle
from crmsync.core.retry import ATTEMPTS, FAILURES, LONGEST, wait
from crmsync.core.trouble import LOOKUP, NONE, Reason, Refusal, Trouble, digest, digest_of_lookup
from crmsync.core.values import value
from crmsync.core.views import Source, View
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.flows import chronicle, ruling
from crmsync.flows.braking import touched
from crmsync.flows.work import Surroundings, Work, contact_of, held_in_kirim, pair_view
from crmsync.model import CONTACT_LINK, Fields, Kind, Record, Written
from crmsync.store import history, matches, pairs, records
from crmsync.store.matches import Candidate, Desk
from crmsync.store.pairs import Ended
from crmsync.store.records import HELD, KIRIM, Observation

DELETED = "the record was deleted in the CRM"
SOON = timedelta(milliseconds=200)
"""How long a record waits at first for another one: mostly both were told of at once."""
AGREED = Decision(())
DROPPABLE = frozenset({Reason.REFUSED, Reason.DUPLICATE, Reason.SHARED})
"""What stays as it is until somebody changes a record: the others are news each time."""


@value
class Present:
    """A pair as it is when its flush is stored: the record it is linked to, and both views."""

    crm_id: str | None
    kirim: View | None
    crm: View | None


def reflect(around: Surroundings, works: Sequence[Work]) -> None:
    """What follows from the answers alone: worked out before the transaction, which is what all have to share."""
    name, now = around.connection.name, around.clock()
    for work in works:
        work.settled = settled(work)
        work.recent = ruling.strokes(work, now)
        work.told = chronicle.told(around, work, now)
        work.touched = touched(work)
        work.seen = {Side.KIRIM: list(_seen(work, Side.KIRIM, KIRIM)), Side.CRM: list(_seen(work, Side.CRM, name))}


def store(tx: Transaction, around: Surroundings, works: Sequence[Work], *, counted: bool) -> None:
    """Everything the flush learned, in one transaction. `counted` says whether failures are the records' own."""
    around.fence(tx)
    tenant, name, now = around.tenant, around.connection.name, around.clock()
    for kind in {work.pair.kind for work in works}:
        batch = [work for work in works if work.pair.kind is kind]
        settling = (name, {work.pair.kirim_id for work in batch})
        views: dict[str, dict[str, View]] = {KIRIM: {}, name: {}}
        for side, endpoint in ((Side.KIRIM, KIRIM), (Side.CRM, name)):
            seen = [observation for work in batch for observation in work.seen[side]]
            followers, into = tenant.followers(kind), views[endpoint]
            records.observe(tx, tenant.id, endpoint, seen, now=now, followers=followers, settling=settling, into=into)
        crash.point("sync.storing")
        present = _present(tx, around, kind, batch, views[KIRIM], views[name])
        named = {work.pair.kirim_id: id for work in batch if (id := _crm_id(work))}
        owners = pairs.owners(tx, tenant.id, name, kind, set(named.values()))
        for kirim_id, id in named.items():  # of two that were given one record in one flush the first has it
            owners.setdefault(id, kirim_id)
        ended = [_ended(around, work, present[work.pair.kirim_id], owners, now, counted=counted) for work in batch]
        pairs.end(tx, tenant.id, name, ended, now)
        _call_for_conversations(tx, around, batch, present, ended)
        crash.point("sync.linked")
        _lay_on_the_desk(tx, around, kind, batch, now)
        _call_for_contacts(tx, around, batch, now)
        ruling.write_down(tx, around.tenant.id, name, kind, batch, now)
        suspect = {work.crm_id: f"refused:{name}" for work in batch if work.crm_id and _refused(work)}
        records.mark_stale(tx, tenant.id, name, kind, suspect, now)
    history.append(tx, [row for work in works for row in work.told])
    around.brakes.note(tx, works, now)


def _present(
    tx: Transaction,
    around: Surroundings,
    kind: Kind,
    works: Sequence[Work],
    kirim: Mapping[str, View],
    crm: Mapping[str, View],
) -> dict[str, Present]:
    """The pairs as they are by now, with what this flush saw of them.

    Whatever changes a view moves the revision of its pairs: one that has not moved is as it was taken, apart from that.
    """
    tenant, name = around.tenant.id, around.connection.name
    taken = {work.pair.kirim_id: work for work in works}
    now = pairs.standing(tx, tenant, name, kind, taken)
    moved = {id for id, (_, revision) in now.items() if revision != taken[id].pair.revision}
    fresh = {pair.kirim_id: pair for pair in pairs.pairs(tx, tenant, name, kind, moved)} if moved else {}
    present = {}
    for id, work in taken.items():
        crm_id = now[id][0]
        named = _crm_id(work) or crm_id or ""  # a record that was made just now may not be linked yet
        pair = fresh.get(id)
        if pair is None:
            present[id] = Present(crm_id, kirim.get(id, work.pair.kirim), crm.get(named, work.crm))
        else:
            present[id] = Present(crm_id, pair.kirim, crm.get(named, pair.crm))
    return present


def _lay_on_the_desk(tx: Transaction, around: Surroundings, kind: Kind, works: Sequence[Work], now: datetime) -> None:
    """Candidates of contacts that a person has to decide about; and nothing of those that have a record by now."""
    if not around.connection.rules[kind].match:
        return
    desk = Desk(around.tenant.id, around.connection.name, kind)
    matches.settle(tx, desk, {work.pair.kirim_id for work in works if not work.undecided})
    offered = [
        Candidate(work.pair.kirim_id, record.id, ", ".join(rule.crm for rule in met), record.fields)
        for work in works
        if work.undecided and work.finding is not None
        for record, met in work.finding.candidates
    ]
    matches.offer(tx, desk, offered, now)


def _call_for_contacts(tx: Transaction, around: Surroundings, works: Sequence[Work], now: datetime) -> None:
    """Contacts that conversations wait for, and that Kirim never showed us, are to be read."""
    wanted = {contact: work.pair.cause for work in works if work.waits and (contact := contact_of(work.pair))}
    known = records.views(tx, around.tenant.id, KIRIM, Kind.CONTACT, wanted)
    strangers = {contact: cause for contact, cause in wanted.items() if contact not in known}
    records.mark_stale(tx, around.tenant.id, KIRIM, Kind.CONTACT, strangers, now)


def _call_for_conversations(
    tx: Transaction, around: Surroundings, works: Sequence[Work], before: Mapping[str, Present], ended: Sequence[Ended]
) -> None:
    """Contacts that have a record again, or another: their conversations belong to that."""
    unlinked = {work.pair.kirim_id for work in works if work.pair.unlinked}
    moved = [
        pair.kirim_id
        for pair in ended
        if pair.kind is Kind.CONTACT
        and (
            (pair.kirim_id in unlinked and not pair.unlinked) or before[pair.kirim_id].crm_id not in (None, pair.crm_id)
        )
    ]
    tenant, name = around.tenant.id, around.connection.name
    causes = dict.fromkeys(moved, works[0].pair.cause)
    records.call_for_conversations(tx, tenant, name, works[0].pair.kind, causes, around.clock())


def _refused(work: Work) -> bool:
    """Whether the CRM refused the whole write: perhaps the record was deleted or merged, which a reading will tell."""
    return isinstance(work.outcomes.get(Side.CRM), Reject) and Side.CRM not in work.remembered


def _seen(work: Work, side: Side, endpoint: str) -> Iterable[Observation]:
    """What the lookup and the answer say about one side. An answer without a record is taken as what was sent."""
    if side is Side.CRM and work.found is not None:
        yield Observation(work.found, Source.READ, f"lookup:{endpoint}")
    outcome = work.outcomes.get(side)
    if isinstance(outcome, Written) and (record := _held(work, side, outcome)) is not None:
        basis = work.pair.kirim if side is Side.KIRIM else work.crm
        yield Observation(record, Source.READ, f"write:{work.pair.cause}", basis=basis)


def _held(work: Work, side: Side, outcome: Written) -> Record | None:
    """The record as it is after a write. What a new one was not given, and its answer does not show, is empty."""
    record = outcome.record
    if record is None:
        return _sent(work, side, outcome)
    if not outcome.created:
        return record
    names = (name for rule in work.rules.fields for name in rule.right.names if name != CONTACT_LINK)
    empty = {name: None for name in names if name not in record.fields}
    return replace(record, fields={**empty, **record.fields}) if empty else record


def _sent(work: Work, side: Side, outcome: Written) -> Record | None:
    """The record as it was written, as far as we know it; None where it has no id that we know."""
    id = work.pair.kirim_id if side is Side.KIRIM else work.crm_id
    fields = {name: value for name, value in work.decision.writes(side).items() if name not in outcome.refused}
    return Record(work.pair.kind, id, fields, external_id=work.pair.kirim_id) if id else None


def settled(work: Work) -> Settled:
    """The base and the notes, moved by what was answered."""
    answers: dict[Side, Fields] = {}
    refused: dict[Side, Mapping[str, str]] = {}
    for side, outcome in work.outcomes.items():
        if isinstance(outcome, Written):
            answers[side] = outcome.record.fields if outcome.record else {}
            refused[side] = outcome.refused
        elif isinstance(outcome, Reject):
            refused[side] = {name: str(outcome) for name in outcome.fields}
    return settle(work.rules, work.view, work.decision, answers, refused)


def _ended(
    around: Surroundings,
    work: Work,
    present: Present,
    owners: Mapping[str, str],
    now: datetime,
    *,
    counted: bool,
) -> Ended:
    """How the pair goes on: at peace, due again, or parked. `present` has the views as they are by now.

    `owners` has the Kirim ids that CRM records are linked to: a record is never linked to two.
    """
    done = work.settled or settled(work)
    crm_id = _crm_id(work) or present.crm_id
    owner = owners.get(crm_id or "", work.pair.kirim_id)
    if owner != work.pair.kirim_id:
        crm_id = present.crm_id
    ended = Ended(
        work.pair.kind,
        work.pair.kirim_id,
        work.pair.revision,
        crm_id,
        looked_up=crm_id is not None,
        base=done.base,
        noted=done.noted,
        trouble=_trouble(work, done),
        recent=work.recent,
    )
    if owner != work.pair.kirim_id:
        return _parked(
            ended, Reason.SHARED, f"its CRM record belongs to {owner} as well: one of the two has to be merged"
        )
    trouble = [outcome for outcome in work.outcomes.values() if isinstance(outcome, ConnectorError)]
    trouble.sort(key=lambda error: isinstance(error, Reject))  # what passes first: the rest may go with it
    if work.undecided and work.finding is not None:
        several = ", ".join(record.id for record, _ in work.finding.candidates)
        return _parked(ended, Reason.UNCLEAR, f"several records may be this contact: {several}")
    if work.waits:
        return _waiting(work, ended, now)
    if work.pair.attempts > ATTEMPTS:
        return _parked(ended, Reason.EXHAUSTED, f"given up after {ATTEMPTS} starts that did not come to an end")
    left = AGREED if _as_it_was_left(work, present) else _left(work, done, present)
    if trouble:
        return _in_trouble(around, work, ended, trouble[0], left, now, counted=counted)
    if work.crm is not None and not work.crm.exists:
        return _without_record(work, ended)
    if not work.outcomes or present.crm is None or left.quiet:
        return _at_rest(ended, work)
    return replace(ended, again_at=now)


def _left(work: Work, done: Settled, present: Present) -> Decision:
    """What is still to be written, as things are by now."""
    kirim = held_in_kirim(present.kirim, work.contact)
    left = decide(work.rules, pair_view(kirim, present.kirim, present.crm, done.base, done.noted, ruling.after(work)))
    return without(left, work.withheld, creates=present.crm is None)


def _as_it_was_left(work: Work, present: Present) -> bool:
    """Whether both sides are just as a write to the CRM left them, so that deciding again would ask for nothing."""
    outcome = work.outcomes.get(Side.CRM)
    if len(work.outcomes) != 1 or not isinstance(outcome, Written) or outcome.refused or present.crm is None:
        return False
    if work.withheld or work.frozen or work.contact or work.pair.rulings.decreed:
        return False
    if present.kirim is not work.pair.kirim or present.crm.fields != work.seen[Side.CRM][-1].record.fields:
        return False
    sent, before = work.decision.writes(Side.CRM), work.crm
    if before is None:
        return all([name in sent or value is None for name, value in present.crm.fields.items()])
    held = before.fields
    return all([name in sent or (name in held and value == held[name]) for name, value in present.crm.fields.items()])


def _waiting(work: Work, ended: Ended, now: datetime) -> Ended:
    """Something has to be there first, which may come; or was there, and was deleted."""
    if work.orphaned:
        return replace(ended, error=work.waits, reason=Reason.DELETED, unlinked=True)
    waited = max(now - work.pair.first_at, timedelta(0)) / 4
    again = now + min(max(waited, SOON), LONGEST)
    return replace(ended, error=work.waits, again_at=again, failures=work.pair.failures)


def _without_record(work: Work, ended: Ended) -> Ended:
    """Its CRM record is gone: merged into another contact's, or deleted. What it refused says nothing any more."""
    ended = replace(ended, trouble=NONE)
    if work.merged:
        return _parked(ended, Reason.SHARED, f"its CRM record was merged into {work.merged}, another contact's")
    return replace(ended, error=DELETED, reason=Reason.DELETED, unlinked=True)


def _at_rest(ended: Ended, work: Work) -> Ended:
    """Nothing is left that could be sent: the sides agree, or what differs is paused, or was refused."""
    if work.withheld:
        return replace(ended, error=f"paused: {', '.join(sorted(work.withheld))}", again_at=HELD)
    standing = next(iter(ended.trouble.refusals.values()), None)
    if standing is not None:
        return _parked(ended, _reason(standing), standing.answer)
    return replace(ended, trouble=replace(ended.trouble, dropped="")) if ended.trouble.dropped else ended


def _in_trouble(
    around: Surroundings,
    work: Work,
    ended: Ended,
    error: ConnectorError,
    left: Decision,
    now: datetime,
    *,
    counted: bool,
) -> Ended:
    """When to try again. What was refused is not, but `left`, what is still to be written, may be something else."""
    if isinstance(error, Throttled):
        again = now + wait(error, 0, around.chance())
        return replace(ended, error=str(error), again_at=again, failures=work.pair.failures)
    if isinstance(error, (Retry, Suspend)):
        own = counted and isinstance(error, Retry)  # the credential's trouble is not the record's
        failures = work.pair.failures + own
        if failures > FAILURES:
            return _parked(ended, Reason.UNANSWERED, f"given up after {FAILURES} failures, the last: {error}")
        again = now + wait(error, failures, around.chance())
        return replace(ended, error=str(error), again_at=again, failures=failures)
    if any(left.writes(side) and left.writes(side) != work.decision.writes(side) for side in Side):
        return replace(ended, error=str(error), again_at=now)  # the rest goes without it, or the input moved meanwhile
    standing = next((one for one in ended.trouble.refusals.values() if one.answer == str(error)), None)
    return _parked(ended, _reason(standing) if standing else Reason.REFUSED, str(error))


def _parked(ended: Ended, reason: Reason, error: str) -> Ended:
    """A dead end, to be shown to people; unless they said of exactly this that they do not want to hear of it."""
    if ended.trouble.dropped == reason and reason in DROPPABLE:
        return ended
    return replace(ended, error=error, reason=reason, trouble=replace(ended.trouble, dropped=""))


def _reason(refusal: Refusal) -> Reason:
    return Reason.DUPLICATE if refusal.candidate else Reason.REFUSED


def _trouble(work: Work, settled: Settled) -> Trouble:
    """What is refused as things stand: what was refused now, and what was before and still is."""
    before = work.pair.trouble
    if not before.refusals and all(isinstance(one, Written) and not one.refused for one in work.outcomes.values()):
        return before
    refusals = {key: one for key, one in before.refusals.items() if _stands(work, settled, key, one)}
    for side, outcome in work.outcomes.items():
        if side in work.remembered:
            continue
        write = work.write(side)
        sent = tuple(sorted(write.fields)) if write else ()
        if isinstance(outcome, Written) and outcome.refused:
            said = "; ".join(f"{name}: {why}" for name, why in sorted(outcome.refused.items()))
            refusals[side.value] = Refusal(sent, said, tuple(sorted(outcome.refused)))
        elif isinstance(outcome, Reject) and work.unread and side is Side.CRM:
            asked = digest_of_lookup(work.pair.kirim_id, work.crm_id)
            refusals[LOOKUP] = Refusal((), str(outcome), outcome.fields, outcome.candidate, asked)
        elif isinstance(outcome, Reject):
            asked = digest(write) if write else ""
            refusals[side.value] = Refusal(sent, str(outcome), outcome.fields, outcome.candidate, asked)
    return Trouble(refusals, before.dropped if refusals == dict(before.refusals) else "")


def _stands(work: Work, settled: Settled, key: str, refusal: Refusal) -> bool:
    """Whether an earlier refusal is still what keeps a pair from agreeing."""
    side = Side.CRM if key == LOOKUP else Side(key)
    outcome = work.outcomes.get(side)
    if side in work.remembered or isinstance(outcome, Retry):
        return True
    lenses = {rule.name: rule.left if side is Side.KIRIM else rule.right for rule in work.rules.fields}
    far = {name: key for key, lens in lenses.items() for name in lens.names}
    noted = (settled.noted.get(far.get(name, "")) for name in refusal.guilty)
    if any(note is not None and note.why is Why.REFUSED for note in noted):
        return True
    return outcome is None and bool(work.decision.writes(side))


def _crm_id(work: Work) -> str | None:
    """The CRM record that the lookup or the answer named; the link may have moved since the pair was taken."""
    outcome = work.outcomes.get(Side.CRM)
    if isinstance(outcome, Written) and outcome.record is not None:
        return outcome.record.id
    return work.found.id if work.found else None
