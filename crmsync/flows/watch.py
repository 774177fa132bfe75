"""Looks at a tenant's webhook subscription: is it there, does Kirim send, with secrets that we hold, for how long yet?

What is switched off is switched on again where that is allowed; then, and whenever nobody looked for a while, the gap
is closed: dead deliveries are swept, and the contacts and conversations that changed since are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from crmsync.errors import Reject
from crmsync.flows.kept import SELF_TEST, Alert, Kept
from crmsync.flows.poll import CHANGES
from crmsync.kirim.reading import moment
from crmsync.kirim.secrets import FileSecret
from crmsync.kirim.subscription import ACTIVE, PAUSED, SigningSecret, Subscription, of_url
from crmsync.store import chores, cursors, deliveries
from crmsync.store.chores import Chore
from crmsync.store.database import Database
from crmsync.store.lanes import Fence, Work
from crmsync.store.records import KIRIM

MISSING = "missing"
UNWATCHED = timedelta(minutes=15)
"""If nobody looked for longer, a subscription that sends now may not have sent in between."""
EXPIRES_SOON = timedelta(hours=48)
LONGEST_PAUSE = timedelta(hours=1)
"""Between two attempts to switch the same subscription on, once it keeps being switched off."""
EPOCH = datetime.fromtimestamp(0, UTC)
CALM = timedelta(hours=1)
"""After so long without being switched off, the next time is a first time again."""

ENDINGS = {
    "subscription_missing": ("subscription_found", "Kirim has a subscription for our address"),
    "subscription_disabled": ("subscription_recovered", "Kirim sends to us; what was missing is fetched"),
    "subscription_stuck": None,
    "subscription_doubled": None,
    "events_missing": None,
    "secret_unknown": ("secret_known", "every secret that Kirim signs with is in the configuration"),
    "secret_expiring": ("secret_lasting", "no secret that Kirim signs with is about to expire"),
}
"""The kinds of findings, and what is told when there is none of them (any more)."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should know. `subject` tells two findings of one kind apart."""

    kind: str
    subject: str
    text: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "subject": self.subject, "text": self.text}


def watch(database: Database, kept: Kept, fence: Fence, clock: Callable[[], datetime], alert: Alert) -> None:
    """Looks once, and does what follows from it."""
    taken = database.read(lambda tx: chores.read(tx, kept.tenant, Work.WATCH))
    found = of_url(kept.client, kept.hook_url)
    now = clock()
    findings = list(judge(found, kept.held(), now))
    before = taken.state
    if found and not found[0].is_active:
        # Remembered before anything is done about it: if we die after that, the gap must still be known.
        seen = _state(before, found, findings, kept.held(), now)
        _tell(findings, kept.tenant, alert)
        database.write(lambda tx: _fenced(tx, fence, lambda: chores.remember(tx, taken, seen)))
        before, found, findings = _switch_on(kept, seen, found, findings, now)
    _tell(findings, kept.tenant, alert)
    _conclude(database, kept, taken, before, found, findings, fence, clock())


def judge(found: Sequence[Subscription], held: Sequence[FileSecret], now: datetime) -> Iterator[Finding]:
    """What is wrong with the subscriptions of one address, or soon will be."""
    if not found:
        yield Finding(
            "subscription_missing",
            "",
            "Kirim has no webhook subscription for this address: run crmsync webhooks subscribe",
        )
        return
    one = found[0]
    if len(found) > 1:
        text = f"Kirim has {len(found)} subscriptions for this address, and sends everything as often"
        yield Finding("subscription_doubled", one.id, text)
    if not one.is_active:
        yield Finding("subscription_disabled", one.id, f"Kirim has switched subscription {one.id} off ({one.status})")
    if missing := one.missing_events():
        text = f"subscription {one.id} does not ask for {', '.join(missing)}: run crmsync webhooks subscribe --repair"
        yield Finding("events_missing", one.id, text)
    yield from _of_secrets(one.secrets or (), held, now)


def _of_secrets(secrets: Sequence[SigningSecret], held: Sequence[FileSecret], now: datetime) -> Iterator[Finding]:
    signing = [secret for secret in secrets if secret.signs(now)]
    for secret in unknown(signing, held):
        text = f"Kirim signs with {secret.id} created {_said(secret.created_at)}, not in the configuration"
        yield Finding("secret_unknown", secret.id, text)
    for secret in signing:
        if secret.expires_at is not None and secret.expires_at - now < EXPIRES_SOON:
            last = len(signing) == 1
            text = (
                f"Kirim stops signing with {secret.id} at {_said(secret.expires_at)}"
                f"{', and it has no other' if last else ''}: run crmsync webhooks rotate-secret"
            )
            yield Finding("secret_expiring", secret.id, text)


def unknown(signing: Sequence[SigningSecret], held: Sequence[FileSecret]) -> list[SigningSecret]:
    """The secrets that cannot be among those we hold.

    Of a secret that stands in the environment we do not know the id: as many of Kirim's as there are of those may be
    them, the oldest first.
    """
    ids = {secret.id for secret in held}
    strangers = [secret for secret in signing if secret.id not in ids]
    nameless = sum(1 for secret in held if secret.id is None)
    return sorted(strangers, key=lambda secret: secret.created_at or EPOCH)[nameless:]


