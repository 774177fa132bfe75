"""What Alembic runs: the revisions, on the connection and in the transaction it was handed."""

from alembic import context
from sqlmodel import SQLModel

from crmsync import crash
from crmsync.store import tables  # noqa: F401  the tables have to be known

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    on_version_apply=lambda **_: crash.point("migrate.step"),
)
with context.begin_transaction():
    context.run_migrations()
