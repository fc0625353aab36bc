"""upkeep: sessions that are held, and clips that outlive their recordings

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
column has a constant default, so that no row is rewritten.

Revision: 0020
After: 0019
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "audio_sessions",
        sa.Column("legal_hold", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_table(
        "kept_clips",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("noise_type", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.Column("end_s", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "kept_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("blob_key", sa.Text(), nullable=False),
        sa.CheckConstraint("end_s > start_s", name=op.f("ck_kept_clips_times")),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_kept_clips_confidence")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_kept_clips_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_clips")),
    )
    op.create_index(
        "ix_kept_clips_noise_type", "kept_clips", ["user_id", "noise_type", "confidence"]
    )


def downgrade() -> None:
    op.drop_table("kept_clips")
    op.drop_column("audio_sessions", "legal_hold")
