"""Walks both sides to their ends and compares them. Only afterwards, and only if asked to, what differs is made due.

What the walk sees is kept beside the views, so that a look has no consequence and nothing is healed before it is known
how much there is. A record that a walk did not show is asked for by its id before it is called missing: pages move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from crmsync import crash
from crmsync.core.canonical import storable
from crmsync.core.compare import Standing
from crmsync.core.views import Source, Verdict
from crmsync.core.views import observe as judge
from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.flows.compare import Finding, compare, missing
from crmsync.flows.legs import CRM, Leg, concerned, legs
from crmsync.flows.steps import Stride, counted
from crmsync.flows.tenant import Tenant
from crmsync.model import Kind, Page, Record, Ref
from crmsync.store import records, runs, sightings
from crmsync.store.records import KIRIM, Observation, Rank
from crmsync.store.runs import Run, State, Step

RECONCILE = "reconcile"
SAMPLE = 5
"""Ids that are named of each finding."""
FORGOTTEN_AT_ONCE = 5_000
"""Rows of what was seen that go in one step."""
STALE = timedelta(hours=1)
"""After so long a pause what was seen is not worth comparing any more."""


@dataclass(frozen=True, slots=True)
class Options:
    """`heal` makes due what differs, unless more than `threshold` records do."""

    heal: bool = False
    threshold: int | None = None

    def document(self) -> dict[str, Any]:
        """As a run keeps it."""
        return {"heal": self.heal, "threshold": self.threshold}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Options:
        """What a run kept."""
        return cls(bool(document.get("heal")), document.get("threshold"))


def begin(tx: Connection, tenant: Tenant, options: Options, now: datetime, *, anew: bool = False) -> Run:
    """The run that does this. One that is under way, or was stopped a short while ago, goes on. For the schedule too.

    Raises `Reject` where nothing can be compared, or where another with other options is under way; `anew` ends that.
    """
    walked = _walked(tenant)
    if not walked:
        raise Reject("there is nothing to compare: no kind of record is mapped that Kirim can list")
    before = runs.unfinished(tx, tenant.id, RECONCILE)
    if before is not None:
        same = before.options == options.document()
        if not anew and same and (before.state is State.RUNNING or now - before.moved_at < STALE):
            runs.resume(tx, before.id, now)
            return runs.find(tx, before.id) or before
        if not anew and not same and before.state is State.RUNNING:
            raise Reject(f"run {before.id} is under way with other options: let it finish, or begin --anew")
        runs.give_up(tx, before.id, "another was begun in its place", now)
    place = {"phase": "walking", "at": 0, "cursor": None}
    return runs.begin(tx, tenant.id, RECONCILE, walked[0].endpoint, options.document(), place, now)


def turn(stride: Stride, run: Run) -> None:
    """Goes on with the phase that the run is in, step by step."""
    while stride.going() and run.state is State.RUNNING:
        try:
            run = PHASES[run.place["phase"]](stride, run)
        except (Retry, Suspend):
            raise
        except ConnectorError as error:
            run = stride.fail(run, str(error))


# -- walking: every record of both sides


def _walked(tenant: Tenant) -> tuple[Leg, ...]:
    return (*legs(tenant, KIRIM), *legs(tenant, CRM))


def _walk(stride: Stride, run: Run) -> Run:
    at, walked = int(run.place["at"]), _walked(stride.tenant)
    if at >= len(walked) or walked[at].endpoint != run.endpoint:
        return stride.fail(run, "the configuration changed while its records were walked")
    leg = walked[at]
    page = stride.tenant.endpoint(leg.endpoint).walk(leg.kind, run.place["cursor"])
    crash.point("reconcile.answered")

    def store(tx: Connection) -> Step:
        _note(tx, run, leg, page)
        counts = counted(run.counts, pages=1, read=len(page.records))
        if page.more:
            return Step(leg.endpoint, {**run.place, "cursor": page.cursor}, counts, stride.clock())
        if at + 1 < len(walked):
            place = {**run.place, "at": at + 1, "cursor": None}
            return Step(walked[at + 1].endpoint, place, counts, stride.clock())
        return _enter(stride, "verifying", counts)

    return stride.save(run, store)


def _note(tx: Connection, run: Run, leg: Leg, page: Page) -> None:
    """What a page shows. Where it contradicts the view without being newer, the record is asked for later."""
    known = records.views(tx, run.tenant, leg.endpoint, leg.kind, {record.id for record in page.records})
    held: dict[str, Record | None] = {}
    for record in page.records:
        _, verdict = judge(known.get(record.id), storable_record(record), Source.TOLD)
        if verdict is Verdict.UNCLEAR:
            held.pop(record.id, None)
        else:
            held[record.id] = None if verdict in (Verdict.SAME, Verdict.OLD) else record
    sightings.note(tx, run, leg.endpoint, leg.kind, held, read=False)


def storable_record(record: Record) -> Record:
    """As a view would keep it."""
    return Record(
        record.kind,
        record.id,
        storable(record.fields),
        record.version,
        record.external_id or None,
        record.aliases,
        record.archived,
    )


# -- verifying: what is believed to exist and was not seen


def _ends(tenant: Tenant) -> list[Leg]:
    """Every kind on every endpoint, also those that can only be asked by id."""
    kinds = [kind for kind in Kind if tenant.followers(kind) and kind in tenant.kirim.kinds]
    mapped = [Leg(name, kind) for name, one in tenant.connections.items() for kind in kinds if kind in one.rules]
    return [*(Leg(KIRIM, kind) for kind in kinds), *mapped]


def _verify(stride: Stride, run: Run) -> Run:
    """Asks for one batch by id."""
    at, ends = int(run.place["at"]), _ends(stride.tenant)
    if at >= len(ends):
        return stride.save(run, lambda tx: _enter(stride, "comparing", run.counts))
    leg, after = ends[at], str(run.place["cursor"] or "")
    connector = stride.tenant.endpoint(leg.endpoint)
    size = connector.batch_size
    ids = stride.database.read(lambda tx: sightings.unseen(tx, run, leg.endpoint, leg.kind, after, size))
    found = _fetch(connector.fetch, leg.kind, ids)
    held: dict[str, Record | None] = {
        id: record or Record(leg.kind, id, archived=True) for id, record in zip(ids, found, strict=True)
    }

    def store(tx: Connection) -> Step:
        sightings.note(tx, run, leg.endpoint, leg.kind, held, read=True)
        counts = counted(run.counts, fetched=len(ids))
        further = len(ids) == size
        following = leg.endpoint if further or at + 1 >= len(ends) else ends[at + 1].endpoint
        place = {**run.place, "at": at if further else at + 1, "cursor": ids[-1] if further else None}
        return Step(following, place, counts, stride.clock())

    return stride.save(run, store)


def _fetch(
    fetch: Callable[[Kind, Sequence[Ref]], Sequence[Record | None]], kind: Kind, ids: Sequence[str]
) -> Sequence[Record | None]:
    """The records as they are; an id that the platform refuses to read counts as none, alone."""
    if not ids:
        return []
    try:
        return fetch(kind, [Ref(id=id) for id in ids])
    except Reject:
        if len(ids) == 1:
            return [None]
        middle = len(ids) // 2
        return [*_fetch(fetch, kind, ids[:middle]), *_fetch(fetch, kind, ids[middle:])]


# -- comparing, and healing: the same steps, first only counted


def _places(tenant: Tenant) -> list[tuple[str, Kind, str]]:
    """What is gone through: pairs, then what was seen on either side without one."""
    return [
        (name, kind, what)
        for name, one in tenant.connections.items()
        for kind in one.rules
        if kind in tenant.kirim.kinds
        for what in ("pairs", "kirim", "crm")
    ]


def _look(
    tx: Connection, tenant: Tenant, run: Run, place: tuple[str, Kind, str], *, seen: bool = True
) -> tuple[list[Finding], str | None]:
    """Some findings, and the id behind which the next are; None after the last. `seen`: by what the run saw, too."""
    name, kind, what = place
    after = str(run.place["cursor"] or "")
    if what == "pairs":
        found = sightings.pairs_after(tx, run, name, kind, after)
        last = found[-1].kirim_id if found else None
        return compare(tx, tenant, run, name, kind, found, seen=seen), last
    endpoint = KIRIM if what == "kirim" else name
    ids = sightings.without_pair(tx, run, endpoint, name, kind, after)
    return missing(tx, tenant, run, name, kind, endpoint, ids), ids[-1] if ids else None


def _compare(stride: Stride, run: Run) -> Run:
    at, places = int(run.place["at"]), _places(stride.tenant)
    if at >= len(places):
        return stride.save(run, lambda tx: _judge(stride, run))
    findings, last = stride.database.read(lambda tx: _look(tx, stride.tenant, run, places[at]))
    counts = _tallied(run.counts, places[at], findings)
    return stride.save(run, lambda tx: Step(run.endpoint, _beyond(run, last), counts, stride.clock()))


def _judge(stride: Stride, run: Run) -> Step:
    """Everything was compared: whether there is something to be healed, and whether that is not too much."""
    options, drift = Options.of(run.options), int(run.counts.get("drift", 0))
    if options.heal and drift and options.threshold is not None and drift > options.threshold:
        error = f"{drift} records differ, more than the {options.threshold} that are healed without asking"
        return _enter(stride, "forgetting", run.counts, error)
    return _enter(stride, "refreshing" if options.heal and drift else "forgetting", run.counts)


def _refresh(stride: Stride, run: Run) -> Run:
    """What was seen becomes what is known, and what that changes becomes due."""
    at, ends = int(run.place["at"]), _ends(stride.tenant)
    if at >= len(ends):
        return stride.save(run, lambda tx: _enter(stride, "healing", run.counts))
    leg = ends[at]

    def store(tx: Connection) -> Step:
        seen = sightings.kept(tx, run, leg.endpoint, leg.kind, str(run.place["cursor"] or ""))
        _observe(tx, stride.tenant, run, leg, seen, stride.clock())
        return Step(run.endpoint, _beyond(run, seen[-1][0] if seen else None), run.counts, stride.clock())

    return stride.save(run, store)


def _observe(
    tx: Connection, tenant: Tenant, run: Run, leg: Leg, seen: Iterable[tuple[str, Record, bool]], now: datetime
) -> None:
    """One that has no version may have changed since it was seen: it is read again."""
    sure = [(record, read) for _, record, read in seen if record.version is not None or not read]
    told = [Observation(record, Source.READ if read else Source.TOLD, run.cause) for record, read in sure]
    followers = tenant.followers(leg.kind)
    records.observe(tx, tenant.id, leg.endpoint, told, now=now, followers=followers, rank=Rank.RUN)
    doubtful = {id: run.cause for id, record, read in seen if record.version is None and read}
    records.mark_stale(tx, tenant.id, leg.endpoint, leg.kind, doubtful, now)


def _heal(stride: Stride, run: Run) -> Run:
    """What still differs is made due: whatever is done about it is the sync's to decide."""
    at, places = int(run.place["at"]), _places(stride.tenant)
    if at >= len(places):
        return stride.save(run, lambda tx: _enter(stride, "settling", run.counts))

    def store(tx: Connection) -> Step:
        now = stride.clock()
        findings, last = _look(tx, stride.tenant, run, places[at])
        name, kind, what = places[at]
        ill = {finding.kirim_id: run.cause for finding in findings if finding.drifted and finding.kirim_id}
        create = what == "kirim"
        records.make_due(tx, run.tenant, name, kind, ill, now, create=create, rank=Rank.RUN)
        return Step(run.endpoint, _beyond(run, last), run.counts, now)

    return stride.save(run, store)


