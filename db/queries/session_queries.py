"""Queries for sessions, their spans, detections and metrics.

Each function takes a session and never commits: the caller decides on the transaction. Times are
always those of the database, so that the clocks of the pods need not agree.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    true,
    union,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from db.queue import claims
from db.queue.claims import Unit, Work
from db.store import CompiledQuery, Store
from db.tables.base import Owned
from db.tables.sessions import (
    KEEP,
    NO_LANE,
    UNFINISHED_STATES,
    AudioSession,
    NoiseDetection,
    ProcessingMetric,
    SessionSpan,
)

# --- sessions ----------------------------------------------------------------------------------


def add_session(db: Session, **values: Any) -> AudioSession:
    """Add a session for a new recording, queued in its lane."""
    lane = values.get("user_id") or values.get("batch_id") or NO_LANE
    return db.execute(
        insert(AudioSession).values(state="queued", lane=lane, **values).returning(AudioSession)
    ).scalar_one()


def is_of(table: type[Owned], owner: uuid.UUID | None) -> ColumnElement[bool]:
    """Return the condition that a row belongs to a user; always true without an owner."""
    return true() if owner is None else table.user_id == owner


def get_session(
    db: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> AudioSession | None:
    """Return a session, or None; with an owner only if it is theirs."""
    return db.scalars(
        select(AudioSession).where(AudioSession.id == session_id, is_of(AudioSession, owner))
    ).one_or_none()


#: The source URL of a session's recording without its query, which may contain a secret.
_ADDRESS = func.split_part(AudioSession.source_url, literal_column("'?'"), literal_column("1"))
#: The columns of a session that the API shows or computes from. JSON columns are returned as text,
#: which the API decodes directly into its response types.
SESSION_VIEW_COLUMNS = (
    AudioSession.id, AudioSession.state, AudioSession.file_name, AudioSession.size_bytes,
    AudioSession.container, AudioSession.codec, AudioSession.rate_hz, AudioSession.n_channels,
    AudioSession.duration_s, AudioSession.calibration_db, AudioSession.calibration_tone_db,
    AudioSession.bands, AudioSession.model_id, AudioSession.types, AudioSession.privacy,
    AudioSession.audio_removed_at, AudioSession.recorded_at, AudioSession.time_zone,
    AudioSession.priority, AudioSession.batch_id, AudioSession.webhook_id, AudioSession.spans_total,
    AudioSession.spans_finished, AudioSession.stage_share, AudioSession.stage_since,
    AudioSession.stage_told_at, AudioSession.waits_for_storage,
    AudioSession.created_at, AudioSession.started_at,
    AudioSession.finished_at,
    _ADDRESS.label("source_url"),
    cast(AudioSession.thresholds, Text).label("thresholds"),
    cast(AudioSession.user_metadata, Text).label("metadata"),
    cast(AudioSession.summary, Text).label("summary"),
    cast(AudioSession.problem, Text).label("problem"),
    select(func.count())
    .select_from(SessionSpan)
    .where(SessionSpan.session_id == AudioSession.id, literal_column("state = 'failed'"))
    .scalar_subquery()
    .label("spans_failed"),
    func.clock_timestamp().label("now"),
)  # fmt: skip
_OWNER = bindparam("owner", type_=Uuid)
_SESSION = CompiledQuery(
    select(*SESSION_VIEW_COLUMNS).where(
        AudioSession.id == bindparam("session_id"),
        or_(_OWNER.is_(None), AudioSession.user_id == _OWNER),
    )
)


def session_view(store: Store, session_id: uuid.UUID, *, owner: uuid.UUID | None = None) -> Any:
    """Return the view of a session, or None; with an owner only if it is theirs."""
    return store.ask(_SESSION, session_id=session_id, owner=owner)


def session_version(db: Session, session_id: uuid.UUID) -> str | None:
    """Return a version token that changes whenever the session's row changes; None without a row.

    It is the row's ``xmin``: the cheapest check that misses nothing, since everything shown of a
    session is written together with its row.
    """
    return db.execute(
        select(literal_column("audio_sessions.xmin::text")).where(AudioSession.id == session_id)
    ).scalar_one_or_none()


def clock(db: Session) -> datetime:
    """Return the current time by the database's clock."""
    now: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
    return now


