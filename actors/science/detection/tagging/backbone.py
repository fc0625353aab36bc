"""A network trained on AudioSet: embeddings and tags of sound at 32 kHz.

The ``mn`` family of EfficientAT: MobileNetV3-large over a log-mel spectrogram, in several widths
(F. Schmid, K. Koutini, G. Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
Knowledge Distillation", ICASSP 2023). The weights are not part of this package. A weight file is a
PyTorch state dict; it is read with ``weights_only`` and rejected unless every name, shape and type
is that of the family.

Squeeze and excitation averages over the whole window. The frames of a window therefore depend on
all of it, and windows must be cut at the same places to give the same frames.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actors.science.detection.tagging import mobilenet
from actors.science.detection.tagging.mobilenet import LAST, WIDTH_BY, MobileNet, Step
from actors.science.detection.tagging.torchaudio_cpu import mel_banks
from actors.science.errors import ModelError

Array = NDArray[np.float32]

#: Sample rate of the input.
RATE_HZ = 32_000

#: Hop of the spectrogram, and of the embedding, in samples.
HOP = 320
FRAME = 32 * HOP

#: Shorter sounds are padded with silence: one frame of the embedding needs this much.
SHORTEST = RATE_HZ

N_MELS = 128
_N_FFT, _WINDOW = 1_024, 800
_HIGHEST_HZ = 15_000.0
_PRE_EMPHASIS = 0.97
_FLOOR = 1e-5

#: Width of the widest network of the family. A crafted file with a wider one could only waste time.
_WIDEST = 4.0


@dataclass(frozen=True, eq=False)
class BackboneNetwork:
    """Loaded weights, made by `from_bytes`."""

    layers: MobileNet
    network: Step

    @classmethod
    def from_bytes(cls, data: bytes) -> BackboneNetwork:
        """Read a weight file.

        Raises
        ------
        ModelError
            If the file is not a state dict of the family.
        """
        try:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # Whatever the exception, the file is damaged or crafted.
            raise ModelError("the backbone is not a readable PyTorch state dict") from error
        layers = _loaded(state)
        return cls(layers, mobilenet.compiled(layers))

    @property
    def n_embedding(self) -> int:
        """The width of an embedding: 384 for ``mn04``."""
        return self.layers.n_embedding

    def frames(self, samples: Array) -> Array:
        """Embed a window of sound, frame by frame.

        Parameters
        ----------
        samples : numpy.ndarray [shape=(n,), dtype=float32]
            Mono at 32 kHz, full scale 1.0. Padded with silence to `SHORTEST`.

        Returns
        -------
        numpy.ndarray [shape=(ceil(n / FRAME), n_embedding), dtype=float32]
            One row per `FRAME` samples (0.32 s). Their mean is the embedding of the window.
        """
        with torch.inference_mode():
            found = self.network(log_mel(samples))
        return found.numpy()

    def embed(self, samples: Array) -> Array:
        """Embed a whole sound [shape=(n_embedding,)]; see `frames`."""
        mean: Array = self.frames(samples).mean(axis=0)
        return mean

    def tags(self, embeddings: Array) -> Array:
        """Compute AudioSet logits [shape=(..., N_TAGS)].

        Takes embeddings [shape=(..., n_embedding)].
        """
        with torch.inference_mode():
            found: Tensor = self.layers.tags(torch.from_numpy(embeddings))
        return found.numpy()


def log_mel(samples: Array) -> Tensor:
    """Compute the network's input for a window [shape=(N_MELS, n_columns)].

    Pre-emphasis, power spectrum, Kaldi mel banks from 0 to 15 kHz, logarithm, and the scaling
    that the weights were trained with. Takes [shape=(n,)] at 32 kHz; one column per `HOP` samples.
    """
    filled = np.pad(samples, (0, max(0, SHORTEST - samples.size)))
    waveform = torch.from_numpy(np.ascontiguousarray(filled, dtype=np.float32))
    emphasised = waveform[1:] - _PRE_EMPHASIS * waveform[:-1]
    spectrum = torch.stft(
        emphasised,
        _N_FFT,
        hop_length=HOP,
        win_length=_WINDOW,
        window=_window(),
        center=True,
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return ((_banks() @ power + _FLOOR).log() + 4.5) / 5.0


def _loaded(state: object) -> MobileNet:
    if not isinstance(state, Mapping) or not isinstance(state.get(WIDTH_BY), Tensor):
        raise ModelError("the backbone is not a network of the EfficientAT mn family")
    weight: Tensor = state[WIDTH_BY]
    width = weight.shape[1] / LAST if weight.ndim == 4 else 0.0
    if not 0.0 < width <= _WIDEST:
        raise ModelError(f"a backbone has a width above 0, up to {_WIDEST:g}")
    # On the meta device: shapes are compared before memory of their size is allocated.
    with torch.device("meta"):
        layers = MobileNet(width=width)
    wanted = {name: (each.shape, each.dtype) for name, each in layers.state_dict().items()}
    given = {
        name: (each.shape, each.dtype) for name, each in state.items() if isinstance(each, Tensor)
    }
    if wanted != given or len(given) != len(state):
        raise ModelError("the layers of the backbone do not fit each other")
    if not all(bool(torch.isfinite(each).all()) for each in state.values()):
        raise ModelError("the backbone holds numbers that are not finite")
    layers.load_state_dict(dict(state), assign=True)
    return layers.eval().requires_grad_(requires_grad=False)


@cache
def _window() -> Tensor:
    return torch.hann_window(_WINDOW, periodic=False)


@cache
def _banks() -> Tensor:
    """Return the mel banks [shape=(N_MELS, _N_FFT // 2 + 1)]; the Nyquist bin is unused."""
    banks = mel_banks(N_MELS, _N_FFT, float(RATE_HZ), 0.0, _HIGHEST_HZ, 100.0, -500.0, 1.0)[0]
    padded: Tensor = nn.functional.pad(banks, (0, 1))
    return padded
