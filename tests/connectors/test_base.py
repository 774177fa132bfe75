"""What every connector is built on: a batch that is settled row by row, and a call that makes the right error."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from crmsync.connecting.batches import Batches
from crmsync.connecting.feed import Horizon
from crmsync.connecting.pages import every, packed, portions
from crmsync.connecting.signatures import check_age, label, matching
from crmsync.connecting.texts import as_html, fitting, sendable
from crmsync.connecting.tokens import Lease, Renewed, lease_of
from crmsync.connecting.values import alike, listed, members_of, moment_of, shaped
from crmsync.connector import settled
from crmsync.errors import BadSignature, ConnectorError, Doubt, Reject, Retry, Suspend, Throttled
from crmsync.http import Http, Unlimited
from crmsync.model import Kind, Record
from crmsync.testing.clock import ManualClock
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


# -- what connectors share


def test_every_page_is_read_and_a_circle_is_no_end() -> None:
    pages = {None: ([1, 2], "a"), "a": ([], "b"), "b": ([3], None)}
    assert list(every(lambda cursor: pages[cursor])) == [1, 2, 3]

    with pytest.raises(Retry, match="circles"):
        list(every(lambda cursor: ([1], "again")))


def test_a_feed_goes_back_until_what_was_seen_last_has_settled() -> None:
    """Late rows have an overlap's time to show; then a quiet account is not read again."""
    seen = Horizon().with_top(1_000).at_end(now=1_050, overlap=300)
    soon = seen.with_top(900).at_end(now=1_350, overlap=300)
    later = soon.at_end(now=1_351, overlap=300)
    newer = later.with_top(1_400)

    assert [each.begin(300) for each in (seen, soon, later)] == [700, 700, 1_001]
    assert (newer.top_seen, newer.at_end(now=1_500, overlap=300).begin(300)) == (0, 1_100)


@given(st.lists(st.text("ab", max_size=9)), st.integers(1, 4), st.integers(0, 12))
def test_packed_parts_have_everything_in_order_and_no_room_for_more(values: list[str], most: int, room: int) -> None:
    parts = list(packed(values, most, room, len))

    assert [value for part in parts for value in part] == values
    assert all(0 < len(part) <= most for part in parts)
    assert all(sum(map(len, part)) <= room or len(part) == 1 for part in parts)
    fuller = [(*part, following[0]) for part, following in pairwise(parts)]
    assert all(len(part) > most or sum(map(len, part)) > room for part in fuller)


def test_what_is_alike_but_for_case_and_space_is_found_for_each_value() -> None:
    ann, also_ann, bob = (Record(Kind.CONTACT, id, {}) for id in "123")
    held = [("ann@x ", ann), ("ANN@X", also_ann), ("bob@x", bob), (None, bob)]
    found = alike(["Ann@x", "carl@x", " bob@X"], held, str.lower)

    assert found == {"Ann@x": [ann, also_ann], "carl@x": [], " bob@X": [bob]}


class Refused(Batches[str, str]):
    """Rows that one answer refuses, each without saying why."""

    def __init__(self, *missing: ConnectorError) -> None:
        super().__init__()
        self.missing = list(missing)
        self.looks = 0

    def name(self, entry: str) -> str:
        return entry

    def attempt(self, entries: Sequence[str]) -> Sequence[str | ConnectorError]:
        return [self.suspected() or Reject(entry) for entry in entries]

    def require(self) -> None:
        self.looks += 1
        for error in self.missing:
            raise error


def test_a_missing_field_of_ours_is_the_trouble_of_every_row_that_is_refused_without_a_reason() -> None:
    batches = Refused(missing := Suspend("no field"))
    assert batches.settled(["a", "b", "c"]) == {"a": missing, "b": missing, "c": missing}
    assert batches.looks == 1

    for blameless in (Refused(), Refused(Reject("refused as well"))):
        outcomes = blameless.settled(["a", "b"])
        assert [str(outcome) for outcome in outcomes.values()] == ["a", "b"]
        assert blameless.looks == 1


def test_a_place_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    place = Horizon(top=3, settled=2)
    assert Horizon.read(str(place)) == place

    for cursor in ("", "{", "[]", '{"top": "3"}', '{"tap": 3}', "3"):
        with pytest.raises(Reject, match="cursor"):
            Horizon.read(cursor)