def note_share(db: Session, work: Work, *, attempt: int, share: float) -> bool:
    """Write the share of a session's stage that is done; False if the claim was lost."""
    grows = AudioSession.stage_share < share
    return claims.update_held(
        db,
        work,
        attempt,
        {
            "stage_share": func.greatest(AudioSession.stage_share, share),
            "stage_told_at": case(
                (grows, func.clock_timestamp()), else_=AudioSession.stage_told_at
            ),
        },
    )


def note_brought(db: Session, work: Work, *, attempt: int, key: str, size_bytes: int) -> bool:
    """Record the key and size of a fetched recording; False if the claim was lost."""
    return claims.update_held(
        db,
        work,
        attempt,
        {"recording_key": key, "size_bytes": size_bytes, "source_url": _ADDRESS},
    )


def served_keys(db: Session, session_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str | None]:
    """Return the keys of the audio of some sessions that may be used for training."""
    rows = db.execute(
        select(AudioSession.id, AudioSession.served_key).where(
            AudioSession.id.in_(list(session_ids))
        )
    )
    return dict(rows.all())


def cancel_session(db: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None) -> bool:
    """Cancel an unfinished session; False if there was nothing to cancel."""
    return claims.changed(
        db.execute(
            update(AudioSession)
            .where(
                AudioSession.id == session_id,
                is_of(AudioSession, owner),
                AudioSession.state.in_(UNFINISHED_STATES),
            )
            .values(state="cancelled", finished_at=func.clock_timestamp()),
            execution_options={"synchronize_session": False},
        )
    )


# --- spans -------------------------------------------------------------------------------------


def add_spans(db: Session, session_id: uuid.UUID, spans: Iterable[tuple[int, int, int]]) -> None:
    """Add the spans of a session, as ``(index, start_sample, stop_sample)``."""
    rows = [
        {
            "session_id": session_id,
            "span_index": index,
            "start_sample": start,
            "stop_sample": stop,
            "state": "pending",
        }
        for index, start, stop in spans
    ]
    db.execute(insert(SessionSpan), rows)


def get_span(db: Session, session_id: uuid.UUID, span_index: int) -> SessionSpan | None:
    """Return a span, or None."""
    return db.get(SessionSpan, (session_id, span_index))


def finish_span(db: Session, work: Work, *, attempt: int, values: Mapping[str, Any]) -> bool | None:
    """Finish a span and count it; True if it was the session's last, None if the claim was lost.

    The barrier: the count is in the session's row and is raised under its lock, in the transaction
    that finishes the span, behind the span's fence. Exactly one caller can see it reach the total,
    and that one moves the session to its next state.
    """
    if not claims.update_held(db, work, attempt, values):
        return None
    n_finished = AudioSession.spans_finished + 1
    is_last = n_finished >= AudioSession.spans_total
    now = func.now()
    begun = select(SessionSpan.started_at).where(
        SessionSpan.session_id == work.session_id, SessionSpan.span_index == work.span_index
    )
    state_after = db.execute(
        update(AudioSession)
        .where(
            AudioSession.id == work.session_id,
            AudioSession.state == "detecting",
            AudioSession.resplits == work.resplits,
        )
        .values(
            spans_finished=n_finished,
            stage_since=case(
                (is_last, None),
                else_=func.coalesce(AudioSession.stage_since, begun.scalar_subquery()),
            ),
            stage_told_at=case((is_last, None), else_=func.clock_timestamp()),
            state=case((is_last, "aggregating"), else_=AudioSession.state),
            attempt=case((is_last, AudioSession.first_claim), else_=AudioSession.attempt),
            waits_for_storage=False,
            uncounted=case((is_last, AudioSession.first_claim), else_=AudioSession.uncounted),
            due_at=case((is_last, now), else_=AudioSession.due_at),
            nudged_at=case((is_last, now), else_=AudioSession.nudged_at),
        )
        .returning(AudioSession.state),
        execution_options={"synchronize_session": False},
    ).scalar_one_or_none()
    # The session may have been cancelled meanwhile: then it is not moved.
    return state_after == "aggregating"


