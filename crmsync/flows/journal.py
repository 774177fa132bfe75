"""How far a rotation of secrets has come: a small file beside the secrets, replaced in one step, for its owner alone.

It holds no secret: ids, fingerprints, times, and the key under which Kirim knows the request for a new secret.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from crmsync.errors import CrmsyncError


class Busy(CrmsyncError):
    """Somebody else is at it."""


class Unreadable(CrmsyncError):
    """The journal is not one of ours."""


class Phase(StrEnum):
    """What comes next."""

    CREATE = "create"  # Kirim is asked for a new secret, and it is stored
    PROVE = "prove"  # deliveries have to verify under it
    DELETE = "delete"  # Kirim stops signing with the others
    DROP = "drop"  # the others go from our file as well


@dataclass(frozen=True, slots=True)
class Journal:
    """A rotation under way. Times are ISO 8601.

    `before` are the ids that Kirim signed with at the beginning, None if it does not say; `labels` the fingerprints of
    the secrets in the file then; `after` the newest delivery then; `lost` ids of secrets whose text never reached us.
    """

    subscription: str
    key: str
    begun_at: str
    before: tuple[str, ...] | None
    labels: tuple[str, ...]
    after: int
    phase: Phase = Phase.CREATE
    lost: tuple[str, ...] = ()
    new_id: str | None = None
    new_label: str | None = None
    deleted_at: str | None = None

    @property
    def begun(self) -> datetime:
        return datetime.fromisoformat(self.begun_at)

    @property
    def deleted(self) -> datetime | None:
        return None if self.deleted_at is None else datetime.fromisoformat(self.deleted_at)


def place(secrets_file: Path) -> Path:
    """Where the journal of a rotation of these secrets is."""
    real = secrets_file.resolve()
    return real.with_name(f"{real.name}.rotation")


def load(path: Path) -> Journal | None:
    """The rotation under way, if one is."""
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read; remove it to begin anew") from error
    try:
        before = said["before"]
        return Journal(
            **{
                **said,
                "before": None if before is None else tuple(before),
                "labels": tuple(said["labels"]),
                "lost": tuple(said["lost"]),
                "phase": Phase(said["phase"]),
            }
        )
    except (TypeError, KeyError, ValueError) as error:
        raise Unreadable(f"{path} was not written by this crmsync; remove it to begin anew") from error


def save(path: Path, journal: Journal) -> None:
    """Replaces the journal; it is on disk when this returns."""
    write(path, asdict(journal))


def write(path: Path, said: Mapping[str, Any]) -> None:
    """Replaces a small file; it is on disk when this returns."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # its mode is 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(said, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync(path.parent)


def remove(path: Path) -> None:
    """The rotation is over."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keeps a second rotation of the same folder's secrets out, also when this process is killed. Raises `Busy`."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another rotation is under way in {path.parent}") from None
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
