"""What the webhook path answers, over real sockets and real stores."""

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from web_server import Running, read_reply, read_to_end

from crmsync.flows.intake import STRAYS, Intake, Source, carries
from crmsync.kirim.signature import Secret, sign, verify
from crmsync.model import Rate
from crmsync.store.database import Database
from crmsync.store.inbox import Inbox
from crmsync.store.pen import Pen
from crmsync.web.app import Site
from crmsync.web.server import Protocol

OLD, NEW = "whsec_old", "whsec_new"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T = int(NOW.timestamp())
BODY = b'{"id":"evt_1","type":"contact.updated"}'
LIMIT = 100_000
HOOK = "/hooks/acme/kirim"


def kirim(tenant, *secrets):
    keys = [Secret.of(secret) for secret in secrets]
    return Source(
        tenant,
        "kirim",
        lambda request: verify(request.header(b"x-kirim-signature"), request.body, keys, request.received_at),
    )


def crm(request):
    """A CRM that signs as Kirim does, with a header and a secret of its own."""
    return verify(request.header(b"x-crm-signature"), request.body, [Secret.of("crm")], request.received_at)


SOURCES = [
    kirim("acme", OLD, NEW),
    kirim("other", "whsec_other"),
    Source("acme", "crm", crm, carries(b"X-Crm-Signature")),
]


class Hurried(Protocol):
    """The same server with less patience, so that a test need not have ours."""

    arrival = 0.3


class Node:
    """A store, its web part, and a server around them."""

    def __init__(self, url, limits=None, **options):
        self.database = Database.open(url)
        self.inbox = Inbox(self.database)
        self.intake = Intake(self.inbox, SOURCES, Pen(self.database, lambda: NOW, pause=0), limits=limits)
        self.site = Site(self.intake, self.database, lambda: NOW, body_limit=LIMIT)
        self.seen = 0
        self.running = Running(self._application, draining=self.site.drain, **options)
        self.send = self.running.send
        self.connect = self.running.connect

    async def _application(self, scope, receive, send):
        self.seen += 1
        await self.site(scope, receive, send)

    def __enter__(self):
        self.running.__enter__()
        return self

    def __exit__(self, *_):
        self.running.__exit__()
        self.database.close()

    def stored(self):
        query = text("SELECT tenant, source, body FROM delivery ORDER BY id")
        return self.database.read(lambda connection: [tuple(row) for row in connection.execute(query)])

    def post(self, headers=None, body=BODY, path=HOOK):
        return self.send("POST", path, headers, body)

    def counted(self):
        return {word: count for (_, _, word), count in self.intake.counts.items()}


@pytest.fixture
def node(database_url):
    with Node(database_url) as running:
        yield running


@pytest.fixture
def sqlite_node(sqlite_url):
    with Node(sqlite_url) as running:
        yield running


def signed(body=BODY, secret=NEW, t=T):
    return {"X-Kirim-Signature": sign(secret, body, t)}


def head(body, *lines, version="1.1"):
    """The bytes of a signed request before its body."""
    framing = lines or (f"Content-Length: {len(body)}",)
    first = (f"POST {HOOK} HTTP/{version}", "Host: x", f"X-Kirim-Signature: {sign(NEW, body, T)}")
    return "".join(f"{line}\r\n" for line in (*first, *framing, "")).encode()


# What is stored


def test_a_signed_delivery_is_stored_byte_for_byte(node):
    reply = node.post(signed())
    assert (reply.status, reply.body) == (200, b"ok")
    assert node.stored() == [("acme", "kirim", BODY)]


def test_a_delivery_that_comes_again_is_acknowledged_and_stored_once(node):
    assert [node.post(signed(t=T + seconds)).status for seconds in range(3)] == [200, 200, 200]
    assert node.stored() == [("acme", "kirim", BODY)]
    assert node.counted() == {"stored": 1, "known": 2}


def test_sixty_four_copies_at_once_are_all_acknowledged_and_stored_once(node):
    with ThreadPoolExecutor(64) as threads:
        statuses = list(threads.map(lambda _: node.post(signed()).status, range(64)))
    assert statuses == [200] * 64
    assert len(node.stored()) == 1