def split_again(db: Session, work: Work, *, attempt: int) -> bool:
    """Send a detecting or aggregating session back to be split; False if the claim was lost.

    Its spans and their count are removed: the next split plans them again.
    """
    # As in finish_span, spans are locked before their session, and here in a fixed order, so that
    # transactions cannot deadlock.
    db.execute(
        select(SessionSpan.span_index)
        .where(SessionSpan.session_id == work.session_id)
        .order_by(SessionSpan.span_index)
        .with_for_update()
    )
    if not claims.is_held(db, work, attempt=attempt):
        return False
    state = AudioSession.state == (work.state if work.span_index is None else "detecting")
    moved = db.execute(
        update(AudioSession)
        .where(AudioSession.id == work.session_id, state, AudioSession.resplits == work.resplits)
        .values(
            state="splitting",
            resplits=AudioSession.resplits + 1,
            spans_total=0,
            spans_finished=0,
            pcm_key=None,
            wide_pcm_key=None,
            levels_key=None,
            spectrogram_key=None,
            **claims.at_move(AudioSession),
        ),
        execution_options={"synchronize_session": False},
    )
    if not claims.changed(moved):
        return False
    db.execute(
        delete(SessionSpan).where(SessionSpan.session_id == work.session_id),
        execution_options={"synchronize_session": False},
    )
    return True


def waited_for_backbone_s(db: Session, session_id: uuid.UUID) -> float:
    """Return how long a session has waited for a worker with its backbone, in seconds."""
    waited = func.clock_timestamp() - AudioSession.backbone_missed_at
    found = db.execute(
        select(func.extract("epoch", waited)).where(AudioSession.id == session_id)
    ).scalar_one_or_none()
    return float(found or 0.0)


def spans_of(db: Session, session_id: uuid.UUID) -> Sequence[SessionSpan]:
    """Return the spans of a session, in chronological order."""
    return db.scalars(
        select(SessionSpan)
        .where(SessionSpan.session_id == session_id)
        .order_by(SessionSpan.span_index)
    ).all()


# --- detections --------------------------------------------------------------------------------


def add_detections(db: Session, session_id: uuid.UUID, events: Sequence[Mapping[str, Any]]) -> None:
    """Add the detections of a session, all of them at once."""
    rows = [
        {"session_id": session_id, "event_index": index, **event}
        for index, event in enumerate(events)
    ]
    if rows:
        db.execute(insert(NoiseDetection), rows)


# --- metrics -----------------------------------------------------------------------------------


def add_metric(db: Session, work: Unit, *, step: str, **values: Any) -> None:
    """Add the metric of one run of a step; nothing if the session was removed meanwhile."""
    row = {**work.names, "step": step, **values}
    session_id = row.get("session_id")
    if session_id is None:
        db.execute(insert(ProcessingMetric).values(**row))
        return
    columns = ProcessingMetric.__table__.columns
    told = select(*(literal(value, columns[name].type) for name, value in row.items()))
    # The same lock that the foreign key would take a moment later.
    lasting = told.where(AudioSession.id == session_id).with_for_update(read=True, key_share=True)
    db.execute(insert(ProcessingMetric).from_select(list(row), lasting))


# --- recovery ----------------------------------------------------------------------------------

#: The advisory lock of recovery: an arbitrary number, the same in every process.
RECOVERY_LOCK = 0x636C616D6F72


