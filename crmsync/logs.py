"""Logs as lines of JSON, or of text for people. Third-party libraries speak only when something is wrong:
at their lower levels they print addresses with telephone numbers in them (httpx does at INFO).
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

OWN = "crmsync"


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
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[_without_traceback, structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OWN).setLevel(level.upper())


def _without_traceback(logger: Any, name: str, event: Any) -> Any:
    """A traceback's last line is the error's message, which may quote a payload: its type has to do."""
    error = event.pop("exc_info", None)
    if error:
        kind = error[0] if isinstance(error, tuple) else type(error)
        event["error"] = getattr(kind, "__name__", str(kind))
    return event
