"""The values of the option ``channel``, besides the number of a channel, counted from 1."""

from __future__ import annotations

from typing import Literal

ChannelRule = Literal["energy_mean", "loudest"]

#: The energy mean of all channels that are not silent.
ENERGY_MEAN: ChannelRule = "energy_mean"
#: The channel with the greatest A-weighted energy.
LOUDEST: ChannelRule = "loudest"
