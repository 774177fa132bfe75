"""The verdict of the demonstration, from what the two platforms hold and what their ledgers say.

The daemon's own database is not asked. What each figure means stands at its attribute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import orjson

from crmsync.sandbox.crm import Crm
from crmsync.sandbox.fields import FIELDS, Side, in_kirim, kirim_values
from crmsync.sandbox.kirim import KirimEmulator
from crmsync.sandbox.ledger import Effect
from crmsync.sandbox.timeline import Crossing, Key, Timeline

Window = tuple[datetime, datetime]
MOST_FINDINGS = 10
READING = ("/batch/read", "/search", "/oauth2/token")
"""How the CRM's calls end that are sent with POST and change nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a story."""

    crm: str
    """The CRM's name."""
    contacts: int
    """Contacts in Kirim, each of which has to be one record in the CRM."""
    fields_compared: int
    """Contacts times mapped fields."""
    fields_agreed: int
    """Fields that hold the same value on both sides, namely the last one that people gave it on the side that owns
    it (for a field that only the other side ever filled: the value the record was created with)."""
    events_acknowledged: int
    """Kirim's events, each counted once however often it was delivered, that the daemon answered with 2xx."""
    crm_events_acknowledged: int
    """The same of the CRM's webhooks."""
    events_undelivered: int
    """Kirim's events that the daemon did not take."""
    events_lost: int
    """Acknowledged events of either side whose field has not agreed, or whose contact has no record."""
    duplicates: int
    """CRM records too many for a Kirim contact, CRM records that neither a person made nor a Kirim contact stands
    behind, and contacts that were made in Kirim."""
    echo_writes: int
    """Writes (each field for itself) that changed nothing, that went to the side which owns the field, or whose value
    was not the owner's (any more); anything written to the CRM's other records; anything after quiet. A field that is
    written twice without a person's doing in between cannot escape: the second write changes nothing."""
    writes_after_quiet: int
    """Of the above: effects of any kind after both platforms had become quiet."""
    crm_calls: int
    """Every request to the CRM's API, refused ones included."""
    crm_write_calls: int
    kirim_calls: int
    kirim_write_calls: int
    edits_kirim: int
    """What people did in Kirim, creations included."""
    edits_crm: int
    crm_writes: int
    """Records created or changed in the CRM by the daemon."""
    kirim_writes: int
    restored: int
    """Fields that were changed on the side that does not own them."""
    respelled: int
    """Edits that only changed the spelling: nothing had to be written."""
    edits_measured: int
    p50_ms: float | None
    """From an edit (or a creation) on the owning side to the moment the other platform applied it, or a later value
    of the same field. Edits whose way led through the outage are left out; those in disorderly weather are in."""
    p95_ms: float | None
    to_crm_p50_ms: float | None
    to_kirim_p50_ms: float | None
    outage_seconds: float
    recovery_seconds: float
    """From the end of the outage until the last edit that had waited for it was applied."""
    peak_lag_seconds: float
    """The longest time for which any field was seen to differ, outage included."""
    settled: bool
    """Whether both platforms became quiet before patience ended."""
    findings: tuple[str, ...] = ()
    """Some of what is wrong, in detail: the people of the demonstration are invented, so values may be shown."""

    @property
    def agreed(self) -> bool:
        """Whether nothing is left to be said against it."""
        return not self.complaints()

    def complaints(self) -> list[str]:
        """What is wrong, one plain phrase each."""
        found = [
            (self.fields_compared - self.fields_agreed, "field differs", "fields differ"),
            (self.events_lost, "acknowledged event was lost", "acknowledged events were lost"),
            (self.events_undelivered, "event was not taken", "events were not taken"),
            (self.duplicates, "record is a duplicate", "records are duplicates"),
            (self.echo_writes, "write was an echo", "writes were echoes"),
        ]
        told = [f"{count:,} {one if count == 1 else many}" for count, one, many in found if count]
        return told if self.settled else [*told, "the platforms did not become quiet in time"]

    def to_json(self) -> dict[str, Any]:
        """Every figure, by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the story knows beside the platforms."""

    outage: Window | None
    quiet_at: datetime | None
    settled: bool
    respelled: int
    peak_lag: float


def judge(kirim: KirimEmulator, crm: Crm, around: Circumstances) -> Verdict:
    """Compares everything with everything."""
    return _Judge(kirim, crm, around).verdict()


