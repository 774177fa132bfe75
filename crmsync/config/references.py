"""`${NAME}` and `${file:path}`: where secrets come from. Resolves them in a document's values, never in its keys.

`$${` stands for a literal `${`. What was resolved never appears in a message.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crmsync.config.source import Broken, Document, KeyPath
from crmsync.errors import Problem

REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)\}|\$\{")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LARGEST_SECRET = 64 * 1024
SHORTEST_HIDDEN = 4
"""A resolved value shorter than this is not searched for in messages: it would match ordinary words."""


class _Unresolved(Exception):
    """A reference that leads nowhere; the message says why and names no value."""


@dataclass(slots=True)
class _Resolving:
    """The walk through one document."""

    document: Document
    environ: Mapping[str, str]
    open_files_allowed: bool
    problems: list[Problem] = field(default_factory=list)
    referenced: set[KeyPath] = field(default_factory=set)
    spoken: dict[str, str] = field(default_factory=dict)

    def value(self, value: Any, path: KeyPath) -> Any:
        """The value with its references resolved, at any depth."""
        if isinstance(value, dict):
            return {key: self.value(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, (*path, position)) for position, inner in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self._text(value, path)
        return value

    def _text(self, text: str, path: KeyPath) -> str | Broken:
        parts: list[str] = []
        end = 0
        broken = False
        for match in REFERENCE.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            try:
                parts.append(self._one(match, path))
            except _Unresolved as error:
                self.problems.append(self.document.problem(path, str(error)))
                broken = True
        return Broken() if broken else "".join([*parts, text[end:]])

    def _one(self, match: re.Match[str], path: KeyPath) -> str:
        if match[0] == "$${":
            return "${"
        inside = match["inside"]
        if inside is not None and inside.startswith("file:") and inside != "file:":
            found = self._file(inside.removeprefix("file:").strip())
        elif inside is not None and NAME.fullmatch(inside):
            found = self._variable(inside)
        else:
            raise _Unresolved(
                f"found {match[0]}; write ${{NAME}} for an environment variable or ${{file:path}} for a file"
                " ($${ stands for a literal ${)"
            )
        self.referenced.add(path)
        if len(found) >= SHORTEST_HIDDEN:
            self.spoken[found] = match[0]
        return found

    def _variable(self, name: str) -> str:
        if name not in self.environ:
            raise _Unresolved(f"the environment variable {name} is not set")
        if not self.environ[name].strip():
            raise _Unresolved(f"the environment variable {name} is set but empty")
        return self.environ[name]

    def _file(self, name: str) -> str:
        """A file's content without its last line break, if nobody else can read the file."""
        path = self.document.folder / Path(name).expanduser()
        try:
            state = path.stat()
            if not stat.S_ISREG(state.st_mode):
                raise _Unresolved(f"{name} is not a regular file")
            if state.st_mode & 0o077 and not self.open_files_allowed:
                raise _Unresolved(
                    f"the secret file {name} can be read by others (mode {stat.S_IMODE(state.st_mode):04o});"
                    f" run chmod 600 on it, or set daemon.insecure_permissions: true"
                )
            if state.st_size > LARGEST_SECRET:
                raise _Unresolved(f"the secret file {name} is larger than 64 KiB")
            content = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise _Unresolved(f"the secret file {name} cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise _Unresolved(f"the secret file {name} is not UTF-8 text") from error
        if not content.strip():
            raise _Unresolved(f"the secret file {name} is empty")
        return content.removesuffix("\n").removesuffix("\r")


def resolve(
    document: Document, environ: Mapping[str, str], *, open_files_allowed: bool
) -> tuple[Document, list[Problem]]:
    """The document with its references resolved, and those that lead nowhere."""
    resolving = _Resolving(document, environ, open_files_allowed)
    root = resolving.value(document.root, ())
    # The longest first: a value that contains another must not be left with its remainder showing.
    spoken = dict(sorted(resolving.spoken.items(), key=lambda item: -len(item[0])))
    resolved = replace(document, root=root, referenced=frozenset(resolving.referenced), spoken=spoken)
    return resolved, resolving.problems
