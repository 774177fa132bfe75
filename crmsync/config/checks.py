"""What no single key can know: secrets, addresses, and what must not be the same twice. Pure; says, never raises."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from crmsync.config.source import Document, KeyPath
from crmsync.errors import Problem

SHORTEST_SIGNING_SECRET = 24
PLACEHOLDERS = frozenset(
    {
        "changeme",
        "placeholder",
        "secret",
        "password",
        "token",
        "todo",
        "tbd",
        "example",
        "test",
        "none",
        "null",
        "x",
    }
)
LIVE = re.compile(r"(^|[_-])live[_-]")
"""What a key for real customers carries in its name (`kdv_live_…`)."""
PORTS = {"https": 443, "http": 80}
PLAIN_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?")
NUMERIC_HOST = re.compile(r"([0-9.]+|0x[0-9a-f.x]+)")


@dataclass(frozen=True, slots=True)
class Found:
    """A value at its place, kept for comparing it with the values of other files."""

    document: Document = field(repr=False)
    path: KeyPath
    value: str = field(repr=False)

    def problem(self, message: str) -> Problem:
        """A mistake at this place."""
        return self.document.problem(self.path, message)

    def __str__(self) -> str:
        return f"{self.document.file}:{self.document.line(self.path)}"


def secret_problem(value: str) -> str | None:
    """Why a value can be nobody's secret."""
    if not value.strip():
        return "the secret is empty"
    if value != value.strip():
        return "the secret begins or ends with white space or a line break"
    if not value.isprintable():
        return "the secret contains a line break or a control character"
    if re.sub(r"[\s_<>-]", "", value.lower()) in PLACEHOLDERS or len(set(value)) == 1:
        return "the secret is a placeholder"
    return None


def signing_secret_problem(value: str) -> str | None:
    """Why a value cannot be what Kirim signs with."""
    if len(value) < SHORTEST_SIGNING_SECRET:
        return f"the secret is shorter than {SHORTEST_SIGNING_SECRET} characters; copy it whole, with whsec_"
    return None


def host_and_port(parts: SplitResult) -> str:
    """`host:port` of an address, the port filled in from the scheme."""
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or PORTS.get(parts.scheme, 0)}"


def target(text: str) -> str:
    """`host:port` of an address, empty for what is none."""
    try:
        return host_and_port(urlsplit(text))
    except ValueError:
        return ""


def literal_password(text: str) -> bool:
    """Whether an address, as written in the file, carries a password in clear text."""
    try:
        password = urlsplit(text).password
    except ValueError:
        return False
    return bool(password) and "${" not in str(password)


def url_problem(text: str, insecure: Collection[str], paths: Collection[str] | None = None) -> str | None:
    """Why nothing may be sent to an address. `paths` are the only paths it may have, None for any plain one."""
    try:
        parts = urlsplit(text)
        target = host_and_port(parts)
    except ValueError:
        return "must be an address such as https://api.example.com"
    if parts.scheme not in PORTS or not parts.hostname or re.search(r"[\s\\]", text):
        return "must be an address such as https://api.example.com"
    if parts.username is not None or parts.password is not None:
        return "must not contain a user name or password"
    if parts.query or parts.fragment or not PLAIN_PATH.fullmatch(parts.path):
        return "must end with the host or a plain path, without ?, # or .."
    if target in insecure:
        return None
    listed = f" (a test system may be listed in daemon.insecure_targets as {target})"
    if parts.scheme != "https":
        return f"must begin with https://{listed}"
    if _private(parts.hostname):
        return f"must name a public host, not an IP address or a local name{listed}"
    if paths is not None and parts.path.rstrip("/") not in paths:
        allowed = " or ".join(path for path in sorted(paths) if path)
        return f"must have no path{' but ' + allowed if allowed else ''}"
    return None


def hook_problem(text: str, insecure: Collection[str]) -> str | None:
    """Why nothing may be sent to a webhook, whose address may end with parameters."""
    return url_problem(text.partition("?")[0], insecure, None)


def _private(host: str) -> bool:
    """IP literals in any notation, and names that only mean something nearby."""
    host = host.rstrip(".").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        last = host.rpartition(".")[2]
        return "." not in host or bool(NUMERIC_HOST.fullmatch(last)) or last in ("localhost", "local", "internal")
    return True


def public_url_is_local(text: str) -> bool:
    """Whether an address of ours is this very machine: there is no proxy in front then."""
    try:
        return ipaddress.ip_address(urlsplit(text).hostname or "").is_loopback
    except ValueError:
        return text.startswith(("http://localhost:", "http://localhost/"))


def public_url_problem(text: str, insecure: Collection[str]) -> str | None:
    """Why platforms cannot be told this address of ours. Plain http is for loopback: a demonstration."""
    if public_url_is_local(text):
        insecure = {*insecure, host_and_port(urlsplit(text))}
    return url_problem(text, insecure)


def same_twice(values: Sequence[Found], message: str) -> Iterator[Problem]:
    """Values that two files share: a problem at the later one, with the place of the earlier one.

    The same value twice in one file is fine.
    """
    first: dict[str, Found] = {}
    for found in values:
        earlier = first.setdefault(found.value, found)
        if earlier.document.file != found.document.file:
            yield found.problem(message.format(place=earlier))
