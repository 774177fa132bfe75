"""When to try again: a decision, not a sleeping loop."""

from __future__ import annotations

from datetime import timedelta

from crmsync.errors import ConnectorError, Retry, Suspend, Throttled

FIRST = timedelta(seconds=1)
LONGEST = timedelta(minutes=15)
PROBE = timedelta(minutes=1)
ATTEMPTS = 12
"""Tries of one record before it is parked: about two hours of growing waits."""
ALONE_FROM = 3
"""Starts without an end after which a record is worked on alone, so that it cannot take others down with it."""


def wait(error: ConnectorError, attempts: int, chance: float) -> timedelta:
    """How long to wait after the `attempts`-th failure; `chance` in [0, 1) spreads it by ±25 %.

    A time that the platform named is a minimum. A suspended connection is probed once a minute, unless the platform
    named a time.
    """
    named = error.after if isinstance(error, (Retry, Suspend)) and error.after else timedelta(0)
    if isinstance(error, Throttled):
        return max(named, FIRST) * (1 + chance / 4)
    if isinstance(error, Suspend):
        return max(named, PROBE)
    grown = min(FIRST * 2 ** min(attempts - 1, 20), LONGEST) if attempts > 0 else FIRST
    return max(named, grown * (0.75 + chance / 2))
