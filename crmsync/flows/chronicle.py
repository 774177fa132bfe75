"""What a flush leaves in the history: a row for every field that was written, and for every one left on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from crmsync.core.decide import Side, Step, Why, moment
from crmsync.errors import Reject, Retry
from crmsync.model import Written
from crmsync.store.history import Entry

if TYPE_CHECKING:
    from crmsync.flows.work import Surroundings, Work

FROZEN = "it went back and forth too often and is frozen from here on"


def entries(around: Surroundings, work: Work, now: datetime) -> Iterable[Entry]:
    """The history of one pair's decision."""
    if work.adopted and work.finding is not None and isinstance(work.outcomes.get(Side.CRM), Written):
        yield _adoption(around, work, now)
    respelled = work.settled.respelled if work.settled else {}
    for step in work.decision.steps:
        outcome, note = told(work, step, respelled)
        if step.rule.name in work.frozen and step.to is not None:
            note = f"{note}; {FROZEN}" if note else FROZEN
        if outcome:
            yield Entry(
                at=now,
                tenant=around.tenant.id,
                connection=around.connection.name,
                kind=work.pair.kind.value,
                kirim_id=work.pair.kirim_id,
                field=step.rule.name,
                side=step.about.value,
                old=step.old,
                new=step.value,
                competing=step.competing,
                rule=step.why.value,
                outcome=outcome,
                cause=work.pair.cause,
                note=note,
                changed_at=_changed_at(work, step),
            )


def _changed_at(work: Work, step: Step) -> datetime | None:
    """When the change was made that the step answers to: by its owner, or by the side that is put right."""
    if step.why in (Why.OPERATOR, Why.CREATED):
        return None
    side = step.about if step.why in (Why.RESTORED, Why.DRIFT) else step.about.other
    view, lens = (work.pair.kirim, step.rule.left) if side is Side.KIRIM else (work.crm, step.rule.right)
    return moment(view.times, lens.names) if view else None


def _adoption(around: Surroundings, work: Work, now: datetime) -> Entry:
    met = work.finding.candidates[0][1] if work.finding else ()
    return Entry(
        at=now,
        tenant=around.tenant.id,
        connection=around.connection.name,
        kind=work.pair.kind,
        kirim_id=work.pair.kirim_id,
        field="",
        side=Side.CRM,
        old=None,
        new=work.crm_id,
        competing=None,
        rule="match",
        outcome="linked",
        cause=work.pair.cause,
        note=f"the same {' and '.join(rule.crm for rule in met)}",
    )


def told(work: Work, step: Step, respelled: Mapping[str, object]) -> tuple[str, str]:
    """What became of a step, in one word, and what is worth adding. An empty word is not worth a row."""
    if step.to in work.remembered:
        return "", ""
    if step.to is None:
        return {Why.EQUAL: "agreed", Why.DRIFT: "reported"}.get(step.why, "left"), ""
    outcome = work.outcomes.get(step.to)
    if isinstance(outcome, Written):
        if refused := sorted(outcome.refused.keys() & step.raw.keys()):
            return "refused", outcome.refused[refused[0]]
        if step.rule.name in respelled:
            return "written", "the platform keeps another value than it was sent"
        return "written", ""
    if isinstance(outcome, Reject):
        guilty = set(outcome.fields) & set(work.decision.writes(step.to))
        innocent = guilty and not guilty & step.raw.keys()
        return ("", "") if innocent else ("refused", str(outcome))  # the others go without it
    if isinstance(outcome, Retry) and outcome.ambiguous:
        return "unanswered", str(outcome)
    return "", ""
