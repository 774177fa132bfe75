"""Brings a database to the schema of this program when it starts, on both kinds of database alike.

A revision is written by hand in `versions/`; a test compares what they build with `tables.py`.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from crmsync import crash
from crmsync.errors import StoreError
from crmsync.store.database import Database

ONE_AT_A_TIME = 0x63726D73796E63
"""Key of PostgreSQL's advisory lock: nodes that start together migrate one after the other."""


def migrate(database: Database) -> None:
    """Upgrades the schema in one transaction; refuses a database that a newer crmsync has written."""
    database.write(_upgrade)


def current(database: Database) -> str | None:
    """The revision of the schema as it is; None for an empty database."""
    return database.read(lambda connection: MigrationContext.configure(connection).get_current_revision())


def newest() -> str | None:
    """The revision that this program brings."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
    config = _config()
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise StoreError(
            f"the database was written by a newer crmsync (schema {revision}): upgrade crmsync, or restore"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    crash.point("migrate.done")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