def test_portions_have_everything_in_order() -> None:
    assert [list(part) for part in portions(ROWS, 3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert list(portions([], 3)) == []


def test_a_token_is_renewed_before_it_ends_and_when_it_is_refused() -> None:
    clock = ManualClock()
    told = iter(range(9))
    renewed = Renewed(lambda: lease_of("Acme", {"access_token": f"t{next(told)}", "expires_in": 600}, clock()), clock)
    first = renewed.token()
    clock.advance(timedelta(minutes=8))
    kept = renewed.token()
    clock.advance(timedelta(minutes=1))
    second = renewed.token()
    worth_trying = renewed.renewed(second)

    assert (first, kept, second, worth_trying, renewed.token()) == ("t0", "t0", "t1", True, "t2")
    assert renewed.renewed("t0")
    assert renewed.token() == "t2"


def test_a_token_without_an_end_is_used_until_it_is_refused() -> None:
    clock = ManualClock()
    told = iter(range(9))
    renewed = Renewed(lambda: Lease(f"t{next(told)}", None), clock)
    first = renewed.token()
    clock.advance(timedelta(days=30))

    assert (first, renewed.token()) == ("t0", "t0")
    assert renewed.renewed("t0")
    assert renewed.token() == "t1"


def test_many_threads_renew_a_token_once() -> None:
    told: list[str] = []

    def renew() -> Lease:
        told.append("asked")
        return Lease("t", None)

    renewed = Renewed(renew, ManualClock())
    with ThreadPoolExecutor(8) as threads:
        tokens = list(threads.map(lambda _: renewed.token(), range(64)))

    assert (set(tokens), told) == ({"t"}, ["asked"])


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, {"access_token": "a b"}, {"access_token": 7}])
def test_an_answer_without_a_token_is_passing_trouble(answer: dict[str, Any]) -> None:
    with pytest.raises(Retry):
        lease_of("Acme", answer, ManualClock()())


def test_a_token_is_not_shown() -> None:
    assert "abc" not in repr(Lease("abc", None))


def test_a_text_that_is_too_long_says_so() -> None:
    lines = [f"line {number}" for number in range(10)]

    assert fitting(lines, 200) == "\n".join(lines)
    assert fitting(lines, 30) == "line 0\nline 1\nline 2\n[…]"
    assert len(fitting(["x" * 100], 30)) == 30
    assert as_html("<b>\n&", 100) == "&lt;b&gt;<br>&amp;"
    assert sendable("a\ud800b") == "a\ufffdb"


def test_times_sets_and_lists_are_read_as_far_as_they_are_such() -> None:
    assert moment_of("2026-11-02T10:00:00+07:00") == moment_of("2026-11-02T03:00:00")
    assert [moment_of(text) for text in (None, "", "yesterday", 7)] == [None] * 4
    assert [members_of(value) for value in (None, "", "a", ("a", "b"))] == [(), (), ("a",), ("a", "b")]
    assert [listed(value) for value in (None, {}, "ab", [1])] == [(), (), (), [1]]
    assert [shaped(re.compile("[A-Z]+"), value) for value in ("CODE", "no code", None)] == ["CODE", "", ""]


def test_the_secret_that_signed_is_found_among_several() -> None:
    def sign(key: bytes) -> bytes:
        return hmac.digest(key, b"body", "sha256")

    assert matching(["new", "old"], sign(b"old"), sign) == "old"
    with pytest.raises(BadSignature) as refused:
        matching(["new", "old"], sign(b"other"), sign)
    assert refused.value.doubt is Doubt.MISMATCH
    assert label("new") != label("old")
    assert "new" not in label("new")


@pytest.mark.parametrize(("minutes", "doubt"), [(6, Doubt.STALE), (-6, Doubt.FUTURE), (4, None), (-4, None)])
def test_an_age_is_told_apart_from_a_wrong_clock(minutes: int, doubt: Doubt | None) -> None:
    try:
        check_age(timedelta(minutes=minutes), timedelta(minutes=5))
        found = None
    except BadSignature as refused:
        found = refused.doubt

    assert found is doubt