def _settle(stride: Stride, run: Run) -> Run:
    involved = concerned(stride.tenant, KIRIM)
    return stride.settle(run, involved, lambda counts: _enter(stride, "checking", {**counts, "remaining": 0}))


def _check(stride: Stride, run: Run) -> Run:
    """What is still not as it should be, now that everything was done that could be."""
    at, places = int(run.place["at"]), _places(stride.tenant)
    if at >= len(places):
        return stride.save(run, lambda tx: _enter(stride, "forgetting", run.counts))
    findings, last = stride.database.read(lambda tx: _look(tx, stride.tenant, run, places[at], seen=False))
    counts = counted(run.counts, remaining=sum(1 for finding in findings if finding.drifted))
    return stride.save(run, lambda tx: Step(run.endpoint, _beyond(run, last), counts, stride.clock()))


def _forget(stride: Stride, run: Run) -> Run:
    """What was seen goes bit by bit: a run of many records is not to keep everybody else waiting at its end."""

    def store(tx: Connection) -> Step:
        left = sightings.forget(tx, run, FORGOTTEN_AT_ONCE)
        state, error = (State.RUNNING, "") if left else (State.DONE, str(run.place["error"]))
        return Step(run.endpoint, run.place, run.counts, stride.clock(), state, error)

    return stride.save(run, store)


