"""The mono mix of a recording's channels: what is analysed, drawn and trained on.

The mean of channels loses sound: inverted channels cancel each other, a delay between them makes a
comb filter, and a sound in one of eight channels is 18 dB down. So the mix is made of short-time
spectra. Each bin is that of one channel, with a gain that makes its power the mean of the channels'
powers. No channel can cancel another, and the level is that of the energy mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Samples = NDArray[np.float32]

#: Hop of the spectra, which are twice as long.
HOP_S = 0.02

#: Spectra before and after one whose power counts with its own: longer than the delays between the
#: microphones of a recorder, so that a delayed channel has the same power as the first.
_REACH = 2

#: Hops per batch, one second, unless that has more samples over all channels. The mix of a batch
#: depends on its samples and those of its context, which is one hop longer than the reach.
_BATCH, _LARGEST_BATCH = 50, 4_000_000

#: A bin is taken from the first channel, or from one with more than this many times its power. A
#: lower ratio would let channels of equal level alternate between spectra, which would then cancel
#: each other where they overlap.
_LOUDER = 4.0

#: Bins below this power are silence.
_TINY = np.float32(1e-30)


class Downmix:
    """Mixes channels of a recording to mono, block by block.

    A single channel is passed on unchanged, and so are channels that are equal. The output has the
    length and the timing of the input, and does not depend on the division into blocks.

    Parameters
    ----------
    rate_hz
        Sample rate of the blocks.
    used
        The indices of the channels to mix.
    """

    def __init__(self, *, rate_hz: int, used: Sequence[int]) -> None:
        self._used = list(used)
        self._hop = scipy.fft.next_fast_len(max(round(rate_hz * HOP_S), 1), real=True)
        self._n_batch = self._hop * min(
            max(_LARGEST_BATCH // (self._hop * len(self._used)), 1), _BATCH
        )
        # The square root of a Hann window: used twice, and half overlapped, it adds up to one.
        self._window = np.sin(np.pi * np.arange(2 * self._hop) / (2 * self._hop)).astype(np.float32)
        self._n_context = (_REACH + 1) * self._hop
        #: The context before the next output sample, and what follows [shape=(n, n_used)].
        self._held = [np.zeros((self._n_context, len(self._used)), dtype=np.float32)]
        self._n_held = self._n_context

    def push(self, block: Samples) -> Samples:
        """Take frames [shape=(n, n_channels)], return the available output [shape=(m,)]."""
        if len(self._used) == 1:
            return block[:, self._used[0]]
        return self._hold(block[:, self._used])

    def finish(self) -> Samples:
        """Return the rest of the output [shape=(m,)]."""
        if len(self._used) == 1:
            return np.zeros(0, dtype=np.float32)
        n_left = self._n_held - self._n_context
        n_after = self._n_batch + self._n_context
        return self._hold(np.zeros((n_after, len(self._used)), dtype=np.float32))[:n_left]

    def _hold(self, frames: Samples) -> Samples:
        """Keep frames until their batch is complete; return the mix of complete batches."""
        self._held.append(frames)
        self._n_held += len(frames)
        n_needed = self._n_batch + 2 * self._n_context
        mixed = [np.zeros(0, dtype=np.float32)]
        if self._n_held >= n_needed:
            held, start = np.concatenate(self._held), 0
            while len(held) - start >= n_needed:
                mixed.append(self._mixed(held[start : start + n_needed]))
                start += self._n_batch
            self._held, self._n_held = [held[start:].copy()], len(held) - start
        return np.concatenate(mixed)

    def _mixed(self, frames: Samples) -> Samples:
        """Mix frames [shape=(n, n_used)]; return all but the context at either end."""
        if (frames[:, 1:] == frames[:, :1]).all():
            return frames[self._n_context : -self._n_context, 0]
        best, best_power = self._spectra(frames[:, 0])
        total = best_power.copy()
        for index in range(1, frames.shape[1]):
            other, power = self._spectra(frames[:, index])
            total += power
            is_louder = power > _LOUDER * best_power
            np.copyto(best, other, where=is_louder)
            np.copyto(best_power, power, where=is_louder)
        total /= frames.shape[1]
        total /= np.maximum(best_power, _TINY, out=best_power)
        best *= np.sqrt(total, out=total)
        parts = scipy.fft.irfft(best, 2 * self._hop, overwrite_x=True)
        parts *= self._window
        mixed: Samples = (parts[:-1, self._hop :] + parts[1:, : self._hop]).ravel()
        return mixed

    def _spectra(self, channel: Samples) -> tuple[NDArray[np.complex64], Samples]:
        """Return the spectra of one channel [shape=(n_hops - 1 - 2 * _REACH, hop + 1)].

        And the power of each bin, as the sum over a spectrum and its neighbours.
        """
        hops = channel.reshape(-1, self._hop)
        parts = np.concatenate([hops[:-1], hops[1:]], axis=1)
        parts *= self._window
        spectra: NDArray[np.complex64] = scipy.fft.rfft(parts, overwrite_x=True)
        power = np.square(spectra.real)
        power += np.square(spectra.imag)
        n = len(power) - 2 * _REACH
        around: Samples = power[:n].copy()
        for first in range(1, 2 * _REACH + 1):
            around += power[first : first + n]
        return spectra[_REACH : _REACH + n], around
