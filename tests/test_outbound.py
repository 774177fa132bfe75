"""Where requests go and how long they may take: addresses judged when connecting, nothing followed, nothing endless."""

from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from connectors.hubspot import HubSpot
from connectors.salesforce.wire import Guarded
from crmsync.connector import Surroundings
from crmsync.errors import ConnectorError, Reject, Retry, Suspend
from crmsync.http import ANSWER_LIMIT, Http, Unlimited, classify
from crmsync.model import Kind
from crmsync.outbound import Reach, refused, target

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "2606:4700::1111",
]

Script = Callable[[socket.socket], None]


@dataclass
class Listener:
    """A server that does with each connection what the test says, and counts them."""

    script: Script
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            if self._stopping.is_set():
                connection.close()
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            try:
                self.requests.append(connection.recv(65536))
                self.script(connection)
            except OSError:
                pass

    def trickle(self, connection: socket.socket, part: bytes) -> None:
        """Sends a little again and again, as long as anybody listens."""
        while not self._stopping.wait(0.05):
            connection.sendall(part)

    def close(self) -> None:
        self._stopping.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join()
        self._socket.close()


@pytest.fixture
def listening() -> Iterator[Callable[[Script], Listener]]:
    made: list[Listener] = []

    def listen(script: Script) -> Listener:
        made.append(Listener(script))
        return made[-1]

    yield listen
    for server in made:
        server.close()


def answer(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *headers))
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def saying(data: bytes) -> Script:
    return lambda connection: connection.sendall(data)


class Names:
    """A resolver that a test can turn round between two questions."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def by_httpx(base: str, reach: Reach, patience: float = 5.0) -> Callable[[], Any]:
    """One request of the client for Kirim and everything that has no library of its own."""

    def call() -> Any:
        http = Http("kirim", base, {}, Unlimited(), timeout=httpx.Timeout(patience, connect=2), reach=reach)
        try:
            response = http.send("GET", "/v1/me")
            if not response.is_success:
                raise classify("kirim", response.status_code)
            return http.json(response)
        finally:
            http.close()

    return call


def by_urllib3(base: str, reach: Reach, patience: float = 5.0) -> Callable[[], Any]:
    """One request of HubSpot's package."""

    def call() -> Any:
        settings = HubSpot.Settings.model_validate(
            {"access_token": "pat-eu1-0123456789", "base_url": base, "timeout_seconds": patience}
        )
        hubspot = HubSpot(settings, Surroundings("acme", "hubspot", "https://x", Unlimited(), {}, reach=reach))
        try:
            return hubspot.fields(Kind.CONTACT)
        finally:
            hubspot.close()

    return call


def by_requests(base: str, reach: Reach, patience: float = 5.0) -> Callable[[], Any]:
    """One request of Salesforce's package, by the session that it is given."""

    def call() -> Any:
        http = Http("Salesforce", base, {}, Unlimited(), timeout=httpx.Timeout(patience, connect=2), reach=reach)
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, Guarded(http, base, Unlimited()))
            return session.get(f"{base}/services/data/v66.0/limits").json()

    return call


each = pytest.mark.parametrize("client", [by_httpx, by_urllib3, by_requests])


def trouble(call: Callable[[], Any]) -> ConnectorError:
    with pytest.raises(ConnectorError) as raised:
        call()
    return raised.value


@pytest.mark.parametrize("address", PRIVATE)
def test_a_platform_is_never_at_an_address_like_this(address: str) -> None:
    assert refused(address)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_a_platform_may_be_at_an_address_like_this(address: str) -> None:
    assert not refused(address)


@each
@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_nothing_is_sent_to_a_name_that_means_this_machine(listening: Any, client: Any, address: str) -> None:
    server = listening(saying(answer()))
    error = trouble(client(f"http://api.example.com:{server.port}", Reach(resolve=Names([address]))))

    assert isinstance(error, Suspend)
    assert "no public address" in str(error)
    assert server.connections == 0


@each
def test_an_address_as_host_is_no_way_around(listening: Any, client: Any) -> None:
    server = listening(saying(answer()))

    assert isinstance(trouble(client(f"http://127.0.0.1:{server.port}", Reach())), Suspend)
    assert server.connections == 0


@each
def test_the_address_that_was_judged_is_the_one_connected_to(listening: Any, client: Any) -> None:
    """The name is asked for once, and no other resolver is: `kirim.test` means nothing to the system's."""
    server = listening(saying(answer(b'{"results": []}')))
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    client(f"http://kirim.test:{server.port}", Reach({target("kirim.test", server.port)}, names))()

    assert names.asked == ["kirim.test"]
    assert server.connections == 1


