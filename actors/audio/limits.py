"""What a recording may be at most, by the settings; one that is more ends its session.

What its header announces is refused before anything is decoded. But a header can lie, and a small
file can decode to days: so the length is looked at once more with every block that is decoded.
"""

from __future__ import annotations

from actors.execution.failures import Permanent
from actors.science.types import AudioFormat
from db.settings import Settings


def check_format(audio: AudioFormat, settings: Settings) -> None:
    """Look at what a header announces; raises :class:`Permanent`."""
    if audio.n_channels > settings.max_channels:
        raise Permanent(
            "too-many-channels",
            f"the recording has {audio.n_channels} channels; at most {settings.max_channels} are"
            " taken",
        )
    if audio.rate_hz > settings.max_rate_hz:
        raise Permanent(
            "rate-too-high",
            f"the recording has {audio.rate_hz} samples a second; at most {settings.max_rate_hz}"
            " are taken",
        )
    if audio.n_frames is not None:
        check_duration(audio.n_frames / audio.rate_hz, settings)


def check_duration(lasts_s: float, settings: Settings) -> None:
    """Look at how long a recording lasts, or has lasted so far; raises :class:`Permanent`."""
    if lasts_s > settings.max_duration_s:
        raise Permanent(
            "too-long", f"the recording lasts longer than {settings.max_duration_s:.0f} seconds"
        )
