"""Lets a connector reach an emulator on this machine, which in production nothing may."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from crmsync.outbound import Reach


class _Local(Collection[str]):
    """Every `host:port` of this machine."""

    def __contains__(self, target: object) -> bool:
        return str(target).startswith(("127.0.0.1:", "localhost:", "[::1]:"))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


LOOPBACK = Reach(allowed=_Local())
