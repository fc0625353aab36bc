"""A codec has one name, whichever library decodes it."""

from __future__ import annotations

import pytest

from actors.science.audio_io import codec_names
from actors.science.audio_io.containers import Container


@pytest.mark.parametrize(
    ("subtype", "name", "expected"),
    [
        ("PCM_16", "pcm_s16le", "pcm_16"),
        ("PCM_16", "pcm_s16be_planar", "pcm_16"),
        ("PCM_24", "pcm_s24be", "pcm_24"),
        ("PCM_U8", "pcm_u8", "pcm_8"),
        ("PCM_S8", "pcm_s8", "pcm_8"),
        ("FLOAT", "pcm_f32le", "pcm_float_32"),
        ("DOUBLE", "pcm_f64be", "pcm_float_64"),
        ("ULAW", "pcm_mulaw", "pcm_mulaw"),
        ("ALAC_20", "alac", "alac"),
        ("MPEG_LAYER_III", "mp3", "mp3"),
        ("VORBIS", "vorbis", "vorbis"),
    ],
)
def test_both_libraries_have_one_name(subtype: str, name: str, expected: str) -> None:
    assert codec_names.of_libsndfile(subtype, Container("wav", "wav")) == expected
    assert codec_names.of_ffmpeg(name) == expected


def test_flac_is_flac_whatever_the_bits() -> None:
    assert codec_names.of_libsndfile("PCM_24", Container("flac", "flac")) == "flac"
