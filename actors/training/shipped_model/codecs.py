"""Lossy coding by recorders and phones, for training sounds and for measuring accuracy."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import NamedTuple

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from actors.science.audio_io import decode
from actors.science.detection.tagging.backbone import RATE_HZ, Array


class Codec(NamedTuple):
    """A sample rate, and the container and coding by libsndfile's names. FFmpeg encodes AAC."""

    rate_hz: int
    container: str
    coding: str


#: The codecs, by their names in reports.
CODECS: Mapping[str, Codec] = {
    "MP3, 16 kHz": Codec(16_000, "MP3", "MPEG_LAYER_III"),
    "MP3, 32 kHz": Codec(32_000, "MP3", "MPEG_LAYER_III"),
    "Vorbis, 16 kHz": Codec(16_000, "OGG", "VORBIS"),
    "Opus, 16 kHz": Codec(16_000, "OGG", "OPUS"),
    "AAC, 16 kHz": Codec(16_000, "M4A", "AAC"),
    "8 bits, 16 kHz": Codec(16_000, "WAV", "PCM_U8"),
    "8 bits, 8 kHz": Codec(8_000, "WAV", "PCM_U8"),
    "Opus": Codec(48_000, "OGG", "OPUS"),
}

#: Those that training sounds pass, in the order in which they are drawn, and those through which
#: accuracy is measured.
TRAINED = ("MP3, 16 kHz", "MP3, 32 kHz", "Vorbis, 16 kHz", "Opus, 16 kHz")
MEASURED = ("MP3, 16 kHz", "Vorbis, 16 kHz", "Opus", "AAC, 16 kHz", "8 bits, 8 kHz")

#: Bit rates of AAC at compression levels 0 and 1.
_AAC_BITS = (64_000, 16_000)

#: How far below full scale the peak of 8 bits is at compression level 1, in dB.
_HEADROOM_DB = 24.0


def coded(samples: Array, codec: Codec, *, level: float, rate_hz: int = RATE_HZ) -> Array:
    """Encode a sound [shape=(n,)] by a codec, and decode it; the result has the same length.

    ``level`` is the loss, from 0 to below 1: libsndfile's compression level. AAC gets fewer bits,
    and 8 bits get a peak further below full scale, which the result keeps.
    """
    slow = soxr.resample(samples, rate_hz, codec.rate_hz)
    if codec.coding == "AAC":
        decoded = _through_aac(slow, codec.rate_hz, level)
    elif codec.coding == "PCM_U8":
        decoded = _through_8_bits(slow, level)
    else:
        decoded = _through_libsndfile(slow, codec, level)
    found = np.zeros(samples.size, dtype=np.float32)
    back = soxr.resample(decoded, codec.rate_hz, rate_hz)[: samples.size]
    found[: back.size] = back
    return found


def drawn(samples: Array, rng: np.random.Generator, *, rate_hz: int = RATE_HZ) -> Array:
    """Pass a sound through one of `TRAINED` at a random compression level."""
    codec = CODECS[TRAINED[int(rng.integers(len(TRAINED)))]]
    return coded(samples, codec, level=float(rng.uniform(0.0, 1.0)), rate_hz=rate_hz)


def _through_libsndfile(samples: Array, codec: Codec, level: float) -> NDArray[np.float32]:
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        codec.rate_hz,
        1,
        format=codec.container,
        subtype=codec.coding,
        compression_level=level,
    ) as encoder:
        # Encoding minutes of Vorbis in one call overflows the stack.
        for first in range(0, samples.size, codec.rate_hz):
            encoder.write(samples[first : first + codec.rate_hz])
    file.seek(0)
    decoded: NDArray[np.float32] = soundfile.read(file, dtype="float32")[0]
    return decoded


def _through_8_bits(samples: Array, level: float) -> NDArray[np.float32]:
    peak = float(np.abs(samples).max())
    if peak == 0.0:
        return samples
    steps = 127.0 * 10 ** (-_HEADROOM_DB * level / 20) / peak
    return np.asarray(np.rint(samples * steps) / 128.0, dtype=np.float32)


def _through_aac(samples: Array, rate_hz: int, level: float) -> NDArray[np.float32]:
    file = io.BytesIO()
    with av.open(file, "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=rate_hz, layout="mono")
        stream.bit_rate = round(_AAC_BITS[0] + level * (_AAC_BITS[1] - _AAC_BITS[0]))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], "fltp", "mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz, frame_size=1_024)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    with decode.open_recording(file) as decoder:
        return np.concatenate(list(decoder.blocks()))[:, 0]
