"""Everything crmsync raises on purpose, named by what has to happen next.

CrmsyncError
├── ConfigError        the operator edits a file, then starts again
├── StoreError         the store cannot take or give data now
│   ├── StoreUnavailable   passing: callers answer 503 or try again
│   └── Fenced             this node lost its lane: its transaction must not commit
├── ConnectorError     what became of one call, or of one record in a call
│   ├── Retry              passing: the same write may go through later
│   │   └── Throttled          our own budget said to wait; nothing was sent
│   ├── Reject             permanent for this version of the input
│   └── Suspend            the whole connection is unusable until its cause is cured
├── BadWebhook         an inbound request that must not act
│   ├── BadSignature       it did not prove its origin
│   └── BadPayload         it proved its origin but cannot be understood
└── Unsupported        a connector was asked for a capability it does not declare
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class CrmsyncError(Exception):
    """Base of every error raised on purpose. `str(error)` is fit for an operator: no secret, no personal datum."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration: where it is, what was found, what would be right."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(CrmsyncError):
    """The configuration cannot be used. Carries every mistake found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StoreError(CrmsyncError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store is down, locked or full just now. Nothing was written; the same call may go through later."""


class Fenced(StoreError):
    """Another node holds the lane by now. The transaction was rolled back."""


class ConnectorError(CrmsyncError):
    """What a platform answered, or failed to. The message names the platform's code, never a payload."""


class Retry(ConnectorError):
    """Passing trouble. `after` is the wait the platform asked for, None where it named none.

    `ambiguous` says that the request may have been applied although no answer came.
    """

    def __init__(self, message: str, after: timedelta | None = None, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.ambiguous = ambiguous


class Throttled(Retry):
    """Our own budget is used up for now. Nothing was sent, so it does not count as an attempt."""


class Reject(ConnectorError):
    """The platform will not take this input, however often it is sent.

    `fields` are the guilty fields where the platform named them, in its own spelling.
    `candidate` is the id of the record that stands in the way (a uniqueness conflict), if it was named.
    """

    def __init__(self, message: str, fields: Sequence[str] = (), candidate: str | None = None) -> None:
        super().__init__(message)
        self.fields = tuple(fields)
        self.candidate = candidate


class Suspend(ConnectorError):
    """The credential or the account is the trouble: expired token, missing scope, used-up quota.

    Every record of the connection waits; `after` says until when if the platform named it. `endpoint` is whose
    trouble it is, where a flow met it at another endpoint than its lane's own.
    """

    def __init__(self, message: str, after: timedelta | None = None, *, endpoint: str = "") -> None:
        super().__init__(message)
        self.after = after
        self.endpoint = endpoint


class BadWebhook(CrmsyncError):
    """An inbound request that must not act."""


class Doubt(StrEnum):
    """Why a signature was not believed."""

    MISSING = "missing_signature"
    MALFORMED = "malformed"
    MISMATCH = "mismatch"
    STALE = "stale"  # authentic, but signed too long ago
    FUTURE = "future"  # authentic, but signed by a clock ahead of ours


class BadSignature(BadWebhook):
    """The request did not prove where it comes from. For `STALE` and `FUTURE` the signature itself was right."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(doubt.value)
        self.doubt = doubt

    @property
    def authentic(self) -> bool:
        """Whether the bytes were signed with one of our secrets, freshness aside."""
        return self.doubt in (Doubt.STALE, Doubt.FUTURE)


class BadPayload(BadWebhook):
    """A body that proved its origin but cannot be understood; the message is a short constant reason."""


class Unsupported(CrmsyncError):
    """A connector was asked for something outside its declared capabilities."""
