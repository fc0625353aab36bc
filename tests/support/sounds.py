"""Recordings for the tests, made in memory."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.floating[Any]]


def noise(n_frames: int, *, n_channels: int = 1, seed: int = 0) -> Samples:
    """Return noise with a tone in it, well below full scale."""
    rng = np.random.default_rng(seed)
    tone = 0.2 * np.sin(np.arange(n_frames) * 0.06)[:, None]
    samples: Samples = (tone + rng.normal(0, 0.02, (n_frames, n_channels))).astype(np.float32)
    return samples


#: Kinds of `extreme` samples.
EXTREMES = ("silence", "constant", "click", "loud", "faint")


def extreme(kind: str, n_samples: int) -> NDArray[np.float32]:
    """Return finite samples that may cause arithmetic errors, unlike real recordings."""
    samples = np.zeros(n_samples, dtype=np.float32)
    if kind == "constant":
        samples[:] = 1.0
    elif kind == "click":
        samples[n_samples // 2] = 1.0
    elif kind != "silence":
        gain = 1e5 if kind == "loud" else 1e-7
        samples[:] = gain * np.random.default_rng(0).normal(size=n_samples)
    return samples


def encoded(samples: Samples, *, rate_hz: int, kind: str, subtype: str | None = None) -> bytes:
    """Encode a file by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def encoded_av(samples: Samples, *, rate_hz: int, kind: str, codec: str, **options: str) -> bytes:
    """Encode a mono file by FFmpeg."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[:, 0], dtype=np.float32)[None], "flt", "mono"
        )
        frame.sample_rate = rate_hz
        frame.pts = 0
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=rate_hz, frame_size=960
        )
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return file.getvalue()
