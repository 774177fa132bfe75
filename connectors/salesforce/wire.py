"""simple-salesforce on our terms: one request at a time, sent once, and every failure one of our errors.

The package logs in, builds addresses and reads answers. It sends through a session whose requests go out over
`crmsync.http.Http`, so that the rules for outbound calls hold, and none of its own repetitions ever happens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import jwt
import orjson
import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError
from simple_salesforce.login import SalesforceLogin

from connectors.salesforce.complaints import EXHAUSTED, EXPIRED, PASSING, Complaint, Refusal
from connectors.salesforce.settings import SalesforceSettings
from crmsync.connector import Surroundings
from crmsync.errors import Retry, Suspend, Throttled
from crmsync.http import Budget, Http, classify, retry_after, wall_clock

HOUR = timedelta(hours=1)
LOGIN = "/services/oauth2/token"
_SENT = frozenset({"authorization", "content-type"})
_USAGE = re.compile(r"api-usage=(\d{1,9})/(\d{1,9})")
_LOCATOR = re.compile(r"/services/data/v\d\d\.\d/(query(?:All)?/[\w-]{1,100})")


class Expired(Suspend):
    """The session has ended."""


class Guarded(BaseAdapter):
    """Carries what `requests` sends. Raises our errors for everything but a success.

    `user` is the id of whoever last logged in, which the package does not hand out.
    """

    def __init__(self, http: Http, login_url: str, budget: Budget) -> None:
        super().__init__()
        self._http = http
        self._login = urlsplit(login_url)
        self._budget = budget
        self.user = ""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """One request, once."""
        body = request.body.encode() if isinstance(request.body, str) else request.body
        content = body if isinstance(body, bytes) and body else None
        headers = {
            name: str(value)
            for name, value in request.headers.items()
            if name.lower() in _SENT or name.lower().startswith("sforce-")
        }
        answer = self._http.send(str(request.method), self._address(str(request.url)), content=content, headers=headers)
        self._observe(answer)
        if not 200 <= answer.status_code < 300:
            self._raise(answer)
        if answer.request.url.path == LOGIN:
            self.user = _user(_json(answer))
        made = requests.Response()
        made.status_code, made.url, made.request = answer.status_code, str(request.url), request
        made.headers = CaseInsensitiveDict(answer.headers)
        made.encoding, made._content = "utf-8", _as_json(answer)
        return made

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _address(self, url: str) -> str:
        """The package knows https only, and only hosts of salesforce.com to log in at."""
        parts = urlsplit(url)
        if parts.path == LOGIN:
            parts = parts._replace(scheme=self._login.scheme, netloc=self._login.netloc)
        elif parts.netloc == self._login.netloc:
            parts = parts._replace(scheme=self._login.scheme)
        return parts.geturl()

    def _observe(self, answer: httpx.Response) -> None:
        """Passes on what is left of the org's day."""
        if found := _USAGE.search(answer.headers.get("Sforce-Limit-Info") or ""):
            used, most = int(found[1]), int(found[2])
            for bucket in ("", "day") if most else ():
                self._budget.observe(max(most - used, 0), most, bucket)

    def _raise(self, answer: httpx.Response) -> NoReturn:
        """What a refusal means. Quota and concurrency are 403, without a time."""
        complaint = Complaint.read(_json(answer))
        said = f"Salesforce answered {answer.status_code} {complaint}".rstrip()
        after = retry_after(answer.headers.get("Retry-After"), wall_clock())
        status = answer.status_code
        if answer.request.url.path == LOGIN and 400 <= status < 404:
            raise Suspend(f"{said}: the app, its key or its user is refused")
        if status == 401 and complaint.code == EXPIRED:
            raise Expired(f"{said}: the session has ended")
        if status == 403 and complaint.code == EXHAUSTED and complaint.concurrent:
            raise Retry(f"{said}: too many long requests at once", after)
        if status == 403 and complaint.code == EXHAUSTED:
            self._budget.hold(after or HOUR)
            raise Suspend(f"{said}: the org's requests of 24 hours are used up", after or HOUR)
        if after is not None:
            self._budget.hold(after)
        if complaint.code in PASSING:
            raise Retry(said, after)
        if status in (300, 400, 404, 405, 409, 413, 414, 415):
            raise Refusal(said, complaint)
        raise classify("Salesforce", status, detail=str(complaint), after=after)