def test_a_body_that_comes_in_pieces_is_stored_whole(node):
    body = bytes(itertools.islice(itertools.cycle(range(256)), LIMIT))
    with node.connect() as connection:
        connection.sendall(head(body, "Transfer-Encoding: chunked"))
        for start in range(0, LIMIT, 9973):
            part = body[start : start + 9973]
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
        assert read_reply(connection).status == 200
    assert node.stored() == [("acme", "kirim", body)]


def test_pipelined_requests_and_old_clients_get_normal_answers(sqlite_node):
    with sqlite_node.connect() as connection:
        requests = head(b"one") + b"one" + head(b"two") + b"two" + head(b"three", version="1.0") + b"three"
        connection.sendall(requests)
        assert read_to_end(connection).count(b"HTTP/1.1 200 OK") == 3
    assert len(sqlite_node.stored()) == 3


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(sqlite_node):
    with sqlite_node.connect() as connection:
        connection.sendall(head(BODY, "Expect: 100-continue", f"Content-Length: {len(BODY)}"))
        assert read_reply(connection).status == 100
        connection.sendall(BODY)
        assert read_reply(connection).status == 200


# Answers, one by one: what is said, and why

FORGED = {"X-Kirim-Signature": f"t={T},v1={'0' * 64}"}
ANSWERS = {
    "signed with the older secret": (signed(secret=OLD), 200, "stored"),
    "no content type": (signed(), 200, "stored"),
    "not compressed, and says so": ({**signed(), "Content-Encoding": "identity"}, 200, "stored"),
    "another event id in the header": ({**signed(), "X-Kirim-Event-Id": "evt_9"}, 200, "stored"),
    "299 s old": (signed(t=T - 299), 200, "stored"),
    "299 s ahead": (signed(t=T + 299), 200, "stored"),
    "a stranger": ({}, 401, "stranger"),
    "a stranger who compresses": ({"Content-Encoding": "gzip"}, 401, "stranger"),
    "signature lost on the way": ({"X-Kirim-Event-Id": "evt_1"}, 503, "missing_signature"),
    "kirim by its user agent": ({"User-Agent": "Kirim-Webhook/1.0"}, 503, "missing_signature"),
    "empty signature": ({"X-Kirim-Signature": ""}, 503, "malformed"),
    "forged": (FORGED, 503, "mismatch"),
    "another tenant's secret": (signed(secret="whsec_other"), 503, "cross_tenant"),
    "another body": (signed(body=BODY + b" "), 503, "mismatch"),
    "two hours old": (signed(t=T - 7200), 503, "stale"),
    "ten minutes ahead": (signed(t=T + 600), 503, "future"),
    "compressed": ({**signed(), "Content-Encoding": "gzip"}, 503, "compressed"),
}


@pytest.mark.parametrize(("headers", "status", "word"), ANSWERS.values(), ids=ANSWERS)
def test_the_answer_to(sqlite_node, headers, status, word):
    reply = sqlite_node.post(headers)
    assert (reply.status, sqlite_node.counted()) == (status, {word: 1})
    assert ("retry-after" in reply.headers) == (status == 503)
    assert bool(sqlite_node.stored()) == (status == 200)
    assert reply.body in (b"ok", b"unauthorized", b"unavailable")
    assert "server" not in reply.headers


def test_a_stale_copy_of_what_is_stored_is_acknowledged(node):
    node.post(signed())
    for seconds in (-301, -86400, 301):
        assert node.post(signed(t=T + seconds)).status == 200
    assert node.counted() == {"stored": 1, "stale_known": 3}
    assert len(node.stored()) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Crm-Signature": sign("crm", BODY, T)}, 200),
        ({"X-Crm-Signature": sign("wrong", BODY, T)}, 503),
        ({"X-Crm-Signature": ""}, 503),
        ({}, 401),
        (signed(), 401),
    ],
)
def test_a_crm_is_asked_again_only_if_its_signature_was_there(sqlite_node, headers, status):
    assert sqlite_node.post(headers, path="/hooks/acme/crm").status == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_post_is_taken(sqlite_node, method):
    reply = sqlite_node.send(method, HOOK, signed(), BODY if method in ("PUT", "PATCH") else b"")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert sqlite_node.stored() == []


