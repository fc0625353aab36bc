"""Queries for retention, and for the maintenance of tables."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypedDict, Unpack

from sqlalchemy import delete, exists, func, insert, or_, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries import removal_queries
from db.queries.namespaces import OURS, STATISTICS
from db.queue import claims
from db.tables.detections import NoiseDetection
from db.tables.documents.job_results import TableSize
from db.tables.retention import KeptClip
from db.tables.session_results import FINAL_STATES, SessionResult
from db.tables.sessions import AudioSession
from db.tables.unfinished import UnfinishedSession

# --- sessions past their retention -------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """Selects sessions past their retention. Those with a legal hold never are."""

    older_than_s: float
    #: Only those that failed or are stuck, by the age of their upload; else those that have ended,
    #: by the time since their end.
    failed: bool = False

    def condition(self) -> ColumnElement[bool]:
        """Return the condition of the selected sessions."""
        cutoff = claims.seconds_ago(self.older_than_s)
        if not self.failed:
            # The state is that of the locked row: it changes if the session is retried.
            return (SessionResult.finished_at < cutoff) & AudioSession.state.in_(FINAL_STATES)
        # A session that waits for storage, or is retried after it was given up, will still end.
        is_stuck = exists().where(
            UnfinishedSession.session_id == AudioSession.id,
            UnfinishedSession.uncounted == 0,
            ~UnfinishedSession.waits_for_storage,
        )
        return (AudioSession.created_at < cutoff) & or_(AudioSession.state == "failed", is_stuck)


def count_past(tx: Session, past: Past) -> tuple[int, float, int]:
    """Return the number of sessions past their retention, their seconds of audio, and the bytes of
    their uploads.
    """
    n_sessions, duration_s, size_bytes = tx.execute(
        select(func.count(), func.sum(SessionResult.duration_s), func.sum(AudioSession.size_bytes))
        .outerjoin_from(AudioSession, SessionResult)
        .where(past.condition(), ~AudioSession.legal_hold)
    ).one()
    return n_sessions, float(duration_s or 0.0), int(size_bytes or 0)


def page_past(tx: Session, past: Past, *, limit: int, most_spans: int) -> Sequence[uuid.UUID]:
    """Return some sessions past their retention, the oldest first.

    Together they have at most ``most_spans`` spans, except that there is always at least one
    session.
    """
    by = AudioSession.created_at if past.failed else SessionResult.finished_at
    rows = tx.execute(
        select(AudioSession.id, AudioSession.spans_total)
        .outerjoin(AudioSession.result)
        .where(past.condition(), ~AudioSession.legal_hold)
        .order_by(by)
        .limit(limit)
    ).all()
    return removal_queries.within(
        [(row.id, row.spans_total) for row in rows], most_spans=most_spans
    )


def remove_past(tx: Session, past: Past, ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Remove those of some sessions that are still past their retention, with all of their rows.

    Sessions locked by other transactions are skipped, to be found again later.
    """
    locked = (
        select(AudioSession.id)
        .outerjoin(AudioSession.result)
        .where(AudioSession.id.in_(ids), past.condition(), ~AudioSession.legal_hold)
        .with_for_update(of=AudioSession, skip_locked=True)
    )
    return removal_queries.remove_sessions(tx, AudioSession.id.in_(locked))


def hold_session(
    tx: Session, session_id: uuid.UUID, *, held: bool, owner: uuid.UUID | None
) -> bool:
    """Set or lift the legal hold of a session; False if there is no such session."""
    of_owner = () if owner is None else (AudioSession.user_id == owner,)
    return claims.changed(
        tx.execute(
            update(AudioSession)
            .where(AudioSession.id == session_id, *of_owner)
            .values(legal_hold=held),
            execution_options={"synchronize_session": False},
        )
    )


# --- kept clips --------------------------------------------------------------------------------


class RankedEvent(NamedTuple):
    """A detection of a session with audio, and its rank by confidence for its user and type.

    ``used`` are the indices of the channels that were analysed; None if that is unknown.
    """

    session_id: uuid.UUID
    user_id: uuid.UUID | None
    file_name: str
    sent_at: datetime
    served_key: str
    used: Sequence[int] | None
    noise_type: str
    confidence: float
    start_s: float
    end_s: float
    rank: int


