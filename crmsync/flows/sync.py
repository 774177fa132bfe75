"""The one path that writes records: take what is due, look, decide, act, store. In this order, nothing going back up.

No transaction is open while a platform is called. What a platform answered, the base it moves and the history
of it are stored together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from crmsync import crash
from crmsync.connecting.pages import portions
from crmsync.connector import Outcome
from crmsync.core.decide import Side, decide
from crmsync.core.retry import ALONE_FROM, ATTEMPTS, alone
from crmsync.core.trouble import digest
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.flows.gathering import gather, known_in_kirim
from crmsync.flows.settling import reflect, store
from crmsync.flows.sparing import urgency
from crmsync.flows.work import Surroundings, Work
from crmsync.model import Kind, Write
from crmsync.store import pairs
from crmsync.store.pairs import Claim, Taken
from crmsync.store.records import KIRIM

IN_FLIGHT = 4
"""Batches of one lane that may be on their way at once."""
SUSPECTS = 4
"""Pairs in one turn that may be what ended the process."""
PORTION = 500
"""Pairs that are stored in one transaction, at most."""
PATIENCE = 2000
"""Failures of a lane in a row, more than a day of them, after which they are counted against the records."""

Sending = tuple[Work, Write]
Call = Callable[[Sequence[Write]], Sequence[Outcome]]


def sync(around: Surroundings, executor: futures.Executor) -> int:
    """Works off what is due on one connection; says how many pairs.

    While more than a batch is due only full batches are sent; the rest waits for the next turn, and for company.
    Raises the error that stopped the connection, after everything that did end was stored. After a turn in which
    nothing was answered batches are halved: an outage is probed with little, and a record that the platform chokes
    on comes to stand apart from those that can go.
    """
    taken: list[Taken] = []
    try:
        return _sync(around, executor, taken)
    finally:
        around.away.leave(taken, around)


def _sync(around: Surroundings, executor: futures.Executor, taken: list[Taken]) -> int:
    """A turn. Everything that it takes is added to `taken`."""
    size = max(1, around.connection.connector.batch_size >> around.failures)
    in_flight = 1 if around.careful else IN_FLIGHT
    due = _with_company(around, _take(around, size * in_flight, taken, alone=pairs.SUSPECTS), size * in_flight, taken)
    crash.point("sync.counted")
    due = _affordable(around, due)
    batches, spare = _batches(around, [pair for pair in due if not _alone(pair)], size, size * in_flight)
    if spare:
        around.database.write(lambda tx: pairs.give_back(tx, around.tenant.id, around.connection.name, spare))
    flushes = [executor.submit(_flush, around, batch) for batch in batches]
    followed = _follow_up(around, executor, set(flushes), size, taken)
    flushes += followed
    flushes += [executor.submit(_flush_alone, around, pair) for pair in due if _failing(pair)]
    futures.wait(flushes)  # whatever becomes of one, the lane is not left while another has writes on their way
    for pair in sorted((pair for pair in due if _killing(pair)), key=lambda pair: pair.attempts)[:SUSPECTS]:
        flushes.append(executor.submit(_flush_alone, around, pair))  # last, and nothing of this lane beside it
        futures.wait(flushes)
    ended = [flush.result() for flush in flushes]
    down = bool(ended) and all(flush.unanswered or flush.stopped for flush in ended)
    for flush in ended:
        if flush.unanswered:
            _store(around, flush.unanswered, counted=not down or around.failures > PATIENCE)
    if stopped := [flush.stopped for flush in ended if flush.stopped is not None]:
        raise min(stopped, key=_is_elsewhere)  # what keeps the lane itself from going on comes first
    if down:
        raise next(error for flush in ended for work in flush.unanswered if (error := _unanswered(work)) is not None)
    return len(due) - len(spare) + size * len(followed)


def _batches(
    around: Surroundings, calm: Sequence[Taken], size: int, most: int
) -> tuple[list[Sequence[Taken]], Sequence[Taken]]:
    """What goes together: full batches, new records by the thousand where they are worth a job, and what needs no call.

    The rest is spare: it waits for the next turn, and for company.
    """
    still: list[Taken] = []
    moving: list[Taken] = []
    for pair in calm:
        (still if _still(around, pair) else moving).append(pair)
    new = [pair for pair in moving if _is_new(pair)]
    crowd = new if len(new) in around.loads else []
    if crowd:
        moving = [pair for pair in moving if not _is_new(pair)]
    fit = min(len(moving) - len(moving) % size, most) if len(moving) > size else len(moving)
    return [batch for batch in (*portions(moving[:fit], size), crowd, still) if batch], moving[fit:]


def _take(around: Surroundings, most: int, taken: list[Taken], *, alone: int) -> list[Taken]:
    """What is due and in nobody else's hands is in this turn's, from before anybody else can look."""
    tenant, name = around.tenant.id, around.connection.name
    claims: list[Claim] = []

    def claim(tx: Connection) -> None:
        around.away.leave(claims, around)  # a second try of the transaction begins anew
        without = around.away.ids()
        claims[:] = pairs.claim(tx, tenant, name, most, around.clock(), alone=alone, rank=around.rank, without=without)
        around.away.enter(claims, around)

    try:
        with around.away.taking:
            around.database.write(claim)
        found = around.database.read(lambda tx: pairs.load(tx, tenant, name, claims))
    except BaseException:
        around.away.leave(claims, around)
        raise
    taken += found
    return found


def _with_company(around: Surroundings, due: list[Taken], most: int, taken: list[Taken]) -> list[Taken]:
    """With those that are due after them, where all are new and so many may be that they are worth a job."""
    latest = due
    while len(latest) >= most and all(_is_new(pair) or _alone(pair) for pair in latest):
        room = around.loads.stop - 1 - len(due)
        if room <= 0:
            break
        latest = _take(around, min(most, room), taken, alone=0)
        due = due + latest
    return due


def _is_new(pair: Taken) -> bool:
    """Whether it has no record in the CRM as far as is known, and nothing was tried yet."""
    return pair.crm is None and pair.crm_id is None and not pair.failures and pair.attempts <= 1


def _follow_up(
    around: Surroundings,
    executor: futures.Executor,
    away: set[futures.Future[Flush]],
    size: int,
    taken: list[Taken],
) -> list[futures.Future[Flush]]:
    """As one batch comes to a good end another goes, while there are full ones: none waits for the slowest of several.

    What is live goes first each time. Whatever goes wrong, and whatever was tried before, is for the next turn.
    """
    followed: list[futures.Future[Flush]] = []
    while away and around.going():
        done, _ = futures.wait(away, return_when=futures.FIRST_COMPLETED)
        away -= done
        if any(flush.exception() is not None or flush.result() != Flush() for flush in done):
            break
        for _ in done:
            batch = _next_batch(around, size, taken)
            if not batch:
                return followed
            flush = executor.submit(_flush, around, batch)
            away.add(flush)
            followed.append(flush)
    return followed


def _next_batch(around: Surroundings, size: int, taken: list[Taken]) -> Sequence[Taken]:
    """A full batch of pairs that are not on their way and never failed; else nothing."""
    batch = _take(around, size, taken, alone=0)
    if len(batch) == size and not any(pair.failures for pair in batch):
        return batch
    around.database.write(lambda tx: pairs.give_back(tx, around.tenant.id, around.connection.name, batch))
    around.away.leave(batch, around)
    return ()


def _affordable(around: Surroundings, due: list[Taken]) -> list[Taken]:
    """Without those that were tried before and failed, while the day's share of requests for such is used up."""
    pause = around.sparing.wait()
    again = [pair for pair in due if pair.failures] if pause else []
    if again:
        until = around.clock() + pause
        tenant, name = around.tenant.id, around.connection.name
        counted = [pair for pair in again if not _alone(pair)]
        around.database.write(lambda tx: pairs.give_back(tx, tenant, name, counted))
        around.database.write(
            lambda tx: pairs.put_off(tx, tenant, name, {(pair.kind, pair.kirim_id): until for pair in again})
        )
    return [pair for pair in due if pair not in again] if again else due


