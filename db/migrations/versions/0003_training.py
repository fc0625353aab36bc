"""training

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release.

Revision: 0003
After: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "promotions",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column(
            "promoted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("comparison", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["noise_models.id"], name=op.f("fk_promotions_model_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
    )
    op.create_index("ix_promotions_model_id", "promotions", ["model_id"], unique=False)
    op.create_table(
        "training_jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("percent", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("problem", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "nudged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed')", name=op.f("ck_training_jobs_state")
        ),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name=op.f("ck_training_jobs_percent")),
        sa.CheckConstraint("version > 0", name=op.f("ck_training_jobs_version")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["noise_models.id"], name=op.f("fk_training_jobs_model_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_jobs")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_training_jobs_name")),
    )
    op.create_index("ix_training_jobs_model_id", "training_jobs", ["model_id"], unique=False)
    op.create_index(
        "ix_training_jobs_unfinished",
        "training_jobs",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "validations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column("file_key", sa.Text(), nullable=True),
        sa.Column("labelled", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("set_sha256", sa.Text(), nullable=True),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("percent", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stage", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("problem", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "nudged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed')", name=op.f("ck_validations_state")
        ),
        sa.CheckConstraint(
            "(labelled IS NULL) = (set_sha256 IS NULL)", name=op.f("ck_validations_labelled")
        ),
        sa.CheckConstraint(
            "num_nonnulls(model_id, file_key) > 0", name=op.f("ck_validations_model")
        ),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name=op.f("ck_validations_percent")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["noise_models.id"], name=op.f("fk_validations_model_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_validations")),
    )
    op.create_index(
        "ix_validations_model_id",
        "validations",
        ["model_id", "set_sha256", "finished_at"],
        unique=False,
    )
    op.create_index(
        "ix_validations_unfinished",
        "validations",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "training_clips",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("clip_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("start_s", sa.Double(), nullable=True),
        sa.Column("end_s", sa.Double(), nullable=True),
        sa.Column("blob_key", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(outcome = 'refused') = (reason IS NOT NULL)", name=op.f("ck_training_clips_reason")
        ),
        sa.CheckConstraint(
            "outcome IN ('used', 'refused')", name=op.f("ck_training_clips_outcome")
        ),
        sa.CheckConstraint(
            "start_s >= 0 AND end_s > start_s", name=op.f("ck_training_clips_times")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["training_jobs.id"],
            name=op.f("fk_training_clips_job_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "clip_index", name=op.f("pk_training_clips")),
    )
    op.add_column(
        "noise_models",
        sa.Column("is_shipped", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column(
        "noise_models", sa.Column("card", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.add_column("noise_models", sa.Column("confusion_key", sa.Text(), nullable=True))
    op.create_index("ix_noise_models_created_at", "noise_models", ["created_at"], unique=False)
    # All models of before came with a release.
    op.execute("UPDATE noise_models SET is_shipped = true WHERE blob_key IS NULL")
    # The one table that may be long: the column is not written into its rows, and the check reads
    # them once, which holds writers up for about two seconds per ten million rows.
    op.add_column("processing_metrics", sa.Column("job_id", sa.Uuid(), nullable=True))
    op.alter_column("processing_metrics", "session_id", existing_type=sa.UUID(), nullable=True)
    op.create_check_constraint(
        op.f("ck_processing_metrics_subject"),
        "processing_metrics",
        "num_nonnulls(session_id, job_id) = 1",
    )


def downgrade() -> None:
    op.execute("DELETE FROM processing_metrics WHERE session_id IS NULL")
    op.drop_constraint("ck_processing_metrics_subject", "processing_metrics")
    op.alter_column("processing_metrics", "session_id", existing_type=sa.UUID(), nullable=False)
    op.drop_column("processing_metrics", "job_id")
    op.drop_index("ix_noise_models_created_at", table_name="noise_models")
    op.drop_column("noise_models", "confusion_key")
    op.drop_column("noise_models", "card")
    op.drop_column("noise_models", "is_shipped")
    op.drop_table("training_clips")
    op.drop_index(
        "ix_validations_unfinished",
        table_name="validations",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_index("ix_validations_model_id", table_name="validations")
    op.drop_table("validations")
    op.drop_index(
        "ix_training_jobs_unfinished",
        table_name="training_jobs",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_index("ix_training_jobs_model_id", table_name="training_jobs")
    op.drop_table("training_jobs")
    op.drop_index("ix_promotions_model_id", table_name="promotions")
    op.drop_table("promotions")