def _switch_on(
    kept: Kept, state: dict[str, Any], found: list[Subscription], findings: list[Finding], now: datetime
) -> tuple[dict[str, Any], list[Subscription], list[Finding]]:
    """Switches the subscription on if that is allowed; not more often than seems useful."""
    one = found[0]
    tries = int(state.get("tries") or 0)
    last = moment(state.get("tried_at"))
    if last is not None and now - last > CALM + LONGEST_PAUSE:
        tries = 0
    pause = min(timedelta(minutes=1) * 2**tries, LONGEST_PAUSE) if tries else timedelta(0)
    if not kept.reenable or one.status == PAUSED or (last is not None and now - last < pause):
        return state, found, findings
    state = {**state, "tries": min(tries + 1, 10), "tried_at": now.isoformat()}
    try:
        kept.client.patch_subscription(one.id, {"status": ACTIVE})
    except Reject as error:
        text = f"subscription {one.id} cannot be switched on: {error}"
        return state, found, [*findings, Finding("subscription_stuck", one.id, text)]
    again = of_url(kept.client, kept.hook_url)
    return state, again, list(judge(again, kept.held(), now))


def _conclude(
    database: Database,
    kept: Kept,
    taken: Chore,
    before: Mapping[str, Any],
    found: Sequence[Subscription],
    findings: Sequence[Finding],
    fence: Fence,
    now: datetime,
) -> None:
    """One transaction: what was seen, and, where deliveries may be missing, what fetches them."""
    state = _state(before, found, findings, kept.held(), now)
    back = _back(before, state, now)
    since = database.read(lambda tx: _since(tx, kept.tenant, before, found[0])) if back else None
    if since is not None:
        log.info("gap_closing", tenant=kept.tenant, since=_said(since))

    def conclude(tx: Connection) -> None:
        if back:
            chores.ring(tx, kept.tenant, Work.SWEEP, now, afresh=True)
        if since is not None:
            for kind in kept.kinds:
                cursors.restart(tx, kept.tenant, KIRIM, kind, CHANGES, since, now)
        chores.finish(tx, taken, state, now)

    database.write(lambda tx: _fenced(tx, fence, lambda: conclude(tx)))


def _back(before: Mapping[str, Any], after: Mapping[str, Any], now: datetime) -> bool:
    """Whether deliveries may be missing from a time that is over: Kirim sends, and did not when we looked last, or
    nobody looked for long."""
    if after["status"] != ACTIVE or not before:
        return False
    last = moment(before.get("active_at"))
    return before.get("status") != ACTIVE or last is None or now - last >= UNWATCHED


def _since(tx: Connection, tenant: str, before: Mapping[str, Any], one: Subscription) -> datetime | None:
    """Since when they may be missing: since it was last seen to send, else since something came in, else since ever."""
    heard = deliveries.last_heard(tx, tenant, KIRIM, SELF_TEST)
    return moment(before.get("active_at")) or heard or one.created_at


def _state(
    before: Mapping[str, Any],
    found: Sequence[Subscription],
    findings: Sequence[Finding],
    held: Sequence[FileSecret],
    now: datetime,
) -> dict[str, Any]:
    """What is remembered, and shown by `crmsync status`."""
    one = found[0] if found else None
    return {
        "at": now.isoformat(),
        "subscription": one.id if one else None,
        "status": one.status if one else MISSING,
        "active_at": now.isoformat() if one and one.is_active else before.get("active_at"),
        "tries": before.get("tries"),
        "tried_at": before.get("tried_at"),
        "secrets": None if one is None or one.secrets is None else told(one.secrets, held, now),
        "findings": [finding.to_json() for finding in findings],
    }


def told(secrets: Sequence[SigningSecret], held: Sequence[FileSecret], now: datetime) -> list[dict[str, Any]]:
    """The secrets of a subscription in JSON's types; `held` is null where it cannot be told whether we hold one."""
    ids = {secret.id for secret in held}
    strange = unknown([secret for secret in secrets if secret.signs(now)], held)
    return [
        {
            "id": secret.id,
            "created_at": _said(secret.created_at),
            "expires_at": _said(secret.expires_at),
            "held": True if secret.id in ids else False if secret in strange else None,
        }
        for secret in secrets
    ]


def _tell(findings: Sequence[Finding], tenant: str, alert: Alert) -> None:
    """Tells what is wrong, and what no longer is; who is told that it lasts is the alert's business."""
    for kind, ending in ENDINGS.items():
        texts = [finding.text for finding in findings if finding.kind == kind]
        if texts:
            alert(kind, tenant, "; ".join(texts))
        elif ending:
            alert(ending[0], tenant, ending[1])


def _fenced(tx: Connection, fence: Fence, work: Callable[[], None]) -> None:
    fence(tx)
    work()


def _said(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