@pytest.mark.parametrize(
    "path",
    [
        "/hooks/nobody/kirim",
        "/hooks/acme/none",
        "/hooks/acme",
        "/hooks/",
        "/hooks",
        "/hooks/acme/kirim/",
        "/kirim",
        "/",
    ],
)
def test_a_path_that_is_not_there_is_final_for_strangers_only(sqlite_node, path):
    assert sqlite_node.post(signed(), path=path).status == 503
    assert sqlite_node.post(path=path).status == 404
    assert sqlite_node.counted() == {"unknown_path": 1, "not_found": 1}


def test_an_address_that_tries_many_paths_is_put_off_whoever_it_is(sqlite_node):
    tried = [sqlite_node.post(signed() if even else {}, path=f"/hooks/acme/{even}") for even in [False, True] * 40]

    answered = [reply.status for reply in tried]
    assert set(answered[: STRAYS.requests]) == {404, 503}
    assert answered[-1] == 429
    assert int(tried[-1].headers["retry-after"]) > 0
    assert sqlite_node.post(signed(), path="/nowhere").status == 429
    assert sqlite_node.post(signed()).status == 200  # a path that is there is not closed by that


def test_the_names_of_a_path_may_be_quoted(sqlite_node):
    assert sqlite_node.post(signed(), path="/hooks/%61cme/kirim").status == 200


@pytest.mark.parametrize(("headers", "status"), [(signed(), 503), ({}, 413)])
def test_a_body_announced_as_too_large_is_not_read(sqlite_node, headers, status):
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with sqlite_node.connect() as connection:
        connection.sendall(f"POST {HOOK} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {LIMIT + 1}\r\n\r\n".encode())
        reply = read_reply(connection)
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert read_to_end(connection) == b""
    assert sqlite_node.stored() == []


def test_a_body_that_grows_too_large_is_cut_off(sqlite_node):
    with sqlite_node.connect() as connection:
        connection.sendall(head(b"whatever", "Transfer-Encoding: chunked"))
        connection.sendall(b"%x\r\n%b\r\n" % (LIMIT + 1, b"x" * (LIMIT + 1)))
        assert read_reply(connection).status == 503
    assert sqlite_node.counted() == {"too_large": 1}


def test_a_body_of_exactly_the_limit_is_taken(sqlite_node):
    body = b"x" * LIMIT
    assert sqlite_node.post(signed(body), body).status == 200


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: five\r\n",
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_refused_by_the_server(sqlite_node, framing):
    with sqlite_node.connect() as connection:
        connection.sendall(f"POST {HOOK} HTTP/1.1\r\nHost: x\r\n{framing}\r\n12345".encode())
        assert b" 200 " not in read_to_end(connection).partition(b"\r\n")[0]
    assert sqlite_node.stored() == []


def test_a_tenant_over_its_rate_is_told_to_slow_down_and_others_are_not(sqlite_url):
    with Node(sqlite_url, limits={"acme": Rate(2, 3600)}) as node:
        assert node.post(FORGED).status == 503  # who proves nothing uses nothing up
        replies = [node.post(signed(body), body) for body in (b"1", b"2", b"3")]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[-1].headers["retry-after"] == "1"
        assert node.post(signed(secret="whsec_other"), path="/hooks/other/kirim").status == 200
        assert len(node.stored()) == 3


# Trouble


def test_a_full_disk_is_answered_503_and_cured_by_itself(sqlite_node):
    def limit(pages):
        return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar()

    node, large = sqlite_node, b"x" * 90_000
    node.database.write(limit(node.database.write(limit(1))))  # the least it can be is what it is
    reply = node.post(signed(large), large)
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert node.counted() == {"store_unavailable": 1}
    node.database.write(limit(1_000_000))
    assert node.post(signed(large), large).status == 200
    assert len(node.stored()) == 1


def test_a_restart_of_postgresql_is_answered_503_and_cured_by_itself(postgresql_url, postgres):
    if not postgres.can_stop:
        pytest.skip("the PostgreSQL of the tests is somebody else's")
    with Node(postgresql_url) as node:
        assert node.post(signed()).status == 200
        postgres.stop()
        try:
            assert node.post(signed(b"2"), b"2").status == 503
            assert node.post(signed(t=T - 7200)).status == 503  # cannot tell whether it is known
            assert node.send("GET", "/livez").status == 200
        finally:
            postgres.start()
        assert node.post(signed(b"2"), b"2").status == 200
        assert len(node.stored()) == 2


