"""The catalogue of bad input, row by row over a real socket: what is answered, what is kept, and how it ends.

H rows are about headers and transport, B rows about bodies whose signature was right; each case carries its row's name.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import socket
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.gate import HOOK, LIMIT, NUMBER, OLDER, OTHERS, SECRET, Gate, Headers, T, request, signed
from web_server import read_reply, read_to_end

from crmsync.kirim.signature import sign
from crmsync.store import tables
from crmsync.store.deliveries import DeliveryState
from crmsync.web.server import Protocol

BODY = b'{"id":"evt_1","type":"contact.updated","data":{"contact":{"id":"ctc_1"}}}'
GOOD = sign(SECRET, BODY, T).partition("v1=")[2]
NO = "0" * 64


@pytest.fixture(scope="module")
def sqlite_gate(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    path = tmp_path_factory.mktemp("catalogue") / "store.db"
    shutil.copy(sqlite_template, path)
    with Gate(f"sqlite:///{path}") as gate:
        yield gate


@pytest.fixture(scope="module")
def postgresql_gate(postgres: Any, postgres_template: str) -> Iterator[Gate]:
    import psycopg

    name = f"crmsync_catalogue_{id(postgres)}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')
    with Gate(postgres.url(name)) as gate:
        yield gate
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def gate(sqlite_gate: Gate) -> Gate:
    sqlite_gate.reset()
    return sqlite_gate


@pytest.fixture(params=["sqlite_gate", "postgresql_gate"])
def either(request: pytest.FixtureRequest) -> Gate:
    """Where the database matters: once on each."""
    gate: Gate = request.getfixturevalue(request.param)
    gate.reset()
    return gate


def signature(value: str | bytes) -> Headers:
    return (("X-Kirim-Signature", value),)


def also(*headers: tuple[str | bytes, str | bytes]) -> Headers:
    """A rightly signed delivery with further headers."""
    return (*signed(BODY), *headers)


@dataclass(frozen=True)
class H:
    """What is sent; what is answered and counted; why it is kept, if it is; what is counted as odd."""

    headers: Headers
    status: int
    word: str
    odd: Mapping[str, int] = field(default_factory=dict)
    body: bytes = BODY
    path: str = HOOK
    method: str = "POST"

    @property
    def reason(self) -> str | None:
        """What is kept is kept under the word that is counted."""
        kept = self.status == 503 and self.word not in ("unknown_path", "too_large")
        return self.word if kept else None


def ok(headers: Headers, **more: Any) -> H:
    return H(headers, 200, "stored", **more)


def malformed(value: str | bytes) -> H:
    return H(signature(value), 503, "malformed")


LIKE = ("X-Kirim-Event", "contact.updated")
ODD_ID = {"header_mismatch": 1}
HEADERS: dict[str, H] = {
    "H1 nothing of Kirim's": H((), 401, "stranger"),
    "H1 a browser": H((("User-Agent", "Mozilla/5.0"), ("Content-Type", "application/json")), 401, "stranger"),
    "H1 another platform's signature": H((("X-Hub-Signature-256", f"sha256={NO}"),), 401, "stranger"),
    "H2 the signature was dropped on the way": H((LIKE,), 503, "missing_signature"),
    "H2 only a delivery id is left": H((("x-kirim-delivery-id", "wbd_1"),), 503, "missing_signature"),
    "H2 only the user agent is left": H((("User-Agent", "Kirim-Webhook/2"),), 503, "missing_signature"),
    "H3 empty": malformed(""),
    "H3 empty parts": malformed("t=,v1="),
    "H3 a word": malformed("whatever"),
    "H4 v1 alone": malformed(f"v1={GOOD}"),
    "H4 t alone": malformed(f"t={T}"),
    "H4 v0": malformed(f"t={T},v0={GOOD}"),
    "H4 v2": malformed(f"t={T},v2={GOOD}"),
    "H5 two times": malformed(f"t={T},t={T},v1={GOOD}"),
    "H5 two times that differ": malformed(f"t={T - 9999},t={T},v1={GOOD}"),
    "H6 full-width digits": malformed(f"t=１７１６４８００００,v1={GOOD}"),
    "H6 underscores": malformed(f"t=1_716_480_000,v1={GOOD}"),
    "H6 a plus sign": malformed(f"t= +{T},v1={GOOD}"),
    "H6 nan": malformed(f"t=nan,v1={GOOD}"),
    "H6 a fraction": malformed(f"t={T}.0,v1={GOOD}"),
    "H6 negative": malformed(f"t=-{T},v1={GOOD}"),
    "H6 5000 digits": malformed(f"t={'1' * 5000},v1={GOOD}"),
    "H7 upper-case digits": ok(signature(f"t={T},v1={GOOD.upper()}")),
    "H8 spaces within": malformed(f"t={T},v1={GOOD[:32]} {GOOD[32:]}"),
    "H8 a tab within": malformed(f"t={T},v1={GOOD[:32]}\t{GOOD[32:]}"),
    "H9 63 digits beside the right one": ok(signature(f"t={T},v1={GOOD[1:]},v1={GOOD}")),
    "H9 65 digits beside the right one": ok(signature(f"t={T},v1={GOOD}0,v1={GOOD}")),
    "H9 no digits beside the right one": ok(signature(f"t={T},v1=,v1={GOOD}")),
    "H9 no hex beside the right one": ok(signature(f"t={T},v1={'zz' * 32},v1={GOOD}")),
    "H9 not ASCII beside the right one": ok(signature(b"t=%d,v1=\xc3\xa9,v1=%b" % (T, GOOD.encode()))),
    "H9 nothing but 63 digits": malformed(f"t={T},v1={GOOD[1:]}"),
    "H9 nothing but bytes that are no text": malformed(b"t=%d,v1=\xff\xfe\xfd" % T),
    "H10 two, the last is right": ok(signature(f"t={T},v1={NO},v1={GOOD}")),
    "H10 two, the first is right": ok(signature(f"t={T},v1={GOOD},v1={NO}")),
    "H10 sixteen, the last is right": ok(signature(f"t={T}{f',v1={NO}' * 15},v1={GOOD}")),
    "H10 one for each of two secrets": ok(signature(f"t={T},v1={sign(OLDER, BODY, T).partition('v1=')[2]},v1={GOOD}")),
    "H11 seventeen, the last is right": malformed(f"t={T}{f',v1={NO}' * 16},v1={GOOD}"),
    "H11 five hundred": malformed(f"t={T}{f',v1={GOOD}' * 500}"),
    "H12 299 s old": ok(signed(BODY, t=T - 299)),
    "H12 299 s ahead": ok(signed(BODY, t=T + 299)),
    "H12 300 s old": ok(signed(BODY, t=T - 300)),
    "H12 with the older secret": ok(signed(BODY, OLDER)),
    "H14 301 s old": H(signed(BODY, t=T - 301), 503, "stale"),
    "H14 two hours old": H(signed(BODY, t=T - 7200), 503, "stale"),
    "H14 from 1973": H(signed(BODY, t=100_000_000), 503, "stale"),
    "H15 301 s ahead": H(signed(BODY, t=T + 301), 503, "future"),
    "H15 ten minutes ahead": H(signed(BODY, t=T + 600), 503, "future"),
    "H15 in the year 5138": H(signed(BODY, t=99_999_999_999), 503, "future"),
    "H16 another tenant's secret": H(signed(BODY, OTHERS), 503, "cross_tenant"),
    "H16 another tenant's secret, long ago": H(signed(BODY, OTHERS, T - 9999), 503, "cross_tenant"),
    "H16 nobody's secret": H(signed(BODY, "whsec_nobodys"), 503, "mismatch"),
    "H16 the right secret for another body": H(signed(BODY + b" "), 503, "mismatch"),
    "H16 the secret without its prefix": H(signed(BODY, SECRET.removeprefix("whsec_")), 503, "mismatch"),
    "H17 in two headers": ok((*signature(f"t={T}"), *signature(f"v1={GOOD}"))),
    "H17 the whole twice": H((*signed(BODY), *signed(BODY)), 503, "malformed"),
    "H17 under its other name": ok((("X-Kirim-Signature-256", f"t={T},v1={GOOD}"),)),
    "H18 another event id": ok(also(("X-Kirim-Event-Id", "evt_9")), odd=ODD_ID),
    "H18 the same event id": ok(also(("X-Kirim-Event-Id", "evt_1"))),
    "H19 another type": ok(also(("X-Kirim-Event", "message.received")), odd=ODD_ID),
    "H19 an envelope that is called Meta's": ok(also(("X-Kirim-Source", "meta")), odd=ODD_ID),
    "H19 the same type": ok(also(("X-Kirim-Event", "contact.updated"), ("X-Kirim-Source", "kirim"))),
    "H20 an empty event id": ok(also(("X-Kirim-Event-Id", "")), odd=ODD_ID),
    "H20 an event id of 10 KiB": ok(also(("X-Kirim-Event-Id", "e" * 10_240)), odd=ODD_ID),
    "H20 quotes in the event id": ok(also(("X-Kirim-Event-Id", "\"';--")), odd=ODD_ID),
    "H20 bytes in the event id": ok(also(("X-Kirim-Event-Id", b"\xff\x80")), odd=ODD_ID),
    "H21 attempt 99": ok(also(("X-Kirim-Attempt", "99")), odd={"odd_attempt": 1}),
    "H21 attempt -1": ok(also(("X-Kirim-Attempt", "-1")), odd={"odd_attempt": 1}),
    "H21 attempt abc": ok(also(("X-Kirim-Attempt", "abc")), odd={"odd_attempt": 1}),
    "H21 attempt 3": ok(also(("X-Kirim-Attempt", "3"))),
    **{
        f"H22 {method}": H(signed(BODY), 405, "wrong_method", method=method)
        for method in ("GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH")
    },
    "H22 Meta's handshake": H((), 404, "not_found", path=f"{HOOK}?hub.mode=subscribe&hub.challenge=1", method="GET"),
    "H23 a tenant that is not there": H(signed(BODY), 503, "unknown_path", path="/hooks/nobody/kirim"),
    "H23 a source that is not there": H(signed(BODY), 503, "unknown_path", path="/hooks/acme/nothing"),
    "H23 a path that is none": H(signed(BODY), 503, "unknown_path", path="/webhook"),
    "H23 a stranger at no tenant": H((), 404, "not_found", path="/hooks/nobody/kirim"),
    "H23 a stranger at no source": H((), 404, "not_found", path="/hooks/acme/nothing"),
    "H24 no content type": ok(signed(BODY)),
    "H24 text": ok(also(("Content-Type", "text/plain"))),
    "H24 a charset": ok(also(("Content-Type", "application/json; charset=utf-16"))),
    "H24 nonsense": ok(also(("Content-Type", ";;;"))),
    "H25 gzip, signed before": H(also(("Content-Encoding", "gzip")), 503, "compressed", body=gzip.compress(BODY)),
    "H25 deflate": H(also(("Content-Encoding", "deflate")), 503, "compressed", body=zlib.compress(BODY)),
    "H25 gzip in name only": H(also(("Content-Encoding", "gzip")), 503, "compressed"),
    "H25 a gzip bomb": H(also(("Content-Encoding", "gzip")), 503, "compressed", body=gzip.compress(b"0" * 50_000_000)),
    "H25 identity": ok(also(("Content-Encoding", "identity"))),
    "H25 a stranger's gzip": H((("Content-Encoding", "gzip"),), 401, "stranger", body=gzip.compress(BODY)),
    "H27 one byte too many": H(signed(b"x"), 503, "too_large", body=b"x" * (LIMIT + 1)),
    "H27 one byte too many, a stranger's": H((), 413, "too_large", body=b"x" * (LIMIT + 1)),
    "H27 exactly the limit": ok(signed(b"x" * LIMIT), body=b"x" * LIMIT),
    "H30 Expect that is not understood": ok(also(("Expect", "something"))),
    "H32 another host": ok(also(("X-Forwarded-Host", "other"), ("X-Forwarded-For", "10.0.0.1"))),
    "H32 another tenant's host and path": ok(
        also(("X-Original-URL", "/hooks/other/kirim"), ("X-Forwarded-Prefix", "/hooks/other"))
    ),
}


@pytest.mark.parametrize("case", HEADERS.values(), ids=HEADERS)
def test_a_request_is_answered_counted_and_kept_as_the_catalogue_says(gate: Gate, case: H) -> None:
    check(gate, case)


ON_BOTH = [name for name in HEADERS if HEADERS[name].reason or name.startswith(("H18", "H20", "H9 not"))]


@pytest.mark.parametrize("name", ON_BOTH)
def test_what_is_kept_is_kept_the_same_on_postgresql(postgresql_gate: Gate, name: str) -> None:
    postgresql_gate.reset()
    check(postgresql_gate, HEADERS[name])


def check(gate: Gate, case: H) -> None:
    sent = request(case.headers, case.body, case.path, case.method)
    if case.word == "too_large":  # the length is enough; who goes on sending may find the connection closed
        sent = sent[: len(sent) - len(case.body)]
    reply = gate.tell(sent, case.method)

    assert (reply.status, gate.words()) == (case.status, {case.word: 1})
    assert {word: count for (_, _, word), count in gate.intake.odd.items()} == case.odd
    assert ("retry-after" in reply.headers) == (case.status == 503)
    assert reply.headers.get("allow") == ("POST" if case.status == 405 else None)
    assert len(reply.body) < 30
    stored = [(row.tenant, row.source, row.body) for row in gate.stored()]
    assert stored == ([("acme", "kirim", case.body)] if case.status == 200 else [])
    kept = [(row.tenant, row.source, row.reason, row.body) for row in gate.kept()]
    assert kept == ([("acme", "kirim", case.reason, case.body)] if case.reason else [])
    if case.status == 200:
        gate.observe()
        assert set(gate.items()) <= {"e:evt_1"}


def test_every_row_of_the_catalogue_has_a_case() -> None:
    apart = {"H13", "H26", "H28", "H29", "H31"}
    assert {f"H{row}" for row in range(1, 33)} == {name.split()[0] for name in HEADERS} | apart
    assert {f"B{row}" for row in range(1, 27)} == {name.split()[0] for name in BODIES} | {"B22", "B24", "B25"}
    assert len(HEADERS) + len(BODIES) + len(FRAMINGS) > 130


@pytest.mark.parametrize("name", [name for name, case in HEADERS.items() if case.reason])
def test_what_is_kept_has_everything_a_second_look_needs_and_no_other_header(gate: Gate, name: str) -> None:
    case = HEADERS[name]
    gate.post((*case.headers, ("Authorization", "Bearer secret"), ("Cookie", "a=b")), case.body)
    [row] = gate.kept()

    assert {header for header, _ in row.headers} <= {
        "x-kirim-signature",
        "x-kirim-signature-256",
        "content-encoding",
    }
    assert (row.received_at, row.path) == (gate.now, HOOK)
    assert row.size == len(case.body) + sum(len(header) + len(value) for header, value in row.headers)
    assert gate.look_again().promoted == (1 if name == "H25 gzip in name only" else 0)


def test_h13_a_stale_copy_of_what_is_stored_is_acknowledged(either: Gate) -> None:
    assert either.deliver(BODY).status == 200
    assert [either.deliver(BODY, t=T + off).status for off in (-301, -86_400, 301)] == [200] * 3
    assert either.words() == {"stored": 1, "stale_known": 3}
    assert (len(either.stored()), either.kept()) == (1, [])


FRAMINGS = {
    "H26 both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nxxxxx",
    "H26 two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx",
    "H26 a negative length": b"Content-Length: -5\r\n\r\nxxxxx",
    "H26 a length in words": b"Content-Length: five\r\n\r\nxxxxx",
    "H26 a length in hex": b"Content-Length: 0x5\r\n\r\nxxxxx",
    "H26 a chunk of no length": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nxxxxx",
    "H20 NUL in the event id": b"X-Kirim-Event-Id: a\0b\r\nContent-Length: 5\r\n\r\nxxxxx",
    "H20 a line break in the event id": b"X-Kirim-Event-Id: a\r\nb\r\nContent-Length: 5\r\n\r\nxxxxx",
}


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_a_framing_that_can_be_read_in_two_ways_is_refused_by_the_server_and_nothing_is_kept(
    gate: Gate, framing: bytes
) -> None:
    head = f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nX-Kirim-Signature: {sign(SECRET, b'xxxxx', T)}\r\n".encode()
    with gate.running.connect() as connection:
        connection.sendall(head + framing)
        answer = read_to_end(connection)

    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""
    assert (gate.stored(), gate.kept()) == ([], [])


def test_h26_a_body_shorter_than_announced_is_kept_nowhere(gate: Gate) -> None:
    with gate.running.connect() as connection:
        connection.sendall(request(signed(BODY), BODY)[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""
    assert (gate.stored(), gate.kept()) == ([], [])


def test_h11_ten_thousand_candidates_are_more_than_a_head_may_have(gate: Gate) -> None:
    with gate.running.connect() as connection, contextlib.suppress(OSError):
        connection.sendall(request(signature(f"t={T}" + f",v1={GOOD}" * 10_000), BODY))
        assert b" 200 " not in read_to_end(connection)
    assert gate.stored() == []


def test_h27_a_body_that_grows_too_large_is_cut_off_and_not_kept(gate: Gate) -> None:
    with gate.running.connect() as connection:
        connection.sendall(
            request((*signed(BODY), ("Transfer-Encoding", "chunked")), b"", framing=False)
            + b"%x\r\n" % (LIMIT + 1)
            + b"x" * (LIMIT + 1)
        )
        reply = read_reply(connection)
    assert (reply.status, reply.headers["connection"]) == (503, "close")
    assert (gate.words(), gate.stored(), gate.kept()) == ({"too_large": 1}, [], [])


class Hurried(Protocol):
    arrival = 0.3


@pytest.mark.parametrize("sent", [0, 40, -5], ids=["nothing", "half a head", "half a body"])
def test_h28_who_takes_too_long_is_hung_up_on_and_nothing_is_kept(sqlite_url: str, sent: int) -> None:
    with Gate(sqlite_url, protocol=Hurried) as gate, gate.running.connect() as connection:
        connection.sendall(request(signed(BODY), BODY)[:sent])
        assert read_to_end(connection) == b""
        assert (gate.stored(), gate.kept()) == ([], [])


def test_h29_who_hangs_up_before_the_answer_is_kept_and_the_retry_known(gate: Gate) -> None:
    with gate.running.connect() as connection:
        connection.sendall(request(signed(BODY), BODY))
    deadline = time.monotonic() + 20
    while not gate.stored() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gate.deliver(BODY).status == 200
    assert gate.words()["known"] == 1


def test_h30_who_asks_first_pipelines_or_speaks_http_1_0_is_answered(gate: Gate) -> None:
    with gate.running.connect() as connection:
        connection.sendall(request((*signed(b"1"), ("Expect", "100-continue")), b"1")[:-1])
        assert read_reply(connection).status == 100
        connection.sendall(b"1")
        assert read_reply(connection).status == 200
        old = request(signed(b"4"), b"4").replace(b"HTTP/1.1", b"HTTP/1.0")
        connection.sendall(request(signed(b"2"), b"2") + request(signed(b"3"), b"3") + old)
        assert read_to_end(connection).count(b" 200 OK") == 3
    assert [row.body for row in gate.stored()] == [b"1", b"2", b"3", b"4"]


def test_h31_too_many_connections_get_503_and_those_there_are_served(sqlite_url: str) -> None:
    with Gate(sqlite_url, connections=2) as gate, gate.running.connect() as there:
        there.sendall(request(signed(b"1"), b"1"))
        assert read_reply(there).status == 200
        with gate.running.connect() as more, gate.running.connect() as another:
            for connection in (more, another):
                connection.sendall(request(signed(b"2"), b"2"))
            assert read_reply(another).status == 503
        assert b"2" not in [row.body for row in gate.stored()]


# Bodies

DEAD, DONE = DeliveryState.DEAD, DeliveryState.DONE


def event(kind: str = "contact.updated", id: Any = "evt_1", **more: Any) -> bytes:
    """An envelope of Kirim's."""
    data = more.pop("data", {"contact": contact()})
    return json.dumps({"id": id, "type": kind, "created_at": "2026-03-01T11:59:00Z", "data": data, **more}).encode()


