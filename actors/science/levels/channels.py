"""The channels of a recording: the level and the state of each, and which of them are used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.facts.channel_rules import ENERGY_MEAN, LOUDEST
from actors.science.errors import NoSuchChannel
from actors.science.levels.totals import SILENCE, ChannelTotals

#: The states of a channel. ``IDENTICAL`` and ``INVERTED`` refer to an earlier channel.
LIVE, SILENT, IDENTICAL, INVERTED = "live", "silent", "identical", "inverted"

#: A-weighted energy relative to that of another sound (-30 dB) below which a sound does not count:
#: a channel this far below the loudest is silent, and one whose difference from another is this far
#: below both is identical to it. Microphones at one place, and the safety track of a recorder, are
#: within 26 dB of each other. The noise of an input without a microphone is further below: with
#: crosstalk and after Opus at 48 kbit/s it was 35 dB below the sound.
NEGLIGIBLE = 1e-3

#: Correlation of A-weighted samples at or below which a channel is an inverted copy of another:
#: noise of the microphones 10 dB below the sound still allows this.
INVERTED_BELOW = -0.9


def states(products: NDArray[np.float64], *, n_frames: int) -> list[tuple[str, int | None]]:
    """Return the state of each channel, and the index of the channel that it refers to.

    Parameters
    ----------
    products
        Sums of products of A-weighted samples over the recording [shape=(n_channels, n_channels)].
    n_frames
        Length of the recording.
    """
    energies = np.diagonal(products)
    least = max(NEGLIGIBLE * float(energies.max()), SILENCE * n_frames)
    found: list[tuple[str, int | None]] = []
    for index, energy in enumerate(energies):
        if energy <= least:
            found.append((SILENT, None))
            continue
        state: tuple[str, int | None] = LIVE, None
        for other in (each for each in range(index) if energies[each] > least):
            product = products[index, other]
            difference = energy + energies[other] - 2 * product
            if difference <= NEGLIGIBLE * min(energy, energies[other]):
                state = IDENTICAL, other
            elif product <= INVERTED_BELOW * np.sqrt(energy * energies[other]):
                state = INVERTED, other
            else:
                continue
            break
        found.append(state)
    return found


def check(channel: str, *, n_channels: int) -> None:
    """Raise :class:`NoSuchChannel` if a recording does not have the channel of the option."""
    if channel not in (ENERGY_MEAN, LOUDEST) and int(channel) > n_channels:
        raise NoSuchChannel(
            f"channel {channel} was requested, but the recording has {n_channels}"
            f" channel{'s' if n_channels > 1 else ''}: send it again with another channel"
        )


def assumed(channel: str, *, n_channels: int) -> list[int]:
    """Return the indices of the channels that the option names, before they are measured."""
    check(channel, n_channels=n_channels)
    is_rule = channel in (ENERGY_MEAN, LOUDEST)
    return list(range(n_channels)) if is_rule else [int(channel) - 1]


def chosen(channel: str, measured: Sequence[ChannelTotals]) -> list[int]:
    """Return the indices of the channels that the option names, given their levels."""
    if channel == LOUDEST:
        return [int(np.argmax([each.a_mean_square for each in measured]))]
    named = assumed(channel, n_channels=len(measured))
    if channel == ENERGY_MEAN:
        # A recording of silence uses all channels.
        return [index for index in named if measured[index].state != SILENT] or named
    return named
