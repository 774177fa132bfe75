"""Thousands of new records in one job of Bulk API 2.0, which is asked for until it has ended.

A job only inserts. It may be worked on after the daemon that began it has died: what it then finds to be there is
refused by the unique external id, so that no job ever overwrites anything newer than itself.

https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/bulk_api_2_0_ingest.htm
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from connectors.salesforce.values import ID, Row
from connectors.salesforce.wire import Wire
from crmsync.errors import ConnectorError, Reject, Retry

PLACE = "jobs/ingest"
LARGEST = 100_000_000
"""Bytes of one upload."""
EMPTY = "#N/A"
"""What a cell says to clear a field; nobody's text can say it."""
FIRST_LOOK, LONGEST_PAUSE = 2.0, 20.0
LONGEST = 1_800.0
"""Seconds of waiting after which a job is given up."""
PATIENCE = 5
"""Looks at a job that may fail in a row."""
ENDED = frozenset({"JobComplete", "Failed", "Aborted"})


class Jobs:
    """Jobs for one object. `pause` waits for some seconds and says whether to go on."""

    def __init__(self, wire: Wire, of: str, pause: Callable[[float], bool]) -> None:
        self._wire = wire
        self._of = of
        self._pause = pause

    def insert(self, key: str, rows: Sequence[Row]) -> Mapping[str, str]:
        """The ids of the records that were made, by what they have in the field `key`.

        Raises an ambiguous `Retry` where a job was begun, and what came of it cannot be known.
        """
        sayable = [row for row in rows if EMPTY not in row.values()]
        table = _csv(sayable)
        if not sayable or len(table) > LARGEST:
            return {}
        job = self._begun()
        try:
            self._wire.call(f"{PLACE}/{job}/batches", method="PUT", body=table, headers={"Content-Type": "text/csv"})
            self._wire.call(f"{PLACE}/{job}", method="PATCH", body={"state": "UploadComplete"})
            self._wait_for(job)
            return _made(self._wire.call(f"{PLACE}/{job}/successfulResults"), key)
        except ConnectorError as error:
            with suppress(ConnectorError):
                self._wire.call(f"{PLACE}/{job}", method="PATCH", body={"state": "Aborted"})
            if isinstance(error, Retry):
                raise Retry(str(error), error.after, ambiguous=True) from error.__cause__
            if isinstance(error, Reject):
                return {}
            raise

    def _begun(self) -> str:
        asked = {"object": self._of, "operation": "insert", "contentType": "CSV", "lineEnding": "LF"}
        answer: Any = self._wire.call(PLACE, method="POST", body=asked)
        job = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(job, str) or not ID.fullmatch(job):
            raise Retry("Salesforce gave a bad response: a job without an id")
        return job

    def _wait_for(self, job: str) -> None:
        """Until the job has ended. One that failed has made what it has made."""
        waited, pause, failures = 0.0, FIRST_LOOK, 0
        while waited < LONGEST:
            if not self._pause(pause):
                raise Retry("the job was given up, for the work is to stop")
            waited, pause = waited + pause, min(pause * 1.5, LONGEST_PAUSE)
            try:
                answer: Any = self._wire.call(f"{PLACE}/{job}")
            except Retry:
                failures += 1
                if failures == PATIENCE:
                    raise
                continue
            failures = 0
            if isinstance(answer, dict) and answer.get("state") in ENDED:
                return
        raise Retry("Salesforce does not come to an end with a job")


def _csv(rows: Sequence[Row]) -> bytes:
    """The rows, a column for each field that any of them has. A cell with nothing in it says nothing of its field."""
    columns = sorted({name for row in rows for name in row if name != "attributes"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _made(results: Any, key: str) -> Mapping[str, str]:
    if not isinstance(results, str):
        return {}
    rows = csv.DictReader(io.StringIO(results))
    return {row[key]: row["sf__Id"] for row in rows if row.get(key) and ID.fullmatch(row.get("sf__Id") or "")}