def test_while_draining_nothing_new_is_taken_and_readiness_is_gone(sqlite_node):
    sqlite_node.site.drain()
    reply = sqlite_node.post(signed())
    assert (reply.status, sqlite_node.counted()) == (503, {"draining": 1})
    assert sqlite_node.send("GET", "/readyz").status == 503
    assert sqlite_node.send("GET", "/livez").status == 200


def test_a_request_in_flight_is_stored_and_answered_before_the_server_stops(sqlite_url):
    with Node(sqlite_url) as node, node.connect() as connection:
        connection.sendall(head(BODY) + BODY[:5])
        while not node.seen:
            time.sleep(0.001)
        node.running.begin_to_stop()
        while not node.site.readiness.draining:
            time.sleep(0.001)
        connection.sendall(BODY[5:])
        assert read_reply(connection).status == 200
        node.running.wait()
        assert len(node.stored()) == 1
        with pytest.raises(ConnectionRefusedError):
            node.connect()


# Slow and hostile senders


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /hooks/acme/kirim HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"\r\n",
        b"POST /hooks/acme/kirim HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n12345",
    ],
    ids=["nothing", "half a head", "less than a head", "half a body"],
)
def test_a_sender_that_trickles_is_hung_up_on(sqlite_url, sent):
    with Node(sqlite_url, protocol=Hurried) as node, node.connect() as connection:
        connection.sendall(sent)
        trickle = b"x" if sent.endswith(b": ") or sent.endswith(b"5") else b""
        connection.settimeout(0.02)
        data, ended = b"", False
        deadline = time.monotonic() + 20
        while not ended and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                part = connection.recv(1000)
                ended = not part
                data += part
            if trickle and not ended:
                with contextlib.suppress(OSError):
                    connection.send(trickle)
        assert ended
        assert data == b""
        assert node.stored() == []


def test_the_deadline_is_each_requests_own(sqlite_url):
    with Node(sqlite_url, protocol=Hurried) as node, node.connect() as connection:
        for number in range(4):  # together longer than one may take
            body = b"%d" % number
            connection.sendall(head(body) + body)
            assert read_reply(connection).status == 200
            time.sleep(0.12)


def test_an_endless_head_is_hung_up_on(sqlite_node):
    with sqlite_node.connect() as connection:
        connection.sendall(b"POST /hooks/acme/kirim HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(OSError):
            for number in range(3000):
                connection.sendall(b"X-%d: " % number + b"y" * 1000 + b"\r\n")
        assert b" 200 " not in read_to_end(connection)
    assert sqlite_node.send("GET", "/livez").status == 200


def test_who_hangs_up_after_the_body_is_stored_all_the_same(node):
    with node.connect() as connection:
        connection.sendall(head(BODY) + BODY)
    deadline = time.monotonic() + 20
    while not node.stored() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert node.post(signed()).status == 200
    assert node.counted()["known"] == 1


def test_too_many_connections_get_503_and_those_there_are_served(sqlite_url):
    with Node(sqlite_url, connections=3) as node, node.connect() as first, node.connect() as second:
        request = head(BODY) + BODY
        first.sendall(request)
        assert read_reply(first).status == 200
        with node.connect() as third, node.connect() as fourth:
            third.sendall(request)
            fourth.sendall(request)
            assert {read_reply(third).status, read_reply(fourth).status} == {503}
        second.close()
        deadline = time.monotonic() + 20
        status = 503
        while status == 503 and time.monotonic() < deadline:
            with node.connect() as again:
                again.sendall(request)
                status = read_reply(again).status
        assert status == 200


# Health


def test_live_says_that_the_loop_turns_and_ready_that_a_write_was_committed(node):
    assert (node.send("GET", "/livez").body, node.send("GET", "/readyz").body) == (b"alive", b"ready")
    assert node.database.last_commit > 0


def test_a_store_that_cannot_commit_is_not_ready_and_is_alive(sqlite_node, monkeypatch):
    backend = sqlite_node.database._backend
    backend._writer.close()
    sqlite_node.database._backend._writer.last_commit = 0.0
    assert sqlite_node.send("GET", "/readyz").status == 503
    assert sqlite_node.send("GET", "/livez").status == 200
