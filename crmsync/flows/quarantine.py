"""A second look at what is in quarantine: when secrets change, and at every start. What proves itself is taken in.

Freshness is judged by when the request came, not by when it is looked at. A row is only ever proved by its own
endpoint's secrets. Nothing is parsed here; a compressed body is inflated once its signature has been found right.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from crmsync.errors import BadSignature
from crmsync.flows.belief import Verify, prove
from crmsync.model import WebhookRequest
from crmsync.store import quarantine
from crmsync.store.database import Database
from crmsync.store.quarantine import Inmate, Promotion

COMPRESSED = "compressed"
CROSS_TENANT = "cross_tenant"
LARGEST_BODY = 8 * 1024 * 1024
LARGEST_RATIO = 20
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a second look came to: taken in, known already, still waiting."""

    promoted: int = 0
    known: int = 0
    kept: int = 0


@dataclass(slots=True)
class _Sorted:
    """A page of rows, by what shall become of them."""

    promotions: list[Promotion] = field(default_factory=list)
    late: dict[int, bytes] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)


def look_again(database: Database, verifiers: Mapping[tuple[str, str], Verify]) -> Outcome:
    """Verifies every row of these endpoints anew. Each page is one transaction: a row is promoted whole or stays."""
    promoted = known = kept = 0
    for (tenant, source), verify in verifiers.items():
        after = 0
        while rows := database.read(partial(quarantine.page, tenant=tenant, source=source, after=after)):
            after = rows[-1].id
            page = _sorted(rows, verify)
            new, gone = database.write(partial(_settle, tenant=tenant, source=source, page=page))
            promoted += new
            known += gone - new
            kept += len(rows) - gone
    return Outcome(promoted, known, kept)


def _sorted(rows: list[Inmate], verify: Verify) -> _Sorted:
    page = _Sorted()
    for row in rows:
        try:
            secret = prove(verify, row.request)
        except BadSignature as doubt:
            reason = doubt.doubt.value
            if doubt.authentic:
                page.late[row.id] = _plain(row.request)
            elif row.reason in (COMPRESSED, CROSS_TENANT):
                continue
            if reason != row.reason:
                page.reasons[row.id] = reason
        else:
            page.promotions.append(Promotion(row.id, _plain(row.request), row.request.received_at, secret))
    return page


def _settle(tx: Connection, tenant: str, source: str, page: _Sorted) -> tuple[int, int]:
    """How many were new to the inbox, and how many left the quarantine."""
    known = quarantine.stored(tx, tenant, source, page.late) if page.late else set()
    quarantine.drop(tx, sorted(known))
    new = quarantine.promote(tx, tenant, source, page.promotions)
    quarantine.relabel(tx, {id: reason for id, reason in page.reasons.items() if id not in known})
    return new, len(known) + len(page.promotions)


def _plain(request: WebhookRequest) -> bytes:
    """The body as its sender meant it. What cannot be inflated within bounds stays as it is, and will be dead."""
    encoding = b",".join(request.header(b"content-encoding")).strip().lower()
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        return request.body
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    most = min(LARGEST_BODY, LARGEST_RATIO * len(request.body))
    try:
        body = inflater.decompress(request.body, most + 1)
    except zlib.error:
        return request.body
    return body if inflater.eof and not inflater.unused_data and len(body) <= most else request.body
