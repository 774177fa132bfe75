"""YAML → frozen, checked settings: one file per tenant, every mistake at once with its file, line and key.

`load` is the way in; `find` says which file or folder is meant. Does not watch files and opens no connection.
"""

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
from crmsync.config.schema import SchemaKey, describe_schema

__all__ = [
    "Address",
    "Configuration",
    "ConnectionConfig",
    "DaemonConfig",
    "LogConfig",
    "SchemaKey",
    "Start",
    "TenantConfig",
    "describe_schema",
    "find",
    "load",
]
