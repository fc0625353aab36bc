"""turns: the order of work

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
columns have defaults: what the old code takes is of normal priority, in the lane of all that has
no user.

The index of ``session_spans``, a large table, is built while work goes on. That cannot be done in
a transaction, so it comes first: if it is interrupted, the migration can be run again. The index
of ``audio_sessions`` holds unfinished sessions alone; building it takes one look at the table, a
row a recording, for which uploads wait.

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # One that was interrupted is left behind, and is of no use.
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_session_spans_pending")
        op.create_index(
            "ix_session_spans_pending",
            "session_spans",
            ["session_id", "span_index"],
            unique=False,
            postgresql_where=sa.text("state = 'pending'"),
            postgresql_concurrently=True,
        )
    op.create_table(
        "turns",
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "lane",
            sa.Uuid(),
            server_default=sa.text("'00000000-0000-0000-0000-000000000000'"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("state", "priority", name=op.f("pk_turns")),
    )
    op.execute(
        "INSERT INTO turns (state, priority) SELECT state, priority"
        " FROM unnest(ARRAY['queued', 'splitting', 'detecting', 'aggregating']) AS state,"
        " generate_series(0, 2) AS priority"
    )
    op.add_column(
        "audio_sessions",
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
    )
    op.add_column(
        "audio_sessions",
        sa.Column(
            "lane",
            sa.Uuid(),
            server_default=sa.text("'00000000-0000-0000-0000-000000000000'"),
            nullable=False,
        ),
    )
    op.create_check_constraint(
        op.f("ck_audio_sessions_priority"), "audio_sessions", "priority IN (0, 1, 2)"
    )
    op.create_index(
        "ix_audio_sessions_turn",
        "audio_sessions",
        ["state", "priority", "lane", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'splitting', 'detecting', 'aggregating')"),
    )


def downgrade() -> None:
    op.drop_index("ix_audio_sessions_turn", table_name="audio_sessions")
    op.drop_constraint(op.f("ck_audio_sessions_priority"), "audio_sessions", type_="check")
    op.drop_column("audio_sessions", "lane")
    op.drop_column("audio_sessions", "priority")
    op.drop_table("turns")
    op.drop_index("ix_session_spans_pending", table_name="session_spans")
