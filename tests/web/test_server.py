"""Sockets: where the server listens, who may, and how it ends."""

import contextlib
import socket
import threading

import pytest
from web_server import Running, read_reply, read_to_end

from crmsync.errors import ConfigError
from crmsync.web import server


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def test_a_unix_socket_is_for_its_owner_alone_and_goes_with_the_server(tmp_path):
    path = tmp_path / "admin.sock"
    with Running(application, f"unix:{path}") as running:
        assert path.stat().st_mode & 0o777 == 0o600
        assert running.send("GET", "/").body == b"hi"
    assert not path.exists()


def test_a_unix_socket_that_a_dead_process_left_is_replaced(tmp_path):
    path = tmp_path / "admin.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with Running(application, f"unix:{path}") as running:
        assert running.send("GET", "/").status == 200


def test_a_unix_socket_that_somebody_serves_is_left_alone(tmp_path):
    path = tmp_path / "admin.sock"
    with Running(application, f"unix:{path}") as running:
        with pytest.raises(ConfigError, match="somebody else"):
            server.bind(f"unix:{path}")
        assert running.send("GET", "/").status == 200


def test_a_file_is_not_taken_for_a_socket(tmp_path):
    (tmp_path / "letter").write_text("Dear Sir")
    with pytest.raises(ConfigError):
        server.bind(f"unix:{tmp_path / 'letter'}")
    assert (tmp_path / "letter").read_text() == "Dear Sir"


def test_an_address_in_use_is_said():
    with server.bind("127.0.0.1:0") as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="in use"):
            server.bind(f"127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("listen", ["", "8080", "here:", "127.0.0.1:http", "127.0.0.1:70000", "unix:/no/such/folder/x"])
def test_an_address_that_cannot_be_used_is_said(listen):
    with pytest.raises(ConfigError, match="cannot be used"):
        server.bind(listen)


def test_ipv6_is_an_address_too():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with server.bind("[::1]:0") as bound:
        assert bound.getsockname()[0] == "::1"


def test_the_server_leaves_signals_to_whoever_composed_the_process():
    import signal

    before = signal.getsignal(signal.SIGTERM)
    with Running(application):
        assert signal.getsignal(signal.SIGTERM) is before


# The end

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


def test_a_request_on_a_connection_that_idled_is_answered_and_told_that_it_is_the_last():
    told = threading.Event()
    with Running(application, draining=told.set) as running, running.connect() as connection:
        connection.sendall(REQUEST)
        assert "connection" not in read_reply(connection, "GET").headers
        running.begin_to_stop()
        assert told.wait(10)
        while True:  # the server looks up a few times a second
            connection.sendall(REQUEST)
            reply = read_reply(connection, "GET")
            assert reply.status == 200
            if reply.headers.get("connection") == "close":
                break
        assert read_to_end(connection) == b""


def test_who_was_connected_and_not_yet_accepted_is_answered(monkeypatch):
    blocked, go_on = threading.Event(), threading.Event()
    waited = server._Server._emptied

    async def busy(self, seconds):
        await waited(self, seconds)
        blocked.set()
        assert go_on.wait(20)

    monkeypatch.setattr(server._Server, "_emptied", busy)
    with Running(application) as running:
        running.begin_to_stop()
        assert blocked.wait(10)  # about to close the listening socket, and too busy to accept
        connections = [running.connect() for _ in range(50)]
        for connection in connections:
            connection.sendall(REQUEST)
        go_on.set()
        for connection in connections:
            assert read_reply(connection, "GET").headers["connection"] == "close"
            connection.close()


def test_nobody_new_comes_in_once_the_door_is_closing():
    with server.bind("127.0.0.1:0") as listening, socket.socket() as early, socket.socket() as late:
        early.connect(listening.getsockname())
        server._turn_away(listening)
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(listening.getsockname())

        early.sendall(b"said after the door began to close")
        (accepted,) = server._accepted(listening)
        with accepted:
            accepted.settimeout(10)
            assert accepted.recv(100)


def test_the_rest_of_a_head_is_waited_for():
    told = threading.Event()
    with Running(application, draining=told.set) as running, running.connect() as connection:
        connection.sendall(REQUEST[:20])
        running.begin_to_stop()
        assert told.wait(10)
        with contextlib.suppress(ConnectionError):
            while True:  # until it no longer listens
                running.connect().close()
        connection.sendall(REQUEST[20:])
        assert read_reply(connection, "GET").status == 200


def test_who_says_nothing_does_not_hold_up_the_end():
    with Running(application) as running, running.connect() as connection:
        running.begin_to_stop()
        assert read_to_end(connection) == b""
        running.wait()
        with pytest.raises(ConnectionRefusedError):
            running.connect()
