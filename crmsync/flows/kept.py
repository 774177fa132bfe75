"""What of a tenant's subscription at Kirim is looked after: values that the watch, the sweep and the commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crmsync.errors import ConfigError
from crmsync.flows.tenant import Tenant
from crmsync.kirim.client import KirimClient
from crmsync.kirim.endpoint import Kirim
from crmsync.kirim.secrets import FileSecret, read_secrets_file
from crmsync.kirim.settings import KirimSettings
from crmsync.model import Kind

SELF_TEST = "crmsync.selftest"
"""The type of the deliveries that we send ourselves: they prove nothing about Kirim."""
Alert = Callable[[str, str, str], None]
"""Tells people: the kind of trouble, the tenant, a sentence."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A tenant's webhook address, and the account that should send to it.

    `held` are the signing secrets that verify at this moment, with their ids where they are known. `kinds` are the
    records of Kirim's that a CRM is kept in step with.
    """

    tenant: str
    client: KirimClient
    hook_url: str
    reenable: bool
    held: Callable[[], Sequence[FileSecret]]
    kinds: tuple[Kind, ...]


def keep(tenant: Tenant) -> Kept | None:
    """What is looked after of a tenant; None if its Kirim is no real one."""
    kirim = tenant.kirim
    if not isinstance(kirim, Kirim):
        return None
    settings = kirim.settings
    kinds = tuple(kind for kind in Kind if tenant.followers(kind))
    return Kept(tenant.id, kirim.client, kirim.around.hook_url, settings.reenable, lambda: held(settings), kinds)


def held(settings: KirimSettings) -> tuple[FileSecret, ...]:
    """The secrets in force; the file tells the ids of those that are in it."""
    ids: dict[str, str | None] = {}
    if settings.webhook_secrets_file:
        try:
            # Whether others may read it was judged when the configuration was loaded.
            ids = {one.key: one.id for one in read_secrets_file(Path(settings.webhook_secrets_file), insecure=True)}
        except ConfigError:
            ids = {}  # a hand is at it just now
    keys = (secret.get_secret_value() for secret in settings.webhook_secrets)
    return tuple(FileSecret(key, ids.get(key)) for key in keys)
