"""Bulk API 2.0 as an emulated org speaks it: jobs that take CSV, are worked on after they were closed, and keep what
became of each row. They write to the same org under the same rules as everything else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crmsync.sandbox.emulator import Call, Reply
from crmsync.sandbox.salesforce.objects import Field
from crmsync.sandbox.salesforce.records import Org, RowError, Table

if TYPE_CHECKING:
    from crmsync.sandbox.salesforce.api import Api

LARGEST_UPLOAD = 100_000_000
OPERATIONS = frozenset({"insert", "update", "upsert"})
EMPTY = "#N/A"
"""What clears a field; a cell with nothing in it leaves the field alone."""


@dataclass(slots=True)
class Job:
    """One job. `looks` is how often its state is still asked for before it is done."""

    id: str
    of: Table
    operation: str
    key: str
    looks: int
    state: str = "Open"
    columns: Sequence[str] = ()
    rows: list[dict[str, str]] = field(default_factory=list)
    written: list[tuple[str, bool, dict[str, str]]] = field(default_factory=list)
    failed: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """As the API tells it."""
        return {
            "id": self.id,
            "operation": self.operation,
            "object": self.of.of.name,
            "externalIdFieldName": self.key or None,
            "state": self.state,
            "contentType": "CSV",
            "apiVersion": 66.0,
            "contentUrl": f"services/data/v66.0/jobs/ingest/{self.id}/batches",
            "numberRecordsProcessed": len(self.written) + len(self.failed),
            "numberRecordsFailed": len(self.failed),
        }


class Bulk:
    """The jobs of an org. `looks` says how often the state of a new one has to be asked for."""

    def __init__(self, org: Org, api: Api, looks: Callable[[], int]) -> None:
        self._org = org
        self._api = api
        self._looks = looks
        self._jobs: dict[str, Job] = {}

    def create(self, call: Call) -> Reply:
        """POST /jobs/ingest"""
        asked = call.json() or {}
        table = self._org.tables.get(str(asked.get("object")))
        key = str(asked.get("externalIdFieldName") or "")
        known = table.of.fields.get(key) if table else None
        if table is None or asked.get("operation") not in OPERATIONS or asked.get("contentType", "CSV") != "CSV":
            return _refused("INVALIDJOB", "object, operation or contentType is not one")
        if (asked["operation"] == "upsert") != (known is not None and known.external_id):
            return _refused("INVALIDJOB", "an upsert, and nothing else, needs an external id field")
        job = Job(f"7505g00000{len(self._jobs) + 1:05d}AAA", table, asked["operation"], key, self._looks())
        self._jobs[job.id] = job
        return Reply(200, job.told())

    def upload(self, call: Call) -> Reply:
        """PUT /jobs/ingest/{id}/batches: once, while the job is open."""
        job = self._jobs.get(call.params["id"])
        if job is None:
            return _missing()
        if job.state != "Open" or job.columns:
            return _refused("INVALIDJOBSTATE", "the job takes no (more) data")
        if len(call.body) > LARGEST_UPLOAD:
            return Reply(413)
        reader = csv.DictReader(io.StringIO(call.body.decode()))
        job.columns = tuple(reader.fieldnames or ())
        job.rows = list(reader)
        return Reply(201)

    def change(self, call: Call) -> Reply:
        """PATCH /jobs/ingest/{id}: the data is complete, or the job is given up."""
        job = self._jobs.get(call.params["id"])
        if job is None:
            return _missing()
        state = (call.json() or {}).get("state")
        if job.state != "Open" or state not in ("UploadComplete", "Aborted"):
            return _refused("INVALIDJOBSTATE", "the job cannot go there")
        job.state = state
        return Reply(200, job.told())

    def read(self, call: Call) -> Reply:
        """GET /jobs/ingest/{id}: time passes with each look."""
        job = self._jobs.get(call.params["id"])
        if job is None:
            return _missing()
        if job.state in ("UploadComplete", "InProgress"):
            job.looks -= 1
            job.state = "InProgress"
            if job.looks < 0:
                self._work(job)
        return Reply(200, job.told())

    def delete(self, call: Call) -> Reply:
        """DELETE /jobs/ingest/{id}: only what has ended."""
        job = self._jobs.get(call.params["id"])
        if job is None:
            return _missing()
        if job.state not in ("JobComplete", "Aborted", "Failed"):
            return _refused("INVALIDJOBSTATE", "the job has not ended")
        del self._jobs[job.id]
        return Reply(204)

    def results(self, call: Call) -> Reply:
        """GET /jobs/ingest/{id}/successfulResults, failedResults or unprocessedrecords: CSV."""
        job = self._jobs.get(call.params["id"])
        if job is None:
            return _missing()
        match call.params["which"]:
            case "successfulResults":
                head = ["sf__Id", "sf__Created"]
                lines = [[id, str(created).lower(), *row.values()] for id, created, row in job.written]
            case "failedResults":
                head = ["sf__Id", "sf__Error"]
                lines = [["", error, *row.values()] for error, row in job.failed]
            case "unprocessedrecords":
                done = len(job.written) + len(job.failed)
                head, lines = [], [list(row.values()) for row in job.rows[done:]]
            case _:
                return _missing()
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[*head, *job.columns], *lines])
        return Reply(200, text.getvalue().encode(), {"content-type": "text/csv"})

    def _work(self, job: Job) -> None:
        """Every row by itself; a column that does not exist fails the job."""
        if unknown := [name for name in job.columns if name != "Id" and name not in job.of.of.fields]:
            job.state, job.failed = "Failed", [(f"InvalidBatch : Field name not found : {unknown[0]}", {})]
            return
        for row in job.rows:
            values = {name: _value(job.of.of.fields[name], text) for name, text in row.items() if text and name != "Id"}
            try:
                id, created = self._api.write(job.of, job.operation, job.key, row.get("Id", ""), values)
            except RowError as problem:
                job.failed.append((f"{problem.code}:{problem}:{' '.join(problem.fields)} --", row))
            else:
                job.written.append((id, created, row))
        job.state = "JobComplete"


def _value(known: Field, text: str) -> Any:
    """What a cell means."""
    if text == EMPTY:
        return None
    if known.type == "boolean":
        return text.lower() == "true"
    return float(text) if known.type in ("int", "double", "currency", "percent") else text


def _refused(code: str, message: str) -> Reply:
    return Reply(400, [{"errorCode": code, "message": message}])


def _missing() -> Reply:
    return Reply(404, [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}])


def routes(bulk: Bulk) -> Mapping[tuple[str, str], Callable[[Call], Reply]]:
    """Where the operations are."""
    return {
        ("POST", "/data/jobs/ingest"): bulk.create,
        ("PUT", "/data/jobs/ingest/{id}/batches"): bulk.upload,
        ("PATCH", "/data/jobs/ingest/{id}"): bulk.change,
        ("GET", "/data/jobs/ingest/{id}"): bulk.read,
        ("DELETE", "/data/jobs/ingest/{id}"): bulk.delete,
        ("GET", "/data/jobs/ingest/{id}/{which}"): bulk.results,
    }
