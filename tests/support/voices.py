"""Sound that resembles speech, and a backbone of random weights that detects it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from actors.science.detection.tagging import speech
from actors.science.detection.tagging.backbone import FRAME, RATE_HZ, Array, BackboneNetwork
from tests.support import weights

Samples = NDArray[np.float32]

#: Bands with much of the energy of `voice`, and none of that of `siren`.
_VOICE_HZ = (200.0, 1_000.0)
#: Minimum mean square in these bands of a frame with a voice.
_LEAST = 1e-5
#: Absolute logit of the classes of speech: positive with a voice, negative without.
_LOGIT = 8.0


def voice(seconds: float, *, rate_hz: int = RATE_HZ, seed: int = 0) -> Samples:
    """Make a buzz with formants that change four times a second, as syllables do."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate_hz)
    pitch_hz = 120.0 + 25.0 * np.sin(2 * np.pi * 0.7 * np.arange(n) / rate_hz + rng.uniform(0, 6))
    buzz = signal.sawtooth(2 * np.pi * np.cumsum(pitch_hz) / rate_hz)
    syllable = rate_hz // 4
    pieces = []
    for start in range(0, n, syllable):
        piece = buzz[start : start + syllable]
        spoken = np.zeros(len(piece))
        for low_hz, high_hz in ((300, 800), (900, 2_200), (2_300, 3_200)):
            centre_hz = rng.uniform(low_hz, high_hz)
            spoken += signal.sosfilt(
                signal.butter(
                    1, [centre_hz * 0.9, centre_hz * 1.1], "bandpass", fs=rate_hz, output="sos"
                ),
                piece,
            )
        pieces.append(spoken * np.hanning(len(piece)))
    made = np.concatenate(pieces)
    return np.asarray(0.2 * made / np.abs(made).max(), dtype=np.float32)


def siren(seconds: float, *, rate_hz: int = RATE_HZ, seed: int = 0) -> Samples:
    """Make a tone that rises and falls once in two seconds."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz + seed
    sweep_hz = 1_900.0 + 400.0 * np.sin(np.pi * times)
    return np.asarray(0.1 * np.sin(2 * np.pi * np.cumsum(sweep_hz) / rate_hz), dtype=np.float32)


def hiss(seconds: float, *, rate_hz: int = RATE_HZ, seed: int = 0) -> Samples:
    """Make quiet noise."""
    rng = np.random.default_rng(seed)
    return np.asarray(0.001 * rng.standard_normal(round(seconds * rate_hz)), dtype=np.float32)


class Voices(BackboneNetwork):
    """A network that detects a `voice` by its bands; all other outputs are those of its weights.

    The first column of its embeddings indicates a voice.
    """

    def frames(self, samples: Array) -> Array:
        found = super().frames(samples).copy()
        for at in range(len(found)):
            frame = samples[at * FRAME : (at + 1) * FRAME]
            spectrum = np.abs(np.fft.rfft(frame, FRAME)) ** 2 * 2 / FRAME / max(frame.size, 1)
            hz = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)
            has_voice = spectrum[(hz > _VOICE_HZ[0]) & (hz < _VOICE_HZ[1])].sum() > _LEAST
            found[at, 0] = 1.0 if has_voice else -1.0
        return found

    def tags(self, embeddings: Array) -> Array:
        found = super().tags(embeddings).copy()
        found[..., speech.TAGS] = _LOGIT * embeddings[..., :1]
        return found


def network() -> Voices:
    """Make the network over random weights."""
    backbone = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))
    return Voices(backbone.layers, backbone.network)