def _is_elsewhere(error: ConnectorError) -> bool:
    return isinstance(error, Suspend) and bool(error.endpoint)


def _alone(pair: Taken) -> bool:
    return _killing(pair) or _failing(pair)


def _killing(pair: Taken) -> bool:
    """Whether work on it was begun several times and came to no end: perhaps it ends the process."""
    return pair.attempts > ALONE_FROM


def _failing(pair: Taken) -> bool:
    """Whether it came to an end in passing trouble several times."""
    return pair.failures >= ALONE_FROM and not _killing(pair)


@dataclass(frozen=True, slots=True)
class Flush:
    """How a batch went: `stopped` is the error that concerns the whole connection.

    `unanswered` has the works of a batch in which every call ended in passing trouble. They are not stored yet:
    whether that counts against the records depends on whether anybody else was answered.
    """

    stopped: ConnectorError | None = None
    unanswered: Sequence[Work] = ()


def _store(around: Surroundings, works: Sequence[Work], *, counted: bool) -> None:
    """In transactions of a bounded length: others wait for them."""
    for some in portions(works, PORTION):
        around.database.write(partial(store, around=around, works=some, counted=counted))


def _unanswered(work: Work) -> Retry | None:
    """The passing trouble of a work that has no other outcome."""
    passing = [outcome for outcome in work.outcomes.values() if isinstance(outcome, Retry)]
    return passing[0] if passing and len(passing) == len(work.outcomes) else None


def _still(around: Surroundings, pair: Taken) -> bool:
    """Whether a pair is due but needs no call, such as after the echo of a write: it takes no place in a batch."""
    work = Work(pair, pair.crm, pair.crm_id, around.connection.rules[pair.kind])
    if pair.crm is None or work.unstamped or pair.kind is Kind.CONVERSATION:
        return False
    return decide(work.rules, work.view).quiet


