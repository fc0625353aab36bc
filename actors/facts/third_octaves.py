"""The midbands of third-octave bands, IEC 61260-1:2014: exact ones are 1 kHz times 10^(n/10)."""

from __future__ import annotations

#: Nominal midbands in Hz by band number: band ``n`` has the exact midband 10^(n/10).
NOMINAL_HZ = {
    14: 25.0, 15: 31.5, 16: 40.0, 17: 50.0, 18: 63.0, 19: 80.0, 20: 100.0, 21: 125.0, 22: 160.0,
    23: 200.0, 24: 250.0, 25: 315.0, 26: 400.0, 27: 500.0, 28: 630.0, 29: 800.0, 30: 1000.0,
    31: 1250.0, 32: 1600.0, 33: 2000.0, 34: 2500.0, 35: 3150.0, 36: 4000.0, 37: 5000.0,
    38: 6300.0, 39: 8000.0, 40: 10000.0, 41: 12500.0, 42: 16000.0, 43: 20000.0,
}  # fmt: skip

#: The lowest band. The bands of a recording are numbered from here on, without a gap.
FIRST_BAND = min(NOMINAL_HZ)


def exact_hz(band: int) -> float:
    """Return the exact midband frequency of a band."""
    return float(10 ** (band / 10))
