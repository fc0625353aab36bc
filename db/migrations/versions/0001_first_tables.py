"""first tables

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release.

Revision: 0001
After:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "noise_models",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("blob_key", sa.Text(), nullable=True),
        sa.Column("header", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_noise_models")),
        sa.UniqueConstraint("sha256", name=op.f("uq_noise_models_sha256")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_table(
        "api_requests",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("bytes_in", sa.BigInteger(), nullable=False),
        sa.Column("bytes_out", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_api_requests_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_requests")),
    )
    op.create_index("ix_api_requests_received_at", "api_requests", ["received_at"], unique=False)
    op.create_index("ix_api_requests_session_id", "api_requests", ["session_id"], unique=False)
    op.create_index("ix_api_requests_user_id", "api_requests", ["user_id"], unique=False)
    op.create_table(
        "audio_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("recording_key", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column("container", sa.Text(), nullable=True),
        sa.Column("codec", sa.Text(), nullable=True),
        sa.Column("rate_hz", sa.Integer(), nullable=True),
        sa.Column("n_channels", sa.Integer(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("missing_s", sa.Double(), nullable=True),
        sa.Column("n_samples", sa.BigInteger(), nullable=True),
        sa.Column("chunk_samples", sa.Integer(), nullable=True),
        sa.Column("pcm_key", sa.Text(), nullable=True),
        sa.Column("levels_key", sa.Text(), nullable=True),
        sa.Column("spans_total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("spans_finished", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
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
            "state IN ('queued', 'splitting', 'detecting', 'aggregating', 'completed', 'partial', 'failed', 'cancelled')",
            name=op.f("ck_audio_sessions_state"),
        ),
        sa.CheckConstraint("spans_finished <= spans_total", name=op.f("ck_audio_sessions_spans")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["noise_models.id"], name=op.f("fk_audio_sessions_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_audio_sessions_user_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audio_sessions")),
    )
    op.create_index("ix_audio_sessions_created_at", "audio_sessions", ["created_at"], unique=False)
    op.create_index("ix_audio_sessions_model_id", "audio_sessions", ["model_id"], unique=False)
    op.create_index(
        "ix_audio_sessions_unfinished",
        "audio_sessions",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'splitting', 'detecting', 'aggregating')"),
    )
    op.create_index(
        "ix_audio_sessions_untidy",
        "audio_sessions",
        ["id"],
        unique=False,
        postgresql_where=sa.text("pcm_key IS NOT NULL"),
    )
    op.create_index("ix_audio_sessions_user_id", "audio_sessions", ["user_id"], unique=False)
    op.create_table(
        "noise_detections",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("event_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.Column("end_s", sa.Double(), nullable=False),
        sa.Column("noise_type", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("laeq_db", sa.Double(), nullable=True),
        sa.Column("lafmax_db", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "confidence BETWEEN 0 AND 1", name=op.f("ck_noise_detections_confidence")
        ),
        sa.CheckConstraint("end_s > start_s", name=op.f("ck_noise_detections_times")),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["audio_sessions.id"],
            name=op.f("fk_noise_detections_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", "event_index", name=op.f("pk_noise_detections")),
    )
    op.create_index(
        "ix_noise_detections_noise_type", "noise_detections", ["noise_type"], unique=False
    )
    op.create_table(
        "processing_metrics",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("span_index", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["audio_sessions.id"],
            name=op.f("fk_processing_metrics_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processing_metrics")),
    )
    op.create_index(
        "ix_processing_metrics_recorded_at", "processing_metrics", ["recorded_at"], unique=False
    )
    op.create_index(
        "ix_processing_metrics_session_id", "processing_metrics", ["session_id"], unique=False
    )
    op.create_table(
        "session_spans",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("span_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_sample", sa.BigInteger(), nullable=False),
        sa.Column("stop_sample", sa.BigInteger(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=True),
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
            "state IN ('pending', 'done', 'failed')", name=op.f("ck_session_spans_state")
        ),
        sa.CheckConstraint("stop_sample > start_sample", name=op.f("ck_session_spans_samples")),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["audio_sessions.id"],
            name=op.f("fk_session_spans_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", "span_index", name=op.f("pk_session_spans")),
    )
    op.create_index(
        "ix_session_spans_unfinished",
        "session_spans",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_session_spans_unfinished",
        table_name="session_spans",
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_table("session_spans")
    op.drop_index("ix_processing_metrics_session_id", table_name="processing_metrics")
    op.drop_index("ix_processing_metrics_recorded_at", table_name="processing_metrics")
    op.drop_table("processing_metrics")
    op.drop_index("ix_noise_detections_noise_type", table_name="noise_detections")
    op.drop_table("noise_detections")
    op.drop_index("ix_audio_sessions_user_id", table_name="audio_sessions")
    op.drop_index(
        "ix_audio_sessions_untidy",
        table_name="audio_sessions",
        postgresql_where=sa.text("pcm_key IS NOT NULL"),
    )
    op.drop_index(
        "ix_audio_sessions_unfinished",
        table_name="audio_sessions",
        postgresql_where=sa.text("state IN ('queued', 'splitting', 'detecting', 'aggregating')"),
    )
    op.drop_index("ix_audio_sessions_model_id", table_name="audio_sessions")
    op.drop_index("ix_audio_sessions_created_at", table_name="audio_sessions")
    op.drop_table("audio_sessions")
    op.drop_index("ix_api_requests_user_id", table_name="api_requests")
    op.drop_index("ix_api_requests_session_id", table_name="api_requests")
    op.drop_index("ix_api_requests_received_at", table_name="api_requests")
    op.drop_table("api_requests")
    op.drop_table("users")
    op.drop_table("noise_models")
