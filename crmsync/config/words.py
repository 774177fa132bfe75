"""What pydantic found wrong, in plain words: what must be there, what was found, what was probably meant."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from crmsync.config.source import Broken, Document, KeyPath, Trap
from crmsync.errors import Problem

MOST_SHOWN = 60
CLOSE_ENOUGH = 0.65
SHORTEST_PIECE = 4
_WRONG_TYPE = ("_type", "_parsing", "_from_float", "enum", "literal_error")
_OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that was probably meant; `secerts` means `webhook_secrets` if there are no other secrets."""
    scored = [(_likeness(word.lower(), name.lower()), name) for name in sorted(known)]
    score, name = max(scored, key=lambda pair: pair[0], default=(0.0, ""))
    return name if score >= CLOSE_ENOUGH else None


def _likeness(word: str, name: str) -> float:
    """How much two words look alike; looking like one part of a name counts a little less."""
    pieces = [name, *(piece for piece in name.split("_") if len(piece) >= SHORTEST_PIECE)]
    ratios = [difflib.SequenceMatcher(None, word, piece).ratio() for piece in pieces]
    return max(ratios[0], 0.9 * max(ratios[1:], default=0))


def did_you_mean(word: str, known: Collection[str]) -> str:
    """`; did you mean x?`, or nothing."""
    meant = nearest(word, known)
    return f"; did you mean {meant}?" if meant else ""


def unknown_key(word: str, known: Collection[str]) -> str:
    """What to say about a key that nobody reads."""
    meant = nearest(word, known)
    if meant:
        return f"unknown key; did you mean {meant}?"
    return f"unknown key; known are {', '.join(sorted(known))}"


