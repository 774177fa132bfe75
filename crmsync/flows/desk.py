"""The matching desk for people: what lies on it, and what they decide, one by one or from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from crmsync.core.masking import masked
from crmsync.errors import CrmsyncError
from crmsync.model import Kind
from crmsync.store import history, matches, records
from crmsync.store.database import Database
from crmsync.store.history import Entry
from crmsync.store.matches import OPERATOR, Choice, Decided, Desk

ACCEPT, REFUSE = "accept", "refuse"
COLUMNS = ("connection", "kind", "kirim_id", "crm_id", "found_by", "decision", "kirim_shows", "crm_shows")
NEEDED = ("connection", "kirim_id", "crm_id", "decision")


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's word: this contact is that record, or it is not. `line` is where it stands in a file."""

    connection: str
    kirim_id: str
    crm_id: str
    accepted: bool
    kind: Kind = Kind.CONTACT
    line: int = 0


@dataclass(slots=True)
class Outcome:
    """What became of decisions: how many were carried out, and why the others were not, by contact and record."""

    done: int = 0
    left: dict[str, str] = field(default_factory=dict)


def overview(tx: Connection, tenant: str, *, unmask: bool, refused: bool = False) -> list[dict[str, Any]]:
    """The candidates, contact by contact, with what both sides hold. Personal values are masked unless asked for."""
    rows = matches.listed(tx, tenant, Choice.REFUSED if refused else Choice.OPEN)
    held: dict[str, Mapping[str, Any]] = {}
    for kind in {row.kind for row in rows}:
        ids = {row.kirim_id for row in rows if row.kind == kind}
        seen = records.views(tx, tenant, records.KIRIM, Kind(kind), ids)
        held |= {id: dict(view.fields) for id, view in seen.items()}
    show = (lambda fields: dict(fields)) if unmask else masked
    return [
        {
            "connection": row.connection,
            "kind": row.kind,
            "kirim_id": row.kirim_id,
            "crm_id": row.crm_id,
            "found_by": row.found_by,
            "choice": row.choice,
            "at": row.at.isoformat(),
            "kirim": show(held.get(row.kirim_id, {})),
            "crm": show(row.shown),
        }
        for row in rows
    ]


def carry_out(database: Database, tenant: str, decisions: Sequence[Decision], clock: Callable[[], datetime]) -> Outcome:
    """Carries decisions out, each by itself: one that comes too late does not hold up the others."""
    outcome = Outcome()
    for decision in decisions:
        decided = database.write(lambda tx, decision=decision: _decide(tx, tenant, decision, clock()))  # type: ignore[misc]
        if decided is Decided.DONE:
            outcome.done += 1
        else:
            outcome.left[f"{decision.kirim_id} {decision.crm_id}"] = WORDS[decided]
    return outcome


WORDS: Mapping[Decided, str] = {
    Decided.UNKNOWN: "is not on the desk",
    Decided.TAKEN: "the record belongs to another contact by now",
    Decided.LINKED: "the contact has a record by now",
}


def _decide(tx: Connection, tenant: str, decision: Decision, now: datetime) -> Decided:
    desk = Desk(tenant, decision.connection, decision.kind)
    act = matches.accept if decision.accepted else matches.refuse
    decided = act(tx, desk, decision.kirim_id, decision.crm_id, now)
    if decided is Decided.DONE:
        said = "accepted" if decision.accepted else "refused"
        history.add(tx, [_entry(tenant, decision, said, now)])
    return decided


def _entry(tenant: str, decision: Decision, outcome: str, now: datetime) -> Entry:
    return Entry(
        at=now,
        tenant=tenant,
        connection=decision.connection,
        kind=decision.kind,
        kirim_id=decision.kirim_id,
        field="",
        side="crm",
        old=None,
        new=decision.crm_id,
        competing=None,
        rule="match",
        outcome=outcome,
        cause=OPERATOR,
    )


def to_csv(candidates: Iterable[Mapping[str, Any]]) -> str:
    """The desk as a file: fill in `accept` or `refuse` under `decision`, and give it back."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for each in candidates:
        writer.writerow(
            {
                **{name: each[name] for name in ("connection", "kind", "kirim_id", "crm_id", "found_by")},
                "decision": "",
                "kirim_shows": _line(each["kirim"]),
                "crm_shows": _line(each["crm"]),
            }
        )
    return text.getvalue()


def of_csv(text: str, name: str) -> list[Decision]:
    """The decisions in a file; rows without one are passed over. Raises `CrmsyncError` with every wrong line."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    missing = [column for column in NEEDED if column not in (reader.fieldnames or ())]
    if missing:
        raise CrmsyncError(f"{name}:1: no column {', '.join(missing)}; `crmsync match list --csv` writes such a file")
    decisions, wrong = [], []
    for row in reader:
        word = (row["decision"] or "").strip().lower()
        kind = (row.get("kind") or Kind.CONTACT).strip()
        if not word:
            continue
        if word not in (ACCEPT, REFUSE):
            wrong.append(f"{name}:{reader.line_num}: decision: “{word}” is neither {ACCEPT} nor {REFUSE}")
        elif kind not in list(Kind):
            wrong.append(f"{name}:{reader.line_num}: kind: “{kind}” is none of {', '.join(Kind)}")
        else:
            connection, contact, record = ((row[column] or "").strip() for column in NEEDED[:3])
            decisions.append(Decision(connection, contact, record, word == ACCEPT, Kind(kind), reader.line_num))
    for twice in _accepted_twice(decisions):
        wrong.append(f"{name}:{twice.line}: {twice.kirim_id} is accepted twice; it is one record, or none")
    if wrong:
        raise CrmsyncError("\n".join(wrong))
    return decisions


def _accepted_twice(decisions: Iterable[Decision]) -> list[Decision]:
    seen: set[tuple[str, str]] = set()
    twice = []
    for decision in decisions:
        if decision.accepted:
            key = (decision.connection, decision.kirim_id)
            if key in seen:
                twice.append(decision)
            seen.add(key)
    return twice


def _line(fields: Mapping[str, Any]) -> str:
    """Fields in one cell. Spreadsheets take some first letters for formulas: an apostrophe keeps them text."""
    text = "; ".join(f"{name}: {value}" for name, value in sorted(fields.items()) if value not in (None, "", [], ()))
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
