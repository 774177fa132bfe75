"""HubSpot's associations: which records belong together. They are no properties: each is read and made on its own.

https://developers.hubspot.com/docs/api-reference/crm-associations-v4/guide
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from connectors.hubspot.complaints import Complaint, Refusal
from connectors.hubspot.objects import CONTACTS, ObjectType
from connectors.hubspot.values import Row, next_page
from connectors.hubspot.wire import Wire
from crmsync.connecting.pages import portions
from crmsync.connecting.values import listed
from crmsync.connector import halving
from crmsync.errors import Reject, Retry

BUCKET = "associations"
MOST_READ = 1_000
MOST_MADE = 100
NO_LINKS = frozenset({"", "OBJECT_NOT_FOUND"})

Pair = tuple[str, str]


def linked(wire: Wire, of: ObjectType, to: ObjectType, ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """The ids of the records of one kind to which those of another belong, in order; none for what has none."""
    found: dict[str, list[str]] = {}
    waiting: list[Row] = [{"id": id} for id in dict.fromkeys(ids)]
    while waiting:
        request, waiting = {"inputs": waiting[:MOST_READ]}, waiting[MOST_READ:]
        body = wire.call(wire.associations.get_page, of.path, to.path, request, bucket=BUCKET).body
        _refuse_half_an_answer(body)
        for result in listed(body.get("results")):
            id = str(result["from"]["id"])
            found.setdefault(id, []).extend(str(each["toObjectId"]) for each in listed(result.get("to")))
            if (after := next_page(result)) is not None:
                waiting.append({"id": id, "after": after})
    return {id: tuple(sorted(set(linked), key=lambda one: (len(one), one))) for id, linked in found.items()}


def _refuse_half_an_answer(body: Row) -> None:
    """A record whose associations could not be read must not look like one that has none."""
    if not isinstance(body.get("results"), list):
        raise Retry("HubSpot gave a bad response: no list of associations")
    for complaint in map(Complaint.read, listed(body.get("errors"))):
        if complaint.category not in NO_LINKS:
            raise Retry(f"HubSpot could not read every association: {complaint}")


class ContactLinks:
    """The contacts to which the records of one kind belong. `survivors` tells which ids merged contacts have now."""

    def __init__(self, wire: Wire, of: ObjectType, survivors: Callable[[Iterable[str]], Mapping[str, str]]) -> None:
        self._wire = wire
        self._of = of
        self._survivors = survivors

    def read(self, ids: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """The contacts of each record that has any."""
        return linked(self._wire, self._of, CONTACTS, ids)

    def add(self, wanted: Mapping[str, Collection[str]]) -> Mapping[str, str]:
        """Makes each record belong to these contacts as well. Returns HubSpot's code by record where it refused.

        What is there already is no error. Raises `Suspend` or `Retry`, after which it may be done again.
        """
        refused = self._made([(id, contact) for id, contacts in wanted.items() for contact in contacts])
        moved = self._survivors({contact for _, contact in refused})
        again = {(id, old): (id, moved[old]) for id, old in refused if moved.get(old, old) != old}
        still = self._made(sorted(set(again.values())))
        return {pair[0]: code for pair, code in refused.items() if pair not in again or again[pair] in still}

    def _made(self, pairs: Sequence[Pair]) -> Mapping[Pair, str]:
        """Makes associations; HubSpot's code for each that was refused."""
        refused: dict[Pair, str] = {}
        for part in portions(pairs, MOST_MADE):
            for pair, outcome in zip(part, halving(part, self._make), strict=True):
                if outcome is not None:
                    refused[pair] = outcome.code if isinstance(outcome, Refusal) else "REFUSED"
        return refused

    def _make(self, pairs: Sequence[Pair]) -> Sequence[Reject | None]:
        """Raises `Reject` if only one is refused: making the others once more does no harm."""
        request = {"inputs": [{"from": {"id": id}, "to": {"id": contact}} for id, contact in pairs]}
        create = self._wire.associations.create_default
        body = self._wire.call(create, self._of.path, CONTACTS.path, request, bucket=BUCKET, writing=True).body
        for complaint in map(Complaint.read, listed(body.get("errors"))):
            raise self._wire.row_error("HubSpot refused the association", complaint)
        return [None] * len(pairs)
