"""When to try again: a decision, not a sleeping loop."""

from __future__ import annotations

from datetime import timedelta

from crmsync.errors import ConnectorError, Retry, Suspend, Throttled

FIRST = timedelta(seconds=1)
LONGEST = timedelta(minutes=15)
PROBE = timedelta(minutes=1)
ATTEMPTS = 8
"""Starts of one record without an end (the process was killed each time) before it is parked."""
FAILURES = 100
"""Tries of one record that end in passing trouble, while others go well, before it is parked: about a day."""
ALONE_FROM = 3
"""Starts without an end, or failures, after which a record is worked on alone: it cannot take others down with it."""
MIDDLE = 0.5
"""The chance of no spread: what is worked on alone need not avoid its like."""


def wait(error: ConnectorError, attempts: int, chance: float) -> timedelta:
    """How long to wait after the `attempts`-th failure; `chance` in [0, 1) spreads it by ±25 %.

    A time that the platform named is a minimum. What belongs to a suspended connection is tried once a minute.
    """
    named = error.after if isinstance(error, (Retry, Suspend)) and error.after else timedelta(0)
    if isinstance(error, Throttled):
        return max(named, FIRST) * (1 + chance / 4)
    if isinstance(error, Suspend):
        return max(named, PROBE)
    grown = min(FIRST * 2 ** min(attempts - 1, 20), LONGEST) if attempts > 0 else FIRST
    return max(named, grown * (0.75 + chance / 2))


def rest(error: ConnectorError, failures: int, chance: float) -> timedelta:
    """How long a lane rests after its platform failed for the `failures`-th time in a row.

    Never long, unless the platform named a time: what came in meanwhile should not wait for the memory of an outage.
    """
    named = error.after if isinstance(error, (Retry, Suspend)) and error.after else timedelta(0)
    return max(named, min(wait(error, failures, chance), PROBE))


def alone(attempts: int, chance: float) -> timedelta:
    """How long what may have ended the process rests from its `attempts`-th start on, unless that comes to an end.

    Whoever is innocent, and was there each time something else ended it, comes to an end before it is given up.
    """
    return wait(Retry("it ended the process"), attempts - ALONE_FROM, chance)
