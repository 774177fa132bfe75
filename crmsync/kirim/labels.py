"""Labels by their names: Kirim's calls want ids. Names are looked up once, and again where one is missing."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from crmsync.errors import Reject
from crmsync.kirim.client import KirimClient


class LabelBook:
    """One organisation's labels. `team` is needed to make labels only where there are several teams."""

    def __init__(self, client: KirimClient, team: str | None) -> None:
        self._client = client
        self._team = team
        self._ids: dict[str, str] = {}
        self._lock = Lock()

    def id(self, name: str, *, create: bool = False) -> str | None:
        """The id of a label; None where there is none, and none is to be made."""
        with self._lock:
            if name not in self._ids:
                self._ids = dict(self._read())
            if name not in self._ids and create:
                self._ids[name] = self._made(name)
            return self._ids.get(name)

    def _read(self) -> Iterable[tuple[str, str]]:
        for label in self._client.labels():
            name, id, team = label.get("name"), label.get("id"), label.get("team_id")
            ours = self._team is None or team in (None, self._team)
            if isinstance(name, str) and isinstance(id, str) and ours:
                yield name, id

    def _made(self, name: str) -> str:
        made = self._client.create_label(name, team_id=self._team).get("id")
        if not isinstance(made, str):
            raise Reject(f"kirim made no label {name}")
        return made
