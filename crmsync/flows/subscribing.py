"""Makes the subscription for our address, once, and stores its first secret, which Kirim shows this once.

The request's idempotency key is on disk before it is sent: whoever dies before the secret is stored asks again under
the same key, and is answered the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crmsync import crash
from crmsync.errors import CrmsyncError, Reject
from crmsync.flows import journal
from crmsync.flows.kept import Kept
from crmsync.kirim.client import KirimClient
from crmsync.kirim.secrets import FileSecret, read_secrets_file, write_secrets_file
from crmsync.kirim.subscription import EVENT_LISTS, Subscription, of_url, plain_secret, read, secret_id, whole
from crmsync.kirim.wire import Row

KEY_LASTS = timedelta(hours=23)
"""Kirim remembers an idempotency key for 24 hours; after that the same request would make a second subscription."""
DESCRIPTION = "crmsync"


@dataclass(frozen=True, slots=True)
class Made:
    """A subscription for our address. `secret` is what was shown now; None if it `existed`, or nothing was shown."""

    subscription: Subscription
    secret: FileSecret | None = None
    existed: bool = False


def subscribe(kept: Kept, secrets_file: Path | None, clock: Callable[[], datetime], new_key: Callable[[], str]) -> Made:
    """The subscription, made if there is none. Its secret goes into the file; without one it is only returned."""
    found = of_url(kept.client, kept.hook_url)
    if secrets_file is None:
        if found:
            return Made(found[0], existed=True)
        row = _create(kept.client, kept.hook_url, new_key())
        return Made(whole(kept.client, read(row)), _secret(kept.client, row))
    place = _place(secrets_file)
    key = _pending(place, kept.hook_url, clock())
    if found and key is None:
        return Made(found[0], existed=True)
    if key is None:
        key = new_key()
        journal.write(place, {"key": key, "url": kept.hook_url, "begun_at": clock().isoformat()})
    held = read_secrets_file(secrets_file, insecure=True)
    crash.point("subscribe.asking")
    row = _create(kept.client, kept.hook_url, key)
    crash.point("subscribe.created")
    secret = _secret(kept.client, row)
    if secret is not None:
        write_secrets_file(secrets_file, [*(one for one in held if one.key != secret.key), secret])
    journal.remove(place)
    return Made(whole(kept.client, read(row)), secret)


def repair(kept: Kept, subscription: Subscription) -> Subscription:
    """Has the subscription ask for every event, and Kirim send."""
    for events in EVENT_LISTS:
        wanted = list(dict.fromkeys([*(subscription.events or ()), *events]))
        try:
            kept.client.patch_subscription(subscription.id, {"events": wanted, "status": "active"})
        except Reject as error:
            refused = error
            continue
        found = of_url(kept.client, kept.hook_url)
        return next((one for one in found if one.id == subscription.id), subscription)
    raise refused


def _create(client: KirimClient, url: str, key: str) -> Row:
    """Asks for every event there is; for fewer where Kirim does not know the names."""
    for place, events in enumerate(EVENT_LISTS):
        try:
            return client.create_subscription(url, events, description=DESCRIPTION, idempotency_key=f"{key}-{place}")
        except Reject as error:
            if place == len(EVENT_LISTS) - 1 or not _about_events(error):
                raise
    raise AssertionError


def _about_events(error: Reject) -> bool:
    """Whether it may be the names that Kirim does not take: it points at them, or at nothing."""
    return not error.fields or any(name.startswith("events") for name in error.fields)


def _secret(client: KirimClient, row: Row) -> FileSecret | None:
    key = plain_secret(row)
    if key is None:
        return None
    listed = whole(client, read(row)).secrets or ()
    return FileSecret(key, secret_id(row) or (listed[0].id if len(listed) == 1 else None))


def _place(secrets_file: Path) -> Path:
    real = secrets_file.resolve()
    return real.with_name(f"{real.name}.subscribing")


def _pending(place: Path, url: str, now: datetime) -> str | None:
    """The key of a request whose answer may not have reached us, as long as Kirim remembers it."""
    try:
        said: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        begun = datetime.fromisoformat(said["begun_at"])
        return str(said["key"]) if said["url"] == url and now - begun < KEY_LASTS else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CrmsyncError(f"{place} cannot be read; remove it to begin anew") from error
