"""Frequency weightings A and C of IEC 61672-1, at any sample rate.

A is C followed by one more section, so a meter filters for C and adds one filter for A. The low
poles use the bilinear transform, which is accurate far below Nyquist. It would bend the two poles
at 12.2 kHz down to zero gain at Nyquist, and fail class 1 there at low rates, so their section has
the true poles and a numerator that is fitted to the analogue response.

Z is not a filter: it is the samples without the constant part of the recording.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

#: Poles of the weightings in Hz, IEC 61672-1:2013 annex E. C has the first and the last, twice
#: each, and two zeros at 0; A has the two between as well, and two more zeros at 0.
POLES_HZ = (20.598997, 107.65265, 737.86223, 12194.217)

#: The lowest and the highest frequency for which the standard sets limits.
LOWEST_HZ, HIGHEST_HZ = 10.0, 20_000.0

#: Share of the sample rate up to which class 1 is claimed. The filters are within class 1 up
#: to Nyquist; content above this share is mostly removed by the recorder's own filter.
SUPPORTED_SHARE = 0.4537

#: Points of the frequency axis for fitting the section of the high poles.
_FIT_POINTS = 513


def supported_hz(rate_hz: int) -> tuple[float, float]:
    """Return the frequency range in which levels at a sample rate are within class 1."""
    return LOWEST_HZ, min(HIGHEST_HZ, SUPPORTED_SHARE * rate_hz)


@lru_cache(maxsize=32)
def c_weighting(rate_hz: int) -> NDArray[np.float64]:
    """Return sections of the C-weighting [shape=(2, 6)], with a gain of one at 1 kHz."""
    low, _, _, high = POLES_HZ
    return _unity(np.stack([_high_pass(low, low, rate_hz), _high_poles(high, rate_hz)]), rate_hz)


@lru_cache(maxsize=32)
def a_from_c(rate_hz: int) -> NDArray[np.float64]:
    """Return the section [shape=(1, 6)] from C-weighted to A-weighted samples."""
    _, second, third, _ = POLES_HZ
    return _unity(_high_pass(second, third, rate_hz)[None], rate_hz)


def a_weighting(rate_hz: int) -> NDArray[np.float64]:
    """Return sections of the A-weighting [shape=(3, 6)], with a gain of one at 1 kHz."""
    return np.concatenate([c_weighting(rate_hz), a_from_c(rate_hz)])


def _high_pass(first_hz: float, second_hz: float, rate_hz: int) -> NDArray[np.float64]:
    """Return a section of two zeros at 0 and two poles, by the bilinear transform [shape=(6,)]."""
    analogue_poles = -2 * math.pi * np.array([first_hz, second_hz])
    zeros, poles, gain = signal.bilinear_zpk(np.zeros(2), analogue_poles, 1.0, fs=rate_hz)
    return np.asarray(signal.zpk2sos(zeros, poles, gain)[0], dtype=np.float64)


def _high_poles(pole_hz: float, rate_hz: int) -> NDArray[np.float64]:
    """Return a double pole that matches the analogue response up to Nyquist [shape=(6,)].

    The squared magnitude of a numerator of three taps is a sum of three known shapes, so it is
    fitted to the analogue response by linear least squares of the relative error. Its roots are
    then chosen on or inside the unit circle. (M. Vicanek, Matched Second Order Digital Filters,
    2016, fixes the same three unknowns at three frequencies.)
    """
    pole = math.exp(-2 * math.pi * pole_hz / rate_hz)
    denominator = np.array([1.0, -2 * pole, pole**2])
    half_angle = np.linspace(0, math.pi / 2, _FIT_POINTS)
    high = np.sin(half_angle) ** 2
    shapes = np.stack([1 - high, high, 4 * high * (1 - high)], axis=1)
    # |1 - p exp(-jw)|^2, squared once more for the double pole.
    poles_power = ((1 - pole) ** 2 + 4 * pole * high) ** 2
    analogue_power = (1 + (half_angle / math.pi * rate_hz / pole_hz) ** 2) ** -2.0
    wanted = poles_power * analogue_power
    at_0, at_nyquist, between = np.linalg.lstsq(
        shapes / wanted[:, None], np.ones(_FIT_POINTS), rcond=None
    )[0]
    even = (math.sqrt(at_0) + math.sqrt(at_nyquist)) / 2
    first = (even + math.sqrt(even**2 + between)) / 2
    numerator = [first, (math.sqrt(at_0) - math.sqrt(at_nyquist)) / 2, -between / (4 * first)]
    return np.concatenate([numerator, denominator])


def _unity(sections: NDArray[np.float64], rate_hz: int) -> NDArray[np.float64]:
    """Scale sections to a gain of exactly one at 1 kHz."""
    _, at_1khz = signal.freqz_sos(sections, worN=[1000.0], fs=rate_hz)
    sections[0, :3] /= np.abs(at_1khz[0])
    return sections
