"""What Alembic runs: the revisions, on the connection and in the transaction it was handed."""

from alembic import context
from sqlmodel import SQLModel

from crmsync.store import tables  # noqa: F401  the tables have to be known

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
