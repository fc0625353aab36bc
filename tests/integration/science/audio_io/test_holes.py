"""Holes: samples that are not audio, and the times that a file skips."""

from __future__ import annotations

import io
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from actors.science.audio_io.bad_samples import BadSamples
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.holes import MOST_HOLES, Holes
from actors.science.errors import NonFiniteSamples
from actors.science.types import Hole, HoleKind
from tests.support.shapes import BURST_AMPLITUDE, BURST_S, Samples, by_ffmpeg
from tests.support.sounds import encoded, noise

RATE_HZ = 16_000
N_FRAMES = 3 * RATE_HZ + 17


def listen(data: bytes) -> tuple[Samples, list[tuple[int, int, HoleKind]], float]:
    with open_recording(io.BytesIO(data)) as decoder:
        samples = np.concatenate(list(decoder.blocks(4_001)))
        found = [(hole.start, hole.stop, hole.kind) for hole in decoder.holes]
        return samples, found, decoder.missing_s


def with_bad(*bad: slice, value: float = np.nan) -> bytes:
    sound = noise(N_FRAMES, n_channels=2)
    for each in bad:
        sound[each, 1] = value
    return encoded(sound, rate_hz=RATE_HZ, kind="WAV", subtype="FLOAT")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
def test_bad_samples_are_a_hole_and_the_others_are_kept(value: float) -> None:
    samples, found, missing_s = listen(with_bad(slice(32_000, 32_050), value=value))
    assert found == [(32_000, 32_050, HoleKind.BAD_SAMPLES)]
    assert missing_s == 0
    sound = noise(N_FRAMES, n_channels=2)
    sound[32_000:32_050] = 0.0
    np.testing.assert_allclose(samples, sound, atol=1e-7)


def test_bad_samples_near_each_other_are_one_hole() -> None:
    near, far = 100, 400
    bad = [slice(at, at + 1) for at in (0, near, near + far, N_FRAMES - 1)]
    _, found, _ = listen(with_bad(*bad))
    assert [(start, stop) for start, stop, _ in found] == [
        (0, near + 1),
        (near + far, near + far + 1),
        (N_FRAMES - 1, N_FRAMES),
    ]


@pytest.mark.parametrize("used", [[0, 1], [1], []])
@pytest.mark.parametrize("seed", range(8))
def test_holes_do_not_depend_on_the_pieces(seed: int, used: list[int]) -> None:
    rng = np.random.default_rng(seed)
    sound = rng.normal(size=(4_000, 2)).astype(np.float32)
    for at in rng.integers(0, len(sound), 30):
        sound[at : at + int(rng.integers(1, 120)), int(rng.integers(0, 2))] = np.nan

    def replaced(pieces: list[Samples]) -> tuple[Samples, list[Hole], list[int]]:
        holes = Holes()
        bad = BadSamples(RATE_HZ, holes, n_channels=2, used=used)
        given = [bad.push(piece) for piece in pieces if len(piece)]
        held = bad.finish()
        samples = np.concatenate([*given, *([] if held is None else [held])])
        return samples, holes.in_order(), bad.n_bad.tolist()

    whole = replaced([sound])
    assert len(whole[0]) == len(sound)
    assert np.isfinite(whole[0]).all()
    for hole in whole[1]:
        assert not whole[0][hole.start : hole.stop].any()
    for cuts in (rng.integers(0, len(sound), 40), np.arange(len(sound))):
        cut = replaced(np.split(sound, np.sort(cuts)))
        np.testing.assert_array_equal(cut[0], whole[0])
        assert cut[1:] == whole[1:]


def test_the_number_of_holes_of_each_kind_is_bounded() -> None:
    holes, rng = Holes(), np.random.default_rng(0)
    at, added = 0, []
    for _ in range(20 * MOST_HOLES):
        start = at + int(rng.integers(1, 1_000))
        at = start + int(rng.integers(1, 50))
        added.append(Hole(start, at, HoleKind(rng.choice([HoleKind.GAP, HoleKind.BAD_SAMPLES]))))
        holes.add(added[-1])
    found = holes.in_order()
    assert MOST_HOLES / 2 < len(found) <= 2 * MOST_HOLES
    assert (found[0].start, found[-1].stop) == (added[0].start, at)
    assert all(before.stop <= after.start for before, after in pairwise(found))
    covered = np.zeros(at, dtype=np.bool_)
    for hole in found:
        covered[hole.start : hole.stop] = True
    assert all(covered[hole.start : hole.stop].all() for hole in added)


