"""The one path that writes records: take what is due, look, decide, act, store. In this order, nothing going back up.

No transaction is open while a platform is called. What a platform answered, the base it moves and the history
of it are stored together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction

from crmsync.connector import Connector, Outcome
from crmsync.core.decide import Decision, PairView, Side, Step, Why, decide, settle
from crmsync.core.mapping import Rules
from crmsync.core.retry import ALONE_FROM, ATTEMPTS, wait
from crmsync.core.views import Source, View
from crmsync.core.views import observe as judge
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.flows.tenant import Connection, Tenant
from crmsync.model import Fields, Kind, Record, Ref, Write, Written
from crmsync.store import history, pairs, records
from crmsync.store.database import Database
from crmsync.store.history import Entry
from crmsync.store.lanes import Fence
from crmsync.store.pairs import Ended, Taken
from crmsync.store.records import KIRIM, Observation

IN_FLIGHT = 4
"""Batches of one lane that may be on their way at once."""
DELETED = "the record was deleted in the CRM"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a turn needs besides the pairs themselves."""

    database: Database
    tenant: Tenant
    connection: Connection
    fence: Fence
    clock: Callable[[], datetime]
    chance: Callable[[], float]


@dataclass(slots=True)
class Work:
    """One pair on its way through a flush: what was found, decided and answered."""

    pair: Taken
    crm: View | None
    crm_id: str | None
    rules: Rules
    decision: Decision = field(default_factory=lambda: Decision(()))
    outcomes: dict[Side, Outcome] = field(default_factory=dict)
    found: Record | None = None

    @property
    def view(self) -> PairView:
        """What `decide` is asked about."""
        kirim = self.pair.kirim.fields if self.pair.kirim else {}
        return PairView(kirim, self.crm.fields if self.crm else None, self.pair.base, self.pair.noted)

    def write(self, side: Side) -> Write | None:
        """The write that the decision asks for on a side."""
        fields = self.decision.writes(side)
        if not fields:
            return None
        id = self.pair.kirim_id if side is Side.KIRIM else self.crm_id
        return Write(self.pair.kirim_id, fields, id)


def sync(around: Surroundings, executor: futures.Executor) -> int:
    """Works off what is due on one connection; says how many pairs.

    While more than a batch is due only full batches are sent; the rest waits for the next turn, and for company.
    Raises the error that stopped the connection, after everything that did end was stored.
    """
    size = around.connection.connector.batch_size
    now = around.clock()
    due = around.database.write(
        lambda tx: pairs.take(tx, around.tenant.id, around.connection.name, size * IN_FLIGHT, now)
    )
    calm = [pair for pair in due if pair.attempts <= ALONE_FROM]
    still: list[Taken] = []
    moving: list[Taken] = []
    for pair in calm:
        (still if _still(around, pair) else moving).append(pair)
    if len(moving) > size:
        spare = moving[len(moving) - len(moving) % size :]
        moving = moving[: len(moving) - len(spare)]
        around.database.write(lambda tx: pairs.give_back(tx, around.tenant.id, around.connection.name, spare))
    batches = [moving[start : start + size] for start in range(0, len(moving), size)]
    batches += [still] if still else []
    batches += [[pair] for pair in due if pair.attempts > ALONE_FROM]
    flushes = [executor.submit(_flush, around, batch) for batch in batches]
    futures.wait(flushes)  # whatever becomes of one, the lane is not left while another has writes on their way
    stopped = [error for flush in flushes if (error := flush.result()) is not None]
    if stopped:
        raise stopped[0]
    return sum(map(len, batches))


def _still(around: Surroundings, pair: Taken) -> bool:
    """Whether a pair is due but needs no call, such as after the echo of a write: it takes no place in a batch."""
    work = Work(pair, pair.crm, pair.crm_id, around.connection.rules[pair.kind])
    return pair.crm is not None and decide(work.rules, work.view).quiet


