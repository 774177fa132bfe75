"""YAML text → plain values, each with the line it stands on, and every mistake YAML would have let pass.

Reads the parser's events, so nothing is ever constructed: tags, anchors, aliases and duplicate keys are refused
where they stand. What YAML 1.1 reads otherwise than it looks (NO, 0711, 1:30, +62…) becomes a `Trap`, which no
type accepts. References (`${…}`) are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from crmsync.errors import Problem

KeyPath = tuple[str | int, ...]
"""Where a value is in a file: keys of mappings and positions in lists."""

LARGEST_FILE = 1024 * 1024
DEEPEST = 24
PLAIN_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,29})")
PLAIN_FLOAT = re.compile(r"-?[0-9]+\.[0-9]+")
PLAIN_BOOLEANS = MappingProxyType({"true": True, "false": False})


@dataclass(frozen=True, slots=True)
class Trap:
    """A value without quotes that YAML reads as something else than its letters: what is written, what is read.

    Also a boolean where none belongs; `reading` is empty then.
    """

    text: str
    reading: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands for a value whose mistake is already reported: nothing more is said about it."""


@dataclass(frozen=True, slots=True)
class Place:
    """The line of a key or of a list's item, and the text of its value if it is a single one."""

    line: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its values and where they stand. `referenced` and `spoken` are filled by resolving references."""

    file: str
    folder: Path
    root: dict[str, Any]
    places: Mapping[KeyPath, Place]
    referenced: frozenset[KeyPath] = frozenset()
    spoken: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def line(self, path: KeyPath) -> int:
        """The line of a value; of the nearest mapping around it if it is not there."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path].line

    def text(self, path: KeyPath) -> str:
        """What is written there: references unresolved, so fit for a message."""
        place = self.places.get(path)
        return place.text if place else ""

    def at(self, path: KeyPath) -> Any:
        """The value there, None where there is none."""
        value: Any = self.root
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def put(self, path: KeyPath, value: Trap | Broken) -> None:
        """Marks the value there as one that no type accepts: `Broken` if its mistake is already reported."""
        self.at(path[:-1])[path[-1]] = value

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A mistake at a key. A resolved value that slipped into the message is replaced by its reference."""
        for value, reference in self.spoken.items():
            message = message.replace(value, reference)
        return Problem(self.file, self.line(path), dotted(path), message)


def dotted(path: KeyPath) -> str:
    """A path as an operator writes it: `kirim.webhook_secrets[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def files(path: Path) -> tuple[list[Path], list[Problem]]:
    """The YAML files that a path names: itself, or those of a folder in order of name."""
    if path.is_dir():
        try:
            inside = sorted(entry for entry in path.iterdir() if entry.suffix in (".yaml", ".yml"))
        except OSError as error:
            return [], [Problem(str(path), 0, "", f"the folder cannot be read ({error.strerror})")]
        found = [entry for entry in inside if not entry.name.startswith(".")]
        if found:
            return found, []
        return [], [Problem(str(path), 0, "", "the folder has no file that ends in .yaml or .yml")]
    if not path.exists():
        return [], [Problem(str(path), 0, "", "there is no such file or folder")]
    return [path], []


def read(path: Path) -> tuple[Document | None, list[Problem]]:
    """One file as a document, or why it is none. A document may come with mistakes found in it."""
    text, problem = _text(path)
    if problem:
        return None, [problem]
    build = _Build(str(path))
    try:
        root = build.document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError as error:
        return None, [*build.problems, _syntax(str(path), text, error)]
    except _TooDeep:
        return None, build.problems
    if isinstance(root, Broken):
        return None, build.problems
    if not isinstance(root, dict):
        return None, [*build.problems, Problem(str(path), 1, "", _shape(root))]
    return Document(str(path), path.parent, root, build.places), build.problems


def _shape(root: object) -> str:
    """What to say about a file that is no mapping."""
    if root is None:
        return "the file is empty; it needs at least `tenant:` or `daemon:`"
    found = "a list" if isinstance(root, list) else "a single value"
    return f"the file must hold keys and values (`tenant: …`), found {found}"


def _text(path: Path) -> tuple[str, Problem | None]:
    """The file's text, or why it has none."""
    name = str(path)
    try:
        if not path.is_file():
            return "", Problem(name, 0, "", "is not a regular file")
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        return "", Problem(name, 0, "", f"the file cannot be read ({error.strerror})")
    if len(raw) > LARGEST_FILE:
        return "", Problem(name, 0, "", "the file is larger than 1 MiB")
    try:
        return raw.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        return "", Problem(name, line, "", f"column {column}: the file is not UTF-8; save it as UTF-8")


def _syntax(file: str, text: str, error: yaml.YAMLError) -> Problem:
    """What the YAML parser stumbled over, in plain words, with line and column."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        return Problem(file, line, "", f"column {column}: a control character that YAML does not allow")
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Problem(file, 0, "", "is not YAML")
    mark, said = error.problem_mark, error.problem or "is not YAML"
    column = mark.column + 1
    if "quoted scalar" in (error.context or "") and error.context_mark and "end of stream" in said:
        mark, column = error.context_mark, error.context_mark.column + 1
        said = "the quote that opens here is never closed"
    elif r"'\t'" in said:
        said = "a tab; YAML is indented with spaces"
    elif text[max(mark.index - 1, 0) : mark.index + 1] == "${":
        column, said = column - 1, 'inside [ ] and { } a reference needs quotes: "${NAME}"'
    elif said.startswith("but found another document"):
        said = "a second document (---) begins here; one file holds one tenant"
    elif error.context:
        said = f"{error.context}: {said}"
    return Problem(file, mark.line + 1, "", f"column {column}: {said}")


class _TooDeep(Exception):
    """The file is nested deeper than any configuration."""


class _Build:
    """Builds one document out of the parser's events."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[KeyPath, Place] = {(): Place(1)}
        self.problems: list[Problem] = []

    def document(self, events: Iterator[yaml.Event]) -> Any:
        """The value of the only document; None if there is none."""
        value: Any = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents == 2:
                    self._refuse((), event, "a second document (---) begins here; one file holds one tenant")
                    return Broken()
                value = self._value(next(events), events, ())
        return value

    def _refuse(self, path: KeyPath, event: yaml.Event, message: str) -> None:
        self.problems.append(Problem(self.file, _line(event), dotted(path), message))

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], path: KeyPath) -> Any:
        """One value, whatever it is; a refused one is read to its end all the same."""
        if len(path) > DEEPEST:
            self._refuse((), event, f"nested deeper than {DEEPEST} levels")
            raise _TooDeep
        if isinstance(event, yaml.AliasEvent):
            self._refuse(
                path,
                event,
                f"found the alias *{event.anchor}; anchors and aliases are not allowed, write the value out",
            )
            return Broken()
        refused = isinstance(event, yaml.NodeEvent) and self._refused(event, path)
        if isinstance(event, yaml.ScalarEvent):
            value = scalar(event.value) if event.implicit[0] else event.value
            self.places[path] = Place(self._line(event, path), event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._list(events, path)
        else:
            value = self._mapping(events, path)
        return Broken() if refused else value

    def _line(self, event: yaml.Event, path: KeyPath) -> int:
        """A mapping's value is reported at its key, which may stand on an earlier line."""
        place = self.places.get(path)
        return place.line if place and path else _line(event)

    def _refused(self, event: yaml.NodeEvent, path: KeyPath) -> bool:
        """Tags and anchors: nothing in a configuration needs them, and the dangerous ones look like the others."""
        tag: str | None = getattr(event, "tag", None)
        if tag:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(path, event, f"found the tag {shown}; tags are not allowed")
            return True
        if event.anchor:
            self._refuse(path, event, f"found the anchor &{event.anchor}; anchors and aliases are not allowed")
        return False

    def _list(self, events: Iterator[yaml.Event], path: KeyPath) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            here = (*path, len(items))
            self.places[here] = Place(_line(event))
            items.append(self._value(event, events, here))
        return items

    def _mapping(self, events: Iterator[yaml.Event], path: KeyPath) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(path, event, "a key must be a single word or a quoted text")
                raise _TooDeep
            self._entry(entries, event, events, (*path, event.value))
        return entries

    def _entry(
        self, entries: dict[str, Any], key: yaml.ScalarEvent, events: Iterator[yaml.Event], here: KeyPath
    ) -> None:
        """One key and its value. Of a key that comes twice the first is kept, the second only read to its end."""
        line = _line(key)
        if key.value in entries:
            first = self.places[here].line
            self._refuse(here, key, f"the key is already on line {first}; a key may come once")
            kept = dict(self.places)
            self._value(next(events), events, here)
            self.places = kept
            return
        self._refused(key, here)
        self.places[here] = Place(line)
        entries[key.value] = self._value(next(events), events, here)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def scalar(text: str) -> Any:
    """What YAML 1.1 makes of a text without quotes, if that is what it looks like; else a `Trap`."""
    tag = _tag(text)
    if tag == "null":
        return None
    if tag == "bool":
        return PLAIN_BOOLEANS.get(text.lower(), Trap(text, f"the boolean {_boolean(text)}"))
    if tag == "int":
        return int(text) if PLAIN_INTEGER.fullmatch(text) else Trap(text, _number(text))
    if tag == "float":
        return float(text) if PLAIN_FLOAT.fullmatch(text) else Trap(text, "a number")
    if tag == "timestamp":
        return Trap(text, "a date")
    return text


def _tag(text: str) -> str:
    """The type that PyYAML's resolver would give a text without quotes."""
    candidates = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    for tag, pattern in candidates:
        if pattern.match(text):
            return str(tag).rpartition(":")[2]
    return "str"


def _boolean(text: str) -> str:
    return "true" if yaml.SafeLoader.bool_values[text.lower()] else "false"


def _number(text: str) -> str:
    """Says which number YAML reads, which is the surprise."""
    try:
        return f"the number {yaml.safe_load(text)}"
    except ValueError:
        return "a number"
