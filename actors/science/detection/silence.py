"""The level below which sound is silence, whatever it resembles."""

from __future__ import annotations

import math

#: A- and time-averaged level in dB re full scale below which everything counts as silence: the
#: rounding noise of 16-bit audio is around -98 dB.
QUIET_DB = -80.0

#: Smallest steps between two sample values, full scale = 1: of 8 bits, and of G.711 (ITU-T, 1988).
_STEPS = {"pcm_8": 2.0**-7, "pcm_alaw": 2.0**-11, "pcm_mulaw": 2.0**-12}


def quiet_db(codec: str | None) -> float:
    """Return the level of silence in recordings of a codec, in dB re full scale.

    Faint sound switches between two neighbouring sample values, which makes clicks and crackling of
    a steady noise. Its rms is half a step at most, at equal shares of both: -48.2 dB in 8 bits.
    """
    step = _STEPS.get(codec or "", 0.0)
    return max(QUIET_DB, 20 * math.log10(step / 2)) if step else QUIET_DB
