"""Where connections may go, and how long a request may take: for every client in the product, whatever its library.

A name is resolved here, each of its addresses is judged, and the connection is made to the judged address itself, so
that a name cannot mean one thing when it is looked at and another when it is used. Knows no HTTP.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from time import monotonic

REFUSED = tuple(
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: also where clouds keep their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",  # with the broadcast address
        "::/96",  # unspecified, loopback, and the obsolete way to write IPv4
        "64:ff9b::/96",  # NAT64: IPv4 again
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # Teredo, benchmarks, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4: IPv4 again
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
LONGEST_REQUEST = 30.0
"""Seconds for one request as a whole, from the first look for a connection to the last byte of the answer."""

Resolve = Callable[[str, int], list[str]]
"""The numeric addresses of a name. Raises OSError."""


class ForbiddenAddress(OSError):
    """A host has no address that a connection may be made to. The message names the host, which is configured."""


def refused(address: str) -> bool:
    """Whether no platform can be at an address: private, local, reserved, or a way around that."""
    found: IPv4Address | IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in net for net in REFUSED if net.version == found.version)


def resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says, in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def target(host: str, port: int) -> str:
    """`host:port` as `daemon.insecure_targets` has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Reach:
    """Where connections may go: public addresses, and `allowed`, which are `host:port` of test systems."""

    allowed: Collection[str] = frozenset()
    resolve: Resolve = resolve

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to. Raises `ForbiddenAddress` where there is none."""
        host = host.strip("[]").rstrip(".").lower()
        found = self.resolve(host, port)
        if target(host, port) in self.allowed:
            return found
        fit = [address for address in found if not refused(address)]
        if not fit:
            raise ForbiddenAddress(f"{host} is at no public address")
        return fit

    def connect(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """A connection to the first fit address that answers. Raises OSError, `TimeoutError` among them."""
        trouble: OSError | None = None
        for address in self.addresses(host, port):
            try:
                return socket.create_connection((address, port), DEADLINE.clamped(timeout))
            except OSError as error:
                trouble = error
        raise trouble or OSError("the name has no address")


PUBLIC = Reach()


class Deadline(threading.local):
    """The moment by which the request that the present thread sends must be over; timeouts in HTTP clients begin anew
    with every read, so that an answer that trickles would never end."""

    def __init__(self) -> None:
        self.at: float | None = None

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Until the block ends no read, write or connection outlives this time."""
        before, self.at = self.at, monotonic() + seconds
        try:
            yield
        finally:
            self.at = before

    def clamped(self, timeout: float | None) -> float | None:
        """The timeout, or what is left if that is less. Raises `TimeoutError` where nothing is."""
        if self.at is None:
            return timeout
        left = self.at - monotonic()
        if left <= 0:
            raise TimeoutError("the request as a whole took too long")
        return left if timeout is None else min(timeout, left)


DEADLINE = Deadline()
