"""An emulator of Salesforce: contacts, leads, cases, tasks, campaigns, list views, users, and the token endpoint.

REST under /services/data and /services/oauth2. Nothing here was copied from Salesforce; it follows the documented
behaviour and, where that is silent, offers every reading as a switch (`Behaviour`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from crmsync.sandbox.emulator import Call, Clock, Emulator, Refusal, Reply, wall_clock
from crmsync.sandbox.ledger import Effect, Ledger
from crmsync.sandbox.salesforce import bulk
from crmsync.sandbox.salesforce.api import Api, error
from crmsync.sandbox.salesforce.behaviour import Behaviour, DuplicateRule
from crmsync.sandbox.salesforce.listviews import ListViews
from crmsync.sandbox.salesforce.objects import Field, external_id, objects, record_id
from crmsync.sandbox.salesforce.records import Late, Org, Record, RowError, Table
from crmsync.sandbox.salesforce.tokens import Tokens

__all__ = ["Behaviour", "DuplicateRule", "Field", "Record", "RowError", "SalesforceEmulator", "external_id"]

TOKENS = "/services/oauth2/token"
CONSUMER_KEY, CONSUMER_SECRET = "3MVG9sandbox.consumer", "sandbox-consumer-secret"
CONTACT_KEY = "Kirim_Contact_Id__c"
KEYS = {
    "Contact": CONTACT_KEY,
    "Lead": CONTACT_KEY,
    "Case": "Kirim_Conversation_Id__c",
    "Task": "Kirim_Key__c",
}
_VERSION = re.compile(r"/services/data/v\d\d\.0(?=/)")


class SalesforceEmulator(Emulator):
    """A Salesforce org.

    `ledger` has what came in through the API, `human` what the methods below did in the name of a user. The fields of
    `KEYS`, and `Kirim_Status__c` of tasks, are what an administrator has to make: `prepare` does.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        clock: Clock = wall_clock,
        behaviour: Behaviour | None = None,
        consumer_key: str = CONSUMER_KEY,
        consumer_secret: str = CONSUMER_SECRET,
        public_key: str | None = None,
    ) -> None:
        super().__init__(seed=seed, clock=clock)
        self.behaviour = behaviour or Behaviour()
        self.human = Ledger()
        self.objects = objects()
        users = self.objects["User"].prefix
        self.org = Org(self.objects, self.behaviour, self.now, record_id(users, 1), record_id(users, 2))
        self.tokens = Tokens(consumer_key, consumer_secret, public_key, self.org.user, self.now, self.random)
        self.integration_user = self.add_user("crmsync@example.com", "Integration")
        self.person = self.add_user("ana.admin@example.com", "Ana Admin")
        self.api = Api(self.org, self.ledger, self.clock, KEYS)
        self.list_views = ListViews(self.api, self.random)
        self.bulk = bulk.Bulk(self.org, self.api, lambda: self.behaviour.bulk_looks)
        self._used = 0
        for method, template, handler in (
            ("POST", TOKENS, lambda call: self.tokens.grant(call, self.url, self.behaviour.session_seconds)),
            ("GET", "/data/sobjects/{object}/describe", self.api.describe),
            ("GET", "/data/sobjects/{object}/updated/", self.api.updated),
            ("GET", "/data/sobjects/{object}/deleted/", self.api.deleted),
            ("GET", "/data/sobjects/{object}/listviews", self.list_views.all),
            ("GET", "/data/sobjects/{object}/listviews/{id}/describe", self.list_views.describe),
            ("PATCH", "/data/sobjects/{object}/{key}/{value}", self.api.upsert_one),
            ("PATCH", "/data/composite/sobjects/{object}/{key}", self.api.upsert_many),
            ("PATCH", "/data/composite/sobjects", self.api.update_many),
            ("GET", "/data/query", self.api.query),
            ("GET", "/data/query/", self.api.query),
            ("GET", "/data/queryAll", self.api.query_all),
            ("GET", "/data/queryAll/", self.api.query_all),
            ("GET", "/data/query/{locator}", self.api.more),
            *((method, template, each) for (method, template), each in bulk.routes(self.bulk).items()),
        ):
            self.route(method, template, handler)

    def now(self) -> datetime:
        """The time, in Salesforce's precision."""
        return self.clock().replace(microsecond=0)

    # -- what an administrator does

    def prepare(self) -> None:
        """Makes the fields that crmsync needs."""
        for name, key in KEYS.items():
            self.objects[name].define(external_id(key, 255 if name == "Task" else 64))
        self.objects["Task"].define(Field("Kirim_Status__c", length=40))

    def define(self, object_name: str, *fields: Field) -> None:
        """Makes fields, or puts others in their place."""
        self.objects[object_name].define(*fields)

    def add_user(self, email: str, name: str = "", *, active: bool = True) -> str:
        """A user; returns its id."""
        values = {"Email": email, "Username": email, "Name": name or email, "IsActive": active}
        return self.org.create(self.org.tables["User"], values, self.org.people).id

    def expire_sessions(self) -> None:
        """No token that was given out is good any more."""
        self.tokens.revoke()

    # -- what a user does

    def create(self, kind: str, /, **values: Any) -> str:
        """A user makes a record of some object; returns its id. Raises `RowError` as the form would."""
        with self.lock:
            table = self._of(kind)
            record = self.org.create(table, values, self.org.people)
            self._write_down("create", table, record, values, tuple(values))
            return record.id

    def edit(self, id: str, **values: Any) -> None:
        """A user changes a record; None clears."""
        with self.lock:
            table, record = self._known(id)
            changed = self.org.update(table, record, values, self.org.people)
            self._write_down("update", table, record, values, changed)

    def delete(self, id: str, *, purge: bool = False) -> None:
        """A user deletes a record, or deletes it for good."""
        with self.lock:
            table, record = self._known(id)
            self.org.delete(table, record, self.org.people)
            record.purged = purge
            self._write_down("delete", table, record, {}, ())

    def restore(self, id: str) -> None:
        """A user takes a record out of the recycle bin."""
        with self.lock:
            table, record = self._known(id)
            self.org.restore(table, record, self.org.people)
            self._write_down("restore", table, record, {}, ())

    def merge(self, winner: str, loser: str) -> str:
        """A user merges two records; returns the survivor's id, which is the winner's."""
        with self.lock:
            (table, survivor), (_, other) = self._known(winner), self._known(loser)
            self.org.merge(table, survivor, other, self.org.people)
            self._write_down("merge", table, survivor, {"merged": [winner, loser]}, ())
            return survivor.id

    def hide(self, id: str) -> None:
        """A record's transaction has not ended: nobody else sees it."""
        with self.lock:
            table, record = self._known(id)
            table.late[record.id] = Late(None, record.stamp, None)

    def show(self, id: str) -> None:
        """The transaction ends."""
        with self.lock:
            self._known(id)[0].late.pop(id, None)

    def get(self, id: str) -> dict[str, Any]:
        """What a record holds: the fields that are not empty."""
        with self.lock:
            return dict(self._known(id)[1].values)

    def all(self, kind: str = "Contact") -> dict[str, dict[str, Any]]:
        """Every live record of some object by id."""
        with self.lock:
            return {one.id: dict(one.values) for one in self._of(kind).by_id.values() if not one.deleted}

    def by_external_id(self, key: str, kind: str = "Contact") -> list[str]:
        """The live records that carry this Kirim id. More than one would be a duplicate."""
        return [id for id, held in self.all(kind).items() if held.get(KEYS[kind]) == key]

    # -- what the platform adds to every call

    def rewrite(self, path: str) -> str:
        """Every version is the same."""
        return _VERSION.sub("/data", path)

    def admit(self, call: Call) -> None:
        """Session and limits."""
        if call.route == TOKENS:
            return
        if not self.tokens.opens(call.headers.get("authorization")):
            raise Refusal(error(401, "INVALID_SESSION_ID", "Session expired or invalid"))
        self._used += 1
        if self.behaviour.too_many_at_once:
            said = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
            raise Refusal(error(403, "REQUEST_LIMIT_EXCEEDED", said))
        if self._used > self.behaviour.daily_limit:
            raise Refusal(error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))

    def finish(self, call: Call, reply: Reply) -> Reply:
        """The header that tells what is left of the day."""
        if call.route == TOKENS:
            return reply
        used = min(self._used, self.behaviour.daily_limit)
        return replace(
            reply, headers={"Sforce-Limit-Info": f"api-usage={used}/{self.behaviour.daily_limit}", **reply.headers}
        )

    def error_body(self, status: int) -> Any:
        """Salesforce's error body."""
        code, message = _ERRORS.get(status, ("UNKNOWN_EXCEPTION", "An unexpected error occurred."))
        return [{"message": message, "errorCode": code}]

    # -- inside

    def _of(self, kind: str) -> Table:
        return self.org.tables[kind]

    def _known(self, id: str) -> tuple[Table, Record]:
        if (found := self.org.find(id)) is None:
            raise LookupError(f"no record {id}")
        return found

    def _write_down(
        self, verb: str, table: Table, record: Record, values: Mapping[str, Any], changed: tuple[str, ...]
    ) -> None:
        name = table.of.name
        key = record.values.get(KEYS.get(name, ""))
        self.human.append(Effect(self.clock(), verb, name.lower(), record.id, key, dict(values), changed))


_ERRORS = {
    401: ("INVALID_SESSION_ID", "Session expired or invalid"),
    403: ("INSUFFICIENT_ACCESS", "insufficient access rights"),
    404: ("NOT_FOUND", "The requested resource does not exist"),
    503: ("SERVER_UNAVAILABLE", "The server is too busy"),
}
