"""detections, sessions, exports: IDs, times and owners of detections, and their clips

Deploy rule: migrations run before the new code. The old code must work on what this leaves
behind, so first expand (add, nullable or with a default), and contract in a later release. The
database computes IDs. A worker of the release before leaves the other columns empty: stop it
before the rows are filled, or run this again.

Adding the ID writes the table once, under an ACCESS EXCLUSIVE lock. The other columns are filled
in batches of sessions, each in a transaction of its own, and indexes are built while work goes
on. If the migration is interrupted, it can be run again.

Revision: 0040
After: 0039
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

DETECTION_ID = (
    "left(overlay(overlay(encode(sha256(uuid_send(session_id) || (event_index::text)::bytea),"
    " 'hex') placing '8' from 13) placing '8' from 17), 32)::uuid"
)
#: Walks through the sessions by ID, and commits after each batch.
FILL = """
DO $$
DECLARE
    after uuid;
    last uuid;
BEGIN
    LOOP
        SELECT id INTO last FROM (
            SELECT id FROM audio_sessions WHERE after IS NULL OR id > after ORDER BY id LIMIT 500
        ) AS page ORDER BY id DESC LIMIT 1;
        EXIT WHEN last IS NULL;
        UPDATE noise_detections AS d
        SET user_id = s.user_id, heard_at = s.recorded_at + make_interval(secs => d.start_s)
        FROM audio_sessions AS s
        WHERE d.session_id = s.id AND s.id <= last AND (after IS NULL OR s.id > after)
            AND (d.user_id IS NULL OR d.heard_at IS NULL);
        UPDATE audio_sessions AS s SET max_confidence = found.most
        FROM (
            SELECT session_id, max(confidence) AS most FROM noise_detections
            WHERE session_id <= last AND (after IS NULL OR session_id > after)
            GROUP BY session_id
        ) AS found
        WHERE s.id = found.session_id AND s.max_confidence IS NULL;
        COMMIT;
        after := last;
    END LOOP;
END $$
"""
OWNER = "fk_noise_detections_user_id"
FORMAT = "ck_exports_format"
FORMATS = "'csv', 'ndjson', 'parquet', 'audacity', 'raven', 'dcase', 'rttm', 'clips'"
INDEXES = {
    "ix_noise_detections_id": ("noise_detections", ["id"], True),
    "ix_noise_detections_user_heard": ("noise_detections", ["user_id", "heard_at", "id"], False),
    "ix_noise_detections_heard_at": ("noise_detections", ["heard_at", "id"], False),
    "ix_audio_sessions_user_confidence": ("audio_sessions", ["user_id", "max_confidence"], False),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.add_column(
            "audio_sessions",
            sa.Column("max_confidence", sa.Double(), nullable=True),
            if_not_exists=True,
        )
        for column in (
            sa.Column("user_id", sa.Uuid(), nullable=True),
            sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("id", sa.Uuid(), sa.Computed(DETECTION_ID, persisted=True), nullable=False),
        ):
            op.add_column("noise_detections", column, if_not_exists=True)
        # One statement for all batches.
        op.execute("SET statement_timeout = 0")
        op.execute(FILL)
        op.execute("RESET statement_timeout")
        op.execute(f"ALTER TABLE noise_detections DROP CONSTRAINT IF EXISTS {OWNER}")
        op.execute(
            f"ALTER TABLE noise_detections ADD CONSTRAINT {OWNER} FOREIGN KEY (user_id)"
            " REFERENCES users (id) ON DELETE SET NULL NOT VALID"
        )
        op.execute(f"ALTER TABLE noise_detections VALIDATE CONSTRAINT {OWNER}")
        _allow_formats(f"{FORMATS}, 'clip'")
        for name, (table, columns, is_unique) in INDEXES.items():
            # One that was interrupted is left behind, and is of no use.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.create_index(name, table, columns, unique=is_unique, postgresql_concurrently=True)


def _allow_formats(formats: str) -> None:
    op.execute(
        f"ALTER TABLE exports DROP CONSTRAINT IF EXISTS {FORMAT},"
        f" ADD CONSTRAINT {FORMAT} CHECK (format IN ({formats})) NOT VALID"
    )
    op.execute(f"ALTER TABLE exports VALIDATE CONSTRAINT {FORMAT}")


def downgrade() -> None:
    op.execute("DELETE FROM exports WHERE format = 'clip'")
    _allow_formats(FORMATS)
    for name in ("id", "heard_at", "user_id"):
        op.drop_column("noise_detections", name)
    op.drop_column("audio_sessions", "max_confidence")
