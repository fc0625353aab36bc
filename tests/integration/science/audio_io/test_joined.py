"""Joined recordings: chained Ogg files, and joined FLAC, WAVE, MP3 and AAC files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.science.audio_io import containers, joined, ogg
from actors.science.audio_io.chain import Chain
from actors.science.audio_io.decode import open_recording
from actors.science.errors import RecordingError, Undecodable
from actors.science.types import AudioFormat
from tests.integration.science.audio_io.recorded import Recorded, opened
from tests.support.sounds import encoded, encoded_av, noise

RATE_HZ = 16_000


def listen(data: bytes) -> tuple[NDArray[np.float32], float, AudioFormat]:
    with open_recording(io.BytesIO(data)) as decoder:
        return np.concatenate(list(decoder.blocks())), decoder.missing_s, decoder.format


def link(
    seconds: float, *, rate_hz: int = RATE_HZ, n_channels: int = 1, codec: str = "VORBIS"
) -> bytes:
    """Return a stream with a tone of 440 Hz and an rms of 0.21 in every channel."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)
    sound = np.repeat(tone[:, None], n_channels, axis=1).astype(np.float32)
    if codec == "FLAC":
        return encoded_av(sound, rate_hz=rate_hz, kind="ogg", codec="flac")
    return encoded(sound, rate_hz=rate_hz, kind="OGG", subtype=codec)


def rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt((samples.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS", "FLAC"])
@pytest.mark.parametrize("n_links", [2, 3])
def test_all_links_of_a_chain_are_decoded(codec: str, n_links: int) -> None:
    """A repeated stream has the same serial number; half of it used to be lost silently."""
    rate_hz = 48_000 if codec == "OPUS" else RATE_HZ
    one = link(2.0, rate_hz=rate_hz, codec=codec)
    samples, missing_s, audio = listen(one * n_links)
    assert len(ogg.links(io.BytesIO(one * n_links))) == n_links
    assert len(samples) == pytest.approx(n_links * len(listen(one)[0]), abs=2)
    assert missing_s == 0
    assert (audio.rate_hz, audio.n_frames) == (rate_hz, None)
    for part in np.array_split(samples, n_links):
        assert rms(part) == pytest.approx(0.212, rel=0.02)


@pytest.mark.parametrize(
    "other",
    [
        {"rate_hz": 44_100},
        {"rate_hz": 8_000},
        {"n_channels": 2},
        {"n_channels": 2, "rate_hz": 48_000, "codec": "OPUS"},
        {"codec": "FLAC"},
    ],
    ids=lambda other: "-".join(map(str, other.values())),
)
@pytest.mark.parametrize("is_first", [True, False])
def test_links_are_brought_to_the_layout_of_the_first(
    other: dict[str, object], is_first: bool
) -> None:
    parts = [link(2.0), link(3.0, **other)]  # type: ignore[arg-type]
    if is_first:
        parts.reverse()
    samples, missing_s, audio = listen(b"".join(parts))
    wanted = listen(parts[0])[2]
    assert (audio.rate_hz, audio.n_channels) == (wanted.rate_hz, wanted.n_channels)
    assert samples.shape[1] == wanted.n_channels
    assert len(samples) / audio.rate_hz == pytest.approx(5.0, abs=0.02)
    assert missing_s == 0
    # The level of both is the same, in every channel.
    for part in np.array_split(samples, 5):
        assert rms(part) == pytest.approx(0.212, rel=0.03)


def test_a_link_that_cannot_be_decoded_is_missing_and_the_others_are_kept() -> None:
    good = link(4.0)
    bad = bytearray(good)
    # The headers of the codec, after the first page.
    bad[58:2_500] = bytes(2_442)
    samples, missing_s, _ = listen(good + bytes(bad) + good)
    assert len(samples) / RATE_HZ == pytest.approx(8.0, abs=0.01)
    assert missing_s == pytest.approx(4.0, abs=0.2)
    with pytest.raises(Undecodable):
        listen(bytes(bad) * 2)


def test_a_last_link_that_was_cut_off_keeps_what_it_has() -> None:
    one = encoded(noise(20 * RATE_HZ), rate_hz=RATE_HZ, kind="OGG")
    samples, _, _ = listen(one + one[: len(one) // 2])
    assert 28 < len(samples) / RATE_HZ < 31


def test_links_without_audio_are_skipped() -> None:
    one = link(2.0)
    empty = encoded(np.zeros((0, 1)), rate_hz=RATE_HZ, kind="OGG")
    samples, missing_s, _ = listen(empty + one + empty + one)
    assert len(samples) / RATE_HZ == pytest.approx(4.0, abs=0.01)
    assert missing_s == 0


def test_first_pages_are_found_across_the_blocks_of_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    one = link(1.0)
    wanted = [range(0, len(one)), range(len(one), 2 * len(one))]
    for n_bytes in (15, 64, len(one) - 3, len(one), len(one) + 5):
        monkeypatch.setattr(ogg, "BLOCK_BYTES", n_bytes)
        assert ogg.links(io.BytesIO(one * 2)) == wanted


def test_streams_that_begin_together_are_one_link() -> None:
    one = link(1.0)
    first_page = one[:58]
    assert len(ogg.links(io.BytesIO(first_page + one))) == 1


def test_a_file_of_very_many_links_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ogg, "MOST_PARTS", 3)
    assert listen(link(0.5) * 3)[0].size
    with pytest.raises(RecordingError, match="more than 3"):
        listen(link(0.5) * 4)


@pytest.mark.parametrize("n_frames", [1_000, 65_536, 100_000])
@pytest.mark.parametrize("kind", ["FLAC", "WAV"])
def test_joined_files_are_decoded_to_the_same_samples(kind: str, n_frames: int) -> None:
    """libsndfile silently ends with the first one."""
    parts = [
        encoded(noise(n_frames, seed=seed), rate_hz=RATE_HZ, kind=kind, subtype=subtype)
        for seed, subtype in enumerate(("PCM_16", "PCM_24", "PCM_16"))
    ]
    samples, missing_s, audio = listen(b"".join(parts))
    whole = np.concatenate([listen(part)[0] for part in parts])
    np.testing.assert_array_equal(samples, whole)
    assert missing_s == 0
    assert audio.n_frames is None


@pytest.mark.parametrize("kind", ["FLAC", "WAV"])
def test_joined_files_are_brought_to_the_layout_of_the_first(kind: str) -> None:
    parts = [
        encoded(noise(3 * hz, n_channels=n_channels), rate_hz=hz, kind=kind)
        for hz, n_channels in ((RATE_HZ, 1), (44_100, 2))
    ]
    samples, missing_s, audio = listen(b"".join(parts))
    assert (audio.rate_hz, audio.n_channels) == (RATE_HZ, 1)
    assert len(samples) / RATE_HZ == pytest.approx(6.0, abs=0.02)
    assert missing_s == 0


def test_a_joined_file_that_was_cut_off_is_missing_its_end() -> None:
    one = encoded(noise(3 * RATE_HZ), rate_hz=RATE_HZ, kind="WAV")
    samples, missing_s, _ = listen(one + one[: len(one) // 2])
    assert len(samples) / RATE_HZ == pytest.approx(4.5, abs=0.01)
    assert missing_s == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("missing_s", [0.05, 0.2])
def test_the_little_that_a_joined_wave_file_is_short_of_is_missing(missing_s: float) -> None:
    """Lossy codecs alone are allowed such a deficit."""
    one = encoded(noise(3 * RATE_HZ), rate_hz=RATE_HZ, kind="WAV")
    cut = one[: len(one) - 2 * round(missing_s * RATE_HZ)]
    assert listen(one + cut)[1] == pytest.approx(missing_s, abs=0.001)


def test_the_last_of_joined_wave_files_may_have_no_size() -> None:
    one = encoded(noise(3 * RATE_HZ), rate_hz=RATE_HZ, kind="WAV")
    last = bytearray(one)
    last[4:8] = last[40:44] = b"\xff" * 4
    samples, missing_s, _ = listen(one + bytes(last))
    assert len(samples) / RATE_HZ == pytest.approx(6.0)
    assert missing_s == 0


def test_flac_files_are_found_across_the_blocks_of_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    one = encoded(noise(1_000), rate_hz=RATE_HZ, kind="FLAC")
    wanted = [range(at * len(one), (at + 1) * len(one)) for at in range(3)]
    for n_bytes in (1, 7, 8, 9, len(one) - 4, len(one)):
        monkeypatch.setattr(joined, "BLOCK_BYTES", n_bytes)
        file = io.BytesIO(one * 3)
        assert joined.parts(file, containers.recognise(file)) == wanted


@pytest.mark.parametrize(("kind", "codec"), [("mp3", "libmp3lame"), ("adts", "aac")])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_joined_file_may_change_its_rate(kind: str, codec: str, rate_hz: int) -> None:
    """The resampling library used to raise ValueError."""
    parts = [
        encoded_av(noise(3 * hz), rate_hz=hz, kind=kind, codec=codec) for hz in (rate_hz, 32_000)
    ]
    samples, _, audio = listen(b"".join(parts))
    assert audio.rate_hz == rate_hz
    assert len(samples) / rate_hz == pytest.approx(6.0, abs=0.3)


@pytest.mark.parametrize("is_stereo_first", [True, False])
def test_a_joined_mp3_may_change_its_channels_and_keeps_its_level(is_stereo_first: bool) -> None:
    parts = [
        encoded(noise(3 * RATE_HZ).repeat(n_channels, axis=1), rate_hz=RATE_HZ, kind="MP3")
        for n_channels in (1, 2)
    ]
    if is_stereo_first:
        parts.reverse()
    samples, _, audio = listen(b"".join(parts))
    assert audio.n_channels == (2 if is_stereo_first else 1)
    first, second = np.array_split(samples, 2)
    assert rms(second) == pytest.approx(rms(first), rel=0.03)


@pytest.mark.parametrize("n_block", [1_000, 65_536])
def test_holes_of_links_are_known_when_their_audio_is_given(n_block: int) -> None:
    """The converter gives audio a second later than it takes it."""
    other_hz = 48_000
    first = noise(RATE_HZ * 2)
    second = noise(other_hz * 5, n_channels=2)
    second[other_hz] = np.nan
    second[2 * other_hz : 4 * other_hz : 100] = np.nan
    links = [Recorded(first, rate_hz=RATE_HZ), Recorded(second, rate_hz=other_hz)]
    chain = Chain([range(1), range(1)], lambda _: opened(links.pop(0)))
    decoder = opened(chain)
    wanted = [(3.0, 3.0), (4.0, 6.0)]
    at = 0
    for block in decoder.blocks(n_block):
        at += len(block)
        for begin_s, end_s in wanted:
            known = [hole for hole in decoder.holes if hole.start / RATE_HZ == begin_s]
            if begin_s * RATE_HZ < at:
                assert known
                assert known[0].stop >= min(at, int(end_s * RATE_HZ) - 50)
    assert [hole.start for hole in decoder.holes] == [3 * RATE_HZ, 4 * RATE_HZ]
    assert decoder.holes[0].n_frames == 1
    assert decoder.holes[1].stop == pytest.approx(6 * RATE_HZ, abs=50)
    assert at == 7 * RATE_HZ
