"""Replaces the signing secret of a subscription without a moment in which we could not verify what Kirim sends.

Create, store, see it verify deliveries, only then delete the others at Kirim, and much later drop them here. Each step
is durable before the next begins; whoever dies between two goes on where the journal, the file and Kirim's list stand.
Nothing is deleted that may be the last secret seen to match.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from crmsync import crash
from crmsync.errors import CrmsyncError, Reject
from crmsync.flows import journal
from crmsync.flows.journal import Journal, Phase
from crmsync.flows.kept import SELF_TEST, Kept
from crmsync.kirim.secrets import FileSecret, read_secrets_file, write_secrets_file
from crmsync.kirim.signature import Secret
from crmsync.kirim.subscription import SigningSecret, Subscription, of_url, plain_secret, secret_id
from crmsync.store import deliveries
from crmsync.store.database import Database
from crmsync.store.records import KIRIM

PROOF = 5
"""Deliveries that have to verify under the new secret before the others go."""
SAFE = timedelta(hours=48)
"""For how long Kirim must go on signing with the new secret, as far as it says."""
KEEP = timedelta(hours=48)
"""How long the old secrets stay in our file: what Kirim signed before may come for 38 hours."""


class RotationRefused(CrmsyncError):
    """Going on could leave us without a secret that matches. Nothing was deleted."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a step did. `waiting`: the same step comes again later. `done`: there is nothing to do now."""

    phase: Phase
    text: str
    waiting: bool = False
    done: bool = False
    proven: int = 0


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation of one tenant's secrets. `new_key` makes idempotency keys."""

    kept: Kept
    secrets_file: Path
    database: Database
    clock: Callable[[], datetime]
    new_key: Callable[[], str]
    keep: timedelta = KEEP

    @property
    def journal_file(self) -> Path:
        """Where the progress is kept."""
        return journal.place(self.secrets_file)

    def step(self) -> Told:
        """Does the next thing. Raises `RotationRefused`, `ConnectorError`, `StoreError` or `ConfigError`."""
        known = journal.load(self.journal_file)
        if known is None:
            return self._begin()
        steps = {
            Phase.CREATE: self._create,
            Phase.PROVE: self._prove,
            Phase.DELETE: self._delete,
            Phase.DROP: self._drop,
        }
        return steps[known.phase](known)

    # -- the steps

    def _begin(self) -> Told:
        """Writes down what there is before anything changes, and the key of the request to come."""
        subscription = self._subscription()
        newest = self.database.read(lambda tx: deliveries.newest(tx, self.kept.tenant, KIRIM))
        begun = Journal(
            subscription.id,
            self.new_key(),
            self.clock().isoformat(),
            None if subscription.secrets is None else tuple(secret.id for secret in subscription.secrets),
            tuple(_label(secret) for secret in self._file()),
            newest.id if newest else 0,
        )
        journal.save(self.journal_file, begun)
        crash.point("rotate.begun")
        return Told(Phase.CREATE, f"rotating the secret of {subscription.id}")

    def _create(self, known: Journal) -> Told:
        """Asks for a secret and stores it at once. Asked again under the same key, Kirim answers the same."""
        stored = self._stored_already(known)
        if stored is None:
            row = self.kept.client.create_secret(known.subscription, idempotency_key=known.key)
            crash.point("rotate.created")
            key, id = plain_secret(row), secret_id(row)
            if key is None:
                # A repeated answer may lack the text: it is shown once, and that once never reached us.
                lost = (*known.lost, id) if id else known.lost
                journal.save(self.journal_file, replace(known, key=self.new_key(), lost=lost))
                return Told(Phase.CREATE, "Kirim made a secret whose text did not reach us; asking for another")
            stored = FileSecret(key, id or self._newest_id(known))
            self._write([*(one for one in self._file() if one.key != key), stored])
            crash.point("rotate.stored")
        following = replace(known, phase=Phase.PROVE, new_id=stored.id, new_label=_label(stored))
        journal.save(self.journal_file, following)
        return Told(Phase.PROVE, f"{stored.id or 'the new secret'} is made, and stored in {self.secrets_file}")

    def _prove(self, known: Journal) -> Told:
        self._stored(known)
        proven = self._proven(known)
        if proven < PROOF:
            text = f"{proven} of {PROOF} deliveries verified under {known.new_id or 'the new secret'}"
            return Told(Phase.PROVE, text, waiting=True, proven=proven)
        journal.save(self.journal_file, replace(known, phase=Phase.DELETE))
        crash.point("rotate.proved")
        return Told(
            Phase.DELETE, f"{PROOF} deliveries verified under {known.new_id or 'the new secret'}", proven=proven
        )

    def _delete(self, known: Journal) -> Told:
        """One of the others at a time, each time after making sure that the new one stays."""
        self._stored(known)
        if self._proven(known) < PROOF:
            raise RotationRefused("deliveries do not verify under the new secret: the old ones stay")
        signing = self._signing(known)
        old = self._old(known, signing)
        for id in old if signing is None else old[:1]:
            try:
                self.kept.client.delete_secret(known.subscription, id)
            except Reject as error:
                raise RotationRefused(f"Kirim does not delete {id}: {error}") from error
            crash.point("rotate.deleted")
        if old and signing is not None:
            return Told(Phase.DELETE, f"Kirim no longer signs with {old[0]}")
        journal.save(self.journal_file, replace(known, phase=Phase.DROP, deleted_at=self.clock().isoformat()))
        crash.point("rotate.finished")
        if signing is None:
            return Told(
                Phase.DROP, "Kirim does not list its secrets: see on its dashboard that only the new one is left"
            )
        return Told(Phase.DROP, "Kirim signs with the new secret only")

    def _drop(self, known: Journal) -> Told:
        """The old ones go from the file once nothing can come any more that they signed."""
        until = (known.deleted or self.clock()) + self.keep
        if self.clock() < until:
            text = f"the old secrets stay in the file until {until:%Y-%m-%d %H:%M} UTC for what is still on its way"
            return Told(Phase.DROP, f"{text}; run this again after that", done=True)
        self._stored(known)
        listed = {secret.id for secret in self._subscription(known).secrets or ()}
        held = self._file()
        kept = [one for one in held if _label(one) not in known.labels or one.id in listed]
        if not any(_label(one) == known.new_label for one in kept):
            raise RotationRefused("the new secret is among those to be dropped: nothing was")
        if len(kept) < len(held):
            self._write(kept)
        crash.point("rotate.dropped")
        journal.remove(self.journal_file)
        gone = len(held) - len(kept)
        return Told(
            Phase.DROP, f"the rotation is complete; {gone} old secret{'' if gone == 1 else 's'} dropped", done=True
        )

    # -- what there is

    def _subscription(self, known: Journal | None = None) -> Subscription:
        found = of_url(self.kept.client, self.kept.hook_url)
        if known is not None:
            found = [one for one in found if one.id == known.subscription]
        if not found:
            raise RotationRefused(
                "Kirim has no subscription for our address"
                if known is None
                else f"subscription {known.subscription} is gone; remove {self.journal_file} to begin anew"
            )
        return found[0]

    def _stored_already(self, known: Journal) -> FileSecret | None:
        """The secret that we stored before we died: in the file since this rotation began, and Kirim signs with it."""
        added = [one for one in self._file() if _label(one) not in known.labels]
        listed = {secret.id for secret in self._subscription(known).secrets or ()} - set(known.before or ())
        return next((one for one in reversed(added) if one.id is not None and one.id in listed), None)

    def _newest_id(self, known: Journal) -> str | None:
        """The id of a secret just made, if its answer did not name it."""
        fresh = [
            one
            for one in self._subscription(known).secrets or ()
            if known.before is not None and one.id not in known.before and one.id not in known.lost
        ]
        return fresh[0].id if len(fresh) == 1 else None

    def _stored(self, known: Journal) -> None:
        if not any(_label(one) == known.new_label for one in self._file()):
            raise RotationRefused(
                f"the new secret is no longer in {self.secrets_file}: put it back, or remove {self.journal_file} and"
                " begin anew"
            )

    def _proven(self, known: Journal) -> int:
        label = known.new_label or ""
        found = self.database.read(
            lambda tx: deliveries.verified_by(tx, self.kept.tenant, KIRIM, label, known.after, SELF_TEST, PROOF)
        )
        return len(found)

    def _signing(self, known: Journal) -> Sequence[SigningSecret] | None:
        """What Kirim signs with, in which the new secret has to be, and to stay; None if Kirim does not say."""
        listed = self._subscription(known).secrets
        if listed is None:
            return None
        new = next((one for one in listed if one.id == known.new_id), None)
        if new is None:
            raise RotationRefused(f"Kirim does not list {known.new_id or 'the new secret'}: the old ones stay")
        if new.expires_at is not None and new.expires_at - self.clock() < SAFE:
            raise RotationRefused(
                f"Kirim stops signing with {new.id} at {new.expires_at:%Y-%m-%d %H:%M} UTC: the old ones stay"
            )
        return listed

    def _old(self, known: Journal, listed: Sequence[SigningSecret] | None) -> list[str]:
        """The ids to be deleted: what was there before, and what we made and lost. Never what somebody else added."""
        stored = [one.id for one in self._file() if one.id is not None]
        ours = dict.fromkeys([*(known.before or ()), *known.lost, *stored])
        signing = None if listed is None else {one.id for one in listed}
        return [id for id in ours if id != known.new_id and (signing is None or id in signing)]

    def _file(self) -> tuple[FileSecret, ...]:
        return read_secrets_file(self.secrets_file, insecure=True)

    def _write(self, secrets: Sequence[FileSecret]) -> None:
        write_secrets_file(self.secrets_file, secrets)


def _label(secret: FileSecret) -> str:
    return Secret.of(secret.key).label
