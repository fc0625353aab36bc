"""What is near one step of a coarse codec is silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.detection.silence import QUIET_DB, quiet_db


@pytest.mark.parametrize(
    ("codec", "level_db"),
    [("pcm_8", -48.16), ("pcm_alaw", -72.25), ("pcm_mulaw", -78.27), ("pcm_16", QUIET_DB)],
)
def test_the_level_of_silence(codec: str, level_db: float) -> None:
    assert quiet_db(codec) == pytest.approx(level_db, abs=0.01)
    assert quiet_db(None) == quiet_db("mp3") == QUIET_DB


@given(rms=st.floats(1e-4, 1.0), offset=st.floats(-0.5, 0.5), seed=st.integers(0, 99))
def test_no_switching_between_two_values_is_louder(rms: float, offset: float, seed: int) -> None:
    """Of noise that is rounded to 8 bits, whatever its offset."""
    noise = offset + rms * np.random.default_rng(seed).standard_normal(1_000)
    values = np.clip(np.rint(noise), 0, 1) / 128
    assert 20 * np.log10(values.std() + 1e-12) <= quiet_db("pcm_8") + 0.01
