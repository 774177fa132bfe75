"""The readings of Kirim's documents, as switches that a test turns before or while the emulator runs.

Where two generations of the documents disagree, or all are silent, every reading can be had here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Generation(StrEnum):
    """Which generation of the documents a shape follows."""

    G1 = "g1"
    G2 = "g2"


class Metadata(StrEnum):
    """What PATCH does with `metadata`."""

    MERGE = "merge"  # keys are added and replaced, a null removes its key
    REPLACE = "replace"  # the object is replaced as a whole


class Existing(StrEnum):
    """What POST of a contact does when the number has one already."""

    CONFLICT = "conflict"
    UPDATE = "update"


@dataclass(slots=True)
class Behaviour:
    """Every switch, at its default. Probabilities lie between 0 and 1, limits of None are off."""

    contact_shape: Generation = Generation.G2
    """G1 events carry `whatsapp_account`, G2 events `whatsapp_account_id` and `phone_number_id`."""
    livemode: bool = True
    milliseconds: bool = False
    """Whether times have milliseconds; whole seconds otherwise, so that updated_at has ties."""
    labels_in_events: bool = False
    label_changes_are_events: bool = True
    kirim_block: bool = False
    """Whether Meta's bodies get a top-level `kirim` object, as production was seen to send."""
    sent_events: bool = False
    """Whether outbound messages are told of by message.sent as well, with their text, as production does."""
    metadata: Metadata = Metadata.MERGE
    existing: Existing = Existing.CONFLICT
    created_after: bool = True
    org_paths: bool = True
    """Whether the paths of the first generation, without a number, answer as well."""
    allow_http: bool = True
    """Whether a subscription may have an http:// address. Kirim itself says no."""
    write_limit: int | None = None
    """Writes a minute; 60 on the free tier, 600 on Pro."""
    read_limit: int | None = None
    """Reads a minute; 600 and 6,000."""
    dead_status: str = "dead"
    """What an exhausted delivery is called: dead, or failed."""
    disable_after: int | None = 24
    """Failed deliveries in a row after which a subscription is switched off; the first generation says 20."""
    expiring_secret: str = "new"
    """Which secret `expires_in_hours` limits when another is made: new, or previous."""
    secrets_shown: str = "embedded"
    """Where the secrets of a subscription are listed: embedded in it, beside it, or nowhere."""
    bare_deliveries: bool = False
    """Whether a delivery in a list shows neither its event nor what it repeats."""
    resign: bool = True
    """Whether each attempt is signed anew."""
    signature_skew: int = 0
    """Seconds by which the signing clock is ahead of the emulator's."""
    time_scale: float = 1.0
    """Factor on the waits of the retry schedule; 0.001 makes 31 hours two minutes."""
    duplicates: float = 0.0
    """Share of delivered events that are posted once more."""
    disorder: float = 0.0
    """Share of deliveries that are held back, for up to `disorder_seconds`."""
    disorder_seconds: float = 0.05

    @classmethod
    def first_generation(cls) -> Behaviour:
        """The defaults of the older documents."""
        return cls(contact_shape=Generation.G1, livemode=False, disable_after=20, label_changes_are_events=False)
