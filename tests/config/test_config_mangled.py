"""Whatever stands in a file, loading ends in a configuration or in problems with a place: never in anything else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml

from crmsync.config import Configuration
from crmsync.errors import ConfigError

Load = Callable[..., Configuration]

ODD = (
    None,
    [],
    {},
    7,
    -1,
    0.5,
    True,
    "",
    " ",
    "x",
    "${UNSET}",
    "${",
    [1],
    [None],
    [[]],
    {"a": "b"},
    {"": None},
    {"a": {}},
)

DAEMON = """\
daemon:
  database: sqlite:///x.db
  listen: 127.0.0.1:1
  public_url: https://sync.example.com
  insecure_targets: [127.0.0.1:9001]
  log: {level: info, format: json}
"""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path of a tree, sections and values alike."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def with_odd(text: str, path: tuple[Any, ...], odd: Any) -> str:
    """The file with another value at one path."""
    tree = yaml.safe_load(text)
    around = tree
    for step in path[:-1]:
        around = around[step]
    around[path[-1]] = odd
    return yaml.safe_dump(tree, allow_unicode=True)


def outcome(config_load: Load, text: str | bytes, environ: Mapping[str, str]) -> int:
    """The number of problems, each of which has a place and no secret."""
    try:
        config_load(text)
    except ConfigError as error:
        for problem in error.problems:
            assert problem.file == "a.yaml"
            assert problem.message
            assert not [value for value in environ.values() if value in str(problem)]
        return len(error.problems)
    return 0


def test_an_odd_value_anywhere_is_a_problem_with_a_place(
    config_load: Load, base: str, environ: Mapping[str, str]
) -> None:
    text = base + DAEMON
    paths = list(places(yaml.safe_load(text)))

    counts = [outcome(config_load, with_odd(text, path, odd), environ) for path in paths for odd in ODD]

    assert len(counts) > 400
    assert sum(count > 0 for count in counts) > 0.8 * len(counts)


@pytest.mark.parametrize("seed", range(4))
def test_a_mangled_file_is_a_problem_with_a_place(
    config_load: Load, base: str, environ: Mapping[str, str], seed: int
) -> None:
    """Characters lost, doubled or replaced, lines swapped and indented otherwise."""
    chance = random.Random(seed)
    for _ in range(60):
        text = list((base + DAEMON).encode())
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text))
            text[place : place + chance.randint(0, 2)] = chance.choice(
                [
                    b"",
                    b"\t",
                    b"\n",
                    b"  ",
                    b'"',
                    b"'",
                    b"[",
                    b"{",
                    b": ",
                    b"- ",
                    b"&",
                    b"*",
                    b"!",
                    b"#",
                    b"\xff",
                    b"\0",
                    b"%",
                ]
            )
        outcome(config_load, bytes(text), environ)
