"""Named places where a test may end the process, as a power cut would: no clean-up, nothing flushed, nothing said.

`CRMSYNC_CRASH_AT=<name>:<nth>` ends it the nth time (default: the first) that a thread comes to that point.
`CRMSYNC_CRASH_ON=<text>` counts only the times that what is worked on contains the text, at points that tell. Both
are read once, at import. Unset, a point does nothing. `POINTS` names them all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from types import MappingProxyType
from typing import Final, NamedTuple

STATUS = 137
"""What a shell shows for a process that was killed by SIGKILL."""

POINTS: Mapping[str, str] = MappingProxyType(
    {
        # intake
        "hook.head": "a delivery's headers are read",
        "hook.body": "its body is read, and not verified",
        "hook.verified": "it is verified, and nothing of it is stored",
        "inbox.insert": "a group of deliveries is about to be inserted",
        "inbox.inserted": "it is inserted and not committed (PostgreSQL; on SQLite one statement is both)",
        "inbox.committed": "it is committed, and nobody was answered",
        "hook.answer": "the answer is known and not sent",
        "hook.answered": "the answer is handed to the socket",
        "quarantine.promoting": "a proved request is in the inbox and still in quarantine, uncommitted",
        # work
        "lane.turn": "a worker has a lane, and has begun nothing",
        "observe.counted": "the attempts of deliveries are committed, and none is parsed",
        "observe.parse": "a delivery is about to be parsed (tells: its body)",
        "observe.storing": "items are observed, and no delivery has ended, uncommitted",
        "observe.dying": "a delivery is dead, uncommitted",
        "observe.stored": "the ends of deliveries are committed",
        "reread.counted": "the attempts of stale records are committed, and none is read",
        "reread.fetch": "stale records are about to be read (tells: their ids)",
        "reread.answered": "stale records are read, and nothing is stored",
        "reread.stored": "what was read is committed",
        "poll.answered": "a page is read, and nothing of it is stored",
        "poll.storing": "the rows of a page are stored, and its cursor is not, uncommitted",
        "poll.stored": "rows and cursor are committed",
        "sync.counted": "the attempts of pairs are committed, and nothing is asked or sent",
        "sync.sending": "a batch is about to be sent (tells: its external ids)",
        "sync.answered": "a batch is answered, and no outcome is stored",
        "sync.storing": "the views of a batch's outcomes are stored, and no link or end, uncommitted",
        "sync.linked": "the links and the ends of a batch are stored, uncommitted",
        "sync.stored": "the outcomes of a batch are committed",
        "log.counted": "the attempts of timeline entries are committed, and nothing is asked or sent",
        "log.asking": "Kirim is about to be asked whose a number is",
        "log.sending": "entries are about to be sent (tells: their keys)",
        "log.answered": "entries are answered, and no outcome is stored",
        "log.stored": "the outcomes of entries are committed",
        "apply.counted": "the attempts of approved items are committed, and nothing is asked or sent",
        "segment.sending": "a chunk of contacts is about to get or lose a label",
        "segment.answered": "Kirim took a chunk, and that is not stored",
        "segment.stored": "a chunk that Kirim took is remembered, committed",
        "backfill.answered": "a page of a backfill is read, and nothing of it is stored",
        "backfill.storing": "the rows of a page are stored, and the place behind it is not, uncommitted",
        "backfill.stored": "rows and place are committed",
        "reconcile.answered": "a page of a reconciliation is read, and nothing of it is stored",
        # chores
        "schedule.claimed": "a planned moment is claimed, and nothing made due, uncommitted",
        "dead.changing": "dead letters are made due again or dropped, uncommitted",
        "dead.changed": "dead letters are made due again or dropped, committed, and nobody was told",
        # subscription, and rotation of its secrets
        "subscribe.asking": "the key of the request for a subscription is on disk, and the request is not sent",
        "subscribe.created": "the subscription is made, and its secret is stored nowhere",
        "rotate.begun": "the journal of a rotation is written, and Kirim was asked for nothing",
        "rotate.created": "Kirim made a secret, and it is stored nowhere",
        "rotate.stored": "the new secret is in the file, and the journal does not say so",
        "rotate.proved": "deliveries verified under the new secret, and nothing is deleted",
        "rotate.deleted": "an old secret is deleted at Kirim",
        "rotate.finished": "every old secret is deleted at Kirim, and all are in the file",
        "rotate.dropped": "the old secrets are out of the file, and the journal is still there",
        # process
        "migrate.step": "one revision of the schema is applied, uncommitted",
        "migrate.done": "every revision is applied, uncommitted",
        "drain.begun": "no new work is begun, and what is on its way has not ended",
        "drain.ended": "all work came to an end, and the store is open",
        "store.closing": "the last transaction is done; SQLite's log is not folded into the file",
    }
)


class _Armed(NamedTuple):
    name: str
    on: bytes
    turns: Iterator[int]
    nth: int


def _read(environ: Mapping[str, str]) -> _Armed | None:
    name, _, nth = environ.get("CRMSYNC_CRASH_AT", "").partition(":")
    if not name:
        return None
    if name not in POINTS or not (nth or "1").isdecimal():
        sys.exit(f"CRMSYNC_CRASH_AT names no point of crmsync.crash: {name}")
    return _Armed(name, environ.get("CRMSYNC_CRASH_ON", "").encode(), count(1), int(nth or 1))


_ARMED: Final = _read(os.environ)


def point(name: str, about: bytes = b"") -> None:
    """Ends the process here if this is the point and the time that was asked for. `about` is what is worked on."""
    if _ARMED is not None and _ARMED.name == name and _ARMED.on in about and next(_ARMED.turns) == _ARMED.nth:
        os._exit(STATUS)
