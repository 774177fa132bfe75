"""What an endpoint is known to hold, and what an observation changes about that. Order and duplicates do not matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from crmsync.core.values import value
from crmsync.model import Fields, Record

Times = Mapping[str, datetime | None]
NO_TIMES: Times = MappingProxyType({})


class Source(StrEnum):
    """How we came to know: `TOLD` by an event or a page of a feed, `READ` as the answer to a request of ours."""

    TOLD = "told"
    READ = "read"


class Verdict(StrEnum):
    """What an observation meant."""

    NEW = "new"  # the record was not known
    CHANGED = "changed"
    SAME = "same"  # a duplicate, or the echo of our own write
    OLD = "old"  # older than what is known: recorded and ignored
    UNCLEAR = "unclear"  # same version, other content: the record has to be read


@value
class View:
    """One record as its endpoint was last seen to hold it.

    `times` says when a field changed, by the platform's own version of the record that was the first to show it; under
    the empty name, that of all fields which were there when the record was first seen. None is a change that came
    without a version. `cause` is what its last real change was learned from.
    """

    id: str
    fields: Fields
    version: datetime | None = None
    external_id: str | None = None
    exists: bool = True
    times: Times = field(default_factory=lambda: NO_TIMES, compare=False)
    cause: str = field(default="", compare=False)


def observe(view: View | None, record: Record, source: Source, basis: View | None = None) -> tuple[View, Verdict]:
    """The view after an observation, and what it meant. Keys that the record lacks keep what was known.

    `basis` is the view that a reading or a write set out from. If the view moved meanwhile, what came back may be
    older than what is known by now, and has to prove that it is newer like anything that we are told.
    """
    if view is None:
        times = {"": record.version}
        fresh = View(record.id, dict(record.fields), record.version, record.external_id, not record.archived, times)
        return fresh, Verdict.NEW
    if _older(record, view):
        return view, Verdict.OLD
    seen = replace(
        view,
        fields={**view.fields, **record.fields},
        version=record.version or view.version,
        external_id=record.external_id or view.external_id,
        exists=not record.archived,
    )
    if (seen.fields, seen.external_id, seen.exists) == (view.fields, view.external_id, view.exists):
        return seen, Verdict.SAME
    overtaken = basis is not None and basis != view
    if (source is Source.TOLD or overtaken) and not _newer(record, view):
        return _unclear(view, seen, record) if source is Source.TOLD else (view, Verdict.UNCLEAR)
    return replace(seen, times=_times(view, record)), Verdict.CHANGED


def _unclear(view: View, seen: View, record: Record) -> tuple[View, Verdict]:
    """Said at the same version as something else: a reading will tell. Where none can, the last word counts."""
    last = {name: record.fields[name] for name in record.told_only if name in record.fields}
    believed = replace(view, fields={**view.fields, **last})
    if believed.fields == view.fields:
        return view, Verdict.UNCLEAR
    believed = replace(believed, times=_times(view, replace(record, fields=last)))
    whole = (believed.fields, believed.external_id, believed.exists) == (seen.fields, seen.external_id, seen.exists)
    return believed, Verdict.CHANGED if whole else Verdict.UNCLEAR


def _times(view: View, record: Record) -> Times:
    """When each field changed, after an observation that is newer."""
    known = view.fields
    moved = (name for name, value in record.fields.items() if name not in known or known[name] != value)
    return {**view.times, **dict.fromkeys(moved, record.version)}


def _older(record: Record, view: View) -> bool:
    return record.version is not None and view.version is not None and record.version < view.version


def _newer(record: Record, view: View) -> bool:
    """Whether the platform's own version says that the record moved since."""
    return record.version is not None and (view.version is None or record.version > view.version)
