"""Features of the classifier: statistics of a chunk that do not depend on its gain.

All chunks of a slice share one spectrogram. Its frames are on a grid that is fixed to the
recording: frame ``k`` is centred on the samples ``[k * HOP, (k + 1) * HOP)``, and the slice
includes `MARGIN` samples of context on each side in place of padding. A chunk has the same features
however the recording is cut into spans, as long as spans start on the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.science.detection import modulation
from actors.science.detection.chunks import HOP, MIN_CHUNK, RATE_HZ
from actors.science.detection.modulation import squared, std
from actors.science.detection.tagging.torchaudio_cpu import functional, transforms

#: Changes with every change of a feature or a texture; a model only works with the version that it
#: was trained with.
FEATURE_VERSION = "2"

#: Window of the spectrogram: 64 ms separate the harmonics of mains hum.
N_FFT = 1_024

#: Samples of context on each side of a slice.
MARGIN = (N_FFT - HOP) // 2

N_MELS = 48
N_MFCC = 20

#: Edges in Hz of the bands of the spectral contrast; each about two thirds of an octave wide, and
#: wider at both ends.
_CONTRAST_EDGES_HZ = (45, 95, 155, 250, 400, 650, 1_100, 1_900, 3_450, 8_000)

#: Floor of energies; the rounding noise of 16-bit audio is above it.
_FLOOR = 1e-10

#: Lower limit of bands and frames relative to the chunk's mean, in dB. Anything fainter is rounding
#: noise, or the codec's.
_DEPTH_DB = 70.0


def extract(samples: NDArray[np.float32], chunks: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Compute the features of all chunks of a slice in one batch.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n + 2 * MARGIN,), dtype=float32]
        A slice of a recording at 16 kHz with `MARGIN` samples of context on each side: the
        recording before and after it, zeros beyond its ends.
    chunks
        ``(start, stop)`` of each chunk, relative to the slice without its margin. Starts are on the
        grid of `HOP`; a chunk has at least `MIN_CHUNK` samples. Samples of an incomplete last hop
        are ignored.

    Returns
    -------
    numpy.ndarray [shape=(len(chunks), N_FEATURES), dtype=float32]
        Finite for any finite samples; all-zero audio included.

    Raises
    ------
    ValueError
        If a chunk is off the grid, too short, or outside the slice.
    """
    n_samples = samples.size - 2 * MARGIN
    for start, stop in chunks:
        if start % HOP or stop - start < MIN_CHUNK or start < 0 or stop > n_samples:
            raise ValueError("a chunk starts on the grid, is long enough and within the slice")
    out = np.zeros((len(chunks), N_FEATURES), dtype=np.float32)
    if not chunks:
        return out
    with torch.inference_mode():
        waveform = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
        power = _power(waveform)
        frames = _Frames(power, waveform[MARGIN : MARGIN + power.shape[0] * HOP])
        for n_frames, members in _by_length(chunks).items():
            firsts = torch.tensor([chunks[member][0] // HOP for member in members])
            out[members] = _statistics(frames, firsts, n_frames).numpy()
    return out


class _Frames:
    """Quantities computed frame by frame for the whole slice."""

    def __init__(self, power: Tensor, waveform: Tensor) -> None:
        tables = _tables()
        frequencies_hz = tables.frequencies_hz
        self.mel_db = _db(power @ tables.mel_bank)  # [n_frames, N_MELS]
        total = power.sum(dim=1) + _FLOOR
        self.level_db = _db(total)
        share = power / total[:, None]
        centroid_hz = share @ frequencies_hz
        spread_hz = (share @ frequencies_hz.square() - centroid_hz.square()).clamp_min(0).sqrt()
        flat = share * power.shape[1]
        log_flat = (flat + 1e-6).log()
        rolloffs = torch.searchsorted(share.cumsum(dim=1), _rolloff_parts(power.shape[0]))
        self.shape = torch.stack(  # [n_frames, 7]
            [
                (centroid_hz / 1_000.0 + 0.05).log(),
                (spread_hz / 1_000.0 + 0.05).log(),
                log_flat.mean(dim=1) / 10.0,
                *((rolloffs + 1.0) / power.shape[1]).log().unbind(dim=1),
                (share.amax(dim=1) + 1e-6).log(),
            ],
            dim=1,
        )
        self.contrast = _contrast(flat, log_flat)
        self.peak_bin = (power.argmax(dim=1).float() + 1.0).log2()
        fine = waveform.reshape(-1, HOP // modulation.ENVELOPE_HOP, modulation.ENVELOPE_HOP)
        self.envelope = fine.square().mean(dim=2)  # [n_frames, 4]
        high = fine[:, :, 1:] - fine[:, :, :-1]
        self.high_envelope = high.square().mean(dim=2)


def _contrast(flat: Tensor, log_flat: Tensor) -> Tensor:
    """Compute how far peaks stand out in each band, and its flatness [shape=(n_frames, 18)].

    Tones give large values, noise small ones, at any signal-to-noise ratio within the band. Like
    the spectral contrast of [1]_, with the mean in place of the valley.

    .. [1] Jiang et al., Music type classification by spectral contrast feature, ICME 2002.
    """
    edges, means = _tables().contrast_edges, _tables().contrast_means
    log_mean = (flat @ means + 1e-6).log()
    peaks = [flat[:, a:b].amax(dim=1) for a, b in pairwise(edges)]
    return torch.cat(
        [(torch.stack(peaks, dim=1) + 1e-6).log() - log_mean, log_flat @ means - log_mean], dim=1
    )


def _statistics(frames: _Frames, firsts: Tensor, n_frames: int) -> Tensor:
    """Compute the features [shape=(n_chunks, N_FEATURES)] of chunks of one length."""
    index = firsts[:, None] + torch.arange(n_frames)
    mel = frames.mel_db[index]  # [n_chunks, n_frames, N_MELS]
    level = frames.level_db[index]
    # Levels are relative to the chunk's mean, and so is the floor: gain has no effect.
    mean_level = _db(torch.pow(10.0, level / 10).mean(dim=1))
    relative = (mel - mean_level[:, None, None]).clamp_min(-_DEPTH_DB) / 10.0
    contour = (level - mean_level[:, None]).clamp_min(-_DEPTH_DB) / 10.0
    mfcc = relative @ _tables().cosines[:, 1:]  # Without the first, which is the level.
    step = relative[:, 1:] - relative[:, :-1]
    ordered = _sorted(relative)
    shape = frames.shape[index]
    contrast = frames.contrast[index]
    peak = frames.peak_bin[index]
    return torch.cat(
        [
            relative.mean(dim=1),
            std(relative),
            _quantile(ordered, 0.1),
            _quantile(ordered, 0.9),
            mfcc.mean(dim=1),
            std(mfcc),
            std(mfcc[:, 1:] - mfcc[:, :-1]),
            step.abs().mean(dim=1)[:, ::2],
            _tilt(step.clamp_min(0).mean(dim=2)),
            shape.mean(dim=1),
            std(shape),
            contrast.mean(dim=1),
            std(contrast),
            modulation.by_group(relative),
            _tilt(contour),
            _contour_quantiles(contour),
            _tilt((peak[:, 1:] - peak[:, :-1]).abs()),
            modulation.of_envelope(frames.envelope[index].flatten(1)),
            modulation.of_envelope(frames.high_envelope[index].flatten(1)),
        ],
        dim=1,
    )


def _tilt(track: Tensor) -> Tensor:
    """Compute mean, standard deviation, maximum and skewness of a track [shape=(n_chunks, n)]."""
    mean = track.mean(dim=1, keepdim=True)
    centred = track - mean
    std = centred.square().mean(dim=1, keepdim=True).sqrt()
    skewness = centred.pow(3).mean(dim=1, keepdim=True) / (std.pow(3) + 1e-3)
    return torch.cat([mean, std, track.amax(dim=1, keepdim=True), skewness.clamp(-5, 5)], dim=1)


def _contour_quantiles(contour: Tensor) -> Tensor:
    ordered = _sorted(contour)
    return torch.stack([_quantile(ordered, part) for part in (0.05, 0.25, 0.5, 0.75)], dim=1)


def _sorted(track: Tensor) -> Tensor:
    """Sort along the second axis. `Tensor.sort` takes twenty times as long."""
    return torch.from_numpy(np.sort(track.numpy(), axis=1))


def _quantile(ordered: Tensor, part: float) -> Tensor:
    """Return the nearest-rank quantile of values that are sorted along the second axis."""
    return ordered[:, round(part * (ordered.shape[1] - 1))]


def _power(waveform: Tensor) -> Tensor:
    return squared(_spectrogram()(waveform)).T.contiguous()


def _rolloff_parts(n_frames: int) -> Tensor:
    """Return the energy fractions of the rolloff frequencies [shape=(n_frames, 3)]."""
    return torch.tensor([0.5, 0.85, 0.95]).repeat(n_frames, 1)


def _by_length(chunks: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    lengths: dict[int, list[int]] = {}
    for member, (start, stop) in enumerate(chunks):
        lengths.setdefault((stop - start) // HOP, []).append(member)
    return lengths


def _db(power: Tensor) -> Tensor:
    return 10.0 * (power + _FLOOR).log10()


@cache
def _spectrogram() -> torch.nn.Module:
    # Normalised so that a bin's power is that of the samples, which gives the floor one meaning.
    module: torch.nn.Module = transforms.Spectrogram(
        n_fft=N_FFT, hop_length=HOP, power=None, center=False, normalized="window"
    )
    return module


class _Tables(NamedTuple):
    """Tables that do not depend on the sound."""

    mel_bank: Tensor  # [n_bins, N_MELS]
    cosines: Tensor  # [N_MELS, N_MFCC]: the transform behind MFCC.
    frequencies_hz: Tensor  # [n_bins]
    contrast_edges: list[int]  # First bin of each band, and the bin after the last one.
    contrast_means: Tensor  # [n_bins, n_bands]: a product with it is the mean over each band.


@cache
def _tables() -> _Tables:
    n_bins = N_FFT // 2 + 1
    mel_bank = functional.melscale_fbanks(
        n_bins, f_min=40.0, f_max=RATE_HZ / 2, n_mels=N_MELS, sample_rate=RATE_HZ, mel_scale="htk"
    )
    dct = functional.create_dct(N_MFCC, N_MELS, norm="ortho")
    edges = [round(edge_hz * N_FFT / RATE_HZ) for edge_hz in _CONTRAST_EDGES_HZ]
    edges[-1] = n_bins
    means = torch.zeros(n_bins, len(edges) - 1)
    for band, (first, stop) in enumerate(pairwise(edges)):
        means[first:stop, band] = 1.0 / (stop - first)
    frequencies_hz = torch.linspace(0.0, RATE_HZ / 2, n_bins)
    return _Tables(mel_bank, dct, frequencies_hz, edges, means)


@cache
def _n_features() -> int:
    silence = torch.zeros(MIN_CHUNK + 2 * MARGIN)
    power = _power(silence)
    frames = _Frames(power, silence[MARGIN : MARGIN + MIN_CHUNK])
    return int(_statistics(frames, torch.zeros(1, dtype=torch.long), MIN_CHUNK // HOP).shape[1])


#: Length of a feature vector.
N_FEATURES = _n_features()
