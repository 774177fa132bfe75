"""The properties of one kind of object in an account, and what has to be made there for crmsync."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.hubspot.complaints import Refusal
from connectors.hubspot.objects import ObjectType, OwnProperty
from connectors.hubspot.values import Row, field_of
from connectors.hubspot.wire import Wire
from crmsync.connecting.values import listed
from crmsync.errors import Reject, Retry, Suspend


class Schema:
    """`own` are the properties that crmsync needs."""

    def __init__(self, wire: Wire, of: ObjectType, own: Sequence[OwnProperty]) -> None:
        self._wire = wire
        self._of = of
        self._own = own
        self._known: Mapping[str, Row] | None = None

    def known(self) -> Mapping[str, Row]:
        """The definitions by name, read once: what a property's text means does not change."""
        return self.read() if self._known is None else self._known

    def read(self) -> Mapping[str, Row]:
        """The definitions by name, as they are now."""
        results = self._wire.call(self._wire.properties.get_all, self._of.path).body.get("results")
        if not isinstance(results, list):
            raise Retry("HubSpot gave a bad response: no list of properties")
        self._known = {str(row["name"]): row for row in results if isinstance(row, dict) and row.get("name")}
        return self._known

    def require(self, *, anew: bool) -> None:
        """Raises `Suspend` unless every property of ours is there: without them nothing can be written."""
        known = self.read() if anew else self.known()
        for own in self._own:
            if own.name not in known:
                self._known = None
                raise Suspend(f"HubSpot has no {self._of.name} property {own.name}; prepare the account")

    def prepare(self, *, plan_only: bool) -> Sequence[str]:
        """What is missing, one sentence each; makes it unless `plan_only`."""
        known = self.read()
        missing = [own for own in self._own if not self._is_there(own, known)]
        if missing and not plan_only:
            for own in missing:
                self._make(own, known)
            known = self.read()
            for own in missing:
                self._check(own, known.get(own.name, {}))
        return [
            f"The {self._of.name} property {own.name}, a {own.form}, has to be made for {own.purpose}."
            for own in missing
        ]

    def _is_there(self, own: OwnProperty, known: Mapping[str, Row]) -> bool:
        if own.name in known:
            self._check(own, known[own.name])
        return own.name in known

    def _check(self, own: OwnProperty, found: Row) -> None:
        """Whether a property can be used. Uniqueness is given to a property when it is made, or never."""
        unique = found.get("hasUniqueValue") or not own.unique
        if not (unique and found.get("type") == "string" and field_of(found).writable):
            cure = f", and cannot be made one: name another property in `{own.setting}:`" if own.setting else ""
            raise Reject(f"HubSpot's {self._of.name} property {own.name} is not a writable {own.form}{cure}")

    def _make(self, own: OwnProperty, known: Mapping[str, Row]) -> None:
        group = str(known.get(self._of.beside, {}).get("groupName") or self._of.group)
        try:
            self._wire.call(self._wire.properties.create, self._of.path, own.definition(self._of, group), writing=True)
        except Refusal as refusal:
            if not refusal.conflict:  # a conflict: somebody else made it meanwhile
                raise refusal.plain() from None


def pipelines(wire: Wire, of: ObjectType) -> Mapping[str, Mapping[str, str]]:
    """What a record's pipeline and stage can be: by property, the ids with the names that people gave them."""
    lines: dict[str, str] = {}
    stages: dict[str, str] = {}
    found = [line for line in listed(wire.call(wire.pipelines.get_all, of.path).body.get("results")) if line.get("id")]
    for line in found:
        lines[str(line["id"])] = name = str(line.get("label") or "")
        for stage in listed(line.get("stages")):
            label = str(stage.get("label") or "")
            stages[str(stage["id"])] = label if len(found) == 1 else f"{name}: {label}"
    return {"hs_pipeline": lines, "hs_pipeline_stage": stages}