def _flush(around: Surroundings, due: Sequence[Taken]) -> ConnectorError | None:
    """One batch from looking to storing. Returns the error that concerns the whole connection, if one came."""
    stopped: ConnectorError | None = None
    try:
        works = _gather(around, due)
    except ConnectorError as error:
        around.database.write(lambda tx: pairs.give_back(tx, around.tenant.id, around.connection.name, due))
        return error
    for work in works:
        work.decision = decide(work.rules, work.view)
    for side in Side:
        stopped = _act(around, side, works) or stopped
    around.database.write(lambda tx: _store(tx, around, works))
    return stopped


def _gather(around: Surroundings, due: Sequence[Taken]) -> list[Work]:
    """The pairs with both views. A record that no pair of ours has seen in the CRM is looked up by its Kirim id."""
    works = [Work(pair, pair.crm, pair.crm_id, around.connection.rules[pair.kind]) for pair in due]
    asked = [
        work for work in works if work.crm is None and _known_in_kirim(work.pair) and work.pair.attempts <= ATTEMPTS
    ]
    for kind in {work.pair.kind for work in asked}:
        _look_up(around.connection.connector, kind, [work for work in asked if work.pair.kind is kind])
    return works


def _look_up(connector: Connector[Any], kind: Kind, works: Sequence[Work]) -> None:
    """Finds the records that these belong to; one that the platform refuses to be asked about is refused alone."""
    try:
        found = connector.fetch(kind, [Ref(work.crm_id, work.pair.kirim_id) for work in works])
    except Reject as error:
        if len(works) == 1:
            works[0].outcomes[Side.CRM] = error
            return
        middle = len(works) // 2
        _look_up(connector, kind, works[:middle])
        _look_up(connector, kind, works[middle:])
        return
    for work, held in zip(works, found, strict=True):
        if held is not None:
            work.found, work.crm_id = held, held.id
            work.crm, _ = judge(None, held, Source.READ)


def _known_in_kirim(pair: Taken) -> bool:
    return pair.kirim is not None and pair.kirim.exists


def _workable(work: Work) -> bool:
    """Whether writing makes sense: Kirim's record is known, and the CRM's could be looked for and was not deleted."""
    if not _known_in_kirim(work.pair) or work.pair.attempts > ATTEMPTS or Side.CRM in work.outcomes:
        return False
    if work.crm is None:
        return work.rules.creates
    return work.crm.exists


def _act(around: Surroundings, side: Side, works: Sequence[Work]) -> ConnectorError | None:
    """Sends the writes of one side, a batch a call; every work gets its outcome."""
    connector = around.tenant.kirim if side is Side.KIRIM else around.connection.connector
    writing = [(work, write) for work in works if _workable(work) and (write := work.write(side)) is not None]
    stopped: ConnectorError | None = None
    for kind in {work.pair.kind for work, _ in writing}:
        chosen = [(work, write) for work, write in writing if work.pair.kind is kind]
        for start in range(0, len(chosen), connector.batch_size):
            batch = chosen[start : start + connector.batch_size]
            outcomes: Sequence[Outcome] = [Throttled(str(stopped))] * len(batch)
            if stopped is None:
                outcomes, stopped = _send(connector, kind, [write for _, write in batch])
            for (work, _), outcome in zip(batch, outcomes, strict=True):
                work.outcomes[side] = outcome
    return stopped


def _send(
    connector: Connector[Any], kind: Kind, writes: Sequence[Write]
) -> tuple[Sequence[Outcome], ConnectorError | None]:
    """One outcome for each write, and the error that stops the connection, if the call failed as a whole."""
    try:
        outcomes = connector.upsert(kind, writes)
    except Reject as error:
        return [error] * len(writes), None
    except ConnectorError as error:
        return [Throttled(str(error), error.after if isinstance(error, (Retry, Suspend)) else None)] * len(
            writes
        ), error
    stopping = (outcome for outcome in outcomes if isinstance(outcome, Suspend))
    return outcomes, next(stopping, None)


