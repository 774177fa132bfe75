"""Texts for fields that have their own ideas: a longest length, HTML, JSON parsers that choke."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CUT = "\n[…]"


def sendable(text: str) -> str:
    """Without lone surrogates: no JSON parser takes one, and a whole batch would be refused for it."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def fitting(lines: Sequence[str], longest: int, between: str = "\n") -> str:
    """As many lines as there is room for, and a mark where some are missing. One line that is too long is cut."""
    whole = between.join(lines)
    if len(whole) <= longest:
        return whole
    kept: list[str] = []
    left = longest - len(between) - len(_CUT)
    for line in lines:
        if len(line) + len(between) > left:
            break
        kept.append(line)
        left -= len(line) + len(between)
    return between.join([*kept, _CUT.strip()]) if kept else whole[: longest - len(_CUT)] + _CUT


def as_html(text: str, longest: int) -> str:
    """The same for a field that is HTML: what customers write must not become part of it."""
    return fitting([html.escape(line, quote=False) for line in text.split("\n")], longest, "<br>")
