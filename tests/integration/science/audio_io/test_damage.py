"""Truncated and damaged files of every container end with audio or with an error of our own.

Any other error would be retried in vain, and its message might quote a library.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest

from actors.science.audio_io.decode import open_recording
from actors.science.errors import RecordingError
from tests.support.corpus import SHAPES
from tests.support.shapes import SECONDS

#: One shape of each container.
EXAMPLES = {shape.container: shape for shape in SHAPES if not shape.missing_s}
#: Damaged files of each.
N_CASES = 25


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    how = rng.integers(5)
    at = int(rng.integers(1, len(changed)))
    if how == 0:
        return bytes(changed[:at])
    if how == 1:
        return bytes(changed[at:])
    if how == 2:
        n_bytes = int(rng.integers(1, 5_000))
        changed[at : at + n_bytes] = bytes(n_bytes) if rng.integers(2) else b""
        return bytes(changed)
    # The header, where every byte matters, or anywhere.
    reach = min(len(changed), 300) if how == 3 else len(changed)
    for place in rng.integers(0, reach, int(rng.integers(1, 20))):
        changed[place] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(0, 256))])
    return bytes(changed)


@pytest.mark.parametrize("container", EXAMPLES)
def test_damage_raises_nothing_but_own_errors(container: str) -> None:
    rng = np.random.default_rng(zlib.crc32(container.encode()))
    whole = EXAMPLES[container].make()
    n_decoded = 0
    for _ in range(N_CASES):
        try:
            with open_recording(io.BytesIO(damaged(whole, rng))) as decoder:
                for block in decoder.blocks():
                    assert np.isfinite(block).all()
                n_decoded += 1
        except RecordingError:
            continue
    assert n_decoded


@pytest.mark.parametrize("container", ["amr", "mp3", "aac", "ac3"])
def test_bad_frames_do_not_end_a_stream(container: str) -> None:
    whole = EXAMPLES[container].make()
    middle = len(whole) // 2
    junk = b"\xff" * (len(whole) // 20)
    with open_recording(io.BytesIO(whole[:middle] + junk + whole[middle + len(junk) :])) as decoder:
        seconds = sum(map(len, decoder.blocks())) / decoder.format.rate_hz
    assert seconds == pytest.approx(SECONDS, abs=0.4)