def _store(tx: Transaction, around: Surroundings, works: Sequence[Work]) -> None:
    """Everything the flush learned, in one transaction."""
    around.fence(tx)
    tenant, name, now = around.tenant, around.connection.name, around.clock()
    for kind in {work.pair.kind for work in works}:
        batch = [work for work in works if work.pair.kind is kind]
        settling = (name, {work.pair.kirim_id for work in batch})
        for side, endpoint in ((Side.KIRIM, KIRIM), (Side.CRM, name)):
            seen = list(_seen(side, endpoint, batch))
            records.observe(tx, tenant.id, endpoint, seen, now=now, followers=tenant.followers(kind), settling=settling)
        moved = {work.pair.kirim_id: _settled(work) for work in batch}
        views = {pair.kirim_id: pair for pair in pairs.pairs(tx, tenant.id, name, kind, moved)}
        owners = pairs.owners(tx, tenant.id, name, kind, {id for work in batch if (id := _crm_id(work))})
        present = records.views(tx, tenant.id, name, kind, {id for work in batch if (id := _crm_id(work))})
        for work in batch:  # a record that was made just now is not linked yet
            pair = views[work.pair.kirim_id]
            views[pair.kirim_id] = replace(pair, crm=present.get(_crm_id(work) or "", pair.crm))
        ended = [
            _ended(around, work, moved[work.pair.kirim_id], views[work.pair.kirim_id], owners, now) for work in batch
        ]
        pairs.end(tx, tenant.id, name, ended, now)
    history.add(tx, [entry for work in works for entry in _entries(around, work, now)])


def _seen(side: Side, endpoint: str, works: Iterable[Work]) -> Iterable[Observation]:
    """What the lookups and the answers say about one side. An answer without a record is taken as what was sent."""
    for work in works:
        if side is Side.CRM and work.found is not None:
            yield Observation(work.found, Source.READ, f"lookup:{endpoint}")
        outcome = work.outcomes.get(side)
        if isinstance(outcome, Written) and (record := outcome.record or _sent(work, side, outcome)) is not None:
            basis = work.pair.kirim if side is Side.KIRIM else work.crm
            yield Observation(record, Source.READ, f"write:{work.pair.cause}", basis=basis)


def _sent(work: Work, side: Side, outcome: Written) -> Record | None:
    """The record as it was written, as far as we know it; None where it has no id that we know."""
    id = work.pair.kirim_id if side is Side.KIRIM else work.crm_id
    fields = {name: value for name, value in work.decision.writes(side).items() if name not in outcome.refused}
    return Record(work.pair.kind, id, fields) if id else None


def _settled(work: Work) -> Taken:
    """The pair with its base and notes moved by what was answered."""
    answers: dict[Side, Fields] = {}
    refused: dict[Side, Mapping[str, str]] = {}
    for side, outcome in work.outcomes.items():
        if isinstance(outcome, Written):
            answers[side] = outcome.record.fields if outcome.record else {}
            refused[side] = outcome.refused
        elif isinstance(outcome, Reject):
            refused[side] = {name: str(outcome) for name in outcome.fields}
    done = settle(work.rules, work.view, work.decision, answers, refused)
    return replace(work.pair, base=done.base, noted=done.noted)


