"""REST as an emulated org speaks it: records, collections, queries, describe, what was updated and deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from crmsync.sandbox.emulator import Call, Refusal, Reply
from crmsync.sandbox.ledger import Effect, Ledger
from crmsync.sandbox.salesforce.objects import Field
from crmsync.sandbox.salesforce.records import Org, Record, RowError, Table, ordered, shown, value_of
from crmsync.sandbox.salesforce.soql import Complaint, Query, parse

MOST_ROWS, SMALLEST_PAGE, LARGEST_PAGE = 200, 200, 2_000
LONGEST_QUERY = 16_000
_DUPLICATES, _OPTIONS = "sforce-duplicate-rule-header", "sforce-query-options"


def error(status: int, code: str, message: str, *fields: str) -> Reply:
    """Salesforce's errors are lists."""
    return Reply(status, [{"message": message, "errorCode": code, **({"fields": list(fields)} if fields else {})}])


def refuse(status: int, code: str, message: str) -> Refusal:
    """The end of a call."""
    return Refusal(error(status, code, message))


@dataclass(frozen=True, slots=True)
class Locator:
    """The rest of a query's rows, as they were when it was asked."""

    columns: tuple[str, ...]
    of: str
    rows: list[Record]


class Api:
    """The handlers. `keys` name for each object the field that the ledger shows as a record's external id."""

    def __init__(self, org: Org, ledger: Ledger, clock: Callable[[], datetime], keys: Mapping[str, str]) -> None:
        self._org = org
        self._ledger = ledger
        self._now = clock
        self._keys = keys
        self._locators: dict[str, Locator] = {}

    # -- describe

    def describe(self, call: Call) -> Reply:
        """GET /sobjects/{object}/describe"""
        of = self._table(call).of
        return Reply(200, {"name": of.name, "fields": [each.describe() for each in of.fields.values()]})

    # -- queries

    def query(self, call: Call) -> Reply:
        """GET /query"""
        return self._queried(call, deleted=False)

    def query_all(self, call: Call) -> Reply:
        """GET /queryAll: with what is in the recycle bin."""
        return self._queried(call, deleted=True)

    def more(self, call: Call) -> Reply:
        """GET /query/{locator}"""
        locator = self._locators.pop(call.params["locator"], None)
        if locator is None:
            raise refuse(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._page(locator, self._page_size(call))

    def _queried(self, call: Call, *, deleted: bool) -> Reply:
        text = call.param("q")
        if len(text) > LONGEST_QUERY:
            raise refuse(414, "URI_TOO_LONG", "The URI is too long")
        try:
            query = parse(text, self.field, self.look)
        except Complaint as complaint:
            raise refuse(400, complaint.code, str(complaint)) from complaint
        found = self.rows(query, deleted=deleted)
        if not query.columns:
            return Reply(200, {"totalSize": len(found), "done": True, "records": []})
        return self._page(Locator(query.columns, query.of, found), self._page_size(call))

    def rows(self, query: Query, *, deleted: bool = False) -> list[Record]:
        """The rows that a query asks for."""
        table = self._org.tables[query.of]
        found = [one for one in self._org.seen(table, deleted=deleted) if not query.condition or query.condition(one)]
        for name, descending in reversed(query.order):
            found = ordered(found, lambda one, name=name: self.look(one, name), descending=descending)  # type: ignore[misc]
        return found if query.limit is None else found[: query.limit]

    def _page(self, locator: Locator, size: int) -> Reply:
        now, later = locator.rows[:size], locator.rows[size:]
        body: dict[str, Any] = {
            "totalSize": len(locator.rows),
            "done": not later,
            "records": [self._row(locator, record) for record in now],
        }
        if later:
            name = f"01g5g000000sand-{len(self._locators) + 1}-{size}"
            self._locators[name] = Locator(locator.columns, locator.of, later)
            body["nextRecordsUrl"] = f"/services/data/v66.0/query/{name}"
        return Reply(200, body)

    def _row(self, locator: Locator, record: Record) -> dict[str, Any]:
        row: dict[str, Any] = {"attributes": {"type": locator.of}}
        for name in locator.columns:
            place, _, inner = name.rpartition(".")
            value = self.look(record, name)
            value = shown(value) if isinstance(value, datetime) else value
            if not place:
                row[name] = value
            elif self.look(record, f"{place}Id") is None:
                row[place] = None
            else:
                row.setdefault(place, {"attributes": {"type": place}})[inner] = value
        return row

    def _page_size(self, call: Call) -> int:
        asked = call.headers.get(_OPTIONS, "").lower().removeprefix("batchsize=").strip()
        return min(max(int(asked), SMALLEST_PAGE), LARGEST_PAGE) if asked.isdecimal() else LARGEST_PAGE

    def field(self, of: str, name: str) -> Field | None:
        """A field of an object, or of the parent that a reference names."""
        table = self._org.tables.get(of)
        if table is None or (of in ("Campaign", "CampaignMember") and not self._org.behaviour.campaigns):
            raise Complaint("INVALID_TYPE", f"sObject type '{of}' is not supported.")
        parent, _, inner = name.partition(".")
        if not inner:
            return table.of.find(name)
        reference = table.of.find(f"{parent}Id")
        return None if reference is None or not reference.to else self.field(reference.to[0], inner)

    def look(self, record: Record, name: str) -> Any:
        """What a row holds under a dotted name."""
        parent, _, inner = name.partition(".")
        if not inner:
            return value_of(record, name)
        found = self._org.find(str(record.values.get(f"{parent}Id")))
        return None if found is None else self.look(found[1], inner)

    # -- what moved

    def updated(self, call: Call) -> Reply:
        """GET /sobjects/{object}/updated"""
        table, start, end = self._window(call, timedelta(days=30))
        ids = [one.id for one in self._org.seen(table, deleted=False) if start <= one.stamp < end]
        return Reply(200, {"ids": ids, "latestDateCovered": shown(self._org.covered(table, end))})

    def deleted(self, call: Call) -> Reply:
        """GET /sobjects/{object}/deleted: also what was taken out of the recycle bin for good."""
        table, start, end = self._window(call, timedelta(days=15))
        gone = [one for one in table.by_id.values() if one.deleted and start <= one.stamp <= end]
        return Reply(
            200,
            {
                "deletedRecords": [{"id": one.id, "deletedDate": shown(one.stamp)} for one in gone],
                "earliestDateAvailable": shown(self._now() - timedelta(days=15)),
                "latestDateCovered": shown(self._org.covered(table, end)),
            },
        )

    def _window(self, call: Call, longest: timedelta) -> tuple[Table, datetime, datetime]:
        try:
            start, end = (
                datetime.fromisoformat(call.param(name)).replace(second=0, microsecond=0) for name in ("start", "end")
            )
        except ValueError:
            raise refuse(400, "INVALID_FIELD", "the time is not one") from None
        if start < self._now() - longest or start > self._now() or end <= start:
            raise refuse(400, "INVALID_REPLICATION_DATE", "the start is too early, in the future or after the end")
        return self._table(call), start, end

    # -- writing

    def upsert_many(self, call: Call) -> Reply:
        """PATCH /composite/sobjects/{object}/{key}"""
        table, key = self._table(call), call.params["key"]
        self._check_key(table, key)
        records = self._records(call, table)
        keys = [one.get(key) for one in records]
        return self._each(records, lambda row: self._upsert(call, table, key, row, keys))

    def update_many(self, call: Call) -> Reply:
        """PATCH /composite/sobjects"""
        records = self._records(call, None)
        ids = [one.get("id") for one in records]

        def update(row: Mapping[str, Any]) -> tuple[Record, bool]:
            if ids.count(row.get("id")) > 1:
                raise RowError("DUPLICATE_VALUE", "the id is in the request more than once", "Id")
            found = self._org.find(str(row.get("id")))
            if found is None or found[0].of.name != row["attributes"]["type"]:
                raise RowError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
            self._updated(*found, _values(row), allow=_allows(call))
            return found[1], False

        return self._each(records, update)

    def upsert_one(self, call: Call) -> Reply:
        """PATCH /sobjects/{object}/{key}/{value}"""
        table, key = self._table(call), call.params["key"]
        self._check_key(table, key)
        values = call.json()
        self._check_columns(table, values)
        if key in values:
            raise refuse(400, "INVALID_FIELD", f"The {key} field should not be specified in the sobject data.")
        row = {**values, key: call.params["value"]}
        try:
            record, created = self._upsert(call, table, key, row, [])
        except RowError as problem:
            return Reply(400, [problem.to_json("errorCode")])
        return Reply(201 if created else 200, {"id": record.id, "success": True, "errors": [], "created": created})

    def _upsert(
        self, call: Call, table: Table, key: str, row: Mapping[str, Any], keys: list[Any]
    ) -> tuple[Record, bool]:
        value = row.get(key)
        if not value:
            raise RowError("MISSING_ARGUMENT", f"{key} not specified", key)
        if keys.count(value) > 1:
            raise RowError("DUPLICATE_EXTERNAL_ID", "Duplicate external id specified", key)
        if "id" in row or "Id" in row:
            raise RowError("INVALID_FIELD", "the id must not be given in an upsert by another field", "Id")
        return self._upserted(table, key, _values(row), allow=_allows(call))

    def _upserted(self, table: Table, key: str, values: Mapping[str, Any], *, allow: bool) -> tuple[Record, bool]:
        bearers = self._org.bearers(table, key, values.get(key))
        if len(bearers) > 1:
            raise RowError("DUPLICATE_EXTERNAL_ID", "the external id is borne by more than one record", key)
        if bearers:
            self._updated(table, bearers[0], values, allow=allow)
            return bearers[0], False
        return self._created(table, values, allow=allow), True

    def _created(self, table: Table, values: Mapping[str, Any], *, allow: bool) -> Record:
        record = self._org.create(table, values, self._org.user, allow=allow)
        self._note("create", table, record, values, tuple(values))
        return record

    def _updated(self, table: Table, record: Record, values: Mapping[str, Any], *, allow: bool) -> None:
        changed = self._org.update(table, record, values, self._org.user, allow=allow)
        self._note("update", table, record, values, changed)

    def write(self, table: Table, operation: str, key: str, id: str, values: Mapping[str, Any]) -> tuple[str, bool]:
        """One row of a bulk job: the record's id, and whether it is new. Raises `RowError`."""
        if operation == "upsert":
            if not values.get(key):
                raise RowError("MISSING_ARGUMENT", f"{key} not specified", key)
            record, created = self._upserted(table, key, values, allow=False)
            return record.id, created
        if operation == "insert":
            return self._created(table, values, allow=False).id, True
        found = self._org.find(id)
        if found is None or found[0] is not table:
            raise RowError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", "Id")
        self._updated(table, found[1], values, allow=False)
        return found[1].id, False

    def _each(self, records: list[Any], apply: Callable[[Mapping[str, Any]], tuple[Record, bool]]) -> Reply:
        """Row by row, in order: what is refused harms no other row."""
        results: list[dict[str, Any]] = []
        for row in records:
            try:
                record, created = apply(row)
            except RowError as problem:
                results.append({"success": False, "errors": [_detailed(problem)]})
            else:
                results.append({"id": record.id, "success": True, "errors": [], "created": created})
        return Reply(200, results)

    def _records(self, call: Call, table: Table | None) -> list[Any]:
        """The rows of a collection. A column that does not exist refuses the whole request."""
        asked = call.json()
        if not isinstance(asked, dict) or not isinstance(asked.get("records"), list) or not asked["records"]:
            raise refuse(400, "JSON_PARSER_ERROR", "records expected")
        records: list[Any] = asked["records"]
        if len(records) > MOST_ROWS:
            raise refuse(400, "EXCEEDED_MAX_SIZE_REQUEST", f"record limit reached. cannot submit more than {MOST_ROWS}")
        if asked.get("allOrNone", False):
            raise refuse(400, "NOT_EMULATED", "allOrNone")
        for row in records:
            name = row.get("attributes", {}).get("type")
            if name not in self._org.tables or (table is not None and name != table.of.name):
                raise refuse(400, "INVALID_TYPE", "one object's records are expected")
            self._check_columns(self._org.tables[name], row)
        return records

    def _check_columns(self, table: Table, row: Mapping[str, Any]) -> None:
        for name in row.keys() - {"attributes", "id"}:
            if name not in table.of.fields:
                raise refuse(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {table.of.name}")

    def _check_key(self, table: Table, key: str) -> None:
        known = table.of.fields.get(key)
        if known is None or not known.external_id:
            raise refuse(404, "NOT_FOUND", "Provided external ID field does not exist or is not accessible")

    def _table(self, call: Call) -> Table:
        table = self._org.tables.get(call.params["object"])
        if table is None:
            raise refuse(404, "NOT_FOUND", "The requested resource does not exist")
        return table

    def _note(
        self, verb: str, table: Table, record: Record, values: Mapping[str, Any], changed: tuple[str, ...]
    ) -> None:
        key = self._keys.get(table.of.name, "")
        self._ledger.append(
            Effect(self._now(), verb, table.of.name.lower(), record.id, record.values.get(key), dict(values), changed)
        )


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("attributes", "id")}


def _allows(call: Call) -> bool:
    return "allowsave=true" in call.headers.get(_DUPLICATES, "").lower().replace(" ", "")


def _detailed(problem: RowError) -> dict[str, Any]:
    """A row's error; for a duplicate rule with the records that it found."""
    told = problem.to_json()
    if problem.about:
        found = [{"record": {"Id": id, "attributes": {"type": "Contact"}}} for id in problem.about]
        told["duplicateResult"] = {"matchResults": [{"matchRecords": found}]}
    return told
