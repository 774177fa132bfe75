"""The sandbox's own HTTP client against servers that keep to HTTP and servers that do not."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from crmsync.sandbox.poster import NoAnswer, Poster

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def outcome(*answers: bytes | None, posts: int = 1, timeout: float = 5.0) -> tuple[list[int | str], int]:
    """What each post ended in, and how many connections that took.

    The server closes the connection after its last answer, and for None; it keeps silent for an empty answer.
    """
    left: list[bytes | None] = list(answers)
    conversations: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while left and await reader.readuntil(b"body"):
                answer = left.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                if answer == b"":
                    await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def run() -> list[int | str]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks?a=1"
        poster, ends = Poster(), []
        for _ in range(posts):
            try:
                ends.append((await poster.post(url, {"X": "y"}, b"body", timeout)).status)
            except NoAnswer as error:
                ends.append(str(error))
        poster.close()
        server.close()
        await asyncio.wait([task for task in conversations if task is not None])
        return ends

    return asyncio.run(run()), len(conversations)


def test_a_connection_is_used_again() -> None:
    assert outcome(OK, OK, OK, posts=3) == ([200, 200, 200], 1)


def test_a_server_that_closes_gets_a_new_connection() -> None:
    closing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"

    assert outcome(closing, OK, posts=2) == ([204, 200], 2)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (None, "the connection was closed"),
        (b"nonsense\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "the connection was closed"),
    ],
)
def test_no_whole_answer_is_no_answer(answer: bytes | None, complaint: str) -> None:
    assert outcome(answer) == ([complaint], 1)


def test_silence_ends_with_the_time_limit() -> None:
    assert outcome(b"", timeout=0.05) == (["TimeoutError"], 1)