def _ended(
    around: Surroundings, work: Work, settled: Taken, present: Taken, owners: Mapping[str, str], now: datetime
) -> Ended:
    """How the pair goes on: at peace, due again, or parked. `present` has the views as they are by now.

    `owners` has the Kirim ids that CRM records are linked to: a record is never linked to two.
    """
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
        base=settled.base,
        noted=settled.noted,
    )
    if owner != work.pair.kirim_id:
        return replace(ended, error=f"its CRM record belongs to {owner} as well: one of the two has to be merged")
    trouble = [outcome for outcome in work.outcomes.values() if isinstance(outcome, ConnectorError)]
    trouble.sort(key=lambda error: isinstance(error, Reject))  # what passes first: the rest may go with it
    if work.pair.attempts > ATTEMPTS:
        return replace(ended, error=f"given up after {ATTEMPTS} attempts")
    kirim = present.kirim.fields if present.kirim else {}
    crm = present.crm.fields if present.crm else None
    left = decide(work.rules, PairView(kirim, crm, settled.base, settled.noted))
    if trouble:
        return _in_trouble(around, work, ended, trouble[0], left, now)
    if work.crm is not None and not work.crm.exists:
        return replace(ended, error=DELETED)
    if not work.outcomes or crm is None or left.quiet:
        return ended
    return replace(ended, again_at=now)


def _in_trouble(
    around: Surroundings, work: Work, ended: Ended, error: ConnectorError, left: Decision, now: datetime
) -> Ended:
    """When to try again. What was refused is not, but `left`, what is still to be written, may be something else."""
    if isinstance(error, Throttled):
        again = now + wait(error, 0, around.chance())
        return replace(ended, error=str(error), again_at=again, attempts=work.pair.attempts - 1)
    if isinstance(error, (Retry, Suspend)):
        again = now + wait(error, work.pair.attempts, around.chance())
        own = isinstance(error, Retry)  # the credential's trouble is not the record's
        return replace(ended, error=str(error), again_at=again, attempts=work.pair.attempts - (not own))
    if any(left.writes(side) and left.writes(side) != work.decision.writes(side) for side in Side):
        return replace(ended, error=str(error), again_at=now)  # the rest goes without it, or the input moved meanwhile
    return replace(ended, error=str(error))


def _crm_id(work: Work) -> str | None:
    """The CRM record that the lookup or the answer named; the link may have moved since the pair was taken."""
    outcome = work.outcomes.get(Side.CRM)
    if isinstance(outcome, Written) and outcome.record is not None:
        return outcome.record.id
    return work.found.id if work.found else None


def _entries(around: Surroundings, work: Work, now: datetime) -> Iterable[Entry]:
    """The history of one pair's decision."""
    settled = settle(work.rules, work.view, work.decision, _answers(work)).respelled
    for step in work.decision.steps:
        outcome, note = _told(work, step, settled)
        if outcome:
            yield Entry(
                at=now,
                tenant=around.tenant.id,
                connection=around.connection.name,
                kind=work.pair.kind,
                kirim_id=work.pair.kirim_id,
                field=step.rule.kirim,
                side=step.about,
                old=step.old,
                new=step.value,
                competing=step.competing,
                rule=step.why,
                outcome=outcome,
                cause=work.pair.cause,
                note=note,
            )


def _answers(work: Work) -> dict[Side, Fields]:
    return {
        side: outcome.record.fields if outcome.record else {}
        for side, outcome in work.outcomes.items()
        if isinstance(outcome, Written)
    }


def _told(work: Work, step: Step, respelled: Mapping[str, object]) -> tuple[str, str]:
    """What became of a step, in one word, and what is worth adding. An empty word is not worth a row."""
    if step.to is None:
        return {Why.EQUAL: "agreed", Why.DRIFT: "reported"}.get(step.why, "left"), ""
    outcome = work.outcomes.get(step.to)
    far = step.rule.kirim if step.to is Side.KIRIM else step.rule.crm
    if isinstance(outcome, Written):
        if far in outcome.refused:
            return "refused", outcome.refused[far]
        if step.rule.kirim in respelled:
            return "written", "the platform keeps another value than it was sent"
        return "written", ""
    if isinstance(outcome, Reject):
        guilty = set(outcome.fields) & set(work.decision.writes(step.to))
        return ("", "") if guilty and far not in guilty else ("refused", str(outcome))  # the others go without it
    if isinstance(outcome, Retry) and outcome.ambiguous:
        return "unanswered", str(outcome)
    return "", ""
