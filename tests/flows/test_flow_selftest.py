"""The delivery that we send ourselves: what it finds on the way in, over real sockets."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gatehouse import Gatehouse
from support.receiver import Received, Receiver

from crmsync.flows.selftest import self_test
from crmsync.kirim.secrets import FileSecret
from crmsync.kirim.signature import Secret, verify
from crmsync.store.database import Database

KEY = "whsec_0123456789abcdefghijkl"
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def trouble(url: str, key: str = KEY) -> str:
    (tested,) = self_test(url, [FileSecret(key, "sec_1")], lambda: NOW, lambda: "1")
    assert tested.name == "sec_1"
    return tested.trouble


@pytest.fixture
def house(sqlite_url: str, tmp_path: Path) -> Iterator[Gatehouse]:
    database = Database.open(sqlite_url)
    with Gatehouse(database, tmp_path) as made:
        yield made
    database.close()


def test_our_own_hook_takes_it_and_it_means_nothing(house: Gatehouse) -> None:
    house.subscribe()
    tested = list(self_test(house.url, house.held(), house.clock, house.new_key))
    house.observe()

    assert [one.trouble for one in tested] == [""]
    assert len(house.received()) == 1


def test_a_secret_that_is_not_in_force_is_told(house: Gatehouse) -> None:
    house.subscribe()
    (tested,) = self_test(house.url, [FileSecret(KEY)], house.clock, house.new_key)

    assert tested.trouble.startswith("answered 503")
    assert tested.name == Secret.of(KEY).label


def test_it_is_signed_as_kirim_signs() -> None:
    def proved(request: Received) -> int:
        header = [request.headers["x-kirim-signature"].encode()]
        return 200 if verify(header, request.body, [Secret.of(KEY)], NOW) else 500

    with Receiver(answer=proved) as receiver:
        assert trouble(receiver.url) == ""
        assert receiver.requests[0].json()["type"] == "crmsync.selftest"


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "leads nowhere"), (301, "follows no redirect"), (502, "proxy"), (418, "not crmsync"), (204, "not crmsync")],
)
def test_an_answer_that_is_not_ours_is_explained(status: int, said: str) -> None:
    with Receiver(status) as receiver:
        told = trouble(receiver.url)
    assert said in told
    assert f"answered {status}" in told


def test_a_name_that_does_not_exist_is_told() -> None:
    assert "DNS" in trouble("https://no-such-host.invalid/hooks/acme/kirim")


def test_a_port_where_nobody_listens_is_told() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert trouble(f"http://127.0.0.1:{port}/hooks/acme/kirim") == "nobody listens there"


def test_something_that_speaks_no_tls_is_told() -> None:
    with Receiver() as receiver:
        assert "TLS" in trouble(receiver.url.replace("http://", "https://"))


def test_a_certificate_that_proves_nothing_is_told(tmp_path: Path) -> None:
    """Whoever holds it has not the name."""
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=greet)
        thread.start()
        said = trouble(f"https://127.0.0.1:{listening.getsockname()[1]}/hooks/acme/kirim")
        thread.join(10)

    assert "certificate is not valid" in said


def certificate(folder: Path) -> Path:
    """A certificate signed by nobody."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, chain = folder / "key.pem", folder / "chain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(chain), "-days", "2", "-subj", "/CN=nobody"]
    subprocess.run(command, check=True, capture_output=True)
    whole = folder / "whole.pem"
    whole.write_text(key.read_text() + chain.read_text())
    return whole


def test_something_that_hangs_up_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(10)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        said = trouble(f"http://127.0.0.1:{listening.getsockname()[1]}/hooks/acme/kirim")
        thread.join(10)

    assert "cut before an answer" in said
