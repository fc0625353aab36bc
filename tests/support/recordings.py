"""Recordings for the tests, generated on demand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from actors.science import synth

RATE_HZ = synth.DEMO_RATE_HZ
#: Accepted as a recording until it is decoded.
HEADER = b"fLaC" + bytes(60)


def demo(seed: int = 7) -> NDArray[np.float32]:
    """Return the demo's recording: half a minute of several noise types."""
    samples, _truth = synth.demo_recording(seed)
    return samples


def long(minutes: float) -> NDArray[np.float32]:
    """Return the demo's recording, repeated."""
    return np.resize(demo(), int(minutes * 60 * RATE_HZ))


def encode(
    samples: NDArray[np.float32],
    *,
    rate_hz: int = RATE_HZ,
    container: str = "FLAC",
    subtype: str | None = None,
) -> bytes:
    """Encode a recording."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype)
    return file.getvalue()


def on_channel(number: int, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples as the last of ``number`` channels, the others silent."""
    channels = np.zeros((len(samples), number), dtype=np.float32)
    channels[:, -1] = samples
    return channels


def write(path: Path, content: bytes) -> Path:
    """Write a recording to a file."""
    path.write_bytes(content)
    return path