class Wire:
    """One org: its session, its budget, its errors."""

    def __init__(self, settings: SalesforceSettings, around: Surroundings) -> None:
        self._settings = settings
        patience = settings.timeout_seconds
        timeout = httpx.Timeout(patience, connect=min(5, patience))
        http = Http("Salesforce", settings.login_url, {}, around.budget, timeout=timeout, reach=around.reach)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._guarded = guarded = Guarded(http, settings.login_url, around.budget)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, guarded)
        self._lock = Lock()
        self._salesforce: Salesforce | None = None

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    @property
    def user(self) -> str:
        """The integration user's id, without the last three characters; "" where Salesforce did not tell."""
        return self._guarded.user

    def call(
        self,
        path: str,
        *,
        method: str = "GET",
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        detailed: bool = False,
    ) -> Any:
        """One request; returns the JSON of the answer, or its CSV as text.

        An ended session is renewed, and the request sent again. What is refused is a `Refusal` if `detailed`, for those
        who make it `plain`.
        """
        writing = method != "GET"
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        options: dict[str, Any] = {"headers": dict(headers or {}), **(content if writing else {})}
        try:
            salesforce = self._logged_in(None)
            try:
                return salesforce.restful(path, params=dict(params or {}), method=method, **options)
            except Expired:
                salesforce = self._logged_in(salesforce)
                return salesforce.restful(path, params=dict(params or {}), method=method, **options)
        except Refusal as refusal:
            raise refusal if detailed else refusal.plain() from None
        except Throttled:
            raise
        except Retry as error:
            raise Retry(str(error), error.after, ambiguous=error.ambiguous and writing) from error.__cause__
        except (SalesforceError, ValueError, TypeError):
            raise Retry("Salesforce gave a bad response: no JSON", ambiguous=writing) from None

    def more(self, url: object) -> Any:
        """The next page of a query, at the address that the last one named. It is asked from the same host only."""
        found = _LOCATOR.fullmatch(url) if isinstance(url, str) else None
        if found is None:
            raise Retry("Salesforce gave a bad response: no address of a next page")
        return self.call(found[1])

    def _logged_in(self, refused: Salesforce | None) -> Salesforce:
        """A session that is not the one that was refused. One thread logs in, the others wait for it."""
        with self._lock:
            if self._salesforce is None or self._salesforce is refused:
                self._salesforce = None
                self._salesforce = self._log_in()
            return self._salesforce

    def _log_in(self) -> Salesforce:
        settings = self._settings
        host = urlsplit(settings.login_url).hostname or ""
        domain = host.removesuffix(".salesforce.com") if host.endswith(".salesforce.com") else "sandbox.my"
        secret, key = settings.consumer_secret, settings.private_key
        try:
            token, instance = SalesforceLogin(
                username=settings.username,
                consumer_key=settings.consumer_key,
                consumer_secret=secret.get_secret_value() if secret else None,
                privatekey=key.get_secret_value() if key else None,
                domain=domain,
                session=self._session,
            )
        except Throttled:
            raise
        except Retry as error:
            raise Retry(str(error), error.after) from error.__cause__
        except (jwt.PyJWTError, TypeError):
            raise Suspend("the private key cannot be read: expected an RSA key in PEM") from None
        except (SalesforceError, ValueError, AttributeError):
            raise Retry("Salesforce gave a bad response: no session") from None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise Retry("Salesforce gave a bad response: no session")
        return Salesforce(
            session_id=token,
            instance_url=f"https://{instance}",
            version=settings.api_version,
            session=self._session,
            object_pairs_hook=dict,
        )


def _user(granted: Any) -> str:
    """Whose session it is: the token comes with the address of an identity."""
    identity = granted.get("id") if isinstance(granted, dict) else None
    found = re.search(r"/(005[A-Za-z0-9]{12})", identity) if isinstance(identity, str) else None
    return found[1] if found else ""


def _as_json(answer: httpx.Response) -> bytes:
    """The package reads JSON only: nothing, and the results of jobs, come to it as JSON as well."""
    if answer.headers.get("content-type", "").startswith("text/csv"):
        return orjson.dumps(answer.text)
    return answer.content or b"{}"


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
