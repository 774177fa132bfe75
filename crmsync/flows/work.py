"""One pair on its way through a flush: what was taken, found, decided and answered. And what every turn is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from crmsync.connector import Outcome
from crmsync.core.brakes import Brake
from crmsync.core.breaker import Stroke
from crmsync.core.canonical import text
from crmsync.core.decide import Agreed, Decision, Noted, PairView, Settled, Side, Step
from crmsync.core.mapping import Rules
from crmsync.core.matching import Finding, Match
from crmsync.core.views import NO_TIMES, View
from crmsync.errors import Reject, Suspend
from crmsync.flows import chronicle
from crmsync.flows.away import Away
from crmsync.flows.braking import Braking, Free
from crmsync.flows.sparing import Lavish, Sparing
from crmsync.flows.tenant import Connection, Tenant
from crmsync.model import CONTACT_LINK, NOTHING, Fields, Record, Write
from crmsync.store import history
from crmsync.store.conflicts import Decree, Rulings
from crmsync.store.database import Database
from crmsync.store.lanes import Fence
from crmsync.store.pairs import Recent, Taken
from crmsync.store.records import Observation, Rank


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a turn needs besides the pairs themselves. `failures` says how often in a row the lane had to rest.

    `kirim_suspended` says why nothing can be written to Kirim now. `careful` sends one batch at a time, to a platform
    that only just came back. `sparing` says what trying again may cost, `brakes` what may be sent. Only pairs of `rank`
    are worked on, if it is set, and none that is `away`. `going` says
    whether the turn may go on once its first batches are through. `pause` waits for some seconds and says whether to go
    on; without it nothing is begun that takes minutes.
    """

    database: Database
    tenant: Tenant
    connection: Connection
    fence: Fence
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    failures: int = 0
    kirim_suspended: Suspend | None = None
    careful: bool = False
    sparing: Sparing = field(default_factory=Lavish)
    going: Callable[[], bool] = bool
    brakes: Braking = field(default_factory=Free)
    rank: Rank | None = None
    away: Away = field(default_factory=Away)
    pause: Callable[[float], bool] | None = None

    @property
    def loads(self) -> range:
        """How many new records may be made in one job, now and by this turn."""
        ready = self.pause is not None and self.rank is Rank.RUN and not self.failures and not self.careful
        return self.connection.connector.loads if ready else range(0)


@dataclass(slots=True)
class Work:
    """One pair on its way through a flush: what was found, decided and answered.

    `contact` is the CRM's record of a conversation's contact; `waits` says what has to be there first. It is `orphaned`
    if that was deleted.
    `merged` is the record that its own was merged into, where that belongs to another.
    `frozen` are fields that turned out to go back and forth, `followed` a person's decrees that were carried out.
    `remembered` are the sides whose refusal is an earlier one, of the very same request: nothing was sent this time.
    `settled`, `recent`, `told`, `touched` and `seen` are what follows from the answers alone: base and notes,
    strokes, history, what counts for the brakes, what the answers showed.
    """

    pair: Taken
    crm: View | None
    crm_id: str | None
    rules: Rules
    decision: Decision = field(default_factory=lambda: Decision(()))
    outcomes: dict[Side, Outcome] = field(default_factory=dict)
    found: Record | None = None
    remembered: set[Side] = field(default_factory=set)
    unread: bool = False
    finding: Finding | None = None
    contact: str | None = None
    waits: str = ""
    orphaned: bool = False
    merged: str = ""
    settled: Settled | None = None
    frozen: dict[str, tuple[Stroke, ...]] = field(default_factory=dict)
    followed: dict[str, Decree] = field(default_factory=dict)
    withheld: frozenset[Brake] = frozenset()
    recent: Recent = field(default_factory=dict)
    told: Sequence[history.Row] = ()
    touched: frozenset[Brake] = frozenset()
    seen: Mapping[Side, Sequence[Observation]] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """Whether nothing is to be written for now."""
        return self.undecided or bool(self.waits)

    @property
    def undecided(self) -> bool:
        """Whether a person has to say first which record it is."""
        return self.finding is not None and self.finding.match is Match.UNCLEAR

    @property
    def adopted(self) -> bool:
        """Whether the record was found to be the same person's."""
        return self.finding is not None and self.finding.match is Match.FOUND

    @property
    def unstamped(self) -> bool:
        """Whether the record does not carry the Kirim id yet, as one that was made by others.

        Nor does it where a write by an old id went to the record it had been merged into, and left its own there.
        """
        return self.crm is not None and self.crm.exists and self.crm.external_id != self.pair.kirim_id

    @property
    def kirim(self) -> Fields:
        """What Kirim holds; of a conversation also, in the CRM's words, whose it is."""
        return held_in_kirim(self.pair.kirim, self.contact)

    @property
    def view(self) -> PairView:
        """What `decide` is asked about."""
        pair = self.pair
        return pair_view(self.kirim, pair.kirim, self.crm, pair.base, pair.noted, pair.rulings)

    def write(self, side: Side) -> Write | None:
        """The write that the decision asks for on a side; a record that is made has more in it."""
        fields = self.decision.writes(side)
        if not fields and not (side is Side.CRM and self.unstamped):
            return None
        view = self.pair.kirim if side is Side.KIRIM else self.crm
        if side is Side.CRM and view is None:
            fields = {**self._initial(), **fields}
        held = {name: view.fields[name] for name in fields if name in view.fields} if view else NOTHING
        id = self.pair.kirim_id if side is Side.KIRIM else self.crm_id
        return Write(self.pair.kirim_id, fields, id, held)

    def _initial(self) -> Fields:
        """What a record is made with and nobody looks at afterwards."""
        known = defaultdict(str, {name: text(value) for name, value in self.kirim.items() if value is not None})
        filled = ((name, template.format_map(known).strip()) for name, template in self.rules.initial)
        return {name: value for name, value in filled if value}

    def ended(self, step: Step) -> str:
        """What became of a step, in one word; nothing where it is still to come."""
        return chronicle.became(self, step, {})[0]

    def recall(self, side: Side, key: str, asked: Callable[[], str]) -> bool:
        """Takes an earlier refusal of the same request, by its digest, as the answer, if there was one."""
        refusals = self.pair.trouble.refusals
        known = self.pair.trouble.remembers(key, asked()) if refusals else None
        if known is not None:
            self.outcomes[side] = Reject(known.answer, known.guilty, known.candidate)
            self.remembered.add(side)
        return known is not None


def pair_view(
    held: Fields,
    kirim: View | None,
    crm: View | None,
    base: Mapping[str, Agreed],
    noted: Mapping[str, Noted],
    rulings: Rulings,
) -> PairView:
    """A pair for `decide`. `held` is what counts as Kirim's fields, which may be more than its view has."""
    return PairView(
        held,
        crm.fields if crm else None,
        base,
        noted,
        kirim.times if kirim else NO_TIMES,
        crm.times if crm else NO_TIMES,
        rulings.frozen,
        {name: decree.value for name, decree in rulings.decreed.items()},
    )


def held_in_kirim(view: View | None, contact: str | None) -> Fields:
    """What counts as Kirim's fields: what its view has, and of a conversation also whose it is in the CRM."""
    held = view.fields if view else {}
    return held if contact is None else {**held, CONTACT_LINK: (contact,)}


def contact_of(conversation: Taken) -> str | None:
    """Whose a conversation is, as far as Kirim told."""
    contact = conversation.kirim.fields.get("contact") if conversation.kirim else None
    return contact if isinstance(contact, str) else None
