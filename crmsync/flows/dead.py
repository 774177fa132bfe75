"""Dead letters for people: the list, one letter whole with advice, and trying again or letting be.

Personal values are masked unless the caller says otherwise. What is done is done in short transactions: a hundred
thousand letters hold nobody up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

import orjson
from sqlalchemy import Connection

from crmsync import crash
from crmsync.connecting.pages import portions
from crmsync.core.masking import masked, masked_body, plain_body
from crmsync.core.trouble import Refusal, advice
from crmsync.model import Kind
from crmsync.store import census, dead, messages, records
from crmsync.store.database import Database
from crmsync.store.dead import Form, Letter, Name, Wanted, Whole

EVERY = 1_000_000
AT_ONCE = 100
"""Letters in one transaction."""
TOLD = 100
"""Letters about one id; there is at most one for each connection."""


class Action(StrEnum):
    """What may be done with letters."""

    RETRY = "retry"
    DROP = "drop"


@dataclass(slots=True)
class Outcome:
    """What became of letters: done; left alone, with what they are instead of dead; and names of nothing."""

    done: int = 0
    names: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def overview(tx: Connection, wanted: Wanted, limit: int) -> dict[str, Any]:
    """The youngest letters, and how many there are of each reason."""
    counted = dead.counts(tx, wanted)
    return {
        "total": sum(counted.values()),
        "counts": [
            {"tenant": tenant, "place": place, "form": form, "reason": reason, "count": count}
            for (tenant, place, form, reason), count in sorted(counted.items())
        ],
        "dead": [_line(letter) for letter in dead.letters(tx, wanted, limit)],
    }


def count(tx: Connection, wanted: Wanted) -> int:
    """How many letters there are."""
    return sum(dead.counts(tx, wanted).values())


def show(tx: Connection, text: str, *, unmask: bool) -> list[dict[str, Any]]:
    """The letters of a name, or about an id, each with its payload, what was sent and answered, and advice."""
    return [_told(tx, letter, unmask) for letter in _found(tx, text)]


def names(tx: Connection, wanted: Wanted) -> list[str]:
    """Every letter that is wanted, by name."""
    return [str(letter.name) for letter in dead.letters(tx, wanted, EVERY)]


def act(
    database: Database, action: Action, names: Sequence[str], clock: Callable[[], datetime], *, force: bool = False
) -> Outcome:
    """Tries letters again, or drops them. Doing it twice does it once, and says so.

    `force` tries again also what is not dead: the items of a delivery count as new once more.
    """
    outcome = Outcome()
    for some in portions(names, AT_ONCE):
        part = database.write(partial(_act, action=action, names=some, force=force, now=clock()))
        crash.point("dead.changed")
        _merge(outcome, part)
    return outcome


def _act(tx: Connection, action: Action, names: Sequence[str], force: bool, now: datetime) -> Outcome:
    outcome = Outcome()
    for text in names:
        found = _found(tx, text)
        for letter in found:
            _act_on(tx, action, letter, now, outcome)
        if not found:
            _act_on_other(tx, action, text, force, now, outcome)
    crash.point("dead.changing")
    return outcome


def _act_on(tx: Connection, action: Action, letter: Letter, now: datetime, outcome: Outcome) -> None:
    if action is Action.DROP:
        dead.drop(tx, letter, now)
    elif not dead.retry(tx, letter.name, now):
        outcome.left[str(letter.name)] = "no longer kept"
        return
    outcome.done += 1
    outcome.names.append(str(letter.name))


def _act_on_other(tx: Connection, action: Action, text: str, force: bool, now: datetime, outcome: Outcome) -> None:
    """What is named and not dead: perhaps it was, and somebody was here before."""
    name = _named(text)
    word = dead.state(tx, name) if name else ""
    if not name or not word:
        outcome.unknown.append(text)
    elif force and action is Action.RETRY and dead.retry(tx, name, now):
        outcome.done += 1
        outcome.names.append(str(name))
    else:
        outcome.left[text] = word


def _merge(whole: Outcome, part: Outcome) -> None:
    whole.done += part.done
    whole.names += part.names
    whole.left.update(part.left)
    whole.unknown += part.unknown


def _named(text: str) -> Name | None:
    """A name in the list, or a delivery's number alone."""
    return Name.parse(text) or (Name.parse(f"{Form.DELIVERY}/{text}") if text.isdecimal() else None)


def _found(tx: Connection, text: str) -> list[Letter]:
    """The letter of that name, or the letters about what has that id."""
    name = _named(text)
    if name is None:
        return dead.ending_in(tx, text, TOLD)
    letter = dead.named(tx, name)
    return [letter] if letter else []


def _line(letter: Letter) -> dict[str, Any]:
    return {
        "id": str(letter.name),
        "form": letter.name.form.value,
        "tenant": letter.tenant,
        "place": letter.place,
        "reason": letter.reason,
        "since": letter.at.isoformat(timespec="milliseconds"),
        "about": letter.about,
        "error": letter.error,
    }


def _told(tx: Connection, letter: Letter, unmask: bool) -> dict[str, Any]:
    rest = dead.whole(tx, letter.name)
    payload = _payload(tx, letter, rest)
    if rest.body is not None:
        payload = plain_body(rest.body) if unmask else masked_body(rest.body)
    elif not unmask:
        payload = masked(payload)
    return {
        **_line(letter),
        "attempts": rest.attempts,
        "received_at": rest.received_at.isoformat(timespec="milliseconds") if rest.received_at else None,
        "record": rest.crm_id,
        "cause": rest.cause,
        "payload": payload,
        "requests": [_request(side, refusal) for side, refusal in rest.trouble.refusals.items()],
        "advice": advice(letter.reason),
    }


def _payload(tx: Connection, letter: Letter, rest: Whole) -> Any:
    """What both sides are known to hold of a pair, or an endpoint of a record."""
    name = letter.name
    if name.form is Form.PAIR:
        rows = census.of_pair(tx, letter.tenant, letter.place, Kind(name.kind), name.key, rest.crm_id)
        return {row.endpoint: dict(row.fields) for row in rows}
    if name.form is Form.READING:
        held = records.views(tx, letter.tenant, letter.place, Kind(name.kind), [name.key])
        return [dict(view.fields) for view in held.values()]
    if name.form is Form.ENTRY and rest.message is not None:
        kept = messages.messages(tx, letter.tenant, [rest.message]).get(rest.message)
        return orjson.loads(orjson.dumps(asdict(kept.message))) if kept else None
    return None


def _request(side: str, refusal: Refusal) -> dict[str, Any]:
    """What was sent to a side in the end, and what came back."""
    return {
        "to": side,
        "fields_sent": list(refusal.sent),
        "answer": refusal.answer,
        "fields_refused": list(refusal.guilty),
        "in_the_way": refusal.candidate,
    }
