"""Textures of a chunk: how often small patterns occur in its spectrogram, and how strongly.

The patterns are the two-dimensional cosines that fit into a square of a log-mel spectrogram:
edges, stripes and checks, each at three sizes. They are the same for everybody and learned from
nothing. A linear classifier over their statistics errs on other sounds than one over `features`
does: those tell which frequencies sound how strongly, these how the spectrogram is woven.

Counting how often a fixed kernel responds, rather than learning the kernel, is the idea of [1]_.

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

#: Frames and bands of a pattern.
_SIZE = 7

#: Distance in frames and in bands of a pattern's points: from sharp edges to slow sweeps.
_DILATIONS = ((1, 1), (2, 1), (4, 2))

#: Frames, and bands, from one place of a pattern to the next.
_TIME_STRIDE, _BAND_STRIDE = 4, 2

#: Zones of the spectrum, from low to high, each with statistics of its own.
_ZONES = 4

#: Numbers of a pattern in a zone: how often it occurs, how often its negative does, its strength.
_STATISTICS = 3

#: A pattern occurs where the response is beyond this; about one standard deviation of it.
_THRESHOLD = 0.45

#: Length of a vector of textures.
N_TEXTURES = (_SIZE**2 - 1) * len(_DILATIONS) * _ZONES * _STATISTICS


def extract(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Textures of one chunk; its gain changes nothing.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,), dtype=float32]
        The chunk at 16 kHz, at least one hop of it.

    Returns
    -------
    numpy.ndarray [shape=(N_TEXTURES,), dtype=float32]
        Finite for any finite samples; all-zero audio included.
    """
    with torch.inference_mode():
        frames = _relative(log_mel(samples))
        found = [_statistics(_responses(frames, *dilation)) for dilation in _DILATIONS]
        textures: NDArray[np.float32] = torch.cat(found).numpy()
    return textures


def _relative(log_power: Tensor) -> Tensor:
    """Relative to the mean level of the chunk, as `scaled` [shape=(n_frames, N_MELS)]."""
    mean = torch.pow(10.0, log_power / 10.0).sum(dim=1).mean() + 1e-9
    return scaled(log_power - 10.0 * mean.log10())


def _responses(frames: Tensor, over_time: int, over_bands: int) -> Tensor:
    """What each pattern makes of each place [shape=(_SIZE, n_times, n_bands, _SIZE)].

    The first axis is the order of the cosine over time, the last that over bands. A pattern is
    the product of two cosines, so one after the other they take a seventh of the time.
    """
    reach = _SIZE // 2 * over_time
    rows = functional.pad(frames @ _cosines_over_bands(over_bands), (0, 0, reach, reach))
    n_times = -(-len(frames) // _TIME_STRIDE)
    starts = [tap * over_time for tap in range(_SIZE)]
    taps = [rows[start::_TIME_STRIDE][:n_times] for start in starts]
    found = _cosines() @ torch.stack(taps).flatten(1)
    return found.reshape(_SIZE, n_times, -1, _SIZE)


def _statistics(responses: Tensor) -> Tensor:
    """How often each pattern occurs in each zone, then its negative, then the log strength."""
    occurs = _by_zone((responses > _THRESHOLD).float())
    negative = _by_zone((responses < -_THRESHOLD).float())
    strength = (_by_zone(responses.abs()) + 1e-2).log()
    return torch.cat([occurs, negative, strength])


def _by_zone(values: Tensor) -> Tensor:
    """The mean over time and each zone of the spectrum [shape=(n_patterns * _ZONES,)]."""
    zones = values.mean(dim=1).reshape(_SIZE, _ZONES, -1, _SIZE).mean(dim=2)
    # The pattern that is flat over time and over bands tells the level, and is no pattern.
    return zones.transpose(1, 2).reshape(_SIZE**2, _ZONES)[1:].flatten()


@cache
def _cosines() -> Tensor:
    """Cosines by their order [shape=(_SIZE, _SIZE)], of norm 1; all but the first have mean 0."""
    order, place = np.arange(_SIZE)[:, None], (np.arange(_SIZE) + 0.5) / _SIZE
    cosines = np.cos(np.pi * order * place)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    return torch.from_numpy(cosines.astype(np.float32))


@cache
def _cosines_over_bands(dilation: int) -> Tensor:
    """Each cosine at each place among the bands [shape=(N_MELS, n_bands * _SIZE)].

    What lies beyond the lowest and the highest band counts as 0.
    """
    n_bands = N_MELS // _BAND_STRIDE
    found = torch.zeros(N_MELS, n_bands, _SIZE)
    for place in range(n_bands):
        for tap in range(_SIZE):
            band = _BAND_STRIDE * place + (tap - _SIZE // 2) * dilation
            if 0 <= band < N_MELS:
                found[band, place] = _cosines()[:, tap]
    return found.flatten(1)
