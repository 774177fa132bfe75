"""What a flush leaves in the history: every field that was written, and every one left on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from crmsync.core.decide import Side, Step, Why, moment
from crmsync.errors import Reject, Retry
from crmsync.model import Written
from crmsync.store.columns import microseconds
from crmsync.store.history import Row, Told, row

if TYPE_CHECKING:
    from crmsync.flows.work import Surroundings, Work

FROZEN = "it went back and forth too often and is frozen from here on"


def told(around: Surroundings, work: Work, now: datetime) -> Sequence[Row]:
    """The history of one pair's decision, in one row; none where nothing is worth telling."""
    steps = [_adoption(work)] if work.adopted and isinstance(work.outcomes.get(Side.CRM), Written) else []
    respelled = work.settled.respelled if work.settled else {}
    for step in work.decision.steps:
        name = step.rule.name
        outcome, note = became(work, step, respelled)
        if name in work.frozen and step.to is not None:
            note = f"{note}; {FROZEN}" if note else FROZEN
        if outcome:
            changed_at = _changed_at(work, step)
            steps.append((name, step.about, step.old, step.value, step.competing, step.why, outcome, note, changed_at))
    pair = work.pair
    where = (around.tenant.id, around.connection.name, pair.kind.value, pair.kirim_id, pair.cause)
    return [row(now, *where, steps)] if steps else []


def _changed_at(work: Work, step: Step) -> int | None:
    """When the change was made that the step answers to: by its owner, or by the side that is put right."""
    if step.why in (Why.OPERATOR, Why.CREATED):
        return None
    side = step.about if step.why in (Why.RESTORED, Why.DRIFT) else step.about.other
    view, lens = (work.pair.kirim, step.rule.left) if side is Side.KIRIM else (work.crm, step.rule.right)
    at = moment(view.times, lens.names) if view else None
    return None if at is None else microseconds(at)


def _adoption(work: Work) -> Told:
    """The link to a record that was found to be the same person's."""
    met = work.finding.candidates[0][1] if work.finding else ()
    note = f"the same {' and '.join(rule.crm for rule in met)}"
    return ("", Side.CRM, None, work.crm_id, None, "match", "linked", note, None)


def became(work: Work, step: Step, respelled: Mapping[str, object]) -> tuple[str, str]:
    """What became of a step, in one word, and what is worth adding. An empty word is not worth a row."""
    if step.to in work.remembered:
        return "", ""
    if step.to is None:
        return {Why.EQUAL: "agreed", Why.DRIFT: "reported"}.get(step.why, "left"), ""
    outcome = work.outcomes.get(step.to)
    if isinstance(outcome, Written):
        if outcome.refused and (refused := sorted(outcome.refused.keys() & step.raw.keys())):
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
