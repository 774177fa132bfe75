"""YAML → frozen, checked settings: one file per tenant, every mistake at once with its file, line and key.

`load` is the way in; `find` says which file or folder is meant; `step` says what of a change can be taken up without a
restart. Does not watch files and opens no connection.
"""

from crmsync.config.checks import public_url_is_local
from crmsync.config.live import Step, step, watched
from crmsync.config.load import find, load
from crmsync.config.model import (
    Address,
    Configuration,
    ConnectionConfig,
    DaemonConfig,
    LogConfig,
    Start,
    TenantConfig,
)
from crmsync.config.schema import SchemaKey, describe_schema, describe_settings

__all__ = [
    "Address",
    "Configuration",
    "ConnectionConfig",
    "DaemonConfig",
    "LogConfig",
    "SchemaKey",
    "Start",
    "Step",
    "TenantConfig",
    "describe_schema",
    "describe_settings",
    "find",
    "load",
    "public_url_is_local",
    "step",
    "watched",
]
