"""Enforce the limits of the settings on recordings; exceeding one ends the session.

The header is checked before anything is decoded. But a header can be wrong, and a small file can
decode to days of audio, so the length is checked again with every decoded block.
"""

from __future__ import annotations

from actors.execution.failures import Permanent
from actors.science.types import AudioFormat
from db.settings import Settings


def check_format(audio: AudioFormat, settings: Settings) -> None:
    """Check the format in a header; raises :class:`Permanent`."""
    if audio.n_channels > settings.max_channels:
        raise Permanent(
            "too-many-channels",
            f"the recording has {audio.n_channels} channels; at most {settings.max_channels} are"
            " allowed",
        )
    if audio.rate_hz > settings.max_rate_hz:
        raise Permanent(
            "rate-too-high",
            f"the recording has a sample rate of {audio.rate_hz} Hz; at most"
            f" {settings.max_rate_hz} Hz are allowed",
        )
    if audio.n_frames is not None:
        check_duration(audio.n_frames / audio.rate_hz, most_s=settings.max_duration_s)


def check_duration(lasts_s: float, *, most_s: float) -> None:
    """Check the duration of a recording, or of its part so far; raises :class:`Permanent`."""
    if lasts_s > most_s:
        raise Permanent("too-long", f"the recording is longer than {most_s:.0f} seconds")
