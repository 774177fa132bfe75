"""HubSpot's client package on our terms: one request at a time, sent once, and every failure one of our errors.

The package builds requests and keeps connections. Nothing here repeats a request or knows what a contact is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson

# `from hubspot import HubSpot` leads through a discovery layer that makes a client, and a connection pool, on every
# use of a property such as `batch_api`. These two packages are all we need of 50 MB: 28 ms and 5.6 MiB to import.
from hubspot.crm.contacts import ApiClient, BatchApi, Configuration, SearchApi
from hubspot.crm.properties import CoreApi
from urllib3 import Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from connectors.hubspot.complaints import SCHEMA_CODES, Complaint, Refusal
from connectors.hubspot.pool import confine
from connectors.hubspot.settings import HubSpotSettings
from crmsync.connector import Surroundings
from crmsync.errors import ConnectorError, Retry, Suspend
from crmsync.http import ANSWER_LIMIT, classify, retry_after, unanswered
from crmsync.outbound import DEADLINE, Reach

CONNECTIONS = 16  # kept alive; more threads than that still work, on connections of their own
PERIODS = {"SECONDLY": timedelta(seconds=1), "TEN_SECONDLY_ROLLING": timedelta(seconds=10)}
LOCKED = timedelta(seconds=2)
MIGRATING = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Answer(NamedTuple):
    """What came back, whatever the status. `body` is None where it is not JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def at(self) -> datetime | None:
        """HubSpot's own clock, if it shows one."""
        try:
            return parsedate_to_datetime(self.headers.get("Date") or "").astimezone(UTC)
        except (TypeError, ValueError):
            return None


class Client(ApiClient):  # type: ignore[misc]  # the package has no types
    """The package's client with its sending replaced: its api objects call `request` and hand out what it returns.

    Left to itself the package waits for ever, follows redirects, repeats GETs, reads bodies of any size, takes a
    page of HTML for an empty result, stumbles over errors without a body, and has an exception class of its own
    in each sub-package.
    """

    def __init__(self, settings: HubSpotSettings, reach: Reach) -> None:
        configuration = Configuration(host=settings.base_url)
        configuration.access_token = settings.access_token.get_secret_value()
        configuration.connection_pool_maxsize = CONNECTIONS
        super().__init__(configuration)
        confine(self.rest_client.pool_manager, reach)
        self.user_agent = "crmsync"
        self.patience = settings.timeout_seconds

    def request(
        self,
        method: str,
        url: str,
        query_params: Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        **_: Any,
    ) -> Answer:
        """Sends once, within a deadline. Raises urllib3's errors only."""
        with DEADLINE.within(self.patience):
            return self._exchanged(method, url, query_params, headers, body)

    def _exchanged(
        self,
        method: str,
        url: str,
        query_params: Sequence[tuple[str, str]] | None,
        headers: Mapping[str, str] | None,
        body: Any,
    ) -> Answer:
        response = self.rest_client.pool_manager.urlopen(
            method,
            f"{url}?{urlencode(query_params)}" if query_params else url,
            headers=headers,
            body=None if body is None else json.dumps(body),
            timeout=Timeout(connect=min(5, self.patience), read=self.patience),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            content = bytearray()
            while part := response.read1(65_536):
                content += part
                if len(content) > ANSWER_LIMIT:
                    raise HTTPError("too large")
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return Answer(response.status, response.headers, _json(bytes(content)))


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


class Wire:
    """One account's credential: its connections, its budget, its errors. Each api object is made once and kept."""

    def __init__(self, settings: HubSpotSettings, around: Surroundings) -> None:
        self._settings = settings
        self._budget = around.budget
        self._clock = around.clock
        self._client = Client(settings, around.reach)
        self.contacts = BatchApi(self._client)
        self.search = SearchApi(self._client)
        self.properties = CoreApi(self._client)  # any package's client serves any other: they are the same text

    def close(self) -> None:
        """Closes the connections."""
        self._client.rest_client.pool_manager.clear()

    def call(
        self, operation: Callable[..., Answer], *arguments: object, bucket: str = "", writing: bool = False
    ) -> Answer:
        """One request. Returns a success whose body is a JSON object, or raises what the trouble means.

        A refused write is a `Refusal`, which callers make `plain`.
        """
        self._budget.take(bucket)
        try:
            answer = operation(*arguments, _preload_content=False)
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise unanswered("HubSpot", error, sent=False) from error
        except HTTPError as error:
            trouble = unanswered("HubSpot", error, sent=True)
            raise Retry(str(trouble), ambiguous=writing) if isinstance(trouble, Retry) else trouble from error
        self._observe(answer.headers)
        if answer.status not in (200, 201, 207):
            raise self._error(answer, bucket, writing)
        if not isinstance(answer.body, dict):
            raise Retry("HubSpot gave a bad response: no JSON object", ambiguous=writing)
        return answer

    def refusal(self, said: str, complaint: Complaint, *, conflict: bool = False) -> Refusal | Suspend:
        """The refusal of a request or a row. Where the key property is missing, that is no row's fault."""
        key = self._settings.external_id
        if complaint.reasons.get(key) in SCHEMA_CODES:
            return Suspend(f"{said}: the contact property {key} is missing or not writable; prepare the account")
        return Refusal(said, complaint, conflict=conflict)

    def _observe(self, headers: Mapping[str, str]) -> None:
        """Passes on what is left of ten seconds. The answers to searches do not tell."""
        left, limit = (headers.get(f"X-HubSpot-RateLimit-{name}") or "" for name in ("Remaining", "Max"))
        if re.fullmatch(r"[0-9]{1,9}", left) and re.fullmatch(r"[0-9]{1,9}", limit):
            self._budget.observe(int(left), int(limit))

    def _error(self, answer: Answer, bucket: str, writing: bool) -> ConnectorError:
        complaint = Complaint.read(answer.body)
        said = f"HubSpot answered {answer.status} {complaint}".rstrip()
        after = retry_after(answer.headers.get("Retry-After"), answer.at or self._clock())
        held = ""  # everything
        match answer.status:
            case 400 | 409:
                refused = self.refusal(said, complaint, conflict=answer.status == 409)
                return refused.plain() if isinstance(refused, Refusal) and not writing else refused
            case 401:
                return Suspend(f"{said}: the access token is wrong, expired or revoked")
            case 403:
                return Suspend(f"{said}: missing scope {' or '.join(complaint.scopes) or '(not named)'}")
            case 429 if complaint.policy == "DAILY":
                # The count begins anew at midnight in the account's time zone, which no answer tells.
                self._budget.hold(after or HOUR)
                return Suspend(f"{said}: the day's requests of the account are used up", after or HOUR)
            case 429:
                after = after or PERIODS.get(complaint.policy)
                held = bucket if complaint.policy in ("", "SECONDLY") else ""  # the others are the account's
            case 423:  # one record is locked: no reason to hold the others
                return Retry(said, max(after or LOCKED, LOCKED))
            case 477:
                after = after or MIGRATING
        error = classify("HubSpot", answer.status, detail=str(complaint), after=after)
        if not isinstance(error, Retry):
            return error
        if after:
            self._budget.hold(after, held)
        return Retry(str(error), after, ambiguous=writing and error.ambiguous)
