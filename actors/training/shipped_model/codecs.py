"""Lossy codecs of recorders and phones, as libsndfile encodes them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from actors.science.detection.tagging.backbone import RATE_HZ, Array


class Codec(NamedTuple):
    """A sample rate, and the container and coding by libsndfile's names."""

    rate_hz: int
    container: str
    coding: str


#: The codecs, by their names in reports.
CODECS: Mapping[str, Codec] = {
    "MP3, 16 kHz": Codec(16_000, "MP3", "MPEG_LAYER_III"),
    "MP3, 32 kHz": Codec(32_000, "MP3", "MPEG_LAYER_III"),
    "Vorbis, 16 kHz": Codec(16_000, "OGG", "VORBIS"),
    "Opus, 16 kHz": Codec(16_000, "OGG", "OPUS"),
    "Opus": Codec(48_000, "OGG", "OPUS"),
}

#: Those that training sounds pass, in the order in which they are drawn, and those through which
#: accuracy is measured.
TRAINED = ("MP3, 16 kHz", "MP3, 32 kHz", "Vorbis, 16 kHz", "Opus, 16 kHz")
MEASURED = ("MP3, 16 kHz", "Opus")


def coded(samples: Array, codec: Codec, *, level: float) -> Array:
    """Encode a sound [shape=(n,)] at 32 kHz by a codec, and decode it.

    ``level`` is libsndfile's compression level, from 0 to 1.
    """
    slow = soxr.resample(samples, RATE_HZ, codec.rate_hz)
    file = io.BytesIO()
    soundfile.write(
        file,
        slow,
        codec.rate_hz,
        format=codec.container,
        subtype=codec.coding,
        compression_level=level,
    )
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    back: Array = soxr.resample(decoded, codec.rate_hz, RATE_HZ)
    return back


def drawn(samples: Array, rng: np.random.Generator) -> Array:
    """Pass a sound through one of `TRAINED` at a random compression level."""
    codec = CODECS[TRAINED[int(rng.integers(len(TRAINED)))]]
    return coded(samples, codec, level=float(rng.uniform(0.0, 1.0)))
