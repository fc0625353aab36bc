"""Textures of a chunk: how often small patterns occur in its spectrogram, and how strongly.

The patterns are the two-dimensional cosines that fit into a square of a log-mel spectrogram: edges,
stripes and checks, each at three sizes. They are fixed, not learned. A linear classifier over their
statistics errs on other sounds than one over `features`: features describe the energy at each
frequency, textures the local structure of the spectrogram.

Counting the responses of a fixed kernel, rather than learning the kernel, is the idea of [1]_.

.. [1] Dempster, Petitjean and Webb, ROCKET: exceptionally fast and accurate time series
   classification using random convolutional kernels, Data Mining and Knowledge Discovery, 2020.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from actors.science.detection.cnn import N_MELS, log_mel, scaled

#: Width of a pattern, in frames and in bands.
PATTERN_SIZE = 7

#: Spacing of a pattern's points, in frames and in bands: from sharp edges to slow sweeps.
DILATIONS = ((1, 1), (2, 1), (4, 2))

#: Stride of a pattern, in frames and in bands.
_TIME_STRIDE, _BAND_STRIDE = 4, 2

#: Zones of the spectrum, from low to high, each with separate statistics.
ZONES = 4

#: Statistics of a pattern in a zone: rate of occurrence, that of its negative, and strength.
STATISTICS = 3

#: A pattern occurs where its response exceeds this, about one standard deviation.
_THRESHOLD = 0.45

#: Length of a vector of textures.
N_TEXTURES = (PATTERN_SIZE**2 - 1) * len(DILATIONS) * ZONES * STATISTICS


def extract(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the textures of one chunk; gain has no effect.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,), dtype=float32]
        The chunk at 16 kHz, at least one hop.

    Returns
    -------
    numpy.ndarray [shape=(N_TEXTURES,), dtype=float32]
        Finite for any finite samples; all-zero audio included.
    """
    with torch.inference_mode():
        frames = _relative(log_mel(samples))
        found = [_statistics(pattern_responses(frames, *dilation)) for dilation in DILATIONS]
        textures: NDArray[np.float32] = torch.cat(found).numpy()
    return textures


def _relative(log_power: Tensor) -> Tensor:
    """Scale levels relative to the chunk's mean, as `scaled` [shape=(n_frames, N_MELS)]."""
    mean = torch.pow(10.0, log_power / 10.0).sum(dim=1).mean() + 1e-9
    return scaled(log_power - 10.0 * mean.log10())


def pattern_responses(frames: Tensor, over_time: int, over_bands: int) -> Tensor:
    """Compute the response of each pattern at each place.

    The result has the shape (PATTERN_SIZE, n_times, n_bands, PATTERN_SIZE).

    The first axis is the order of the cosine over time, the last that over bands. A pattern is the
    product of two cosines; applying them one after the other takes a seventh of the time.
    """
    reach = PATTERN_SIZE // 2 * over_time
    rows = functional.pad(frames @ _cosines_over_bands(over_bands), (0, 0, reach, reach))
    n_times = -(-len(frames) // _TIME_STRIDE)
    starts = [tap * over_time for tap in range(PATTERN_SIZE)]
    taps = [rows[start::_TIME_STRIDE][:n_times] for start in starts]
    found = cosine_basis() @ torch.stack(taps).flatten(1)
    return found.reshape(PATTERN_SIZE, n_times, -1, PATTERN_SIZE)


def _statistics(responses: Tensor) -> Tensor:
    """Compute rates of each pattern and of its negative in each zone, then the log strength."""
    occurs = _by_zone((responses > _THRESHOLD).float())
    negative = _by_zone((responses < -_THRESHOLD).float())
    strength = (_by_zone(responses.abs()) + 1e-2).log()
    return torch.cat([occurs, negative, strength])


def _by_zone(values: Tensor) -> Tensor:
    """Average over time and each zone of the spectrum [shape=(n_patterns * ZONES,)]."""
    zones = values.mean(dim=1).reshape(PATTERN_SIZE, ZONES, -1, PATTERN_SIZE).mean(dim=2)
    # The pattern that is flat over time and bands only measures the level; it is left out.
    return zones.transpose(1, 2).reshape(PATTERN_SIZE**2, ZONES)[1:].flatten()


@cache
def cosine_basis() -> Tensor:
    """Return cosines by order [shape=(PATTERN_SIZE, PATTERN_SIZE)], of norm 1.

    All but the first have mean 0.
    """
    order, place = np.arange(PATTERN_SIZE)[:, None], (np.arange(PATTERN_SIZE) + 0.5) / PATTERN_SIZE
    cosines = np.cos(np.pi * order * place)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    return torch.from_numpy(cosines.astype(np.float32))


@cache
def _cosines_over_bands(dilation: int) -> Tensor:
    """Return each cosine at each place among the bands [shape=(N_MELS, n_bands * PATTERN_SIZE)].

    Bands beyond the lowest and the highest count as 0.
    """
    n_bands = N_MELS // _BAND_STRIDE
    found = torch.zeros(N_MELS, n_bands, PATTERN_SIZE)
    for place in range(n_bands):
        for tap in range(PATTERN_SIZE):
            band = _BAND_STRIDE * place + (tap - PATTERN_SIZE // 2) * dilation
            if 0 <= band < N_MELS:
                found[band, place] = cosine_basis()[:, tap]
    return found.flatten(1)