def test_holes_near_the_others_are_joined_first() -> None:
    holes = Holes()
    for second in range(MOST_HOLES // 2 + 1):
        for start in (1_000 * second, 1_000 * second + 20):
            holes.add(Hole(start, start + 10, HoleKind.GAP))
    assert [hole.n_frames for hole in holes.in_order()][:3] == [30, 30, 30]
    assert len(holes.in_order()) == MOST_HOLES // 2 + 2


def test_holes_do_not_overlap_and_are_never_empty() -> None:
    holes = Holes()
    for start, stop, kind in ((0, 50, "gap"), (20, 30, "bad_samples"), (40, 90, "bad_samples")):
        holes.add(Hole(start, stop, HoleKind(kind)))
    assert [(hole.start, hole.stop) for hole in holes.in_order()] == [(0, 50), (50, 90)]
    with pytest.raises(ValueError, match="greater"):
        Hole(333, 333, HoleKind.GAP)


def test_a_recording_that_is_mostly_bad_is_refused() -> None:
    sound = noise(N_FRAMES)
    for n_bad in (N_FRAMES // 2 - 1, N_FRAMES // 2 + 200, N_FRAMES):
        sound[:n_bad] = np.nan
        data = encoded(sound, rate_hz=RATE_HZ, kind="WAV", subtype="FLOAT")
        if n_bad < N_FRAMES // 2:
            assert [(start, stop) for start, stop, _ in listen(data)[1]] == [(0, n_bad)]
            continue
        with pytest.raises(NonFiniteSamples):
            listen(data)


def test_few_bad_samples_all_over_a_recording_are_not_most_of_it() -> None:
    _, found, _ = listen(with_bad(slice(0, None, 100)))
    assert [(start, stop) for start, stop, _ in found] == [(0, N_FRAMES // 100 * 100 + 1)]


def test_bad_samples_of_an_unused_channel_are_no_holes() -> None:
    sound = noise(N_FRAMES, n_channels=2)
    with open_recording(io.BytesIO(with_bad(slice(20_000, 40_000)))) as decoder:
        samples = np.concatenate(list(decoder.blocks(used=[0])))
        assert decoder.holes == []
        assert decoder.bad_channels == []
    np.testing.assert_array_equal(samples[:, 0], sound[:, 0])
    assert not samples[20_000:40_000, 1].any()


def test_a_channel_that_is_mostly_bad_is_named() -> None:
    for used, is_refused in ((None, False), ([0], False), ([1], True)):
        with open_recording(io.BytesIO(with_bad(slice(10_000, None)))) as decoder:
            if is_refused:
                with pytest.raises(NonFiniteSamples):
                    list(decoder.blocks(used=used))
            else:
                list(decoder.blocks(used=used))
            assert decoder.bad_channels == [1]


@pytest.mark.parametrize(
    ("kind", "codec", "rate_hz", "n_packet"),
    [
        ("mp4", "aac", 48_000, 1_024),
        ("matroska", "flac", 48_000, 4_608),
        ("webm", "libopus", 48_000, 960),
        ("mpegts", "mp2", 48_000, 1_152),
        ("flv", "libmp3lame", 44_100, 1_152),
    ],
)
def test_lost_packets_leave_a_gap(kind: str, codec: str, rate_hz: int, n_packet: int) -> None:
    make = partial(by_ffmpeg, kind, codec, rate_hz)
    lost = range(10, 10 + rate_hz // 2 // n_packet)
    whole, _, _ = listen(make())
    samples, found, missing_s = listen(make(without=lost))
    assert len(samples) == pytest.approx(len(whole), abs=0.05 * rate_hz)
    assert [kind for _, _, kind in found] == [HoleKind.GAP]
    start, stop, _ = found[0]
    assert start == pytest.approx(10 * n_packet, abs=1.2 * n_packet)
    assert stop - start == pytest.approx(len(lost) * n_packet, abs=1.2 * n_packet)
    assert not samples[start:stop].any()
    assert missing_s == 0


def test_one_lost_packet_is_no_gap_but_many_are() -> None:
    make = partial(by_ffmpeg, "matroska", "libopus", 48_000)
    assert listen(make(without=range(10, 12)))[1] == []
    assert listen(make(without=range(10, 60)))[1]


def stereo_after_mono(without: range) -> bytes:
    """Return a stream that changes to two channels, after which it lacks packets of 24 ms."""
    first = by_ffmpeg("mpegts", "mp2", 48_000)
    second = by_ffmpeg("mpegts", "mp2", 48_000, n_channels=2, begins_s=3.0, without=without)
    return first + second


def test_after_a_change_of_channels_one_lost_packet_is_no_gap() -> None:
    """The mix of two channels is a second late, which does not count."""
    samples, found, _ = listen(stereo_after_mono(range(30, 31)))
    assert found == []
    assert len(samples) / 48_000 == pytest.approx(6.0, abs=0.1)


def test_after_a_change_of_channels_a_gap_is_where_packets_are_lost() -> None:
    lost = range(30, 55)
    samples, [(start, stop, _)], _ = listen(stereo_after_mono(lost))
    assert start / 48_000 == pytest.approx(3.0 + 0.024 * lost.start, abs=0.05)
    assert (stop - start) / 48_000 == pytest.approx(0.024 * len(lost), abs=0.05)
    assert not samples[start:stop].any()
    assert samples[start - 1_000 : start].any()
    assert len(samples) / 48_000 == pytest.approx(6.0, abs=0.1)
    end_s = 3.0 + BURST_S[1]
    burst = np.flatnonzero(np.abs(samples[:, 0]) > BURST_AMPLITUDE / 3)
    assert burst[-1] / 48_000 == pytest.approx(end_s, abs=0.05)


def test_a_damaged_first_packet_is_lost_rather_than_late() -> None:
    data = bytearray(by_ffmpeg("mp4", "flac", 48_000, video_s=1.0))
    at = data.index(b"\xff\xf8", data.index(b"mdat"))
    data[at : at + 20_000] = bytes(20_000)
    _, found, _ = listen(bytes(data))
    assert found[0][0] == 0
    assert [kind for _, _, kind in found] == [HoleKind.GAP]


@pytest.mark.parametrize("is_zero", [True, False])
@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "aac"), ("mp4", "flac"), ("wv", "wavpack"), ("tta", "tta")]
)
def test_a_damaged_packet_leaves_a_gap(kind: str, codec: str, is_zero: bool) -> None:
    """Decoders would give noise at full scale in its place."""
    data = bytearray(by_ffmpeg(kind, codec, 48_000))
    at = len(data) // 2
    data[at : at + 1_500] = bytes(1_500) if is_zero else np.random.default_rng(0).bytes(1_500)
    samples, found, missing_s = listen(bytes(data))
    assert [kind for _, _, kind in found] == [HoleKind.GAP]
    assert missing_s == 0
    assert len(samples) / 48_000 == pytest.approx(3.0, abs=0.1)
    assert float(np.abs(samples).max()) < 0.4


@pytest.mark.parametrize("n_bytes", [1, 400, 30_000])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("rate_hz", [8_000, 192_000])
def test_damage_in_a_flac_file_costs_only_the_damaged_frames(
    n_bytes: int, share: float, rate_hz: int
) -> None:
    """libsndfile would end there. All other samples are the same, at the same times."""
    sound = noise(400_000, n_channels=2)
    data = encoded(sound, rate_hz=rate_hz, kind="FLAC", subtype="PCM_24")
    whole, _, _ = listen(data)
    at = int(share * len(data))
    changed = bytes(byte ^ 0xFF for byte in data[at : at + n_bytes])
    samples, found, missing_s = listen(data[:at] + changed + data[at + n_bytes :])
    assert missing_s == 0
    assert len(samples) == len(whole)
    assert {kind for _, _, kind in found} == {HoleKind.GAP}
    for start, stop, _ in found:
        assert not samples[start:stop].any()
        samples[start:stop] = whole[start:stop]
    np.testing.assert_array_equal(samples, whole)
    # The bytes, and two frames that they are parts of.
    n_lost = sum(stop - start for start, stop, _ in found)
    assert n_lost <= len(whole) * n_bytes / len(data) + 3 * 4_096


def test_damage_at_the_end_of_a_flac_file_is_missing() -> None:
    data = encoded(noise(N_FRAMES), rate_hz=RATE_HZ, kind="FLAC")
    samples, found, missing_s = listen(data[:-500] + bytes(500))
    assert found == []
    assert len(samples) / RATE_HZ + missing_s == pytest.approx(N_FRAMES / RATE_HZ)


def test_a_flac_file_that_was_cut_from_another_begins_at_once() -> None:
    """Its frames count from the beginning of the whole one."""
    data = encoded(noise(60 * RATE_HZ), rate_hz=RATE_HZ, kind="FLAC")
    header = data[: data.index(b"\xff\xf8")]
    cut = bytearray(header + data[data.index(b"\xff\xf8", len(data) // 2) :])
    cut[len(cut) // 2] ^= 0xFF
    samples, found, _ = listen(bytes(cut))
    assert len(samples) / RATE_HZ == pytest.approx(30.0, abs=1.0)
    assert [kind for _, _, kind in found] == [HoleKind.GAP]


def test_a_damaged_packet_of_apple_lossless_in_caf_is_all_that_is_lost() -> None:
    data = bytearray(encoded(noise(N_FRAMES), rate_hz=RATE_HZ, kind="CAF", subtype="ALAC_16"))
    data[len(data) // 2 : len(data) // 2 + 300] = np.random.default_rng(0).bytes(300)
    samples, found, missing_s = listen(bytes(data))
    assert len(samples) / RATE_HZ + missing_s == pytest.approx(N_FRAMES / RATE_HZ, abs=0.01)
    assert missing_s + sum(stop - start for start, stop, _ in found) / RATE_HZ < 0.6
