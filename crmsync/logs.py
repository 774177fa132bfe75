"""Logs as lines of JSON, or of text for people, without secrets and personal data, whoever speaks.

Libraries are heard only when something is wrong, and then without what they put into their sentences: at their lower
levels, and in their warnings, stand addresses with telephone numbers, rows of the database and bodies.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import structlog

OWN = "crmsync"
SHORTEST_SECRET = 6
HIDDEN = "[hidden]"
_PLAIN = re.compile(r"[^(<{\n]{0,120}")


class _Secrets:
    """What must not appear in any line, in whatever sentence it got there."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def add(self, values: Iterable[str]) -> None:
        spelled = {
            each
            for value in values
            for each in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1])
        }
        with self._lock:
            self._known |= {value for value in spelled if len(value) >= SHORTEST_SECRET}
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def without(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(HIDDEN, text)


_SECRETS = _Secrets()


class _Handler(logging.StreamHandler[Any]):
    """A line that cannot be written is counted, and otherwise ignored: the service goes on."""

    dropped = 0

    def handleError(self, record: logging.LogRecord) -> None:
        """logging's own would print the message that failed, with its arguments."""
        _Handler.dropped += 1


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return _SECRETS.without(super().format(record))


class _Foreign(logging.Filter):
    """Lets libraries say that something is wrong, in the words of their source code only. Whatever a logger's level
    is set to: this stands before the output.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is heard, and as what."""
        if record.name == OWN or record.name.startswith((f"{OWN}.", "connectors.")):
            return True
        if record.levelno < logging.WARNING:
            return False
        found = _PLAIN.match(str(record.msg))
        record.msg, record.args = (found.group() if found else "").strip(), ()
        record.stack_info = None
        return True


def configure(level: str, form: str) -> None:
    """Sets up logging for the process: `level` concerns our own loggers only, `form` is `json` or `text`."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler()
    handler.addFilter(_Foreign())
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[_without_traceback, structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OWN).setLevel(level.upper())


def hide(secrets: Iterable[str]) -> None:
    """From now on these appear in no line. The last net: they should not get into one in the first place."""
    _SECRETS.add(secrets)


def dropped() -> int:
    """How many lines could not be written."""
    return _Handler.dropped


def place(error: BaseException) -> str:
    """Where an error was raised: files and lines only, since messages and locals may hold personal data."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))


def confine_crashes() -> None:
    """What ends the process or a thread is told by its type and place, not by a traceback with its message."""

    def crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _last_words(f"crmsync: internal error ({kind.__name__}) at {place(error.with_traceback(trace))}")

    def thread_crashed(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None:
            name = told.thread.name if told.thread else "a thread"
            _last_words(f"crmsync: {name} ended ({told.exc_type.__name__}) at {place(told.exc_value)}")

    def unraisable(told: Any) -> None:
        kind = told.exc_type.__name__ if told.exc_type else "an error"
        _last_words(f"crmsync: {kind} where nobody could catch it")

    sys.excepthook = crashed
    threading.excepthook = thread_crashed
    sys.unraisablehook = unraisable


def _last_words(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")


def _without_traceback(logger: Any, name: str, event: Any) -> Any:
    """A traceback's last line is the error's message, which may quote a payload: its type has to do."""
    error = event.pop("exc_info", None)
    if error:
        error = sys.exc_info() if error is True else error
        kind = error[0] if isinstance(error, tuple) else type(error)
        event["error"] = getattr(kind, "__name__", str(kind))
    return event