def key_names(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """A model's keys as they are written in YAML."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def parts(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type, without None and without annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from parts(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from parts(part)
    elif annotation is not type(None):
        yield annotation


def bounds(annotation: Any, metadata: Sequence[Any]) -> dict[str, Any]:
    """The limits that belong to a type: its own, and those of the alternatives inside it."""
    found: dict[str, Any] = {}
    inner = [*metadata]
    if get_origin(annotation) is Annotated:
        inner += get_args(annotation)[1:]
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            found |= bounds(part, ())
    for piece in inner:
        if isinstance(piece, FieldInfo):
            found |= bounds(None, piece.metadata)
        found |= {name: getattr(piece, name) for name in ("ge", "gt", "le", "lt") if hasattr(piece, name)}
    return {name: limit for name, limit in found.items() if limit is not None}


def expected(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What may stand at a place of this type: `a whole number between 30 and 600`."""
    limits = bounds(annotation, metadata)
    said = list(dict.fromkeys(_expected(part, limits) for part in parts(annotation)))
    return " or ".join(said)


def _expected(part: Any, limits: Mapping[str, Any]) -> str:
    origin = get_origin(part) or part
    if origin is Literal:
        return f"one of {', '.join(str(choice) for choice in get_args(part))}"
    if not isinstance(origin, type):
        return "another value"
    if issubclass(origin, Enum):
        return f"one of {', '.join(str(choice.value) for choice in origin)}"
    if issubclass(origin, bool):
        return "true or false"
    if issubclass(origin, int | float):
        return ("a whole number" if issubclass(origin, int) else "a number") + _range(limits)
    if issubclass(origin, list | tuple | set | frozenset):
        return "a list"
    if issubclass(origin, BaseModel | Mapping):
        return "keys and values"
    return "text"


def _range(limits: Mapping[str, Any]) -> str:
    if "ge" in limits and "le" in limits:
        return f" between {limits['ge']} and {limits['le']}"
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    said = [f"{word} {limits[name]}" for name, word in words.items() if name in limits]
    return f" {' and '.join(said)}" if said else ""


def choices(annotation: Any) -> list[str]:
    """The words that a type allows, where it allows only some."""
    found: list[str] = []
    for part in parts(annotation):
        if get_origin(part) is Literal:
            found += [str(choice) for choice in get_args(part)]
        elif isinstance(part, type) and issubclass(part, Enum):
            found += [str(choice.value) for choice in part]
    return found


def holds_secret(annotation: Any) -> bool:
    """Whether secrets stand at a place of this type, alone or in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes):
        return True
    return any(holds_secret(argument) for argument in get_args(annotation))


def leaves(model: type[BaseModel], value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any, Any]]:
    """Every single value below a section that the model gives a type: path, type, value."""
    if isinstance(value, dict):
        for name, field in key_names(model).items():
            if name in value:
                yield from _leaves(field.annotation, value[name], (*path, name))


def _leaves(annotation: Any, value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any, Any]]:
    if not isinstance(value, dict | list):
        if annotation is not Any:
            yield path, annotation, value
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for part in parts(annotation):
        arguments = get_args(part)
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield from leaves(part, value, path)
        elif arguments:
            for key, item in items:
                yield from _leaves(arguments[-1 if isinstance(value, dict) else 0], item, (*path, key))


def found(document: Document, path: KeyPath, *, secret: bool = False) -> str:
    """What stands at a place, as written in the file; a secret is only shown if it is a reference."""
    value = document.at(path)
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    text = document.text(path)
    if secret and path not in document.referenced:
        return "a value that is not shown"
    if value is None or not text:
        return "nothing"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def wrong_type(document: Document, path: KeyPath, annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """`must be …, found …`, with the cure where YAML itself was the trap."""
    wanted = expected(annotation, metadata)
    value = document.at(path)
    if holds_secret(annotation):
        return f"must be {wanted}, found {found(document, path, secret=True)}"
    here = found(document, path)
    if isinstance(value, str):
        return f"must be {wanted}, found {here}{did_you_mean(value, choices(annotation))}"
    if not isinstance(value, Trap | bool | int | float):
        return f"must be {wanted}, found {here}"
    if "number" in wanted and isinstance(value, int | float) and not isinstance(value, bool):
        return f"must be {wanted}, found {here}"
    said = f"must be {wanted}, found {as_read(value, here)}"
    if "text" in wanted or "one of" in wanted:
        return f'{said}; put it in quotes: "{document.text(path)}"'
    if isinstance(value, Trap) and value.reading:
        return f"{said}; write {'true or false' if wanted == 'true or false' else 'plain decimal digits'}"
    return said


def as_read(value: Any, text: str) -> str:
    """A text without quotes and what YAML made of it, where that is not the same."""
    if isinstance(value, Trap) and value.reading:
        return f"{text}, which YAML reads as {value.reading}"
    return f"the {'boolean' if isinstance(value, bool | Trap) else 'number'} {text}"


def problems_of(
    document: Document, base: KeyPath, model: type[BaseModel], error: ValidationError, known: Collection[str]
) -> list[Problem]:
    """Every error of a section as a problem. `known` are further keys that may stand beside the model's own."""
    problems: dict[tuple[int, str], Problem] = {}
    for detail in error.errors(include_url=False):
        path, annotation, metadata = _locate(model, detail["loc"])
        here = _existing(document, (*base, *path), detail["type"])
        if _spoken_for(document.at(here)):
            continue
        message = _message(document, here, detail, model, known, annotation, metadata)
        problem = document.problem(here, message)
        problems.setdefault((problem.line, problem.key), problem)
    return list(problems.values())


def _spoken_for(value: Any) -> bool:
    """Whether the mistake is already reported: the value's own, or of a list what is in it."""
    return isinstance(value, Broken) or (isinstance(value, list) and any(isinstance(item, Broken) for item in value))


def _existing(document: Document, path: KeyPath, kind: str) -> KeyPath:
    """Cuts what pydantic adds to a location (names of alternatives) and no file has; a missing key stays."""
    while path and kind != "missing" and path not in document.places:
        path = path[:-1]
    return path


def _locate(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[KeyPath, Any, Sequence[Any]]:
    """The place in the file and the type that the model has there."""
    annotation: Any = model
    metadata: Sequence[Any] = ()
    path: list[str | int] = []
    for step in loc:
        inner = next((part for part in parts(annotation) if _has(part, step)), None)
        if inner is None:
            path.append(step)
            break
        path.append(step)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field = key_names(inner)[str(step)]
            annotation, metadata = field.annotation, field.metadata
        else:
            annotation, metadata = get_args(inner)[0 if isinstance(step, int) else -1], ()
    return tuple(path), annotation, metadata


def _has(part: Any, step: int | str) -> bool:
    """Whether a type has something at this step."""
    if isinstance(part, type) and issubclass(part, BaseModel):
        return step in key_names(part)
    origin = get_origin(part)
    if not isinstance(origin, type) or not get_args(part):
        return False
    return issubclass(origin, Mapping) if isinstance(step, str) else issubclass(origin, Sequence | set | frozenset)


def _message(
    document: Document,
    path: KeyPath,
    detail: ErrorDetails,
    model: type[BaseModel],
    known: Collection[str],
    annotation: Any,
    metadata: Sequence[Any],
) -> str:
    kind = detail["type"]
    if kind == "missing":
        return "is missing" + _purpose(model, detail["loc"])
    if kind == "extra_forbidden":
        return unknown_key(str(path[-1]), _siblings(model, detail["loc"], known))
    if kind.endswith(_WRONG_TYPE) or kind in _OUT_OF_RANGE:
        return wrong_type(document, path, annotation, metadata)
    secret = holds_secret(annotation)
    here = found(document, path, secret=secret)
    said = _said(detail)
    if (
        secret
        or re.search(rf"(?<!\w){re.escape(here)}(?!\w)", said)
        or here in ("nothing", "a list", "keys and values")
    ):
        return said
    # The cure comes last: `must be host:port, found x; did you mean y?`
    head, semicolon, cure = said.partition(";")
    return f"{head}, found {here}{semicolon}{cure}"


def _said(detail: ErrorDetails) -> str:
    """pydantic's own words, or those of a validator, where no better ones are known."""
    about = detail.get("ctx", {})
    if "error" in about:
        return str(about["error"])
    limits = {"short": ("at least", about.get("min_length")), "long": ("at most", about.get("max_length"))}
    kind = detail["type"]
    if kind in ("too_short", "too_long", "string_too_short", "string_too_long"):
        words, count = limits[kind.rpartition("_")[2]]
        many = "" if count == 1 else "s" if kind.startswith("string") else "ies"
        return (
            f"must have {words} {count} {'character' + many if kind.startswith('string') else 'entr' + (many or 'y')}"
        )
    if kind == "string_pattern_mismatch":
        return f"must have the form {about['pattern']}"
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _purpose(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """What the missing key is for, if its model says."""
    owner = _owner(model, loc)
    field = key_names(owner).get(str(loc[-1])) if owner else None
    return f" ({field.description})" if field and field.description else ""


def _siblings(model: type[BaseModel], loc: tuple[int | str, ...], known: Collection[str]) -> set[str]:
    owner = _owner(model, loc)
    return {*(key_names(owner) if owner else ()), *(known if len(loc) == 1 else ())}


def _owner(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that has, or refuses, the last key of a location."""
    _, annotation, _ = _locate(model, loc[:-1])
    models = [part for part in parts(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    return models[0] if models else None
