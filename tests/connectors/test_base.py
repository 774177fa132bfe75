"""What every connector is built on: a batch that is settled row by row, and a call that makes the right error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from crmsync.connector import settled
from crmsync.errors import ConnectorError, Reject, Retry, Suspend, Throttled
from crmsync.http import Http, Unlimited
from crmsync.testing.http_fake import HttpFake, Reply
from crmsync.testing.loopback import LOOPBACK

ROWS = list(range(8))


def sender(*troubles: ConnectorError, bad: int | None = None) -> Callable[[Sequence[int]], Sequence[Any]]:
    """Takes batches, after so many troubles; refuses each that has the bad row."""
    waiting = list(troubles)

    def send(rows: Sequence[int]) -> Sequence[str]:
        if bad in rows:
            raise Reject("400")
        if waiting:
            raise waiting.pop(0)
        return [f"done {row}" for row in rows]

    return send


def test_a_batch_that_goes_well_is_one_call() -> None:
    calls: list[Sequence[int]] = []

    assert settled(ROWS, lambda rows: [calls.append(rows), *rows][1:]) == ROWS
    assert calls == [ROWS]


def test_no_rows_are_no_call() -> None:
    assert settled([], sender(Suspend("401"))) == []


@pytest.mark.parametrize("bad", [0, 3, 7])
def test_the_guilty_row_alone_is_refused(bad: int) -> None:
    outcomes = settled(ROWS, sender(bad=bad))

    assert [row for row, outcome in zip(ROWS, outcomes, strict=True) if isinstance(outcome, Reject)] == [bad]


@pytest.mark.parametrize("trouble", [Suspend("401"), Retry("429", timedelta(seconds=40))])
def test_trouble_before_anything_was_written_is_raised(trouble: ConnectorError) -> None:
    with pytest.raises(type(trouble)) as raised:
        settled(ROWS, sender(trouble))

    assert raised.value is trouble


def test_trouble_whose_request_may_have_been_applied_is_every_rows_outcome() -> None:
    lost = Retry("no answer", ambiguous=True)

    assert settled(ROWS, sender(lost)) == [lost] * 8


@pytest.mark.parametrize(
    ("trouble", "after"), [(Suspend("401"), Suspend), (Retry("429", timedelta(seconds=40)), Throttled)]
)
def test_after_trouble_nothing_more_is_sent(trouble: Any, after: type[ConnectorError]) -> None:
    """What was written before it stays written; what was not sent did not fail."""
    calls: list[Sequence[int]] = []

    def send(rows: Sequence[int]) -> Sequence[str]:
        calls.append(rows)
        if 7 in rows and len(rows) > 2:
            raise Reject("400")
        if 4 in rows:
            raise trouble
        return ["done"] * len(rows)

    outcomes = settled(ROWS, send)

    assert calls == [ROWS, [0, 1, 2, 3], [4, 5, 6, 7], [4, 5]]
    assert outcomes[:6] == ["done"] * 4 + [trouble] * 2
    assert {type(outcome) for outcome in outcomes[6:]} == {after}
    assert {getattr(outcome, "after", None) for outcome in outcomes[6:]} == {trouble.after}


@pytest.fixture
def fake() -> Iterator[HttpFake]:
    made = HttpFake()
    yield made
    made.close()


@pytest.fixture
def http(fake: HttpFake) -> Iterator[Http]:
    made = Http("Acme", fake.url, {}, Unlimited(), reach=LOOPBACK)
    yield made
    made.close()


def test_a_call_gives_the_json_of_a_success(fake: HttpFake, http: Http) -> None:
    fake.route("PUT", "/rows", lambda call: Reply(201, {"told": call.json()}))

    assert http.call("PUT", "/rows", body=[1]) == {"told": [1]}


@pytest.mark.parametrize(
    ("status", "error"), [(302, Reject), (401, Suspend), (404, Reject), (422, Reject), (429, Retry), (500, Retry)]
)
def test_a_call_raises_what_a_status_means(
    fake: HttpFake, http: Http, status: int, error: type[ConnectorError]
) -> None:
    fake.fail_next(status)
    with pytest.raises(error, match=f"Acme answered {status}"):
        http.call("GET", "/rows")


def test_a_call_passes_on_how_long_to_wait(fake: HttpFake, http: Http) -> None:
    fake.fail_next(429, retry_after=40)
    with pytest.raises(Retry) as limited:
        http.call("GET", "/rows")

    assert limited.value.after == timedelta(seconds=40)
