"""Rows on their way to a platform that takes batches: each comes to exactly one outcome.

What a row is, and what an answer says of it, is the connector's. Once the account or the wire is in trouble, nothing
more is sent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from crmsync.connector import Sending
from crmsync.errors import ConnectorError, Reject, Retry, Suspend

Entry = TypeVar("Entry")
Done = TypeVar("Done")


class Batches(ABC, Generic[Entry, Done]):
    """The rows of one call. A batch that is refused as a whole is halved."""

    def __init__(self) -> None:
        self.sending = Sending[Entry, Done]()
        self._required = False

    @abstractmethod
    def name(self, entry: Entry) -> str:
        """What tells a row from the others."""

    @abstractmethod
    def attempt(self, entries: Sequence[Entry]) -> Sequence[Done | ConnectorError]:
        """Sends rows together; one outcome for each. Raises `Reject` when they are refused together, and trouble that
        is not theirs."""

    @abstractmethod
    def require(self) -> None:
        """Looks whether the fields are there that crmsync needs; raises `Suspend` where one is missing."""

    def outcomes(self, groups: Iterable[Sequence[Entry]]) -> Mapping[str, Done | ConnectorError]:
        """The outcome of each row, by name. Raises the failure if nothing can have been written before it."""
        found: dict[str, Done | ConnectorError] = {}
        for group in groups:
            found.update(self.settled(group))
        self.sending.check(found.values())
        return found

    def settled(self, entries: Sequence[Entry]) -> Mapping[str, Done | ConnectorError]:
        """The outcomes of rows that go to the same place."""
        outcomes = self.sending.outcomes(entries, self.attempt)
        return {self.name(entry): outcome for entry, outcome in zip(entries, outcomes, strict=True)}

    def suspected(self) -> ConnectorError | None:
        """The trouble of the account that may be behind a refusal which names no field: somebody deleted a field of
        ours, which is no row's fault. It is looked for once, and is the answer for every such row."""
        if not self._required and self.sending.failure is None:
            self._required = True
            try:
                self.require()
            except (Suspend, Retry) as error:
                self.stop(error)
            except Reject:
                pass  # refused as well: no evidence of anything
        return self.sending.failure

    def stop(self, failure: Suspend | Retry) -> ConnectorError:
        """Nothing more is sent. Returns the first failure."""
        return self.sending.stop(failure)
