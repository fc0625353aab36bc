"""The table of sessions."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    case,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.sql.elements import ColumnElement

from db.tables.base import (
    Base,
    JsonObject,
    Owned,
    StoredProblem,
    Traced,
    one_of,
)
from db.tables.session_columns import OptionsOfSession, RecordingOfSession
from db.tables.session_results import FINAL_STATES, SessionResult

#: The states of a session. The first four are unfinished, the others final.
UNFINISHED_STATES = ("queued", "splitting", "detecting", "aggregating")
SESSION_STATES = (*UNFINISHED_STATES, *FINAL_STATES)

#: The percentage of the work on a session that is done when a state begins, measured on recordings
#: of one hour in one process. With more workers, ``detecting`` takes a smaller share.
STAGE_BEGINS = dict(zip(UNFINISHED_STATES, (0, 1, 40, 75), strict=True))
#: The percentages at which each state begins and ends.
STAGE_BOUNDS = dict(
    zip(UNFINISHED_STATES, itertools.pairwise((*STAGE_BEGINS.values(), 100)), strict=True)
)

#: The stage of work whose latest try ended because the blob store was unavailable or full.
WAITING_FOR_STORAGE = "waiting for storage"

#: The priorities, highest first. A row stores the index in this list, so that an index sorts by it.
PRIORITIES = ("high", "normal", "low")
NORMAL = PRIORITIES.index("normal")

#: Options of a session: the offset to dB re full scale (bounds beyond those of any microphone and
#: recorder), the calibrator's tone in dB SPL, and the bands to measure.
CALIBRATION_RANGE_DB = (-100.0, 250.0)
CALIBRATION_TONES_DB = (94.0, 114.0)
BANDS = ("third_octave",)
#: The range of the A-weighted self-noise of an instrument in dB SPL.
NOISE_FLOOR_RANGE_DB = (-50.0, 150.0)
#: What is kept of a recording after its session: the original, a copy in which speech is replaced
#: by noise, or nothing.
KEEP, MUTE, DISCARD_AUDIO = PRIVACY = ("keep", "mute", "discard_audio")
#: The range of recording times: from the first sound recordings to beyond any clock error.
RECORDED_FROM = datetime(1860, 1, 1, tzinfo=UTC)
RECORDED_TO = datetime(2200, 1, 1, tzinfo=UTC)
#: Source of the recording time, if its caller did not give it, in the order of trust.
RECORDED_AT_ORIGINS = (
    "guano",
    "bext",
    "ixml",
    "comment",
    "wamd",
    "tag",
    "file_name",
    "creation_time",
)
#: How such a time got its offset from UTC: from the file, by `time_zone`, or without either.
RECORDED_AT_ZONES = ("file", "time_zone", "assumed_utc")
#: Limits of the caller's metadata per session.
METADATA_KEYS, METADATA_BYTES = 50, 4_096


def level_reference(calibration_db: float | None) -> str:
    """Return the reference of a recording's levels."""
    return "dBFS" if calibration_db is None else "dB SPL"


