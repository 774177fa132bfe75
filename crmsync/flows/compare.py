"""What a reconciliation finds of pairs, from the views and from what was seen beside them. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from crmsync.core.compare import DRIFT, Standing, standings
from crmsync.core.mapping import Rules
from crmsync.core.views import Source, View
from crmsync.core.views import observe as judge
from crmsync.flows.tenant import Tenant
from crmsync.flows.work import pair_view
from crmsync.model import Kind, Record
from crmsync.store import pairs, records, sightings
from crmsync.store.pairs import Taken
from crmsync.store.records import KIRIM
from crmsync.store.runs import Run


class What(StrEnum):
    """How it stands with a pair, or with a record that has none."""

    AGREE = "agree"
    DIFFER = "differ"
    IN_FLIGHT = "in_flight"  # a change is on its way: it is not judged
    MISSING_LEFT = "missing_left"  # the CRM has it, and Kirim has not, or not any more
    MISSING_RIGHT = "missing_right"  # Kirim has it, and the CRM never had
    STALE_LINK = "stale_link"  # linked to a CRM record that is gone, or a CRM record that names another pair's contact
    UNLINKED = "unlinked"  # a CRM record that has nothing to do with Kirim
    GONE = "gone"  # on neither side


DRIFTED = frozenset({What.DIFFER, What.MISSING_LEFT, What.MISSING_RIGHT, What.STALE_LINK})


@dataclass(frozen=True, slots=True)
class Finding:
    """One pair or record, and its fields where both sides have it."""

    what: What
    kirim_id: str | None
    crm_id: str | None
    fields: Mapping[str, Standing] = field(default_factory=dict)

    @property
    def drifted(self) -> bool:
        """Whether the two sides are not as the rules want them."""
        return self.what in DRIFTED

    @property
    def worth_telling(self) -> bool:
        """Whether people want to know which one it is."""
        return self.what not in (What.AGREE, What.GONE, What.DIFFER)


def compare(
    tx: Connection, tenant: Tenant, run: Run, name: str, kind: Kind, found: Sequence[Any], *, seen: bool = True
) -> list[Finding]:
    """These pairs of a connection, with both ends as they were seen; else only as they are known."""
    if not found:
        return []
    connection = tenant.connections[name]
    taken = pairs.pairs(tx, tenant.id, name, kind, [row.kirim_id for row in found])
    kirim = sightings.seen(tx, run, KIRIM, kind, [pair.kirim_id for pair in taken] if seen else ())
    crm = sightings.seen(tx, run, name, kind, [pair.crm_id for pair in taken if pair.crm_id] if seen else ())
    findings = []
    for pair in taken:
        ends = _now(pair.kirim, kirim.get(pair.kirim_id)), _now(pair.crm, crm.get(pair.crm_id or ""))
        on_its_way = bool(pair.revision) and connection.live
        findings.append(
            Finding(What.IN_FLIGHT, pair.kirim_id, pair.crm_id)
            if on_its_way
            else _compared(connection.rules[kind], pair, *ends)
        )
    return findings


def _now(view: View | None, seen: tuple[Record, bool] | None) -> View | None:
    """What is known of a record, together with what was seen of it."""
    if seen is None:
        return view
    record, read = seen
    return judge(view, record, Source.READ if read else Source.TOLD)[0]


def _compared(rules: Rules, pair: Taken, kirim: View | None, crm: View | None) -> Finding:
    def found(what: What, fields: Mapping[str, Standing] | None = None) -> Finding:
        return Finding(what, pair.kirim_id, pair.crm_id, fields or {})

    here, there = kirim is not None and kirim.exists, crm is not None and crm.exists
    if not here:
        return found(What.MISSING_LEFT if there else What.GONE)
    if not there:
        return found(What.STALE_LINK if pair.crm_id else What.MISSING_RIGHT if rules.creates else What.GONE)
    held = kirim.fields if kirim else {}
    of = standings(rules, pair_view(held, kirim, crm, pair.base, pair.noted, pair.rulings))
    return found(What.DIFFER if DRIFT & set(of.values()) else What.AGREE, of)


def missing(
    tx: Connection, tenant: Tenant, run: Run, name: str, kind: Kind, endpoint: str, ids: Sequence[str]
) -> list[Finding]:
    """Records that were seen on one side and have no pair on a connection."""
    if not ids:
        return []
    known = records.views(tx, tenant.id, endpoint, kind, ids)
    seen = sightings.seen(tx, run, endpoint, kind, ids)
    creates = tenant.connections[name].rules[kind].creates
    findings = []
    for id in ids:
        view = _now(known.get(id), seen.get(id))
        if view is None or not view.exists:
            continue
        if endpoint == KIRIM:
            findings.append(Finding(What.MISSING_RIGHT if creates else What.GONE, id, None))
        elif view.external_id:
            findings.append(Finding(What.STALE_LINK, view.external_id, id))
        else:
            findings.append(Finding(What.UNLINKED, None, id))
    return findings
