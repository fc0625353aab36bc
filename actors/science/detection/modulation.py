"""Modulation features of a chunk: how fast, and how regularly, its level and its bands vary."""

from __future__ import annotations

import torch
from torch import Tensor

from actors.science.detection.chunks import HOP, RATE_HZ

#: Hop of the fine envelope for modulation features: 320 values per second.
ENVELOPE_HOP = 50

#: Edges in Hz of the modulation bands, from slow swells to the roughness of an engine.
_MODULATION_EDGES_HZ = (0.0, 2.5, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0, 60.0, 100.0, 160.0)

#: Groups of mel bands, and edges in Hz of the bands of each group's slow modulation.
_N_GROUPS = 8
_SLOW_EDGES_HZ = (1.5, 3.0, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0)

#: Floor of an envelope's mean; the rounding noise of 16-bit audio is above it.
_FLOOR = 1e-10


def by_group(relative: Tensor) -> Tensor:
    """Compute the modulation of groups of mel bands, by rate [shape=(n_chunks, 56)]."""
    n_chunks, n_frames, _ = relative.shape
    groups = relative.reshape(n_chunks, n_frames, _N_GROUPS, -1).mean(dim=3).transpose(1, 2)
    centred = (groups - groups.mean(dim=2, keepdim=True)) * torch.hann_window(n_frames)
    n_fft = 4 * _next_power(n_frames)
    spectrum = squared(torch.fft.rfft(centred, n=n_fft))
    bins_hz = torch.linspace(0.0, RATE_HZ / HOP / 2, spectrum.shape[2])
    bands = _band_sums(spectrum, bins_hz, _SLOW_EDGES_HZ)
    # The sum over bins grows with the length of the chunk and of the transform: normalise by both.
    return (bands * (512 / n_fft / n_frames) + 1e-2).log().flatten(1)


def of_envelope(envelope: Tensor) -> Tensor:
    """Compute bands of an envelope's spectrum, its strongest periods, its crest and its attacks."""
    n_values = envelope.shape[1]
    mean = envelope.mean(dim=1, keepdim=True) + _FLOOR
    compressed = (envelope / mean + 1e-4).pow(0.5)
    centred = compressed - compressed.mean(dim=1, keepdim=True)
    window = torch.hann_window(n_values)
    n_fft = 2 * _next_power(n_values)
    spectrum = squared(torch.fft.rfft(centred * window, n=n_fft))
    rate_hz = RATE_HZ / ENVELOPE_HOP
    bins_hz = torch.linspace(0.0, rate_hz / 2, spectrum.shape[1])
    bands = _band_sums(spectrum, bins_hz, _MODULATION_EDGES_HZ)
    total = spectrum.sum(dim=1, keepdim=True) + 1e-9
    # Autocorrelation from the power spectrum, divided by that of the window.
    correlation = torch.fft.irfft(spectrum)[:, : n_values // 2]
    of_window = torch.fft.irfft(squared(torch.fft.rfft(window, n=n_fft)))[: n_values // 2]
    correlation = correlation / (correlation[:, :1] + 1e-9) / (of_window / of_window[0])
    shortest, longest = int(rate_hz / 60), int(0.25 * rate_hz) - 1
    fast = correlation[:, shortest // 2 : shortest * 3].amax(dim=1, keepdim=True)
    slow = correlation[:, shortest * 3 : longest].amax(dim=1, keepdim=True)
    crest = (compressed.amax(dim=1, keepdim=True) / compressed.mean(dim=1, keepdim=True)).log()
    steps = compressed[:, 1:] - compressed[:, :-1]
    attack = steps.clamp_min(0).square().mean(dim=1, keepdim=True)
    release = steps.clamp_max(0).square().mean(dim=1, keepdim=True)
    return torch.cat(
        [
            (bands / total + 1e-3).log(),
            std(compressed)[:, None],
            crest,
            fast,
            slow,
            (attack + 1e-6).log(),
            ((attack + 1e-6) / (release + 1e-6)).log(),
        ],
        dim=1,
    )


def std(track: Tensor) -> Tensor:
    """Standard deviation along the second axis. `Tensor.std` takes twenty times as long."""
    return (track - track.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()


def squared(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _band_sums(spectrum: Tensor, bins_hz: Tensor, edges_hz: tuple[float, ...]) -> Tensor:
    """Sum over bands of the last axis, each without its upper edge."""
    edges = torch.bucketize(torch.tensor(edges_hz), bins_hz)
    cumulated = torch.nn.functional.pad(spectrum.cumsum(dim=-1), (1, 0))
    return cumulated[..., edges[1:]] - cumulated[..., edges[:-1]]


def _next_power(n_values: int) -> int:
    return 1 << (n_values - 1).bit_length()
