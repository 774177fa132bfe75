"""Whatever goes wrong becomes the error that says what to do next, and tells nobody's secrets."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from crmsync.connector import Connector
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.http import Unlimited
from crmsync.model import Can, Ref, Value, Write
from crmsync.testing.checks.base import Checks, arranged, declared, key, needs
from crmsync.testing.checks.timelines import entry, logged
from crmsync.testing.checks.walks import walked
from crmsync.testing.fake import FakeCrm, Trouble, WithPeople, WithSegments, WithTimelines

METHODS = (
    *("fields", "prepare", "upsert", "fetch", "find", "changed", "walk"),
    *("count", "people", "segments", "members", "log"),
)
NEEDED = {
    "prepare": Can.PREPARE,
    "find": Can.FIND,
    "changed": Can.CHANGES,
    "people": Can.PEOPLE,
    "segments": Can.SEGMENTS,
    "members": Can.SEGMENTS,
    "log": Can.ACTIVITIES,
}
MEANING: dict[Trouble | int, type[ConnectorError]] = {
    400: Reject,
    401: Suspend,
    403: Suspend,
    429: Retry,
    500: Retry,
    502: Retry,
    503: Retry,
    Trouble.RESET: Retry,
    Trouble.LOST: Retry,
    Trouble.TIMEOUT: Retry,
    Trouble.CUT: Retry,
    Trouble.HTML: Retry,
}
PRIVATE: dict[str, Value] = {
    "text": "Quillon Zanzibar",
    "other": "Vexbrook Holdings",
    "email": "quillon.zanzibar@vexbrook.example",
    "phone": "+6285117607731",
}


class Troubles(Checks):
    """Every method, every trouble."""

    @pytest.mark.parametrize("trouble", MEANING)
    @pytest.mark.parametrize("method", METHODS)
    def test_trouble_becomes_the_right_error(
        self, fake: FakeCrm, connector: Connector[Any], method: str, trouble: Trouble | int
    ) -> None:
        """Passing, permanent, or the whole connection's. A connector does not try again by itself."""
        call = _prepared(fake, connector, method)
        # A permanent refusal may be narrowed down with further requests; it has to stay refused.
        fake.fail_next(trouble, times=20 if trouble == 400 else 1)

        assert type(_failure(call)) is MEANING[trouble]

    @pytest.mark.parametrize("method", METHODS)
    def test_not_found_is_no_accident(self, fake: FakeCrm, connector: Connector[Any], method: str) -> None:
        """A 404 is a refusal, or it says that nothing is there."""
        call = _prepared(fake, connector, method)
        fake.fail_next(404, times=20)
        try:
            answer = call()
        except Reject:
            return
        assert not answer or isinstance(answer, Reject) or set(answer) <= {None} or not any(answer.values())

    @pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize("method", METHODS)
    def test_retry_after_reaches_the_caller(
        self, fake: FakeCrm, connector: Connector[Any], method: str, status: int, as_date: bool
    ) -> None:
        """The platform knows best how long to wait."""
        call = _prepared(fake, connector, method)
        fake.fail_next(status, retry_after=40, as_date=as_date)
        error = _failure(call)

        assert isinstance(error, Retry)
        assert error.after is not None, "the time that the platform named is lost"
        assert timedelta(seconds=35 if as_date else 40) <= error.after <= timedelta(seconds=41 if as_date else 40)

    @pytest.mark.parametrize("method", METHODS)
    def test_no_time_is_made_up(self, fake: FakeCrm, connector: Connector[Any], method: str) -> None:
        """Where the platform names none, how long to wait is decided elsewhere."""
        call = _prepared(fake, connector, method)
        fake.fail_next(429)
        error = _failure(call)

        assert isinstance(error, Retry)
        assert error.after is None

    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_is_sent_without_leave(self, fake: FakeCrm, method: str) -> None:
        """While the budget says to wait, no request goes out; and that is no attempt."""
        budget = Gate()
        with closing(fake.connect(budget=budget)) as connector:
            call = _prepared(fake, connector, method)
            budget.shut = True
            fake.fail_next(500, times=20)

            assert type(_failure(call)) is Throttled

    @pytest.mark.parametrize("method", METHODS)
    def test_the_time_that_the_platform_names_holds_the_budget(self, fake: FakeCrm, method: str) -> None:
        """Everybody who shares the credential has to wait, not only who was told."""
        budget = Gate()
        with closing(fake.connect(budget=budget)) as connector:
            call = _prepared(fake, connector, method)
            fake.fail_next(429, retry_after=40)
            _failure(call)

        assert timedelta(seconds=40) in budget.held

    @pytest.mark.parametrize("trouble", [500, Trouble.RESET, Trouble.LOST, Trouble.TIMEOUT, Trouble.CUT])
    def test_a_create_that_may_have_been_applied_says_so(
        self, fake: FakeCrm, connector: Connector[Any], trouble: Trouble | int
    ) -> None:
        """Only then is the record looked up before it is created again."""
        needs(connector, Can.CREATE)
        kind, text = fake.sample.kind, fake.sample.text
        _warm_up(fake, connector)
        fake.fail_next(trouble)
        error = _failure(lambda: connector.upsert(kind, [Write(key(8), {text: "Ana"})])[0])

        assert isinstance(error, Retry)
        # Without a unique key the first request may have been a look-up.
        assert error.ambiguous or (len(fake.ids()) == 1 and Can.NATIVE_UPSERT not in connector.can)

    @pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.CUT])
    def test_an_update_that_was_applied_unheard_says_so(
        self, fake: FakeCrm, connector: Connector[Any], trouble: Trouble
    ) -> None:
        """It may be held, or not."""
        kind, text = fake.sample.kind, fake.sample.text
        id = fake.add(key(8), {text: "Ana"})
        _warm_up(fake, connector)
        fake.fail_next(trouble)
        error = _failure(lambda: connector.upsert(kind, [Write(key(8), {text: "Bea"}, id=id)])[0])

        assert isinstance(error, Retry)
        assert error.ambiguous or fake.held(id).get(text) == "Ana"

    @pytest.mark.parametrize("trouble", [400, 401, 403, 429, 500, Trouble.CUT, Trouble.HTML])
    @pytest.mark.parametrize("method", METHODS)
    def test_no_message_tells_a_secret_or_a_value(
        self, fake: FakeCrm, connector: Connector[Any], method: str, trouble: Trouble | int
    ) -> None:
        """Not in the message, and not in what a traceback prints of its causes."""
        call = _prepared(fake, connector, method)
        fake.fail_next(trouble, times=20 if trouble == 400 else 1)
        error = _failure(call)
        told = "\n".join([str(error), repr(error), *traceback.format_exception(error)]).casefold()

        assert not [number for number, secret in enumerate(fake.secrets) if secret.casefold() in told]
        assert not [name for name, value in PRIVATE.items() if str(value).casefold() in told]


