"""Decoded audio in both kinds of blob store: read as it was written, or made again."""

from __future__ import annotations

import uuid
from itertools import pairwise

import numpy as np
import pytest

from actors.audio import stored_pcm
from actors.science.audio_io.packed_pcm import END_BYTES, FRAME
from actors.science.audio_io.prepare import PCM_BYTES
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobMissing
from db.blobs.keys import product_key

pytestmark = pytest.mark.integration

#: Two frames of noise, and one and a half of silence.
NOISE = np.random.default_rng(1).normal(scale=900, size=2 * FRAME).astype("<i2").tobytes()
PCM = NOISE + bytes(3 * FRAME // 2 * PCM_BYTES)
N_SAMPLES = len(PCM) // PCM_BYTES
#: A piece of 0.7 s, as blocks of a decoder are.
PIECE = 11_200 * PCM_BYTES


def written(blobs: Blobs, name: str) -> str:
    key = product_key(uuid.uuid4(), name, attempt=1)
    with stored_pcm.writer(blobs, key) as write:
        for start in range(0, len(PCM), PIECE):
            write(PCM[start : start + PIECE])
    return key


@pytest.mark.parametrize("name", ["pcm", "pcm.zst"])
def test_every_part_is_read_as_it_was_written(blobs: Blobs, name: str) -> None:
    key = written(blobs, name)
    pcm = stored_pcm.opened(blobs, key)
    assert pcm.n_samples == N_SAMPLES
    stored = len(NOISE) if name == "pcm.zst" else len(PCM)
    assert blobs.size(key) == pytest.approx(stored, abs=200)
    cuts = [0, 5, FRAME - 1, FRAME + 3, 2 * FRAME, N_SAMPLES - 1, N_SAMPLES]
    for start, stop in [*pairwise(cuts), (0, N_SAMPLES), (FRAME, 3 * FRAME)]:
        assert pcm.read(start, stop) == PCM[start * PCM_BYTES : stop * PCM_BYTES]


@pytest.mark.parametrize("damage", ["absent", "empty", "cut off", "begins late", "changed"])
def test_damaged_audio_counts_as_missing(blobs: Blobs, damage: str) -> None:
    key = written(blobs, "pcm.zst")
    content = blobs.get(key)
    assert len(content) > 2 * END_BYTES
    if damage == "absent":
        blobs.delete(key)
    else:
        changed = bytes([content[100] ^ 1])
        blobs.put(
            key,
            {
                "empty": b"",
                "cut off": content[: len(content) // 2],
                "begins late": content[1_000:],
                "changed": content[:100] + changed + content[101:],
            }[damage],
        )
    with pytest.raises(BlobMissing, match=key):
        stored_pcm.opened(blobs, key).read(0, FRAME)


def break_off(blobs: Blobs, key: str) -> None:
    with stored_pcm.writer(blobs, key) as write:
        write(PCM)
        raise EOFError


def test_nothing_is_stored_of_audio_that_breaks_off(blobs: Blobs) -> None:
    key = product_key(uuid.uuid4(), "pcm.zst", attempt=1)
    with pytest.raises(EOFError):
        break_off(blobs, key)
    with pytest.raises(BlobMissing):
        stored_pcm.opened(blobs, key)
