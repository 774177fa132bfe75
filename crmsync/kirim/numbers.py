"""Which of the organisation's numbers a contact lives under: remembered up to a bound, else unknown."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

REMEMBERED = 20_000


class NumberBook:
    """A bounded memory that only saves requests: being wrong costs a search and nothing else."""

    def __init__(self, numbers: Sequence[str], size: int = REMEMBERED) -> None:
        self.all = tuple(numbers)
        self._size = size
        self._lock = Lock()
        self._known: OrderedDict[str, str] = OrderedDict()

    def likely(self, record_id: str) -> tuple[str, ...]:
        """Every number, the remembered one first."""
        with self._lock:
            known = self._known.get(record_id)
        if known is None:
            return self.all
        return (known, *(number for number in self.all if number != known))

    def known(self, record_id: str) -> str | None:
        """The number that a record was last seen under."""
        with self._lock:
            return self._known.get(record_id)

    def note(self, record_id: str, number: object) -> None:
        """Remembers where a record was seen, if that is one of our numbers."""
        if len(self.all) < 2 or number not in self.all or not isinstance(number, str):
            return
        with self._lock:
            self._known[record_id] = number
            self._known.move_to_end(record_id)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
