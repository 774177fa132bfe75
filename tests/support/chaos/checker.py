"""The judge. It knows what was promised, what the platforms hold and did, and what the daemon says in public.

It has never heard of the daemon's database, and imports nothing of the daemon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field

from crmsync.sandbox.ledger import Effect, Ledger

SHOWN = 10
VERSION, EMAIL = "company", "email"
"""The CRM's properties that tell the version of a contact."""


class Tally(Ledger):
    """A ledger that adds up what it is told instead of keeping it: a million writes fit."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.created: Counter[str] = Counter()
        self.repeated = 0
        self.backwards: list[str] = []
        self._newest: dict[str, int] = {}

    def append(self, effect: Effect) -> None:
        """One write that took effect."""
        name = effect.external_id or f"record {effect.record_id}"
        with self._lock:
            self.count += 1
            if effect.verb == "create":
                self.created[name] += 1
            elif not effect.changed:
                self.repeated += 1
            if VERSION in effect.fields:
                version = int(str(effect.fields[VERSION]).removeprefix("v") or 0)
                if version < self._newest.get(name, 0):
                    self.backwards.append(f"{name}: v{version} after v{self._newest[name]}")
                self._newest[name] = max(version, self._newest.get(name, 0))

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True)
class Held:
    """A record of the CRM: its Kirim id, and what tells its version."""

    kirim_id: str
    version: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Testimony:
    """Everything that can be known from outside, once all is quiet.

    `promised` and `latest` have versions by Kirim id: the newest that was answered with 2xx, and the one that Kirim
    holds. `names` are the names there. `said` are the texts of messages that were answered with 2xx, `spoken` those of
    all, and `logged` those on the timelines of the CRM. `dead` is the daemon's public list of what it could not do,
    each with its reason, `unreadable` the events it answered with 2xx although nobody could read them. `late` are
    writes after the quiet began.
    """

    promised: Mapping[str, int]
    latest: Mapping[str, int]
    names: Mapping[str, str]
    said: Collection[str]
    spoken: Set[str]
    logged: Sequence[str]
    unreadable: int
    records: Sequence[Held]
    created: Mapping[str, int]
    backwards: Sequence[str]
    dead: Sequence[str]
    late: int


@dataclass(slots=True)
class Findings:
    """What is wrong, by kind; empty lists are the proof."""

    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicates or self.wrong)

    def __str__(self) -> str:
        kinds = {"lost": self.lost, "duplicates": self.duplicates, "wrong": self.wrong}
        return "\n".join(
            f"{kind}: {len(found)}\n" + "".join(f"  {one}\n" for one in found[:SHOWN])
            for kind, found in kinds.items()
            if found
        )


def judge(told: Testimony) -> Findings:
    """Compares promises with deeds."""
    findings = Findings()
    by_id: dict[str, list[Held]] = {}
    for record in told.records:
        by_id.setdefault(record.kirim_id, []).append(record)
    for contact, promised in told.promised.items():
        held = by_id.get(contact, [])
        if not held:
            findings.lost.append(f"{contact}: promised v{promised}, and the CRM has no record")
        for record in held:
            _compare(findings, told, contact, promised, record)
    findings.duplicates += [f"{contact}: {len(held)} records" for contact, held in by_id.items() if len(held) > 1]
    findings.duplicates += [f"{contact}: created {count} times" for contact, count in told.created.items() if count > 1]
    findings.wrong += [
        f"{contact or 'a record without id'}: nobody's" for contact in by_id if contact not in told.latest
    ]
    _compare_timelines(findings, told)
    findings.wrong += [f"went backwards: {one}" for one in told.backwards]
    if len(told.dead) < told.unreadable:
        findings.lost.append(f"{told.unreadable} unreadable events were promised, and {len(told.dead)} are listed")
    elif len(told.dead) > told.unreadable:
        listed = ", ".join(told.dead)
        findings.wrong.append(f"{told.unreadable} unreadable events were promised, and listed are {listed}")
    if told.late:
        findings.wrong.append(f"{told.late} writes after all was quiet")
    return findings


def _compare_timelines(findings: Findings, told: Testimony) -> None:
    logged = Counter(told.logged)
    findings.lost += [f"{text}: promised, and on no timeline" for text in told.said if text not in logged]
    findings.duplicates += [f"{text}: {count} times on timelines" for text, count in logged.items() if count > 1]
    findings.wrong += [f"{text}: on a timeline, and nobody said it" for text in logged if text not in told.spoken]


def _compare(findings: Findings, told: Testimony, contact: str, promised: int, record: Held) -> None:
    version = int(record.version.removeprefix("v") or 0)
    if version < promised:
        findings.lost.append(f"{contact}: promised v{promised}, and the CRM has v{version}")
    if version > told.latest[contact]:
        findings.wrong.append(f"{contact}: v{version}, which never was")
    if f".v{version}@" not in record.email:
        findings.wrong.append(f"{contact}: v{version} with the address of another version")
    if record.name != told.names[contact]:
        findings.wrong.append(f"{contact}: its name differs between the platforms")