@each
def test_a_name_that_is_turned_round_later_is_refused_then(listening: Any, client: Any) -> None:
    server = listening(saying(answer()))
    names = Names(["1.1.1.1", "127.0.0.1"], ["127.0.0.1"])
    reach = Reach(resolve=names)

    assert reach.addresses("api.example.com", 443) == ["1.1.1.1"]
    assert isinstance(trouble(client(f"http://api.example.com:{server.port}", reach)), Suspend)
    assert server.connections == 0


@each
def test_only_the_listed_port_of_a_test_system_is_open(listening: Any, client: Any) -> None:
    server = listening(saying(answer()))
    reach = Reach({f"127.0.0.1:{server.port + 1}"})

    assert isinstance(trouble(client(f"http://127.0.0.1:{server.port}", reach)), Suspend)
    assert server.connections == 0


@each
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(listening: Any, client: Any, status: str) -> None:
    elsewhere = listening(saying(answer()))
    for place in (f"http://127.0.0.1:{elsewhere.port}/", "http://169.254.169.254/latest/meta-data/"):
        server = listening(saying(answer(b"", status, f"Location: {place}")))
        reach = Reach({f"127.0.0.1:{server.port}", f"127.0.0.1:{elsewhere.port}"})
        assert isinstance(trouble(client(f"http://127.0.0.1:{server.port}", reach)), Reject)
        assert server.connections == 1

    assert elsewhere.connections == 0


@each
def test_a_link_in_an_answer_is_not_followed(listening: Any, client: Any) -> None:
    elsewhere = listening(saying(answer()))
    link = f"http://127.0.0.1:{elsewhere.port}/"
    body = f'{{"results": [], "next_cursor": "{link}", "paging": {{"next": {{"link": "{link}"}}}}}}'.encode()
    server = listening(saying(answer(body)))
    reach = Reach({f"127.0.0.1:{server.port}", f"127.0.0.1:{elsewhere.port}"})
    client(f"http://127.0.0.1:{server.port}", reach)()

    assert elsewhere.connections == 0


@each
@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_an_answer_that_trickles_ends_with_the_deadline(listening: Any, client: Any, head: bytes) -> None:
    """Each read is quick enough; all of them together are not. In the head as well as in the body."""

    def slowly(connection: socket.socket) -> None:
        connection.sendall(head)
        server.trickle(connection, b"X-A: b\r\n" if head.endswith(b"OK\r\n") else b"H")

    server = listening(slowly)
    error = trouble(client(f"http://127.0.0.1:{server.port}", Reach({f"127.0.0.1:{server.port}"}), 0.4))

    assert isinstance(error, Retry)


@each
def test_an_endless_answer_is_cut(listening: Any, client: Any) -> None:
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    def endlessly(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(chunk)

    server = listening(endlessly)

    error = trouble(client(f"http://127.0.0.1:{server.port}", Reach({f"127.0.0.1:{server.port}"}), 30))
    assert isinstance(error, Retry)


@each
def test_a_bomb_is_cut(listening: Any, client: Any) -> None:
    bomb = gzip.compress(b" " * (ANSWER_LIMIT * 8))
    server = listening(saying(answer(bomb, "200 OK", "Content-Encoding: gzip")))

    error = trouble(client(f"http://127.0.0.1:{server.port}", Reach({f"127.0.0.1:{server.port}"}), 30))
    assert isinstance(error, Retry)


@each
def test_a_compressed_answer_is_read(listening: Any, client: Any) -> None:
    packed = gzip.compress(b'{"results": []}')
    server = listening(saying(answer(packed, "200 OK", "Content-Encoding: gzip")))
    client(f"http://127.0.0.1:{server.port}", Reach({f"127.0.0.1:{server.port}"}))()


def test_a_compressed_answer_that_is_cut_short_is_none(listening: Any) -> None:
    packed = gzip.compress(b'{"results": []}')[:-8]
    server = listening(saying(answer(packed, "200 OK", "Content-Encoding: gzip")))

    error = trouble(by_httpx(f"http://127.0.0.1:{server.port}", Reach({f"127.0.0.1:{server.port}"})))
    assert isinstance(error, Retry)


@each
def test_a_certificate_that_proves_nothing_is_not_accepted(listening: Any, client: Any, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*make, *names], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    seen: list[bytes] = []

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        seen.append(secure.recv(1000))
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        error = trouble(client(f"https://127.0.0.1:{port}", Reach({f"127.0.0.1:{port}"})))
        thread.join()

    assert isinstance(error, Suspend)
    assert "certificate" in str(error)
    assert b"".join(seen) == b""


@each
def test_a_name_that_cannot_be_resolved_is_passing_trouble(client: Any) -> None:
    def nowhere(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    error = trouble(client("http://api.example.com:1", Reach(resolve=nowhere)))
    assert isinstance(error, Retry)
    assert not error.ambiguous