def _enter(stride: Stride, phase: str, counts: Mapping[str, Any], error: str = "") -> Step:
    ends = _ends(stride.tenant)
    endpoint = ends[0].endpoint if ends else KIRIM
    return Step(endpoint, {"phase": phase, "at": 0, "cursor": None, "error": error}, counts, stride.clock())


def _beyond(run: Run, last: str | None) -> Mapping[str, Any]:
    """Behind what was gone through: further in the same place, or at the beginning of the next."""
    if last is None:
        return {**run.place, "at": int(run.place["at"]) + 1, "cursor": None}
    return {**run.place, "cursor": last}


def _tallied(counts: Mapping[str, Any], place: tuple[str, Kind, str], findings: Sequence[Finding]) -> dict[str, Any]:
    """The counts with these findings: how many of each, and the first few by name."""
    name, kind, _ = place
    report = dict(counts.get("report", {}))
    told = report.get(f"{name}/{kind}", {"records": {}, "fields": {}, "samples": {}})
    of_records, samples = dict(told["records"]), dict(told["samples"])
    of_fields = {field: dict(numbers) for field, numbers in told["fields"].items()}

    def sample(what: str, finding: Finding) -> None:
        if len(samples.get(what, ())) < SAMPLE:
            samples[what] = [*samples.get(what, ()), [finding.kirim_id, finding.crm_id]]

    for finding in findings:
        of_records[finding.what.value] = of_records.get(finding.what.value, 0) + 1
        if finding.worth_telling:
            sample(finding.what.value, finding)
        for field, standing in finding.fields.items():
            numbers = of_fields.setdefault(field, {})
            numbers[standing.value] = numbers.get(standing.value, 0) + 1
            if standing is not Standing.AGREE:
                sample(f"{field}: {standing.value}", finding)
    report[f"{name}/{kind}"] = {"records": of_records, "fields": of_fields, "samples": samples}
    drifted = sum(1 for finding in findings if finding.drifted)
    return {**counted(counts, drift=drifted, compared=len(findings)), "report": report}


PHASES: Mapping[str, Callable[[Stride, Run], Run]] = {
    "walking": _walk,
    "verifying": _verify,
    "comparing": _compare,
    "refreshing": _refresh,
    "healing": _heal,
    "settling": _settle,
    "checking": _check,
    "forgetting": _forget,
}
