"""The tables of recordings and what was heard in them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    Text,
    case,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.elements import ColumnElement

from db.tables.base import Base, Claimable, Owned, Traced, one_of

#: What a session goes through. The first four are work to be done, the others are its end.
SESSION_STATES = (
    "queued",
    "splitting",
    "detecting",
    "aggregating",
    "completed",
    "partial",
    "failed",
    "cancelled",
)
UNFINISHED_STATES = SESSION_STATES[:4]
SPAN_STATES = ("pending", "done", "failed")

#: What work is at whose latest try ended because the blob store was away or full.
WAITING_FOR_STORAGE = "waiting for storage"

#: What is worked on first. A row holds the place in this list, so that an index sorts by it.
PRIORITIES = ("high", "normal", "low")
NORMAL = PRIORITIES.index("normal")
#: The lane of all that has neither a user nor a batch.
NO_LANE = uuid.UUID(int=0)

#: What a session may be posted with: dB to add to dB re full scale (from beyond any microphone
#: and recorder to beyond any other), a calibrator's tone in dB SPL, and the bands to measure.
CALIBRATION_RANGE_DB = (-100.0, 250.0)
CALIBRATION_TONES_DB = (94.0, 114.0)
BANDS = ("third_octave",)
#: What becomes of a recording when its session ends: it is kept as it came, or as a copy in which
#: speech is replaced by noise, or not at all.
KEEP, MUTE, DISCARD_AUDIO = PRIVACY = ("keep", "mute", "discard_audio")
#: When a recording may have begun: from the first that there are, to beyond what any clock is off.
RECORDED_FROM = datetime(1860, 1, 1, tzinfo=UTC)
RECORDED_TO = datetime(2200, 1, 1, tzinfo=UTC)
#: How much of their own a caller may have kept with a recording.
METADATA_KEYS, METADATA_BYTES = 50, 4_096


def level_reference(calibration_db: float | None) -> str:
    """What the levels of a recording refer to."""
    return "dBFS" if calibration_db is None else "dB SPL"


class AudioSession(Claimable, Owned, Traced, Base):
    """One recording on its way from upload to answer."""

    __tablename__ = "audio_sessions"
    unfinished = UNFINISHED_STATES
    __table_args__ = (
        CheckConstraint(one_of("state", SESSION_STATES), name="state"),
        CheckConstraint("spans_finished <= spans_total", name="spans"),
        CheckConstraint("stage_share BETWEEN 0 AND 1", name="stage_share"),
        CheckConstraint(
            "calibration_db BETWEEN {} AND {}".format(*CALIBRATION_RANGE_DB), name="calibration"
        ),
        CheckConstraint(one_of("calibration_tone_db", CALIBRATION_TONES_DB), name="tone"),
        CheckConstraint(one_of("bands", BANDS), name="bands"),
        CheckConstraint(one_of("privacy", PRIVACY), name="privacy"),
        CheckConstraint(one_of("priority", tuple(range(len(PRIORITIES)))), name="priority"),
        CheckConstraint("num_nonnulls(source_url, source_key) <= 1", name="source"),
        CheckConstraint("jsonb_typeof(thresholds) = 'object'", name="thresholds"),
        CheckConstraint(
            f"recorded_at >= '{RECORDED_FROM}' AND recorded_at < '{RECORDED_TO}'",
            name="recorded_at",
        ),
        CheckConstraint("length(time_zone) BETWEEN 1 AND 64", name="time_zone"),
        CheckConstraint("jsonb_typeof(user_metadata) = 'object'", name="user_metadata"),
        Index("ix_audio_sessions_created_at", "created_at"),
        # What was heard on a day.
        Index("ix_audio_sessions_heard_at", text("coalesce(recorded_at, created_at)")),
        # Lists of a user's own, in each order and by what is asked for most: docs/lists.md.
        Index("ix_audio_sessions_user_created", "user_id", "created_at", "id"),
        Index("ix_audio_sessions_user_recorded", "user_id", "recorded_at", "id"),
        Index("ix_audio_sessions_user_duration", "user_id", "duration_s", "id"),
        Index("ix_audio_sessions_user_finished", "user_id", "finished_at", "id"),
        Index("ix_audio_sessions_user_state", "user_id", "state", "created_at", "id"),
        Index("ix_audio_sessions_user_file", "user_id", "file_name", "created_at", "id"),
        Index("ix_audio_sessions_model_id", "model_id"),
        Index(
            "ix_audio_sessions_unfinished",
            "due_at",
            postgresql_where=text(one_of("state", UNFINISHED_STATES)),
        ),
        Index(
            "ix_audio_sessions_batch_created",
            "batch_id",
            "created_at",
            "id",
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
        Index(
            "ix_audio_sessions_metadata",
            "user_metadata",
            postgresql_using="gin",
            postgresql_ops={"user_metadata": "jsonb_path_ops"},
            postgresql_where=text("user_metadata <> '{}'"),
        ),
        # Whether a batch is still at work.
        Index(
            "ix_audio_sessions_batch_unfinished",
            "batch_id",
            postgresql_where=text(f"batch_id IS NOT NULL AND {one_of('state', UNFINISHED_STATES)}"),
        ),
        # What is next: see db/queue/claims.py.
        Index(
            "ix_audio_sessions_turn",
            "state",
            "priority",
            "lane",
            "created_at",
            "id",
            postgresql_where=text(one_of("state", UNFINISHED_STATES)),
        ),
        Index(
            "ix_audio_sessions_untidy",
            "id",
            postgresql_where=text("pcm_key IS NOT NULL"),
        ),
        # Whose audio is yet to be removed.
        Index(
            "ix_audio_sessions_private",
            "finished_at",
            postgresql_where=text(
                "privacy <> 'keep' AND audio_removed_at IS NULL AND finished_at IS NOT NULL"
            ),
        ),
        # What is too old to be kept.
        Index(
            "ix_audio_sessions_past",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND NOT legal_hold"),
        ),
        # What recovery has yet to tidy for good; a session that is done with is not in it.
        Index(
            "ix_audio_sessions_finished",
            "finished_at",
            postgresql_where=text("tidied_at IS NULL AND finished_at IS NOT NULL"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    #: What the client called the file: shown, never used as a path.
    file_name: Mapped[str]
    recording_key: Mapped[str]
    #: Null while the recording lies elsewhere, from where ``process`` is to bring it.
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    #: Where it lay before: an address, of which the query is kept only until it was asked, or a
    #: key of an upload that went straight to the blob store.
    source_url: Mapped[str | None]
    source_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    #: Its place in the order of work: an index of `PRIORITIES`, and whose turn it is part of. The
    #: lane is the user, else the batch, else `NO_LANE`.
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text(str(NORMAL)))
    lane: Mapped[uuid.UUID] = mapped_column(server_default=text(f"'{NO_LANE}'"))
    #: The batch that it came with.
    batch_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("batches.id"))
    #: A webhook that it names, to hear of its end. No foreign key: to remove a webhook would lock
    #: the sessions that end, each of which waits for the webhook.
    webhook_id: Mapped[uuid.UUID | None]

    #: How much of the current stage is done, where spans do not tell it; it never falls while the
    #: stage lasts, so that a second attempt stands still until it has passed the first.
    stage_share: Mapped[float] = mapped_column(server_default=text("0"))
    #: When a worker first took up the stage, and when its share last grew.
    stage_since: Mapped[datetime | None]
    stage_told_at: Mapped[datetime | None]

    #: What the recording was posted with. ``calibration_db`` turns dB re full scale to dB SPL; of
    #: a calibrator's recording (``calibration_tone_db`` is its level) ``split`` finds it.
    calibration_db: Mapped[float | None]
    calibration_tone_db: Mapped[float | None]
    bands: Mapped[str | None]
    #: By noise type, the confidence under which events are not reported.
    thresholds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    #: Noise types and groups: only events of these and of types below them are reported. Empty for
    #: all.
    types: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    #: One of `PRIVACY`.
    privacy: Mapped[str] = mapped_column(server_default=text("'keep'"))
    #: When it began and where, which nobody but the caller knows.
    recorded_at: Mapped[datetime | None]
    time_zone: Mapped[str | None]
    #: The caller's own: a flat JSON object.
    user_metadata: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    #: Which model hears it: the one that it was posted with, else set by ``process``.
    model_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("noise_models.id"))

    #: Set by ``process``: what the recording is.
    container: Mapped[str | None]
    codec: Mapped[str | None]
    rate_hz: Mapped[int | None]
    n_channels: Mapped[int | None]

    #: Set by ``split``: the decoded recording.
    duration_s: Mapped[float | None]
    missing_s: Mapped[float | None]
    #: Length at 16 kHz, and how many samples before the recording its grid begins.
    n_samples: Mapped[int | None] = mapped_column(BigInteger)
    grid_lead: Mapped[int] = mapped_column(server_default=text("0"))
    #: Written by releases whose chunks did not overlap; a later release drops it.
    chunk_samples: Mapped[int | None]
    pcm_key: Mapped[str | None]
    #: The same audio at 32 kHz, for the backbone of this name and hash. At the end the name is that
    #: of the backbone that named the sounds; null if the model named them alone.
    wide_pcm_key: Mapped[str | None]
    backbone: Mapped[str | None]
    backbone_sha256: Mapped[str | None]
    #: Since when it waits for a worker that has this backbone.
    backbone_missed_at: Mapped[datetime | None]
    levels_key: Mapped[str | None]
    #: The picture of its spectrogram; null for sessions of releases that drew none.
    spectrogram_key: Mapped[str | None]
    #: Sums, maxima and the histogram of the whole recording's levels, re full scale.
    totals: Mapped[dict[str, Any] | None]
    #: A-weighted mean squares of the quarters of an hour (UTC) that it lasted in, re full scale,
    #: set at the end; null without ``recorded_at``, and for sessions of before.
    quarter_mean_squares: Mapped[list[float] | None] = mapped_column(ARRAY(Double))
    spans_total: Mapped[int] = mapped_column(server_default=text("0"))
    spans_finished: Mapped[int] = mapped_column(server_default=text("0"))
    #: How often it was decoded again because decoded audio was missing. Attempts start again at 1
    #: each time, so that this is part of every fence and of the keys of products.
    resplits: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))

    #: Set at the end. ``problem`` is null unless something was lost.
    summary: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]
    #: Where the answer about its levels lies in the blob store.
    levels_answer_key: Mapped[str | None]
    #: The copy of the recording without speech, written with the end of a session that mutes it.
    muted_key: Mapped[str | None]
    #: When the audio of an ended session was removed for its `privacy`: all but the muted copy.
    audio_removed_at: Mapped[datetime | None]
    #: Whether it is kept whatever its age.
    legal_hold: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Claims of each stage are counted from here; each retry of a session that was given up sets it
    #: behind all claims of before.
    first_claim: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    #: When what was left over in the blob store was removed for good.
    tidied_at: Mapped[datetime | None]

    @property
    def level_reference(self) -> str:
        """What the levels that are answered refer to."""
        return level_reference(self.calibration_db)

    @hybrid_property
    def served_key(self) -> str | None:
        """The audio that may be served, cut into clips, or learned from; None if there is none.

        With `privacy` that is never what was sent. Only the workers that process a session read
        its `recording_key`.
        """
        return self.recording_key if self.privacy == KEEP else self.muted_key

    @served_key.inplace.expression
    @classmethod
    def _served_key(cls) -> ColumnElement[str | None]:
        return case((cls.privacy == KEEP, cls.recording_key), else_=cls.muted_key)


class SessionSpan(Claimable, Base):
    """About a minute of one recording: the unit of a message.

    ``scores`` holds the class probabilities of the span's steps of 0.1 s, little-endian float16
    ``[n_steps, n_classes]`` in the order of the model's classes.
    """

    __tablename__ = "session_spans"
    __table_args__ = (
        CheckConstraint(one_of("state", SPAN_STATES), name="state"),
        CheckConstraint("stop_sample > start_sample", name="samples"),
        Index(
            "ix_session_spans_unfinished",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
        # The first span of a session that waits; the primary key holds those that are done too.
        Index(
            "ix_session_spans_pending",
            "session_id",
            "span_index",
            postgresql_where=text("state = 'pending'"),
        ),
        # How many of a session have failed, which few have.
        Index(
            "ix_session_spans_failed",
            "session_id",
            postgresql_where=text("state = 'failed'"),
        ),
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    span_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: Half-open range of 16 kHz samples on the session's grid.
    start_sample: Mapped[int] = mapped_column(BigInteger)
    stop_sample: Mapped[int] = mapped_column(BigInteger)
    #: When a worker first took it up.
    started_at: Mapped[datetime | None]
    scores: Mapped[bytes | None]


class Turn(Base):
    """Whose turn it was last, of the sessions in one state and of one priority.

    The rows are written by a migration, one for each.
    """

    __tablename__ = "turns"

    state: Mapped[str] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    lane: Mapped[uuid.UUID] = mapped_column(server_default=text(f"'{NO_LANE}'"))


class NoiseDetection(Base):
    """One event: what made noise, when, how loud, and how sure the answer is."""

    __tablename__ = "noise_detections"
    __table_args__ = (
        CheckConstraint("end_s > start_s", name="times"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        # In which sessions a noise type was heard, and how surely.
        Index("ix_noise_detections_heard", "noise_type", "session_id", "confidence"),
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    #: 0, 1, 2, ... in the order of the onsets.
    event_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start_s: Mapped[float]
    end_s: Mapped[float]
    noise_type: Mapped[str]
    confidence: Mapped[float]
    #: dB by the session's ``level_reference``; null where the recording is digitally silent.
    laeq_db: Mapped[float | None]
    lafmax_db: Mapped[float | None]
    #: The likeliest types, at most five, the likeliest first: ``noise_type`` and ``score``.
    candidates: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))


class ProcessingMetric(Base):
    """One run of one step: how long it took, and how it ended."""

    __tablename__ = "processing_metrics"
    __table_args__ = (
        Index("ix_processing_metrics_session_id", "session_id"),
        Index("ix_processing_metrics_recorded_at", "recorded_at"),
        CheckConstraint("num_nonnulls(session_id, job_id) = 1", name="subject"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE")
    )
    #: The training, the validation or the batch; the step tells which, so it is no foreign key.
    job_id: Mapped[uuid.UUID | None]
    step: Mapped[str]
    span_index: Mapped[int | None]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    #: As in the log: ``actors/execution/run_log.py`` tells what each one means.
    result: Mapped[str]
    duration_s: Mapped[float]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