class _Judge:
    def __init__(self, kirim: KirimEmulator, crm: Crm, around: Circumstances) -> None:
        self.kirim = kirim
        self.crm = crm
        self.around = around
        self.here = in_kirim(kirim)
        self.there = crm.held()
        self.line = Timeline.read(kirim, crm)
        self.agreed = {(id, field.kirim) for id in self.here for field in FIELDS if self._agrees(id, (id, field.kirim))}

    def verdict(self) -> Verdict:
        around, outage = self.around, self.around.outage
        told, crm_told = self._told_by_kirim(), self._told_by_crm()
        crossings = [one for trail in self.line.trails.values() for one in trail.crossings()]
        measured = [one for one in crossings if not _led_through(one, outage)]
        late = self._after_quiet()
        return Verdict(
            crm=self.crm.title,
            contacts=len(self.here),
            fields_compared=len(self.here) * len(FIELDS),
            fields_agreed=len(self.agreed),
            events_acknowledged=len(told),
            crm_events_acknowledged=len(crm_told),
            events_undelivered=len({one.event_id for one in self.kirim.deliveries()} - told.keys()),
            events_lost=sum(not self.agreed.issuperset(keys) for keys in (*told.values(), *crm_told.values())),
            duplicates=self._duplicates(),
            echo_writes=self._echoes() + late,
            writes_after_quiet=late,
            crm_calls=self.crm.emulator.calls.total(),
            crm_write_calls=write_calls(self.crm.emulator.calls),
            kirim_calls=self.kirim.calls.total(),
            kirim_write_calls=write_calls(self.kirim.calls),
            edits_kirim=len(self.kirim.human),
            edits_crm=len(self.crm.human),
            crm_writes=len(self.crm.emulator.ledger),
            kirim_writes=len(self.kirim.ledger),
            restored=sum(trail.restored() for trail in self.line.trails.values()),
            respelled=around.respelled,
            edits_measured=len(measured),
            p50_ms=percentile(_milliseconds(measured), 0.5),
            p95_ms=percentile(_milliseconds(measured), 0.95),
            to_crm_p50_ms=percentile(_milliseconds(measured, Side.CRM), 0.5),
            to_kirim_p50_ms=percentile(_milliseconds(measured, Side.KIRIM), 0.5),
            outage_seconds=round((outage[1] - outage[0]).total_seconds(), 1) if outage else 0.0,
            recovery_seconds=_recovery(crossings, outage) if outage else 0.0,
            peak_lag_seconds=round(around.peak_lag, 1),
            settled=around.settled,
            findings=tuple(islice(self._findings(), MOST_FINDINGS)),
        )

    def _findings(self) -> Iterator[str]:
        for key in sorted({(id, field.kirim) for id in self.here for field in FIELDS} - self.agreed):
            records = self.there.get(key[0], {})
            held = ", ".join(f"record {record} {told[key[1]]!r}" for record, told in records.items()) or "no record"
            trail = self.line.trails.get(key)
            yield f"{key[0]} {key[1]}: Kirim {self.here[key[0]][key[1]]!r}, {held}; {trail or 'never moved'}"
        yield from (f"uncalled: {id} {trail}" for (id, _), trail in self.line.trails.items() if trail.uncalled())
        for effect, name in self.line.idle:
            trails = (trail for (id, field), trail in self.line.trails.items() if field == name and id in _ids(effect))
            yield f"changed nothing: {effect.at:%T.%f} {_ids(effect)} {name} {'; '.join(map(str, trails))}"
        yield from (f"strange: {effect.verb} of {_ids(effect)}" for effect in self.line.strange)

    def _agrees(self, id: str, key: Key) -> bool:
        """Whether both sides hold what the owner's people said last."""
        expected = self.line.trails[key].expected() if key in self.line.trails else None
        records = self.there.get(id, {})
        return bool(records) and all(held[key[1]] == expected for held in (self.here[id], *records.values()))

    def _told_by_kirim(self) -> Mapping[str, set[Key]]:
        """Every acknowledged event, and the fields it spoke of."""
        return {one.event_id: set(_fields_told(orjson.loads(one.body)["data"])) for one in self.kirim.acknowledged}

    def _told_by_crm(self) -> Mapping[object, set[Key]]:
        """The same of the CRM. Events of records that no Kirim contact stands behind speak of nothing."""
        ids = {record: id for id, records in self.there.items() if id for record in records}
        told: dict[object, set[Key]] = {}
        for event, (record, name) in self.crm.told().items():
            id, field = ids.get(record), self.crm.by_name.get(name)
            told[event] = {(id, field.kirim)} if id and field else set()
        return told

    def _duplicates(self) -> int:
        twice = sum(len(records) - 1 for id, records in self.there.items() if id)
        by_hand = {effect.record_id for effect in self.crm.human.effects("create")}
        unpaired = {record for id, records in self.there.items() if id not in self.here for record in records}
        return twice + len(unpaired - by_hand) + len(self.kirim.ledger.effects("create"))

    def _echoes(self) -> int:
        uncalled = sum(trail.uncalled() for trail in self.line.trails.values())
        return uncalled + len(self.line.idle) + len(self.line.strange)

    def _after_quiet(self) -> int:
        at = self.around.quiet_at
        ledgers = (self.kirim.ledger, self.crm.emulator.ledger)
        return sum(effect.at > at for ledger in ledgers for effect in ledger) if at else 0


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least this share does not exceed, to a tenth; None where there is none."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1) if ordered else None


def write_calls(calls: Mapping[str, int]) -> int:
    """How many of the calls, counted by method and route, could change something."""
    return sum(count for route, count in calls.items() if not route.startswith("GET ") and not route.endswith(READING))


def _ids(effect: Effect) -> tuple[str | None, ...]:
    return effect.record_id, effect.external_id


def _fields_told(data: Mapping[str, Any]) -> Iterator[Key]:
    """What an event speaks of: of a new contact every field, of a changed one those that are named."""
    contact, changed = data["contact"], data.get("changed_fields")
    for field, _ in kirim_values(contact):
        if changed is None or field.kirim.partition(".")[0] in changed:
            yield contact["id"], field.kirim


def _led_through(one: Crossing, outage: Window | None) -> bool:
    """Whether any of the way from the edit to its effect was during the outage."""
    return outage is not None and one.made <= outage[1] and one.applied >= outage[0]


def _milliseconds(crossings: Sequence[Crossing], to: Side | None = None) -> Iterator[float]:
    return ((one.applied - one.made).total_seconds() * 1000 for one in crossings if to in (None, one.to))


def _recovery(crossings: Sequence[Crossing], outage: Window) -> float:
    """Seconds from the end of the outage to the last effect that had waited for it."""
    waited = [one.applied for one in crossings if _led_through(one, outage)]
    return round(max(0.0, (max(waited, default=outage[1]) - outage[1]).total_seconds()), 1)
