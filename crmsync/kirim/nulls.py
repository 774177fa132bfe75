"""What becomes of a null that is sent in metadata: Kirim may keep it, or take it for the wish that the key be removed.

Nothing says which, and a null that somebody else put there has to survive both. So it is not sent as long as none was
seen to stay; where the key is gone then, because Kirim replaces the whole object, it is put back. Answers tell which
it is. A process that ends between the two calls loses such a null; nulls deeper within a value are sent as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crmsync.kirim.contact import METADATA, metadata_of, patch_body
from crmsync.kirim.wire import Row
from crmsync.model import Fields


class Nulls:
    """Others' keys that hold null. `own` are the fields that are ours: of these null and absent mean the same."""

    def __init__(self, own: frozenset[str]) -> None:
        self._own = own
        self._stay = False

    def body(self, held: Row, fields: Fields) -> dict[str, Any]:
        """What has to be sent so that the contact holds `fields`, without the nulls that would not survive it."""
        body = patch_body(held, fields)
        if "metadata" in body and not self._stay:
            foreign = {f"{METADATA}{key}" for key in self._foreign(held)} - fields.keys()
            body["metadata"] = {key: value for key, value in body["metadata"].items() if METADATA + key not in foreign}
        return body

    def withheld(self, held: Row, body: Mapping[str, Any]) -> frozenset[str]:
        """The keys with which somebody else said null, and that were not sent along."""
        return self._foreign(held) - body["metadata"].keys() if "metadata" in body else frozenset()

    def learn(self, body: Mapping[str, Any], shown: Row) -> None:
        """Whether a null that was sent is there afterwards. What is shown without metadata tells nothing."""
        sent = [key for key, value in (body.get("metadata") or {}).items() if value is None]
        if sent and "metadata" in shown:
            held = metadata_of(shown)
            self._stay = all(key in held and held[key] is None for key in sent)

    def _foreign(self, held: Row) -> frozenset[str]:
        empty = (key for key, value in metadata_of(held).items() if value is None)
        return frozenset(key for key in empty if f"{METADATA}{key}" not in self._own)