def contact(id: str = "ctc_1", **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "object": "contact",
        "phone_number": "+6285117600829",
        "name": "Ana",
        "email": "ana@example.com",
        "metadata": {"tier": "gold"},
        "phone_number_id": NUMBER,
        "updated_at": "2026-03-01T11:59:00Z",
        **more,
    }


def told(**more: Any) -> bytes:
    """The contact, with something changed in it."""
    return event(data={"contact": contact(**more)})


def meta(*entries: Any) -> bytes:
    return json.dumps({"object": "whatsapp_business_account", "entry": list(entries)}).encode()


def entry(*values: Any) -> dict[str, Any]:
    return {"id": "1", "changes": [{"field": "messages", "value": value} for value in values]}


def message(id: str) -> dict[str, Any]:
    return {"id": id, "from": "6285117600829", "timestamp": str(T), "type": "text", "text": {"body": "hi"}}


def status(id: str, state: str) -> dict[str, Any]:
    return {"id": id, "status": state, "timestamp": str(T), "recipient_id": "6285117600829"}


def value(**more: Any) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "metadata": {"phone_number_id": NUMBER}, **more}


@dataclass(frozen=True)
class B:
    """A body, how its delivery ends, and how each item ends; `sees` is what the contact's view holds of some fields."""

    body: bytes
    dead: str = ""
    items: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    sees: Mapping[str, Any] = field(default_factory=dict)


