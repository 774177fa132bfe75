"""The first schema.

Times are microseconds since 1970, documents are JSON as text: see `tables.py`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "alias",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("survivor", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "endpoint", "kind", "id"),
    )

    op.create_table(
        "change",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kirim_id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("rank", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "kind", "kirim_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("change_due", "change", ["tenant", "connection", "rank", "first_at", "not_before"])

    op.create_table(
        "cursor",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("feed", sa.String(), nullable=False),
        sa.Column("position", sa.String(), nullable=True),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("more", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("read_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "endpoint", "kind", "feed"),
    )

    op.create_table(
        "delivery",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("forced", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "delivery_dead",
        "delivery",
        ["received_at"],
        sqlite_where=sa.text("state > 1"),
        postgresql_where=sa.text("state > 1"),
    )
    op.create_index(
        "delivery_done",
        "delivery",
        ["received_at"],
        sqlite_where=sa.text("state = 1"),
        postgresql_where=sa.text("state = 1"),
    )
    op.create_index("delivery_key", "delivery", ["tenant", "source", "key"], unique=True)
    op.create_index(
        "delivery_pending",
        "delivery",
        ["tenant", "source", "id", "not_before"],
        sqlite_where=sa.text("state = 0"),
        postgresql_where=sa.text("state = 0"),
    )

    op.create_table(
        "fire",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", "slot"),
    )

    op.create_table(
        "history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kirim_id", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("steps", sa.String(), nullable=False),
        sa.Column("kirim_written", sa.Integer(), nullable=False),
        sa.Column("crm_written", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("history_at", "history", ["at"])
    op.create_index("history_pair", "history", ["tenant", "kirim_id", "id"])

    op.create_table(
        "item",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "source", "key"),
    )
    op.create_index("item_at", "item", ["at"])
    op.create_index(
        "item_dead",
        "item",
        ["at"],
        sqlite_where=sa.text("outcome = 'dead'"),
        postgresql_where=sa.text("outcome = 'dead'"),
    )
    op.create_index("item_delivery", "item", ["delivery_id"])

    op.create_table(
        "lane",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("work", sa.String(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("suspended", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "endpoint", "work"),
    )

    op.create_table(
        "suspension",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("trial", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "endpoint"),
    )

    op.create_table(
        "pair",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kirim_id", sa.String(), nullable=False),
        sa.Column("crm_id", sa.String(), nullable=True),
        sa.Column("looked_up", sa.Boolean(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("noted", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("parked", sa.Boolean(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("recent", sa.Text(), nullable=True),
        sa.Column("synced_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "connection", "kind", "kirim_id"),
    )
    op.create_index("pair_crm", "pair", ["tenant", "connection", "kind", "crm_id"], unique=True)
    op.create_index(
        "pair_parked",
        "pair",
        ["tenant", "connection"],
        sqlite_where=sa.text("parked"),
        postgresql_where=sa.text("parked"),
    )

    op.create_table(
        "quarantine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("quarantine_key", "quarantine", ["tenant", "source", "key"], unique=True)
    op.create_index("quarantine_ring", "quarantine", ["tenant", "received_at", "size"])

    op.create_table(
        "stale",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "endpoint", "kind", "id"),
    )
    op.create_index("stale_due", "stale", ["tenant", "endpoint", "not_before", "first_at"])

    op.create_table(
        "view",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("external_id", sa.String(), nullable=True),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("exists", sa.Boolean(), nullable=False),
        sa.Column("times", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "endpoint", "kind", "id"),
    )

    op.create_table(
        "chore",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("work", sa.String(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "work"),
    )

    op.create_table(
        "replay",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id"),
    )
    op.create_index("replay_at", "replay", ["at"])
    op.create_index("replay_event", "replay", ["tenant", "event"])

    op.create_table(
        "run",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "run_due",
        "run",
        ["due_at"],
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )

    op.create_table(
        "sighting",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("run", sa.BigInteger(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("held", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "run", "endpoint", "kind", "id"),
        sqlite_with_rowid=False,
    )
    _of_messages_and_plans()
    _of_conflicts()
    _of_pauses_and_budgets()


def _of_messages_and_plans() -> None:
    """What is logged on timelines, offered for matching, labelled by segments, and planned."""
    op.create_table(
        "message",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("wamid", sa.String(), nullable=True),
        sa.Column("kirim_id", sa.String(), nullable=True),
        sa.Column("conversation_id", sa.String(), nullable=True),
        sa.Column("contact_id", sa.String(), nullable=True),
        sa.Column("phone", sa.String(), nullable=True),
        sa.Column("number_id", sa.String(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=True),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("message_first_at", "message", ["first_at"])
    op.create_index("message_kirim_id", "message", ["tenant", "kirim_id"], unique=True)
    op.create_index("message_phone", "message", ["tenant", "phone", "at"])
    op.create_index("message_thread", "message", ["tenant", "conversation_id", "at"])
    op.create_index("message_wamid", "message", ["tenant", "wamid"], unique=True)

    op.create_table(
        "timeline",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.Column("thread", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("crm_id", sa.String(), nullable=True),
        sa.Column("sent", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "key"),
    )
    op.create_index("timeline_due", "timeline", ["tenant", "connection", "not_before"])
    op.create_index("timeline_message", "timeline", ["tenant", "message_id"])

    op.create_table(
        "candidate",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kirim_id", sa.String(), nullable=False),
        sa.Column("crm_id", sa.String(), nullable=False),
        sa.Column("choice", sa.String(), nullable=False),
        sa.Column("found_by", sa.String(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "kind", "kirim_id", "crm_id"),
    )

    op.create_table(
        "segment",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("permitted", sa.Boolean(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "label"),
    )
    op.create_index("segment_due", "segment", ["tenant", "connection", "due_at"])

    op.create_table(
        "segment_member",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("kirim_id", sa.String(), nullable=False),
        sa.Column("standing", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "label", "kirim_id"),
    )

    op.create_table(
        "person",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "endpoint", "id"),
    )
    op.create_index("person_email", "person", ["tenant", "endpoint", "email"])

    op.create_table(
        "planned",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kirim_id", sa.String(), nullable=False),
        sa.Column("run", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("item", sa.Text(), nullable=True),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "kind", "kirim_id", "run"),
    )
    op.create_index("planned_due", "planned", ["tenant", "connection", "not_before"])
    op.create_index("planned_run", "planned", ["run", "kind", "kirim_id"])


def _of_conflicts() -> None:
    """What both sides changed, and what goes back and forth."""
    op.create_table(
        "conflict",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("kirim_id", sa.String(), nullable=False),
        sa.Column("field", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kirim", sa.Text(), nullable=True),
        sa.Column("crm", sa.Text(), nullable=True),
        sa.Column("won", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("sequence", sa.Text(), nullable=True),
        sa.Column("decree", sa.Text(), nullable=True),
        sa.Column("decreed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "connection", "kind", "kirim_id", "field"),
    )
    op.create_index("conflict_at", "conflict", ["at"])


def _of_pauses_and_budgets() -> None:
    op.create_table(
        "pause",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "what"),
    )

    op.create_table(
        "tally",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("connection", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "connection", "scope", "what", "slot"),
    )

    op.create_table(
        "budget",
        sa.Column("credential", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("documented", sa.Text(), nullable=False),
        sa.Column("users", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("credential", "bucket"),
    )
