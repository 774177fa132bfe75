"""What may be in a line of the log, whoever writes it, and what is left of a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parent.parent
CANARY = "canary-7c1e"


def run(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A process of its own, since logging belongs to the process. Nothing is said unless `code` says it."""
    begin = "import logging, structlog\nfrom crmsync import logs\nlogs.confine_crashes()\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code],
        cwd=ROOT,
        env={**os.environ, "CANARY": CANARY},
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def lines(code: str, form: str = "json") -> list[dict[str, str]]:
    done = run(f"logs.configure('debug', {form!r})\n{code}")
    assert done.returncode == 0, done.stderr
    return [orjson.loads(line) for line in done.stderr.splitlines()]


def test_our_own_lines_are_objects() -> None:
    (line,) = lines("structlog.get_logger('crmsync.daemon').debug('told', tenant='acme')")

    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "told", "level": "debug", "tenant": "acme"}


@pytest.mark.parametrize("name", ["httpx", "httpcore.connection", "urllib3.connectionpool", "sqlalchemy.engine", "x"])
def test_a_library_is_not_heard_below_a_warning_even_if_its_level_is_debug(name: str) -> None:
    told = lines(
        f"logging.getLogger().setLevel(1)\nlogging.getLogger({name!r}).setLevel(1)\n"
        f"logging.getLogger({name!r}).info('GET %s', 'https://x/?phone={CANARY}')"
    )

    assert told == []


@pytest.mark.parametrize(
    "call",
    [
        "warning('Failed to parse headers (url=%s): %s', CANARY, CANARY)",
        "error('Task exception was never retrieved\\nfuture: <Task %s>' % CANARY)",
        "error(f'Exception in callback send({CANARY})')",
        'warning(f\'{{"body": "{CANARY}"}}\')',
        "error('boom', exc_info=ValueError(CANARY))",
        "error('boom', stack_info=True, extra={'body': CANARY})",
        "error(ValueError('x'))",
    ],
)
def test_a_warning_of_a_library_is_heard_without_what_it_is_about(call: str) -> None:
    (line,) = lines(f"CANARY = {CANARY!r}\nlogging.getLogger('urllib3').{call}")

    assert CANARY not in str(line)
    assert line["logger"] == "urllib3"


def test_an_error_is_told_by_its_type() -> None:
    (line,) = lines(
        f"try:\n  raise ValueError({CANARY!r})\nexcept ValueError:\n"
        "  structlog.get_logger('crmsync.x').exception('failed')"
    )

    assert CANARY not in str(line)
    assert line["error"] == "ValueError"


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("secret", [CANARY, 'with"quotes\\and more', "schlüssel-geheim"])
def test_a_known_secret_is_cut_out_of_any_line(form: str, secret: str) -> None:
    done = run(
        f"logs.configure('debug', {form!r})\nsecret = {secret!r}\nlogs.hide([secret, ''])\n"
        "structlog.get_logger('crmsync.x').info('told', reason=f'refused {secret} there', nested={'a': [secret]})"
    )

    assert secret not in done.stderr
    assert orjson.dumps(secret).decode()[1:-1] not in done.stderr
    assert "[hidden]" in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError(CANARY)",
        "import threading\nt = threading.Thread(target=lambda: 1 / int(CANARY))\nt.start()\nt.join()",
        "class A:\n  def __del__(self):\n    raise ValueError(CANARY)\nA()",
        "try:\n  raise ValueError(CANARY)\nexcept ValueError as e:\n  raise RuntimeError(CANARY) from e",
    ],
)
def test_a_crash_tells_where_and_not_what(code: str) -> None:
    done = run(f"import os\nCANARY = os.environ['CANARY']\n{code}")

    assert done.stderr.startswith("crmsync: ")
    assert CANARY not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_lines_that_cannot_be_written_are_counted_and_nothing_else_happens() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import os, structlog\nfrom crmsync import logs\nlogs.configure('info', 'json')\n"
                "for _ in range(3): structlog.get_logger('crmsync.x').info('told')\n"
                "os.write(1, str(logs.dropped()).encode())\nos._exit(0)",
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )

    assert done.stdout == b"3"
