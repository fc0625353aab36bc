"""Recordings that are small to send and long to decode."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ, N_CHANNELS = 384_000, 8


def silence(seconds: int, *, rate_hz: int = RATE_HZ, n_channels: int = N_CHANNELS) -> bytes:
    """Return FLAC of digital silence: 3 kB a second of eight channels at 384 kHz."""
    second = np.zeros((rate_hz, n_channels), np.int16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "silence.flac"
        with soundfile.SoundFile(path, "w", rate_hz, n_channels, format="FLAC") as flac:
            for _ in range(seconds):
                flac.write(second)
        return path.read_bytes()
