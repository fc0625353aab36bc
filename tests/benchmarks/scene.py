"""The recording for speed measurements: sounds over a background, at 44.1 kHz as FLAC."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from actors.science import synth
from actors.training.shipped_model import data_folder

RATE_HZ = synth.DEMO_RATE_HZ
MINUTES = 2

#: Seconds between the starts of two sounds, and the maximum length of a sound.
EVERY_S, MOST_S = 8, 6
#: Levels of the background and the sounds, in dB re full scale.
BED_DB, SOUND_DB = -45.0, -28.0

Samples = NDArray[np.float32]


def recording(data: Path | None) -> tuple[bytes, str]:
    """Return the recording and a description.

    It consists of real everyday sounds over a real street if ``data`` has both, else of synthesised
    sound.
    """
    if data is not None and (data / "everyday").is_dir() and (data / "backgrounds").is_dir():
        samples, what = _of_recordings(data), "everyday sound over a street"
    else:
        parts = [synth.demo_recording(seed)[0] for seed in range(1, 1 + 2 * MINUTES)]
        samples, what = np.concatenate(parts), "synthesised sound"
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format="FLAC")
    return file.getvalue(), what


def _of_recordings(data: Path) -> Samples:
    bed = _at(BED_DB, _mono(data / "backgrounds" / "city.ogg"))
    whole = np.resize(bed, MINUTES * 60 * RATE_HZ)
    starts = range(2 * RATE_HZ, whole.size - MOST_S * RATE_HZ, EVERY_S * RATE_HZ)
    names = [row["file"] for row in data_folder.read_labels(data / "everyday")]
    # Evenly spread over the list, which is ordered by type.
    chosen = np.linspace(0, len(names) - 1, len(starts)).round().astype(int).tolist()
    for start, number in zip(starts, chosen, strict=True):
        sound = _mono(data / "everyday" / "clips" / names[number])[: MOST_S * RATE_HZ]
        whole[start : start + sound.size] += _at(SOUND_DB, sound)
    return np.clip(whole, -1.0, 1.0)


def _mono(path: Path) -> Samples:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Samples = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    return mono


def _at(level_db: float, samples: Samples) -> Samples:
    scale = 10 ** (level_db / 20) / max(float(np.sqrt(np.square(samples).mean())), 1e-9)
    return np.asarray(samples * scale, dtype=np.float32)