def _warm_up(fake: FakeCrm, connector: Connector[Any]) -> None:
    """One write that goes well: what a connector reads once, it has read."""
    kind, text = fake.sample.kind, fake.sample.text
    fake.add(key(9), {text: "Warm"})
    connector.upsert(kind, [Write(key(9), {text: "Warmer"})])


class Gate(Unlimited):
    """A budget that can be shut, and remembers for how long it was told to hold."""

    def __init__(self) -> None:
        self.shut = False
        self.held: list[timedelta] = []

    def take(self, bucket: str = "") -> None:
        """Nothing goes through while it is shut."""
        if self.shut:
            raise Throttled("the budget is used up")

    def hold(self, until: timedelta, bucket: str = "") -> None:
        """Remembers."""
        self.held.append(until)


def _prepared(fake: FakeCrm, connector: Connector[Any], method: str) -> Callable[[], Any]:
    """A call that would go well, about a record full of personal data."""
    if method in NEEDED:
        needs(connector, NEEDED[method])
    sample = fake.sample
    if method == "walk":
        walked(fake, connector)
    if method == "count" and connector.count(sample.kind) is None:
        pytest.skip(f"{connector.name} does not tell how many records there are")
    names = {"text": sample.text, "other": sample.other, "email": sample.email, "phone": sample.phone}
    fields = {name: PRIVATE[role] for role, name in names.items() if name}
    id = fake.add(key(8), fields)
    if method in ("people", "segments", "members", "log"):
        return _beside(fake, connector, method, id)
    found_by = declared(sample.find_by, "field to find by") if method == "find" else ""
    calls: dict[str, Callable[[], Any]] = {
        "fields": lambda: connector.fields(sample.kind),
        "prepare": lambda: connector.prepare(sample.kind),
        "upsert": lambda: connector.upsert(sample.kind, [Write(key(8), fields, id=id)])[0],
        "fetch": lambda: connector.fetch(sample.kind, [Ref(id=id)]),
        "find": lambda: connector.find(sample.kind, found_by, [str(fields.get(found_by))]),
        "changed": lambda: connector.changed(sample.kind, None),
        "walk": lambda: connector.walk(sample.kind, None),
        "count": lambda: connector.count(sample.kind),
    }
    return calls[method]


def _beside(fake: FakeCrm, connector: Connector[Any], method: str, id: str) -> Callable[[], Any]:
    """The same for what there is besides records."""
    if method == "people":
        arranged(fake, WithPeople).add_person(PRIVATE["email"], PRIVATE["text"])
        return connector.people
    if method == "log":
        arranged(fake, WithTimelines)
        logged(connector, entry(fake, 0, id))  # what a connector reads once, it has read
        private = replace(entry(fake, 1, id), title=str(PRIVATE["text"]), body=str(PRIVATE["phone"]))
        return lambda: connector.log([private])[0]
    segment = arranged(fake, WithSegments).add_segment(PRIVATE["other"], [id])
    return connector.segments if method == "segments" else lambda: connector.members(segment)


def _failure(call: Callable[[], Any]) -> ConnectorError:
    """The error of a call that must fail, raised or as an outcome."""
    try:
        answer = call()
    except ConnectorError as error:
        return error
    assert isinstance(answer, ConnectorError), "the trouble went unnoticed"
    return answer
