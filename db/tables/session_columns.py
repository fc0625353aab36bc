"""Columns of sessions that belong together: their options, and what is known of the recording."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Double, ForeignKey, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JsonObject, StoredHole


class OptionsOfSession:
    """The options that a session was posted with; some are set from the recording if left out."""

    calibration_db: Mapped[float | None] = mapped_column(
        comment=(
            "The offset from dB re full scale to dB SPL, as posted or as measured on a "
            "calibrator's tone; null for levels re full scale."
        )
    )
    calibration_tone_db: Mapped[float | None] = mapped_column(
        comment=(
            "The level of the calibrator's tone in the recording, in dB SPL; null without one."
        )
    )
    bands: Mapped[str | None] = mapped_column(comment="The bands to measure; null for none.")
    noise_floor_db: Mapped[float | None] = mapped_column(
        comment=(
            "The A-weighted self-noise of the instrument in dB SPL; null where the caller "
            "gave none."
        )
    )
    channel: Mapped[str] = mapped_column(
        server_default=text("'energy_mean'"),
        comment=(
            "The channels that are measured and analysed: energy_mean, loudest, or a number, "
            "from 1 on."
        ),
    )
    thresholds: Mapped[dict[str, float]] = mapped_column(
        JSONB,
        server_default=text("'{}'"),
        comment="By noise type, the confidence below which detections are not reported.",
    )
    types: Mapped[list[str]] = mapped_column(
        ARRAY(Text),
        server_default=text("'{}'"),
        comment=(
            "Noise types and groups: only detections of these and of types below them are "
            "reported. Empty for all."
        ),
    )
    privacy: Mapped[str] = mapped_column(
        server_default=text("'keep'"),
        comment=(
            "What is kept of the recording after the session: the original, a copy without "
            "speech (mute), or nothing."
        ),
    )
    recorded_at: Mapped[datetime | None] = mapped_column(
        comment=(
            "When the recording began: as given by the caller, else as found in the file; "
            "null if unknown."
        )
    )
    recorded_at_from: Mapped[str | None] = mapped_column(
        comment=(
            "The source of the time that was found in the file; null for a time of the caller's."
        )
    )
    recorded_at_zone: Mapped[str | None] = mapped_column(
        comment=(
            "How the time that was found got its offset from UTC; null for a time of the caller's."
        )
    )
    time_zone: Mapped[str | None] = mapped_column(
        comment="The zone in which it was recorded, as given by the caller."
    )
    user_metadata: Mapped[JsonObject] = mapped_column(
        JSONB, server_default=text("'{}'"), comment="The caller's metadata: a flat JSON object."
    )
    model_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("noise_models.id"),
        comment="The model: the one that it was posted with, else the one in use at its start.",
    )


class RecordingOfSession:
    """The recording as decoded, the products of the stages, and the progress through its spans.

    ``process`` sets the format, ``split`` the decoded audio and its levels, ``aggregate`` the
    quarter hours.
    """

    container: Mapped[str | None] = mapped_column(comment="The format of the file.")
    codec: Mapped[str | None] = mapped_column(comment="The codec of the audio.")
    rate_hz: Mapped[int | None] = mapped_column(comment="The sample rate of the recording.")
    n_channels: Mapped[int | None] = mapped_column(
        comment="The number of channels of the recording."
    )

    missing_s: Mapped[float | None] = mapped_column(
        comment="Seconds of the recording that could not be decoded."
    )
    holes: Mapped[list[StoredHole] | None] = mapped_column(
        JSONB,
        comment=(
            "The intervals without audio; null if the code that split it did not look for them."
        ),
    )
    n_samples: Mapped[int | None] = mapped_column(
        BigInteger, comment="The length of the decoded audio at 16 kHz."
    )
    grid_lead: Mapped[int] = mapped_column(
        server_default=text("0"), comment="How many samples before the recording its grid begins."
    )
    pcm_key: Mapped[str | None] = mapped_column(
        comment=(
            "The key of the decoded audio at 16 kHz; null before the split and after its removal."
        )
    )
    wide_pcm_key: Mapped[str | None] = mapped_column(
        comment="The key of the decoded audio at 32 kHz, for the backbone; null without one."
    )
    backbone: Mapped[str | None] = mapped_column(
        comment=(
            "The backbone of its split; at the end that which named the sounds, null if the "
            "model alone did."
        )
    )
    backbone_sha256: Mapped[str | None] = mapped_column(
        comment="The hash of the backbone's weights."
    )
    levels_key: Mapped[str | None] = mapped_column(comment="The key of its levels over time.")
    bands_key: Mapped[str | None] = mapped_column(
        comment=(
            "The key of its third-octave bands over time, which are not kept after its end; "
            "null if not requested."
        )
    )
    spectrogram_key: Mapped[str | None] = mapped_column(
        comment="The key of the picture of its spectrogram."
    )
    totals: Mapped[JsonObject | None] = mapped_column(
        JSONB,
        comment="Sums, maxima and the histogram of the whole recording's levels, re full scale.",
    )
    quarter_mean_squares: Mapped[list[float] | None] = mapped_column(
        ARRAY(Double),
        comment=(
            "A-weighted mean squares of the quarter hours (UTC) that it covers, re full "
            "scale; null without recorded_at."
        ),
    )
    quarter_overloads: Mapped[list[float] | None] = mapped_column(
        ARRAY(Double),
        comment=(
            "The overloaded share of the time of each of these quarters; null also where "
            "overload was not measured."
        ),
    )
    quarter_overload_energies: Mapped[list[float] | None] = mapped_column(
        ARRAY(Double),
        comment=(
            "The overloaded share of the energy of each of these quarters; null also where "
            "overload was not measured."
        ),
    )
    spans_total: Mapped[int] = mapped_column(
        server_default=text("0"), comment="The number of its spans; 0 before the split."
    )
    spans_finished: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment=(
            "The number of its spans that were done or failed when it was last moved; meanwhile "
            "the row of its work counts them."
        ),
    )