def best_events(tx: Session, ids: Iterable[uuid.UUID], *, most: int) -> list[RankedEvent]:
    """Return the most confident detections of sessions with audio, at most ``most`` per user and
    noise type.
    """
    rank = func.row_number().over(
        partition_by=(AudioSession.user_id, NoiseDetection.noise_type),
        order_by=NoiseDetection.confidence.desc(),
    )
    ranked = (
        select(
            AudioSession.id.label("session_id"),
            AudioSession.user_id,
            AudioSession.file_name,
            AudioSession.created_at.label("sent_at"),
            AudioSession.served_key,
            AudioSession.totals["used"].label("used"),
            NoiseDetection.noise_type,
            NoiseDetection.confidence,
            NoiseDetection.start_s,
            NoiseDetection.end_s,
            rank.label("rank"),
        )
        .join(NoiseDetection, NoiseDetection.session_id == AudioSession.id)
        .where(
            AudioSession.id.in_(list(ids)),
            AudioSession.served_key.is_not(None),
            NoiseDetection.noise_type != "unclassified",
        )
        .subquery()
    )
    rows = tx.execute(
        select(ranked).where(ranked.c.rank <= most).order_by(ranked.c.session_id, ranked.c.start_s)
    )
    return [RankedEvent(*row) for row in rows]


def least_kept(tx: Session, *, most: int) -> Mapping[tuple[uuid.UUID | None, str], float]:
    """Return the least confidence of kept clips, by user and type, where ``most`` are kept."""
    rows = tx.execute(
        select(KeptClip.user_id, KeptClip.noise_type, func.min(KeptClip.confidence))
        .group_by(KeptClip.user_id, KeptClip.noise_type)
        .having(func.count() >= most)
    )
    return {(user_id, noise_type): least for user_id, noise_type, least in rows}


class NewClipRow(TypedDict):
    """The columns of a new kept clip."""

    id: uuid.UUID
    blob_key: str
    user_id: uuid.UUID | None
    noise_type: str
    confidence: float
    session_id: uuid.UUID
    file_name: str
    start_s: float
    end_s: float
    sent_at: datetime


def keep_clip(tx: Session, **values: Unpack[NewClipRow]) -> None:
    """Add a kept clip."""
    tx.execute(insert(KeptClip).values(**values))


def drop_clips(tx: Session, *, most: int) -> list[str]:
    """Remove the clips beyond ``most`` per user and type; return the keys of their blobs."""
    rank = func.row_number().over(
        partition_by=(KeptClip.user_id, KeptClip.noise_type),
        order_by=(KeptClip.confidence.desc(), KeptClip.kept_at),
    )
    ranked = select(KeptClip.id, rank.label("rank")).subquery()
    beyond = select(ranked.c.id).where(ranked.c.rank > most)
    return list(
        tx.scalars(
            delete(KeptClip).where(KeptClip.id.in_(beyond)).returning(KeptClip.blob_key),
            execution_options={"synchronize_session": False},
        )
    )


def kept_keys(tx: Session, keys: Iterable[str]) -> set[str]:
    """Return those of some keys that belong to kept clips."""
    return set(tx.scalars(select(KeptClip.blob_key).where(KeptClip.blob_key.in_(list(keys)))))


# --- the tables themselves, in whichever schema the search path finds them ----------------------

_TABLES = text(f"""
    SELECT root.relname AS name,
           sum(stat.n_live_tup)::bigint AS live_rows, sum(stat.n_dead_tup)::bigint AS dead_rows,
           sum(pg_total_relation_size(stat.relid))::bigint AS size_bytes
    {STATISTICS}
    ORDER BY root.relname
""")


def tables(tx: Session) -> dict[str, TableSize]:
    """Return live rows, dead rows and bytes, with indexes, of every table by the statistics.

    A partitioned table has those of its partitions.
    """
    return {
        row.name: TableSize(
            live_rows=row.live_rows, dead_rows=row.dead_rows, size_bytes=row.size_bytes
        )
        for row in tx.execute(_TABLES)
    }


_VACUUM_COUNTS = text(f"""
    SELECT stat.relname, stat.vacuum_count
    FROM pg_stat_user_tables stat
    JOIN pg_class ON pg_class.oid = stat.relid
    WHERE pg_class.relkind <> 'p' AND pg_class.relnamespace = {OURS}
""")  # noqa: S608


def vacuum_counts(tx: Session) -> dict[str, int]:
    """Return how often VACUUM has been run on each table, without autovacuum's runs.

    Partitioned tables are omitted: Postgres counts only for their partitions.
    """
    return dict(tx.execute(_VACUUM_COUNTS).all())


_SCHEMA = text(f"SELECT nspname FROM pg_namespace WHERE oid = {OURS}")  # noqa: S608


def schema_of_tables(tx: Session) -> str:
    """Return the schema of our tables, which the search path finds as in every other query."""
    return str(tx.execute(_SCHEMA).scalar_one())