class AudioSession(OptionsOfSession, RecordingOfSession, Owned, Traced, Base):
    """One recording on its way from upload to answer.

    What its work changes often is in `UnfinishedSession`, and what lists sort and filter its result
    by in `SessionResult`. Of what changes after the upload, only the time that was found in the
    file, and the name of a file that was fetched, are in an index here: other updates are HOT.
    """

    __tablename__ = "audio_sessions"
    __table_args__ = (
        CheckConstraint(one_of("state", SESSION_STATES), name="state"),
        CheckConstraint("spans_finished <= spans_total", name="spans"),
        CheckConstraint(
            "calibration_db BETWEEN {} AND {}".format(*CALIBRATION_RANGE_DB), name="calibration"
        ),
        CheckConstraint(one_of("calibration_tone_db", CALIBRATION_TONES_DB), name="tone"),
        CheckConstraint(one_of("bands", BANDS), name="bands"),
        CheckConstraint(
            "noise_floor_db BETWEEN {} AND {}".format(*NOISE_FLOOR_RANGE_DB), name="noise_floor"
        ),
        CheckConstraint("channel ~ '^(energy_mean|loudest|[1-9][0-9]?)$'", name="channel"),
        CheckConstraint(one_of("privacy", PRIVACY), name="privacy"),
        CheckConstraint(one_of("priority", tuple(range(len(PRIORITIES)))), name="priority"),
        CheckConstraint("num_nonnulls(source_url, source_key) <= 1", name="source"),
        CheckConstraint("jsonb_typeof(thresholds) = 'object'", name="thresholds"),
        CheckConstraint(
            f"recorded_at >= '{RECORDED_FROM}' AND recorded_at < '{RECORDED_TO}'",
            name="recorded_at",
        ),
        CheckConstraint(one_of("recorded_at_from", RECORDED_AT_ORIGINS), name="recorded_at_from"),
        CheckConstraint(one_of("recorded_at_zone", RECORDED_AT_ZONES), name="recorded_at_zone"),
        CheckConstraint(
            "num_nonnulls(recorded_at_from, recorded_at_zone) = 0"
            " OR num_nulls(recorded_at, recorded_at_from, recorded_at_zone) = 0",
            name="recorded_at_source",
        ),
        CheckConstraint("length(time_zone) BETWEEN 1 AND 64", name="time_zone"),
        CheckConstraint("jsonb_typeof(user_metadata) = 'object'", name="user_metadata"),
        Index("ix_audio_sessions_created_at", "created_at"),
        # The sessions of a day.
        Index("ix_audio_sessions_began_at", text("coalesce(recorded_at, created_at)")),
        # A user's lists, by what is known from the upload on: docs/lists.md.
        Index("ix_audio_sessions_user_created", "user_id", "created_at", "id"),
        Index("ix_audio_sessions_user_recorded", "user_id", "recorded_at", "id"),
        Index("ix_audio_sessions_user_file", "user_id", "file_name", "created_at", "id"),
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
        # Room on each page for new versions of its rows.
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The session's ID.")
    file_name: Mapped[str] = mapped_column(
        comment="The client's name for the file: shown, never used as a path."
    )
    recording_key: Mapped[str] = mapped_column(
        comment="The key of the recording in the blob store."
    )
    size_bytes: Mapped[int | None] = mapped_column(
        BigInteger,
        comment="The size of the recording; null until it has been fetched from its source.",
    )
    source_url: Mapped[str | None] = mapped_column(
        comment="The URL that the recording is fetched from; its query is kept only until then."
    )
    source_key: Mapped[str | None] = mapped_column(
        comment=(
            "The key of the object, or of the direct upload, that the recording is copied from."
        )
    )
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When it was posted."
    )
    started_at: Mapped[datetime | None] = mapped_column(comment="When a worker first claimed it.")

    state: Mapped[str] = mapped_column(
        comment="The state; the check constraint has the possible ones."
    )
    priority: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text(str(NORMAL)),
        comment="Its place in the fair order: 0 is high, 1 normal, 2 low.",
    )
    batch_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("batches.id"), comment="The batch that it belongs to; null without one."
    )
    webhook_id: Mapped[uuid.UUID | None] = mapped_column(
        comment=(
            "The webhook to notify at its end. Not a foreign key: removing a webhook would "
            "lock ending sessions, each of which waits for the webhook."
        )
    )

    summary: Mapped[JsonObject | None] = mapped_column(
        JSONB,
        comment=(
            "The detections by type, and the state of channels and levels; null until the end."
        ),
    )
    problem: Mapped[StoredProblem | None] = mapped_column(
        JSONB, comment="What is lost and why, as a code and a sentence; null if nothing is."
    )
    levels_answer_key: Mapped[str | None] = mapped_column(
        comment="The key of the response about its levels."
    )
    muted_key: Mapped[str | None] = mapped_column(
        comment=(
            "The key of the copy of the recording without speech, made at the end of a "
            "session with muting."
        )
    )
    audio_removed_at: Mapped[datetime | None] = mapped_column(
        comment="When all audio but the muted copy was removed for privacy; null if it was not."
    )
    legal_hold: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="Whether it is kept regardless of its age."
    )

    #: Its result, read together with it. `db.queue.session_moves` writes the row.
    result: Mapped[SessionResult | None] = relationship(lazy="joined", viewonly=True)
    duration_s: AssociationProxy[float | None] = association_proxy(
        "result", "duration_s", creator=lambda value: SessionResult(duration_s=value)
    )
    max_confidence: AssociationProxy[float | None] = association_proxy(
        "result", "max_confidence", creator=lambda value: SessionResult(max_confidence=value)
    )
    finished_at: AssociationProxy[datetime | None] = association_proxy(
        "result", "finished_at", creator=lambda value: SessionResult(finished_at=value)
    )

    @property
    def level_reference(self) -> str:
        """The reference of the levels in responses."""
        return level_reference(self.calibration_db)

    @hybrid_property
    def served_key(self) -> str | None:
        """The audio that may be served, cut into clips, or used for training; None without any.

        With `privacy` it is never the original. Only the workers that process a session read its
        `recording_key`.
        """
        return self.recording_key if self.privacy == KEEP else self.muted_key

    @served_key.inplace.expression
    @classmethod
    def _served_key(cls) -> ColumnElement[str | None]:
        return case((cls.privacy == KEEP, cls.recording_key), else_=cls.muted_key)
