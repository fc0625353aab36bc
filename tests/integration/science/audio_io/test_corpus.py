"""Every shape of a recording is decoded to the same sound: its length, its onset, and its level."""

from __future__ import annotations

import io

import numpy as np
import pytest

from actors.facts import formats
from actors.science.audio_io.decode import open_recording
from actors.science.types import HoleKind
from tests.support import shapes
from tests.support.corpus import SHAPES
from tests.support.metering import overall
from tests.support.shapes import Shape


def test_the_corpus_is_large_and_has_every_container() -> None:
    assert len(SHAPES) >= 80
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_a_shape_keeps_the_sound(shape: Shape) -> None:
    data = shape.make()
    # The API looks at the same bytes.
    assert formats.container_of(data[: formats.HEAD_BYTES]) in (shape.container, "tagged")
    with open_recording(io.BytesIO(data)) as decoder:
        samples = np.concatenate(list(decoder.blocks()))
    rate_hz = decoder.format.rate_hz
    assert decoder.format.container == shape.container
    assert (rate_hz, decoder.format.n_channels) == (shape.rate_hz, shape.n_channels)
    assert -0.05 < len(samples) / rate_hz - shape.lasts_s < shape.longer_s
    assert decoder.missing_s == pytest.approx(shape.missing_s, abs=0.01)
    late_s = shapes.onset_s(samples, rate_hz) - shape.begins_s - shapes.BURST_S[0]
    assert -shape.early_s < late_s < shape.late_s
    begins_s = 0.0
    for hole in decoder.holes:
        assert hole.kind is HoleKind.LATE_START
        begins_s += hole.n_frames / rate_hz
    assert begins_s == pytest.approx(shape.begins_s, abs=0.1)
    # Energies, since a later beginning has none.
    levels = [
        overall(each, rate_hz)["lae_db"]
        for each in (samples, shapes.sound(rate_hz, shape.n_channels))
    ]
    assert levels[0] == pytest.approx(levels[1], abs=shape.error_db)
