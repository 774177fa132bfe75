"""The file of signing secrets that a rotation rewrites: one per line, `whsec_…`, perhaps a space and its `sec_…` id.

Blank lines and lines that begin with # are skipped. A file is replaced whole or not at all, and never readable by
others. What is wrong is said by line number: no message ever quotes a line.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crmsync.errors import ConfigError, Problem

SHORTEST_SECRET = 24
LARGEST_FILE = 64 * 1024
HEADING = "# Kirim's signing secrets, one per line: the secret, then its id. Written by crmsync; keep it to yourself.\n"
_KEY = re.compile(r"[!-~]+").fullmatch
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch


@dataclass(frozen=True, slots=True)
class FileSecret:
    """One signing secret, whole, and the id by which Kirim knows it, if that was written down."""

    key: str = field(repr=False)
    id: str | None = None


def read_secrets_file(path: Path, *, insecure: bool = False) -> tuple[FileSecret, ...]:
    """The secrets of a file, each key once, in order; none of one that does not exist. Raises `ConfigError`.

    A file that others can read is refused unless `insecure`.
    """
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            _refuse(path, state, insecure=insecure)
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _problem(path, 0, f"cannot be read ({error.strerror})") from None
    if len(content) > LARGEST_FILE:
        raise _problem(path, 0, "is larger than 64 KiB")
    return _parsed(path, content)


def write_secrets_file(path: Path, secrets: Iterable[FileSecret]) -> None:
    """Replaces the file in one step that survives a crash, readable by its owner alone.

    A file that is a symbolic link stays one: what it points at is replaced.
    """
    kept = tuple(secrets)
    for secret in kept:
        complaint = _complaint(secret.key, secret.id)
        if complaint:
            raise ValueError(complaint)
    place = path.resolve()
    text = HEADING + "".join(f"{secret.key} {secret.id}\n" if secret.id else f"{secret.key}\n" for secret in kept)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)  # its mode is 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    """Without this a rename may be forgotten by a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse(path: Path, state: os.stat_result, *, insecure: bool) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise _problem(path, 0, "is not a regular file")
    if state.st_mode & 0o077 and not insecure:
        mode = f"{stat.S_IMODE(state.st_mode):04o}"
        raise _problem(path, 0, f"can be read by others (mode {mode}); run chmod 600 on it")


def _parsed(path: Path, content: bytes) -> tuple[FileSecret, ...]:
    found: dict[str, FileSecret] = {}
    problems: list[Problem] = []
    for number, raw in enumerate(content.splitlines(), start=1):
        line = raw.decode("utf-8", "replace").removeprefix("\ufeff").strip()
        if not line or line.startswith("#"):
            continue
        key, *rest = line.split()
        complaint = "more than a secret and its id" if len(rest) > 1 else _complaint(key, rest[0] if rest else None)
        if complaint:
            problems.append(Problem(str(path), number, "", complaint))
        elif key not in found or rest:
            found[key] = FileSecret(key, rest[0] if rest else None)
    if problems:
        raise ConfigError(problems)
    return tuple(found.values())


def _complaint(key: str, id: str | None) -> str | None:
    """Why this is no line of the file; names neither."""
    if not _KEY(key) or key.startswith("#"):
        return "the secret is not one word of printable ASCII"
    if len(key) < SHORTEST_SECRET:
        return f"the secret is shorter than {SHORTEST_SECRET} characters; copy it whole, with whsec_"
    if key.startswith("sec_"):
        return "begins with an id; the secret (whsec_…) comes first"
    if len(set(key)) == 1:
        return "the secret is a placeholder"
    if id is not None and not _ID(id):
        return "the id is not one word of letters, digits, _ and -"
    return None


def _problem(path: Path, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), line, "", message)])
