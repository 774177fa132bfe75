"""The records of an emulated HubSpot account over HTTP, one method per operation of `/crm/v3/objects/{object}`."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from random import Random
from typing import Any

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.hubspot.associations import Associations
from crmsync.sandbox.hubspot.behaviour import Behaviour, Partial
from crmsync.sandbox.hubspot.records import Problem, Record, Records, Source, iso
from crmsync.sandbox.hubspot.search import Index

LARGEST_BATCH = 100
LARGEST_HISTORY_BATCH = 50
LARGEST_SEARCH = 3000

Recorder = Callable[[str, Record, Mapping[str, Any], Sequence[str], "str | None"], None]
Row = tuple[Record, bool]


class ObjectsApi:
    """Translates between HTTP and `Records`. Every applied write is handed to `note`, for the ledger."""

    def __init__(
        self,
        records: Records,
        index: Index,
        behaviour: Behaviour,
        random: Random,
        now: Callable[[], datetime],
        source: Source,
        note: Recorder,
        associations: Associations,
    ) -> None:
        self._records = records
        self._index = index
        self._behaviour = behaviour
        self._random = random
        self._now = now
        self._source = source
        self._note = note
        self._associations = associations

    # -- one record

    def read(self, call: Call) -> Reply:
        """GET /{id}"""
        record = self._get(call, archived=_archived(call))
        return Reply(200, self._show(record, _listed(call, "properties"), _listed(call, "propertiesWithHistory")))

    def create(self, call: Call) -> Reply:
        """POST /"""
        asked = call.json()
        record = self._create(_properties(asked), None, asked.get("associations"))
        return Reply(201, self._show(record, record.properties))

    def update(self, call: Call) -> Reply:
        """PATCH /{id}"""
        record = self._get(call)
        values = _properties(call.json())
        self._update(record, values, None)
        return Reply(200, self._show(record, values))

    def archive(self, call: Call) -> Reply:
        """DELETE /{id}"""
        self._archive(call.params["id"])
        return Reply(204)

    def merge(self, call: Call) -> Reply:
        """POST /merge"""
        asked = call.json()
        primary, other = (self._records.find(str(asked.get(name))) for name in ("primaryObjectId", "objectIdToMerge"))
        if primary is None or other is None or primary is other or primary.archived or other.archived:
            raise Problem(400, "VALIDATION_ERROR", "These records cannot be merged")
        survivor = self._records.merge(primary, other, self._source)
        self._note("merge", survivor, {"merged": [str(primary.id), str(other.id)]}, (), None)
        return Reply(200, self._show(survivor, survivor.properties))

    def erase(self, call: Call) -> Reply:
        """POST /gdpr-delete"""
        asked = call.json()
        record = self._records.find(str(asked.get("objectId")), asked.get("idProperty"))
        if record is not None:
            self._records.erase(record, self._source)
            self._note("erase", record, {}, (), None)
        return Reply(204)

    # -- many records

    def list_page(self, call: Call) -> Reply:
        """GET /: walks by id; `after` is the id with which the page begins."""
        limit, after = call.param("limit", "10"), call.param("after", "0")
        if not (limit.isdecimal() and after.isdecimal() and 0 < int(limit) <= LARGEST_BATCH):
            raise Problem(400, "VALIDATION_ERROR", "limit or after is invalid")
        page, rest = self._numbers(int(after), int(limit), archived=_archived(call))
        wanted, history = _listed(call, "properties"), _listed(call, "propertiesWithHistory")
        body: dict[str, Any] = {
            "results": [self._show(self._records.by_id[number], wanted, history) for number in page]
        }
        if rest is not None:
            body["paging"] = {"next": {"after": str(rest), "link": f"{call.path}?after={rest}"}}
        return Reply(200, body)

    def search(self, call: Call) -> Reply:
        """POST /search"""
        if len(call.body) > LARGEST_SEARCH:
            raise Problem(400, "VALIDATION_ERROR", f"The request body is longer than {LARGEST_SEARCH} characters")
        asked = call.json() or {}
        found = self._index.search(asked)
        shown = [
            self._show(self._records.by_id[number], asked.get("properties") or (), indexed=row)
            for number, row in found.rows
        ]
        body: dict[str, Any] = {"total": found.total, "results": shown}
        if found.after is not None:
            body["paging"] = {"next": {"after": str(found.after)}}
        return Reply(200, body)

    def batch_read(self, call: Call) -> Reply:
        """POST /batch/read: unknown keys are errors beside the results."""
        asked = call.json()
        history = asked.get("propertiesWithHistory") or ()
        inputs = _inputs(asked, LARGEST_HISTORY_BATCH if history else LARGEST_BATCH)
        archived = _archived(call)
        found: dict[int, Record] = {}
        missing: list[str] = []
        for key in dict.fromkeys(str(item["id"]) for item in inputs):
            record = self._records.find(key, asked.get("idProperty"))
            if record is None or record.archived != archived:
                missing.append(key)
            else:
                found[record.id] = record
        results = [self._show(record, asked.get("properties") or (), history) for record in found.values()]
        errors = [_not_found(self._records.of.name, missing)] if missing else []
        return self._batch_reply(results, errors, self._behaviour.read_missing_status)

    def batch_create(self, call: Call) -> Reply:
        """POST /batch/create"""

        def create(item: Mapping[str, Any]) -> Row:
            return self._create(_properties(item), item.get("objectWriteTraceId"), item.get("associations")), True

        return self._write(call, 201, create)

    def batch_update(self, call: Call) -> Reply:
        """POST /batch/update"""

        def update(item: Mapping[str, Any]) -> Row:
            if item.get("idProperty") == "hs_object_id":
                raise Problem(400, "VALIDATION_ERROR", "hs_object_id is a non-unique property")
            record = self._records.find(str(item["id"]), item.get("idProperty"))
            if record is None or record.archived:
                raise Problem(404, "OBJECT_NOT_FOUND", "Object not found", context={"ids": [str(item["id"])]})
            self._update(record, _properties(item), item.get("objectWriteTraceId"))
            return record, False

        return self._write(call, 200, update)

    def batch_upsert(self, call: Call) -> Reply:
        """POST /batch/upsert"""

        def upsert(item: Mapping[str, Any]) -> Row:
            key, name = str(item["id"]), item["idProperty"]
            trace = item.get("objectWriteTraceId")
            record = self._records.find(key, name)
            if record is not None and not record.archived:
                self._update(record, _properties(item), trace)
                return record, False
            filled = {name: key} if self._behaviour.upsert_fills_key else {}
            return self._create({**filled, **_properties(item)}, trace), True

        for item in _inputs(call.json(), LARGEST_BATCH):
            self._check_key_property(item.get("idProperty"))
        return self._write(call, 200, upsert, upsert=True)

    def batch_archive(self, call: Call) -> Reply:
        """POST /batch/archive"""
        for item in _inputs(call.json(), LARGEST_BATCH):
            self._archive(str(item["id"]))
        return Reply(204)

    # -- inside

    def _numbers(self, first: int, limit: int, *, archived: bool) -> tuple[list[int], int | None]:
        """The ids of a page that begins at `first`, and the id with which the next begins."""
        numbers = list(self._records.by_id)  # ids only grow, so these are in order
        rest = islice(numbers, bisect_left(numbers, first), None)
        chosen = list(islice((one for one in rest if self._records.by_id[one].archived == archived), limit + 1))
        return chosen[:limit], chosen[limit] if len(chosen) > limit else None

    def _get(self, call: Call, *, archived: bool = False) -> Record:
        record = self._records.find(call.params["id"], call.param("idProperty"))
        if record is None or record.archived != archived:
            raise Problem(404, "OBJECT_NOT_FOUND", "resource not found")
        return record

    def _check_key_property(self, name: Any) -> None:
        if not name:
            raise Problem(400, "VALIDATION_ERROR", "idProperty is required")
        if name != "hs_object_id" and not self._records.properties.is_unique(name):
            raise Problem(400, "VALIDATION_ERROR", f"{name} is not a unique property")

    def _create(self, values: Mapping[str, Any], trace: str | None, associations: Any = None) -> Record:
        ends = self._associations.ends(self._records.of, associations or ())
        record = self._records.create(values, self._source)
        self._note("create", record, values, tuple(values), trace)
        if not self._records.rehearsing:
            for to, other in ends:
                self._associations.link(self._records.of, record, to, other, self._source)
        return record

    def _update(self, record: Record, values: Mapping[str, Any], trace: str | None) -> None:
        before = record.updated_at
        changed = self._records.update(record, values, self._source)
        if not changed and not self._behaviour.touch_on_noop:
            record.updated_at = before
            record.properties[self._records.of.modified] = iso(before)
        self._note("update", record, values, changed, trace)

    def _archive(self, key: str) -> None:
        record = self._records.find(key)
        if record is not None and not record.archived:
            self._records.archive(record, self._source)
            self._note("archive", record, {}, (), None)

    def _write(
        self, call: Call, status: int, apply: Callable[[Mapping[str, Any]], Row], *, upsert: bool = False
    ) -> Reply:
        """Runs a batch of writes in the account's way of dealing with bad rows."""
        inputs = _inputs(call.json(), LARGEST_BATCH)
        self._refuse_repeated_keys(inputs)
        all_or_nothing = self._behaviour.partial is not Partial.MULTI_STATUS
        if all_or_nothing and (problem := self._first_problem(inputs, apply)):
            if self._behaviour.partial is Partial.WHOLE_BATCH:
                raise problem
            return self._batch_reply([], [_row_error(problem, None)], 207)
        results, errors = [], []
        for item in inputs:
            try:
                record, new = apply(item)
            except Problem as refused:
                errors.append(_row_error(refused, item.get("objectWriteTraceId")))
                continue
            shown = self._show(record, {**record.properties, **_properties(item)})
            if item.get("objectWriteTraceId"):
                shown["objectWriteTraceId"] = item["objectWriteTraceId"]
            results.append({**shown, "new": new} if upsert else shown)
        return self._batch_reply(results, errors, 207, good=status)

    def _first_problem(
        self, inputs: Sequence[Mapping[str, Any]], apply: Callable[[Mapping[str, Any]], Row]
    ) -> Problem | None:
        """Whether any row would be refused, found by trying each without letting it take effect."""
        with self._records.rehearsal():
            for item in inputs:
                try:
                    apply(item)
                except Problem as refused:
                    return refused
        return None

    def _refuse_repeated_keys(self, inputs: Sequence[Mapping[str, Any]]) -> None:
        keys = Counter((item.get("idProperty"), str(item["id"])) for item in inputs if "id" in item)
        repeated = sorted({key for (_, key), times in keys.items() if times > 1})
        if repeated:
            raise Problem(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input", context={"ids": repeated})

    def _batch_reply(
        self, results: list[dict[str, Any]], errors: list[dict[str, Any]], partial: int, *, good: int = 200
    ) -> Reply:
        if self._behaviour.shuffle_results:
            self._random.shuffle(results)
        now = iso(self._now())
        body = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
        if errors:
            return Reply(partial, {**body, "numErrors": len(errors), "errors": errors})
        return Reply(good, body)

    def _show(
        self,
        record: Record,
        wanted: Iterable[str],
        history: Sequence[str] = (),
        indexed: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """A record as the API shows it: what was asked for, and three properties that always come along.

        `indexed` are its properties as search knows them, which may be older.
        """
        of = self._records.of
        held = record.properties if indexed is None else indexed
        names = dict.fromkeys((*(tuple(wanted) or of.shown), *of.always_shown))
        shown: dict[str, Any] = {
            "id": str(record.id),
            "properties": {name: held.get(name) for name in names},
            "createdAt": iso(record.created_at),
            "updatedAt": held[of.modified],
            "archived": record.archived,
        }
        if record.archived_at is not None:
            shown["archivedAt"] = iso(record.archived_at)
        if history:
            shown["propertiesWithHistory"] = {name: record.history.get(name, []) for name in history}
        return shown


def _properties(item: Any) -> Mapping[str, Any]:
    values = item.get("properties") if isinstance(item, dict) else None
    if not isinstance(values, dict):
        raise Problem(400, "VALIDATION_ERROR", "Invalid input JSON: properties is required")
    return values


def _inputs(asked: Any, most: int) -> list[Mapping[str, Any]]:
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(item, dict) for item in inputs):
        raise Problem(400, "VALIDATION_ERROR", "Invalid input JSON: inputs is required")
    if len(inputs) > most:
        raise Problem(400, "VALIDATION_ERROR", f"The maximum batch size is {most}")
    return inputs


def _archived(call: Call) -> bool:
    """Whether archived records are asked for; HubSpot's own client spells it "True"."""
    return call.param("archived").lower() == "true"


def _listed(call: Call, name: str) -> list[str]:
    """A list parameter, repeated or separated by commas."""
    return [part for value in call.query.get(name, ()) for part in value.split(",") if part]


def _not_found(name: str, keys: list[str]) -> dict[str, Any]:
    return {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": f"Could not get some {name.upper()} objects, they may be deleted or not exist. Check the ids.",
        "context": {"ids": keys},
    }


def _row_error(problem: Problem, trace: str | None) -> dict[str, Any]:
    context = {**problem.context, "objectWriteTraceId": [trace]} if trace else problem.context
    return {
        "status": "error",
        "category": problem.category,
        "message": problem.message,
        "context": context,
        "errors": problem.errors,
        "links": {},
    }