def _flush(around: Surroundings, due: Sequence[Taken]) -> Flush:
    """One batch from looking to storing."""
    again = all(pair.failures for pair in due)
    asking = around.sparing.asking(urgency(pair.cause for pair in due))
    with around.sparing.spending() if again else asking:
        flush = _flushed(around, due)
    if not flush.unanswered:  # those are stored when the turn ends
        around.away.leave(due, around)
    return flush


def _flushed(around: Surroundings, due: Sequence[Taken]) -> Flush:
    try:
        works = gather(around, due)
    except ConnectorError as error:
        around.database.write(lambda tx: pairs.give_back(tx, around.tenant.id, around.connection.name, due))
        return Flush(error)
    for work in works:
        work.decision = decide(work.rules, work.view)
    with around.brakes.holding(works):
        return _carry_out(around, works)


def _carry_out(around: Surroundings, works: Sequence[Work]) -> Flush:
    """From sending to storing."""
    stopped = act(around, works)
    reflect(around, works)
    acted = [work for work in works if work.outcomes]
    if acted and stopped is None and all(_unanswered(work) is not None for work in acted):
        return Flush(unanswered=works)
    _store(around, works, counted=True)
    crash.point("sync.stored")
    return Flush(stopped)


def _flush_alone(around: Surroundings, pair: Taken) -> Flush:
    """One pair, whose start is counted now. If it ends the process, it rests while the others go on."""
    if not _affordable(around, [pair]):  # others of this turn may have used up what was left
        return Flush()
    if pair.attempts <= ATTEMPTS:
        until = around.clock() + alone(pair.attempts, around.chance())
        around.database.write(lambda tx: pairs.start(tx, around.tenant.id, around.connection.name, pair, until))
    return _flush(around, [pair])


def _workable(work: Work) -> bool:
    """Whether writing makes sense: Kirim's record is known, and the CRM's could be looked for and was not deleted."""
    if not known_in_kirim(work.pair) or work.pair.attempts > ATTEMPTS or Side.CRM in work.outcomes or work.held:
        return False
    if work.crm is None:
        return work.rules.creates
    return work.crm.exists


def act(around: Surroundings, works: Sequence[Work]) -> ConnectorError | None:
    """Sends what was decided, one side after the other; returns the error that stopped one of them."""
    stopped: ConnectorError | None = None
    for side in Side:
        stopped = _act(around, side, works) or stopped
    return stopped


def _act(around: Surroundings, side: Side, works: Sequence[Work]) -> ConnectorError | None:
    """Sends the writes of one side, a batch a call; every work gets its outcome. To a suspended Kirim nothing is sent:
    what it was to get waits, and the CRM gets what is for it.
    """
    writing = [(work, write) for work in works if _workable(work) and (write := work.write(side)) is not None]
    writing = [(work, write) for work, write in writing if not work.recall(side, side.value, partial(digest, write))]
    if side is Side.KIRIM and around.kirim_suspended is not None:
        for work, _ in writing:
            work.outcomes[side] = around.kirim_suspended
        return None
    stopped: ConnectorError | None = None
    for kind in {work.pair.kind for work, _ in writing}:
        chosen = [(work, write) for work, write in writing if work.pair.kind is kind]
        for batch, call in _calls(around, side, kind, chosen):
            outcomes: Sequence[Outcome] = [Throttled(str(stopped))] * len(batch)
            if stopped is None:
                outcomes, stopped = _send(call, [write for _, write in batch])
            for (work, _), outcome in zip(batch, outcomes, strict=True):
                work.outcomes[side] = outcome
    if side is Side.KIRIM and isinstance(stopped, Suspend):
        return Suspend(str(stopped), stopped.after, endpoint=KIRIM)
    return stopped


def _calls(
    around: Surroundings, side: Side, kind: Kind, chosen: Sequence[Sending]
) -> Iterator[tuple[Sequence[Sending], Call]]:
    """What goes together, and how: a batch to each call, but new records of a run by the thousand in one job."""
    connector = around.tenant.kirim if side is Side.KIRIM else around.connection.connector
    pause, known, new = around.pause, list[Sending](), list[Sending]()
    for work, write in chosen:
        (known if side is Side.KIRIM or work.crm or write.id else new).append((work, write))
    if pause is not None and len(new) in around.loads:
        yield new, lambda writes: connector.load(kind, writes, pause)
        chosen = known
    for batch in portions(chosen, connector.batch_size):
        yield batch, lambda writes: connector.upsert(kind, writes)


def _send(call: Call, writes: Sequence[Write]) -> tuple[Sequence[Outcome], ConnectorError | None]:
    """One outcome for each write, and the error that stops the connection, if the call failed as a whole."""
    crash.point("sync.sending", " ".join(write.external_id for write in writes).encode())
    try:
        outcomes = call(writes)
    except Reject as error:
        return [error] * len(writes), None
    except ConnectorError as error:
        return [Throttled(str(error), error.after if isinstance(error, (Retry, Suspend)) else None)] * len(
            writes
        ), error
    crash.point("sync.answered")
    stopping = (outcome for outcome in outcomes if isinstance(outcome, Suspend))
    return outcomes, next(stopping, None)
