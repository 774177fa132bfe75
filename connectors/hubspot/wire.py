"""HubSpot's client package on our terms: one request at a time, sent once, and every failure one of our errors.

The package builds requests and keeps connections. Nothing here knows what a contact is, and nothing is repeated but
what was refused for an OAuth token that had ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson

# `from hubspot import HubSpot` leads through a discovery layer that makes a client, and a connection pool, on every
# use of a property such as `batch_api`. These packages are all we need of 50 MB; `objects` serves every kind of object.
from hubspot.crm.associations.v4 import BatchApi as AssociationsApi
from hubspot.crm.lists import ListsApi, MembershipsApi
from hubspot.crm.objects import ApiClient, BasicApi, BatchApi, Configuration, SearchApi
from hubspot.crm.owners import OwnersApi
from hubspot.crm.pipelines import PipelinesApi
from hubspot.crm.properties import CoreApi
from urllib3 import Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from connectors.hubspot.complaints import SCHEMA_CODES, Complaint, Refusal
from connectors.hubspot.oauth import credential
from connectors.hubspot.settings import HubSpotSettings
from crmsync.connecting.pool import confine
from crmsync.connector import Surroundings
from crmsync.errors import ConnectorError, Retry, Suspend
from crmsync.http import ANSWER_LIMIT, classify, retry_after, unanswered
from crmsync.outbound import DEADLINE, Reach

CONNECTIONS = 16  # kept alive; more threads than that still work, on connections of their own
PERIODS = {"SECONDLY": timedelta(seconds=1), "TEN_SECONDLY_ROLLING": timedelta(seconds=10)}
PASSING = frozenset({"RATE_LIMITS", "RATE_LIMIT"})
UNCERTAIN = frozenset({"INTERNAL_ERROR", "SERVER_ERROR"})
LOCKED = timedelta(seconds=2)
MIGRATING = timedelta(minutes=1)
HOUR = timedelta(hours=1)
TOKENS = "/oauth/v3/token"  # the package knows only version 1, which ends in February 2027


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
        address = f"{url}?{urlencode(query_params)}" if query_params else url
        with DEADLINE.within(self.patience):
            return self._exchanged(method, address, headers, None if body is None else json.dumps(body))

    def sanitize_for_serialization(self, obj: Any) -> Any:
        """Everything that is sent is plain already; the package would copy it value by value."""
        return obj

    def submit(self, path: str, form: Mapping[str, str]) -> Answer:
        """Posts a form, without a token."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        with DEADLINE.within(self.patience):
            return self._exchanged("POST", self.configuration.host + path, headers, urlencode(form))

    def _exchanged(self, method: str, url: str, headers: Mapping[str, str] | None, body: str | None) -> Answer:
        response = self.rest_client.pool_manager.urlopen(
            method,
            url,
            headers=headers,
            body=body,
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
    """One account's credential: its connections, its budget, its errors. Each api object is made once and kept.

    `own` are the properties without which nothing can be written.
    """

    def __init__(self, settings: HubSpotSettings, around: Surroundings, own: Collection[str]) -> None:
        self._own = own
        self._budget = around.budget
        self._clock = around.clock
        self._client = Client(settings, around.reach)
        self._credential = credential(settings, self._exchange, around.clock)
        self.objects = BatchApi(self._client)  # any package's client serves any other: they are the same text
        self.pages = BasicApi(self._client)
        self.search = SearchApi(self._client)
        self.properties = CoreApi(self._client)
        self.pipelines = PipelinesApi(self._client)
        self.associations = AssociationsApi(self._client)
        self.lists = ListsApi(self._client)
        self.memberships = MembershipsApi(self._client)
        self.owners = OwnersApi(self._client)

    def close(self) -> None:
        """Closes the connections."""
        self._client.rest_client.pool_manager.clear()

    def call(
        self,
        operation: Callable[..., Answer],
        *arguments: object,
        bucket: str = "",
        writing: bool = False,
        options: Mapping[str, object] = MappingProxyType({}),
    ) -> Answer:
        """One request. Returns a success whose body is a JSON object, or raises what the trouble means.

        A refused write is a `Refusal`, which callers make `plain`.
        """

        def send(token: str) -> Answer:
            bearer = {"in": "header", "key": "Authorization", "value": f"Bearer {token}"}
            return operation(*arguments, _preload_content=False, _request_auth=bearer, **options)

        token = self._credential.token()
        answer = self._sent(lambda: send(token), bucket, writing)
        if answer.status == 401 and self._credential.renewed(token):
            token = self._credential.token()
            answer = self._sent(lambda: send(token), bucket, writing)
        return self._understood(answer, bucket, writing)

    def _exchange(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """An access token for a refresh token."""
        answer = self._sent(lambda: self._client.submit(TOKENS, form), "", writing=False)
        if answer.status in (400, 401, 403, 404):
            said = Complaint.read(answer.body)
            raise Suspend(f"HubSpot answered {answer.status} {said}: the app or its refresh token is refused")
        body: Mapping[str, Any] = self._understood(answer, "", writing=False).body
        return body

    def _sent(self, send: Callable[[], Answer], bucket: str, writing: bool) -> Answer:
        """Whatever was answered."""
        self._budget.take(bucket)
        try:
            answer = send()
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise unanswered("HubSpot", error, sent=False) from error
        except HTTPError as error:
            trouble = unanswered("HubSpot", error, sent=True)
            raise Retry(str(trouble), ambiguous=writing) if isinstance(trouble, Retry) else trouble from error
        self._observe(answer.headers, bucket)
        return answer

    def _understood(self, answer: Answer, bucket: str, writing: bool) -> Answer:
        if answer.status not in (200, 201, 207):
            raise self._error(answer, bucket, writing)
        if not isinstance(answer.body, dict):
            raise Retry("HubSpot gave a bad response: no JSON object", ambiguous=writing)
        return answer

    def refusal(self, said: str, complaint: Complaint, *, conflict: bool = False) -> Refusal | Suspend:
        """The refusal of a request or a row. Where a property of ours is missing, that is no row's fault."""
        for name, code in complaint.reasons.items():
            if name in self._own and code in SCHEMA_CODES:
                return Suspend(f"{said}: the property {name} is missing or not writable; prepare the account")
        return Refusal(said, complaint, conflict=conflict)

    def row_error(self, said: str, complaint: Complaint) -> ConnectorError:
        """What the error of one row means, in an answer that has others."""
        said = f"{said}: {complaint}".rstrip(": ")
        if complaint.category in PASSING | UNCERTAIN:
            return Retry(said, ambiguous=complaint.category in UNCERTAIN)
        return self.refusal(said, complaint)

    def _observe(self, headers: Mapping[str, str], interval: str) -> None:
        """Passes on what is left of ten seconds, and of the day. The answers to searches do not tell."""
        for bucket, remaining, most in ((interval, "Remaining", "Max"), ("day", "Daily-Remaining", "Daily")):
            left, limit = (headers.get(f"X-HubSpot-RateLimit-{name}") or "" for name in (remaining, most))
            if re.fullmatch(r"[0-9]{1,9}", left) and re.fullmatch(r"[0-9]{1,9}", limit):
                self._budget.observe(int(left), int(limit), bucket)

    def _error(self, answer: Answer, bucket: str, writing: bool) -> ConnectorError:
        complaint = Complaint.read(answer.body)
        said = f"HubSpot answered {answer.status} {complaint}".rstrip()
        after = retry_after(answer.headers.get("Retry-After"), answer.at or self._clock())
        held = ""  # everything
        match answer.status:
            case 400 | 404 | 409:
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