def try_recovery_lock(db: Session) -> bool:
    """Take the recovery lock until the end of the transaction; False if it is taken."""
    return bool(db.execute(select(func.pg_try_advisory_xact_lock(RECOVERY_LOCK))).scalar_one())


# --- leftover blobs ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Untidy:
    """An ended session with blobs that it does not need."""

    session_id: uuid.UUID
    #: The keys below its prefix that it needs.
    kept: frozenset[str | None]
    #: Keys elsewhere that it does not need.
    unneeded: tuple[str, ...]


def sessions_to_tidy(db: Session, *, silent_after_s: float, limit: int) -> Sequence[Untidy]:
    """Return ended sessions with blobs that they do not need.

    Decoded audio, the largest part, is removed at once, as is audio that must not be kept. Each
    session is returned once more when it ended so long ago that no worker can still be writing for
    it.
    """
    ended = select(
        AudioSession.id,
        case((AudioSession.privacy != KEEP, AudioSession.source_key)).label("upload_key"),
        AudioSession.served_key,
        AudioSession.levels_key,
        AudioSession.levels_answer_key,
        AudioSession.spectrogram_key,
    )
    left_over = ended.where(
        AudioSession.state.not_in(UNFINISHED_STATES),
        or_(
            AudioSession.pcm_key.is_not(None),
            and_(
                AudioSession.tidied_at.is_(None),
                AudioSession.finished_at <= claims.seconds_ago(silent_after_s),
            ),
        ),
    )
    # The order makes Postgres use the partial index, as it overestimates the number of these rows.
    private = ended.where(_must_lose_audio()).order_by(AudioSession.finished_at)
    rows = db.execute(union(left_over.limit(limit), private.limit(limit)))
    return [
        Untidy(
            session_id=session_id,
            kept=frozenset(keys),
            unneeded=() if upload is None else (upload,),
        )
        for session_id, upload, *keys in rows
    ]


def _must_lose_audio() -> ColumnElement[bool]:
    """Return the condition of ended sessions whose audio must still be removed for privacy."""
    return and_(
        AudioSession.privacy != KEEP,
        AudioSession.audio_removed_at.is_(None),
        AudioSession.finished_at.is_not(None),
    )


def has_ended(db: Session, session_id: uuid.UUID) -> bool:
    """Whether a session has ended and is not being retried."""
    ended = select(AudioSession.finished_at).where(AudioSession.id == session_id)
    return db.execute(ended).scalar_one_or_none() is not None


def note_tidied(db: Session, session_id: uuid.UUID, *, silent_after_s: float) -> None:
    """Record that the blobs which an ended session does not need are removed."""
    is_last = AudioSession.finished_at <= claims.seconds_ago(silent_after_s)
    db.execute(
        update(AudioSession)
        .where(AudioSession.id == session_id, AudioSession.finished_at.is_not(None))
        .values(
            pcm_key=None,
            wide_pcm_key=None,
            source_url=_ADDRESS,
            audio_removed_at=case(
                (_must_lose_audio(), func.clock_timestamp()), else_=AudioSession.audio_removed_at
            ),
            tidied_at=case((is_last, func.clock_timestamp()), else_=AudioSession.tidied_at),
        ),
        execution_options={"synchronize_session": False},
    )


def known_ids(
    db: Session,
    column: InstrumentedAttribute[uuid.UUID],
    ids: Iterable[uuid.UUID],
    *,
    where: ColumnElement[bool] | None = None,
) -> set[uuid.UUID]:
    """Return those of some IDs that a column contains, in the rows selected by ``where``."""
    asked = true() if where is None else where
    return set(db.scalars(select(column).where(column.in_(list(ids)), asked)))


def oldest_unfinished_s(db: Session) -> float | None:
    """Return the age of the oldest unfinished session in seconds, or None."""
    age = db.execute(
        select(
            func.extract("epoch", func.clock_timestamp() - func.min(AudioSession.created_at))
        ).where(AudioSession.state.in_(UNFINISHED_STATES))
    ).scalar_one()
    return None if age is None else float(age)