def dead(body: bytes, reason: str) -> B:
    return B(body, dead=reason)


def applied(body: bytes, **sees: Any) -> B:
    return B(body, items={"e:evt_1": ("applied", "")}, sees=sees)


def ignored(body: bytes, reason: str, key: str = "e:evt_1") -> B:
    return B(body, items={key: ("ignored", reason)})


def statuses(*states: str) -> B:
    body = meta(entry(value(statuses=[status("wamid.1", state) for state in states])))
    return B(body, items={f"s:wamid.1:{state}": ("ignored", "not_mapped") for state in states})


TEXT = '{"id":"evt_1","type":"contact.updated","data":{"contact":{"id":"ctc_1","name":"Ana"}}}'
BODIES: dict[str, B] = {
    "B1 empty": dead(b"", "empty_body"),
    "B1 blank": dead(b" \r\n", "empty_body"),
    "B2 cut off": dead(BODY[:-1], "bad_json"),
    "B2 two values": dead(BODY + b"}{", "bad_json"),
    "B2 raw control characters": dead(b'{"id":"a\x01b"}', "bad_json"),
    "B2 not JSON at all": dead(b"id=evt_1&type=contact.updated", "bad_json"),
    **{f"B3 {text}": dead(text.encode(), "not_object") for text in ("null", "[]", '"x"', "42", "true")},
    "B4 a key twice": dead(b'{"id":"a","id":"b"}', "duplicate_key"),
    "B4 a key twice, deep inside": dead(b'{"id":"a","data":{"x":[{"y":1,"y":1}]}}', "duplicate_key"),
    **{
        f"B5 {text}": dead(b'{"id":"evt_1","n":%b}' % text.encode(), "non_finite")
        for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")
    },
    "B6 5000 digits": dead(b'{"n":%b}' % (b"1" * 5000), "number_too_long"),
    "B7 100 000 arrays": dead(b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    "B7 100 000 objects": dead(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
    "B7 100 arrays": dead(b'{"a":%b%b}' % (b"[" * 100, b"]" * 100), "too_deep"),
    "B8 UTF-16": dead(TEXT.encode("utf-16"), "not_utf8"),
    "B8 UTF-16 without a mark": dead(TEXT.encode("utf-16-le"), "not_utf8"),
    "B8 UTF-32": dead(TEXT.encode("utf-32"), "not_utf8"),
    "B8 UTF-8 with a mark": applied(TEXT.encode("utf-8-sig"), name="Ana"),
    "B9 half a character": dead(b'{"id":"evt_1","n":"\xc3"}', "not_utf8"),
    "B9 Latin-1": dead('{"id":"evt_1","n":"Zoë"}'.encode("latin-1"), "not_utf8"),
    "B10 NUL in a name": applied(told(name="A\0na"), name="Ana"),
    "B10 NUL in a key": applied(told(metadata={"ti\0er": "gold"})),
    "B11 half a surrogate pair": applied(TEXT.replace("Ana", "\\ud800").encode(), name="\ufffd"),
    "B12 2^63": applied(told(metadata={"tier": 2**63}), **{"metadata.tier": str(2**63)}),
    "B12 -2^64": applied(told(metadata={"tier": -(2**64)}), **{"metadata.tier": str(-(2**64))}),
    "B12 beyond 2^31": applied(told(metadata={"tier": 2**33}), **{"metadata.tier": 2**33}),
    **{
        f"B13 {kind}": ignored(event(kind), "unknown_type")
        for kind in ("contact.deleted", "broadcast.finished", "x" * 5000, "конец")
    },
    "B14 no data": dead(b'{"id":"evt_1","type":"contact.updated"}', "schema: data"),
    **{f"B14 data is {data!r}": dead(event(data=data), "schema: data") for data in (None, [], "x", 7)},
    "B14 no contact": dead(event(data={}), "schema: data.contact"),
    "B14 a contact without id": dead(event(data={"contact": {"name": "x"}}), "schema: data.contact.id"),
    "B14 no type": dead(b'{"id":"evt_1","data":{}}', "schema: type"),
    "B15 not live": ignored(event(livemode=False), "test_mode"),
    "B15 live": applied(event(livemode=True), name="Ana"),
    "B16 no entries": B(meta(), items={"*": ("ignored", "empty")}),
    "B17 3 entries of 5 changes of 20 things": B(
        meta(
            *(
                entry(
                    *(
                        value(
                            messages=[message(f"wamid.{e}.{c}.{m}") for m in range(10)],
                            statuses=[status(f"wamid.{e}.{c}.{m}", "sent") for m in range(10)],
                        )
                        for c in range(5)
                    )
                )
                for e in range(3)
            )
        ),
        items={
            f"{letter}:wamid.{e}.{c}.{m}{state}": ("ignored", "not_mapped")
            for e in range(3)
            for c in range(5)
            for m in range(10)
            for letter, state in (("m", ""), ("s", ":sent"))
        },
    ),
    "B17 one bad item among good ones": B(
        meta(entry(value(messages=[message("wamid.1"), 7, message("wamid.2")]))),
        items={"m:wamid.1": ("ignored", "not_mapped"), "m:wamid.2": ("ignored", "not_mapped"), "*": ("dead", "schema")},
    ),
    "B18 one message sent, delivered and read": statuses("sent", "delivered", "read"),
    "B19 failed after delivered": statuses("delivered", "failed"),
    "B19 read without sent": statuses("read"),
    "B19 states nobody knows": statuses("deleted", "warning"),
    **{
        f"B20 created at {at!r}": applied(event(created_at=at), name="Ana")
        for at in (
            "1970-01-01T00:00:00Z",
            "2099-01-01T00:00:00Z",
            "2026-03-01T12:00:00",
            "2026-03-01T23:59:60Z",
            7,
            None,
        )
    },
    **{
        f"B21 changed fields {changed!r:.40}": applied(
            event(data={"contact": {"id": "ctc_1", "name": "Ana"}, "changed_fields": changed}), name="Ana"
        )
        for changed in (["email", "nothing"], [], None, "name", [None, 7])
    },
    "B23 another number": B(told(phone_number_id="999999999"), items={"e:evt_1": ("dead", "unrouted")}),
    "B26 a name of a mebibyte": applied(told(name="N" * 2**20), name="N" * 2**20),
    "B26 50 000 labels": applied(
        told(labels=[{"name": f"label {number}"} for number in range(50_000)]),
        labels=[f"label {number}" for number in range(50_000)],
    ),
}


@pytest.mark.parametrize("case", BODIES.values(), ids=[name[:60] for name in BODIES])
def test_a_body_that_is_rightly_signed_is_acknowledged_and_comes_to_its_end(either: Gate, case: B) -> None:
    assert either.deliver(case.body).status == 200
    either.observe()

    [row] = either.stored()
    assert row.body == case.body
    assert (DeliveryState(row.state), row.reason) == (DEAD if case.dead else DONE, case.dead)
    ends = either.items()
    expected = dict(case.items)
    if "*" in expected:  # an item whose identity is the body's
        [key] = ends.keys() - expected.keys()
        expected[key] = expected.pop("*")
    assert ends == expected
    if case.sees:
        assert {name: either.view("ctc_1").fields.get(name) for name in case.sees} == case.sees
    assert either.deliver(case.body, t=T + 1).status == 200
    either.observe()
    assert either.items() == ends


def test_b21_a_field_that_is_absent_keeps_what_was_known(either: Gate) -> None:
    for body in (
        told(),
        event(
            id="evt_2",
            data={"contact": {"id": "ctc_1", "updated_at": "2026-03-01T11:59:30Z"}, "changed_fields": ["email"]},
        ),
    ):
        assert either.deliver(body).status == 200
        either.observe()
    assert either.view("ctc_1").fields["email"] == "ana@example.com"


def test_b22_an_update_before_its_creation_creates_and_the_creation_changes_nothing(either: Gate) -> None:
    later = contact(name="Ani", updated_at="2026-03-01T11:59:40Z")
    for body in (event(id="evt_2", data={"contact": later}), event("contact.created", data={"contact": contact()})):
        assert either.deliver(body).status == 200
        either.observe()
    assert either.items() == {"e:evt_2": ("applied", ""), "e:evt_1": ("superseded", "")}
    assert either.view("ctc_1").fields["name"] == "Ani"


def test_b24_a_contact_is_known_by_its_id_whatever_its_number(either: Gate) -> None:
    for number, body in enumerate(
        (
            told(),
            event(id="evt_2", data={"contact": contact(phone_number="+62811", updated_at="2026-03-01T11:59:30Z")}),
            event(id="evt_3", data={"contact": contact("ctc_2", name="Budi", phone_number="+6285117600829")}),
        )
    ):
        assert either.deliver(body).status == 200, number
        either.observe()
    assert len(either.rows(tables.View)) == 2
    assert either.view("ctc_1").fields["phone_number"] == "+62811"
    assert either.view("ctc_2").fields["name"] == "Budi"


def test_b25_empty_null_and_absent_are_three_things(either: Gate) -> None:
    absent = contact("ctc_absent")
    del absent["email"]
    for id, told_contact in {
        "ctc_empty": contact("ctc_empty", email=""),
        "ctc_null": contact("ctc_null", email=None),
        "ctc_absent": absent,
    }.items():
        assert either.deliver(event(id=f"evt_{id}", data={"contact": told_contact})).status == 200
        either.observe()
    seen = {id: either.view(id).fields for id in ("ctc_empty", "ctc_null", "ctc_absent")}
    assert (seen["ctc_empty"]["email"], seen["ctc_null"]["email"], "email" in seen["ctc_absent"]) == ("", None, False)
