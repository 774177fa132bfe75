"""Card Box, a CRM that is a box of cards, one for each contact. https://cardbox.example/api"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from httpx import Timeout
from pydantic import ConfigDict, SecretStr

from crmsync.connector import Connector, ConnectorSettings, Outcome, Surroundings, pick, settled
from crmsync.errors import Reject, Retry
from crmsync.http import Http
from crmsync.model import Can, FieldInfo, FieldType, Kind, Page, Rate, Record, Ref, Write, Written


class CardboxSettings(ConnectorSettings):
    model_config = ConfigDict(use_attribute_docstrings=True)

    token: SecretStr
    """The API token, from Settings → Integrations."""
    base_url: str = "https://api.cardbox.example"
    """Card Box's API."""
    timeout_seconds: float = 30
    """How long one request may take."""


class Cardbox(Connector[CardboxSettings]):
    """One box. A card's `key` is unique, and holds the Kirim id."""

    name = "cardbox"
    kinds = frozenset({Kind.CONTACT})
    can = frozenset({Can.CHANGES, Can.FIND, Can.NATIVE_UPSERT, Can.CREATE})
    Settings = CardboxSettings
    batch_size = 50
    rate = Rate(10, 1)

    def __init__(self, settings: CardboxSettings, around: Surroundings) -> None:
        super().__init__(settings, around)
        headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
        timeout = Timeout(settings.timeout_seconds)
        self.http = Http("Card Box", settings.base_url, headers, around.budget, timeout=timeout, reach=around.reach)

    def close(self) -> None:
        self.http.close()

    def fields(self, kind: Kind) -> Sequence[FieldInfo]:
        told = self.http.call("GET", "/fields")["fields"]
        return [FieldInfo(name, FieldType(each["type"]), writable=each["writable"]) for name, each in told.items()]

    def fetch(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record | None]:
        found = self._cards(id=[ref.id for ref in refs if ref.id], key=[r.external_id for r in refs if r.external_id])
        by_id = {record.id: record for record in found}
        by_key = {record.external_id: record for record in found}
        return [by_id.get(ref.id or "") or by_key.get(ref.external_id) for ref in refs]

    def find(self, kind: Kind, field: str, values: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        found = self._cards(**{field: list(values)})
        return {value: [each for each in found if each.fields.get(field) == value] for value in values}

    def changed(self, kind: Kind, cursor: str | None, since: datetime | None = None) -> Page:
        params = {"after": cursor or "0"} | ({"since": since.isoformat()} if since else {})
        told = self.http.call("GET", "/cards", params=params)
        return Page(tuple(map(self._record, told["cards"])), str(told["revision"]), told["more"])

    def upsert(self, kind: Kind, writes: Sequence[Write]) -> Sequence[Outcome]:
        return settled(writes, self._send)

    def _send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        rows = [{"key": each.external_id, "id": each.id, "fields": dict(each.fields)} for each in writes]
        told = {row["key"]: row for row in self.http.call("PUT", "/cards", body=rows)["rows"]}
        return [self._outcome(told.get(each.external_id)) for each in writes]

    def _outcome(self, row: Mapping[str, Any] | None) -> Outcome:
        if row is None:
            return Retry("Card Box said nothing about this card", ambiguous=True)
        if row["status"] >= 400:
            return Reject(f"Card Box answered {row['status']}", row.get("refused", ()))
        return Written(self._record(row["card"]), created=row["status"] == 201)

    def _cards(self, **wanted: list[str]) -> list[Record]:
        return [self._record(card) for card in self.http.call("POST", "/cards/find", body=wanted)["cards"]]

    def _record(self, card: Mapping[str, Any]) -> Record:
        fields = pick(card, self.around.wanted.get(Kind.CONTACT, frozenset()))
        return Record(Kind.CONTACT, card["id"], fields, datetime.fromisoformat(card["changed"]), card["key"])
