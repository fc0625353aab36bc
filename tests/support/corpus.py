"""The corpus of recordings: every container and codec, and the headers that the field leaves."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from tests.support.shapes import (
    AIFF_NOTE,
    APE_TAG,
    CAF_NOTE,
    GUANO,
    ID3_BYTES,
    LIST,
    SECONDS,
    Shape,
    Track,
    at_both_ends,
    by_ffmpeg,
    by_libsndfile,
    changed,
    cut,
    id3,
    inserted,
)

#: Of libsndfile: kind, subtype, rate, container.
_LIBSNDFILE = (
    ("WAV", "PCM_16", 48_000, "wav"),
    ("WAV", "PCM_24", 44_100, "wav"),
    ("WAV", "PCM_32", 16_000, "wav"),
    ("WAV", "FLOAT", 96_000, "wav"),
    ("WAV", "DOUBLE", 16_000, "wav"),
    ("WAV", "PCM_U8", 16_000, "wav"),
    ("WAVEX", "PCM_24", 48_000, "wav"),
    ("RF64", "PCM_16", 48_000, "rf64"),
    ("W64", "PCM_24", 48_000, "w64"),
    ("AIFF", "PCM_16", 44_100, "aiff"),
    ("AIFF", "PCM_24", 48_000, "aiff"),
    ("AIFF", "FLOAT", 48_000, "aiff"),
    ("AU", "PCM_16", 16_000, "au"),
    ("AU", "FLOAT", 48_000, "au"),
    ("CAF", "PCM_16", 44_100, "caf"),
    ("CAF", "FLOAT", 48_000, "caf"),
    ("CAF", "ALAC_24", 48_000, "caf"),
    ("FLAC", "PCM_16", 16_000, "flac"),
    ("FLAC", "PCM_24", 96_000, "flac"),
    ("OGG", "VORBIS", 44_100, "ogg"),
    ("OGG", "OPUS", 48_000, "ogg"),
    ("NIST", "PCM_16", 16_000, "nist"),
    ("VOC", "PCM_16", 16_000, "voc"),
    # Unusual rates, of bat recorders and of clocks that are off.
    ("WAV", "PCM_16", 4_000, "wav"),
    ("WAV", "PCM_16", 11_127, "wav"),
    ("WAV", "PCM_16", 44_056, "wav"),
    ("WAV", "PCM_16", 96_001, "wav"),
    ("WAV", "PCM_16", 256_000, "wav"),
    ("WAV", "PCM_16", 384_000, "wav"),
    ("WAV", "PCM_16", 500_000, "wav"),
    ("WAV", "PCM_16", 768_000, "wav"),
)

#: Of FFmpeg, without padding: kind, codec, rate, container.
_EXACT = (
    ("avi", "pcm_s16le", 16_000, "avi"),
    ("ipod", "alac", 44_100, "mp4"),
    ("mov", "pcm_s24be", 48_000, "mp4"),
    ("mp4", "flac", 48_000, "mp4"),
    ("matroska", "pcm_s16le", 48_000, "matroska"),
    ("matroska", "flac", 48_000, "matroska"),
    ("matroska", "wavpack", 48_000, "matroska"),
    ("wv", "wavpack", 44_100, "wavpack"),
    ("tta", "tta", 44_100, "tta"),
    ("ogg", "flac", 44_100, "ogg"),
    ("ogg", "flac", 16_000, "ogg"),
    ("caf", "pcm_s16be", 16_000, "caf"),
    # FFmpeg declares whole packets in CAF, and extensible formats in Wave64.
    ("caf", "alac", 48_000, "caf"),
    ("caf", "flac", 48_000, "caf"),
    ("w64", "pcm_f32le", 48_000, "w64"),
    ("w64", "pcm_f64le", 48_000, "w64"),
    ("w64", "pcm_s24le", 48_000, "w64"),
)

#: Of FFmpeg, lossy: kind, codec, rate, container, and how much later its sound may be. LAME lowers
#: the level by 0.45 dB.
_LOSSY = (
    ("mp3", "libmp3lame", 44_100, "mp3", 0.01),
    ("mp3", "libmp3lame", 16_000, "mp3", 0.01),
    ("mp3", "libmp3lame", 8_000, "mp3", 0.01),
    ("mp2", "mp2", 48_000, "mp3", 0.02),
    ("mp2", "mp2", 24_000, "mp3", 0.03),
    ("adts", "aac", 44_100, "aac", 0.03),
    ("adts", "aac", 16_000, "aac", 0.07),
    ("latm", "aac", 44_100, "latm", 0.03),
    ("ipod", "aac", 44_100, "mp4", 0.01),
    ("mov", "aac", 48_000, "mp4", 0.01),
    ("3gp", "aac", 44_100, "mp4", 0.01),
    ("3gp", "libopencore_amrnb", 8_000, "mp4", 0.02),
    ("amr", "libopencore_amrnb", 8_000, "amr", 0.02),
    ("mp4", "libopus", 48_000, "mp4", 0.01),
    ("webm", "libopus", 48_000, "webm", 0.01),
    ("matroska", "libopus", 48_000, "matroska", 0.01),
    ("matroska", "libmp3lame", 48_000, "matroska", 0.01),
    ("matroska", "aac", 48_000, "matroska", 0.01),
    ("mpegts", "aac", 48_000, "ts", 0.03),
    ("mpegts", "mp2", 48_000, "ts", 0.02),
    ("mpegts", "ac3", 48_000, "ts", 0.01),
    ("mpeg", "mp2", 48_000, "ps", 0.02),
    ("vob", "ac3", 48_000, "ps", 0.01),
    ("ac3", "ac3", 48_000, "ac3", 0.01),
    ("ac3", "ac3", 44_100, "ac3", 0.01),
    ("eac3", "eac3", 48_000, "eac3", 0.01),
    ("avi", "libmp3lame", 44_100, "avi", 0.03),
    ("asf", "wmav2", 44_100, "asf", 0.06),
    ("flv", "aac", 44_100, "flv", 0.03),
    ("ogg", "libopus", 48_000, "ogg", 0.01),
    ("w64", "adpcm_ms", 16_000, "w64", 0.01),
    ("wav", "adpcm_ms", 16_000, "wav", 0.01),
    ("wav", "adpcm_ima_wav", 16_000, "wav", 0.01),
    ("wav", "pcm_mulaw", 8_000, "wav", 0.002),
    ("wav", "pcm_alaw", 8_000, "wav", 0.002),
    ("wav", "libmp3lame", 44_100, "wav", 0.03),
    ("caf", "adpcm_ima_qt", 44_100, "caf", 0.01),
)


def _bit_rate(codec: str) -> Track:
    """Return the bit rate of codecs that have no suitable default."""
    if codec.startswith("wma"):
        return Track(bit_rate=96_000)
    return Track(bit_rate=12_200) if "amr" in codec else Track()


def _early_s(codec: str) -> float:
    """Return the sound that FFmpeg's encoder of WMA drops at the start: a frame."""
    return 0.05 if codec.startswith("wma") else 0.003


def _containers() -> Iterator[Shape]:
    for kind, subtype, rate_hz, container in _LIBSNDFILE:
        is_lossy = subtype in ("VORBIS", "OPUS")
        yield Shape(
            f"{kind}-{subtype}-{rate_hz}",
            partial(by_libsndfile, kind, subtype, rate_hz),
            container,
            rate_hz,
            late_s=0.01 if is_lossy else 0.002,
            error_db=0.3 if is_lossy else 0.05,
        )
    for kind, codec, rate_hz, container in _EXACT:
        make = partial(by_ffmpeg, kind, codec, rate_hz)
        yield Shape(f"{kind}-{codec}-{rate_hz}", make, container, rate_hz)
    for kind, codec, rate_hz, container, late_s in _LOSSY:
        yield Shape(
            f"{kind}-{codec}-{rate_hz}",
            partial(by_ffmpeg, kind, codec, rate_hz, **_bit_rate(codec)),
            container,
            rate_hz,
            late_s=late_s,
            early_s=_early_s(codec),
            error_db=2.0 if "amr" in codec else 0.6,
            longer_s=0.2,
        )
    yield Shape(
        "rifx", partial(by_libsndfile, "WAV", "PCM_16", 16_000, endian="BIG"), "wav", 16_000
    )
    yield Shape("caf-24-in-32", _of_wide_samples, "caf", 48_000)
    yield Shape(
        "aiff-sowt",
        partial(by_libsndfile, "AIFF", "PCM_16", 16_000, endian="LITTLE"),
        "aiff",
        16_000,
    )
    for kind, codec, n_channels in (
        ("wav", "pcm_s16le", 4),
        ("flac", "flac", 6),
        ("adts", "aac", 2),
        ("matroska", "ac3", 2),
    ):
        yield Shape(
            f"{kind}-{codec}-{n_channels}-channels",
            partial(by_ffmpeg, kind, codec, 48_000, n_channels=n_channels, bit_rate=384_000),
            kind if kind != "adts" else "aac",
            48_000,
            n_channels,
            late_s=0.03,
            error_db=0.6,
            longer_s=0.2,
        )


def _wav(rate_hz: int = 16_000) -> Callable[[], bytes]:
    return partial(by_libsndfile, "WAV", "PCM_16", rate_hz)


def _of_sizes() -> Iterator[Shape]:
    """Headers of pipes, and of recorders that were switched off."""
    for size in (0, 0x7FFF_FFFF, 0xFFFF_FFFF):
        little, big = struct.pack("<I", size), struct.pack(">I", size)
        sizes = ((b"RIFF", 4, little), (b"data", 4, little))
        yield Shape(f"wav-{size:x}", partial(changed, _wav(), *sizes), "wav", 16_000)
        yield Shape(
            f"wav-{size:x}-and-chunks",
            partial(at_both_ends, partial(changed, _wav(), *sizes), b"", GUANO + LIST),
            "wav",
            16_000,
        )
        aiff = partial(by_libsndfile, "AIFF", "PCM_16", 16_000)
        yield Shape(
            f"aiff-{size:x}-and-chunk",
            partial(at_both_ends, partial(changed, aiff, (b"SSND", 4, big)), b"", AIFF_NOTE),
            "aiff",
            16_000,
        )
        au = partial(by_libsndfile, "AU", "PCM_16", 16_000)
        yield Shape(f"au-{size:x}", partial(changed, au, (b".snd", 8, big)), "au", 16_000)


def _of_long_sizes() -> Iterator[Shape]:
    """The same with 64-bit sizes."""
    w64, rf64, caf = (
        partial(by_libsndfile, kind, "PCM_16", 16_000) for kind in ("W64", "RF64", "CAF")
    )
    for size in (0, (1 << 63) - 1, (1 << 64) - 1):
        little = struct.pack("<Q", size)
        yield Shape(
            f"w64-{size:x}",
            partial(changed, w64, (b"riff", 16, little), (b"data\xf3", 16, little)),
            "w64",
            16_000,
        )
        for held in (0xFFFF_FFFF, 2 * 16_000 * int(SECONDS)):
            long_sizes = (b"ds64", 8, little + little + little)
            yield Shape(
                f"rf64-{size:x}-{held:x}",
                partial(changed, rf64, long_sizes, (b"data", 4, struct.pack("<I", held))),
                "rf64",
                16_000,
            )
        yield Shape(
            f"caf-{size:x}-and-chunk",
            partial(
                at_both_ends,
                partial(changed, caf, (b"data", 4, struct.pack(">Q", size))),
                b"",
                CAF_NOTE,
            ),
            "caf",
            16_000,
        )


def _of_wrong_sizes() -> Iterator[Shape]:
    """Headers whose sizes are possible, but wrong."""
    rf64 = partial(by_libsndfile, "RF64", "PCM_16", 16_000)
    yield Shape("bw64", partial(changed, rf64, (b"RF64", 0, b"BW64")), "rf64", 16_000)
    yield Shape(
        "wav-smaller-riff", partial(changed, _wav(), (b"RIFF", 4, b"\x64\0\0\0")), "wav", 16_000
    )
    beyond = struct.pack("<I", 2 * 16_000 * int(SECONDS + 1))
    yield Shape(
        "wav-beyond-the-end",
        partial(changed, _wav(), (b"data", 4, beyond)),
        "wav",
        16_000,
        missing_s=1.0,
    )
    yield Shape(
        "wav-cut",
        partial(cut, _wav(), 0, 44 + 2 * 16_000 * 2 + 1),
        "wav",
        16_000,
        lasts_s=2.0,
        missing_s=1.0,
    )


def _of_unpadded_chunks() -> Iterator[Shape]:
    """WAVE files with chunks of odd lengths that are not padded, before the format or the audio."""
    note = b"note" + struct.pack("<I", 3) + b"abc"
    longer = partial(changed, _wav(), (b"fmt ", 4, b"\x11"))
    yield Shape("wav-format-unpadded", partial(inserted, longer, 36, b"\0"), "wav", 16_000)
    for at in (12, 36):
        for size in (None, 0, 0xFFFF_FFFF):
            make = _wav()
            if size is not None:
                make = partial(changed, make, (b"data", 4, struct.pack("<I", size)))
            make = partial(at_both_ends, partial(inserted, make, at, note), b"", GUANO)
            yield Shape(f"wav-unpadded-{at}-{size}", make, "wav", 16_000)
        # Two of them, and 24 bits of two channels.
        make = partial(by_libsndfile, "WAV", "PCM_24", 48_000, n_channels=2)
        make = partial(inserted, partial(inserted, make, at, note), 12, note)
        yield Shape(f"wav-unpadded-{at}-twice", make, "wav", 48_000, 2)
        make = partial(cut, partial(inserted, _wav(), at, note), 0, 44 + 11 + 2 * 16_000 * 2)
        yield Shape(f"wav-unpadded-{at}-cut", make, "wav", 16_000, lasts_s=2.0, missing_s=1.0)

    make = partial(by_libsndfile, "AIFF", "PCM_16", 16_000)
    note = b"NAME" + struct.pack(">I", 3) + b"abc"
    # The audio follows the 26 bytes of its description.
    for at in (12, 38):
        unpadded = partial(inserted, make, at, note)
        yield Shape(f"aiff-unpadded-{at}", unpadded, "aiff", 16_000)
        for size in (0, 0xFFFF_FFFF):
            unknown = partial(changed, unpadded, (b"SSND", 4, struct.pack(">I", size)))
            unknown = partial(at_both_ends, unknown, b"", AIFF_NOTE)
            yield Shape(f"aiff-unpadded-{at}-{size}", unknown, "aiff", 16_000)


def _of_forms_without_bits() -> Iterator[Shape]:
    """WAVE files whose format ends before the bits of a sample, or has 0 there."""
    for subtype, endian in (("PCM_16", None), ("PCM_24", None), ("FLOAT", None), ("PCM_16", "BIG")):
        name = f"wav-{subtype}-{endian}"
        make = partial(by_libsndfile, "WAV", subtype, 48_000, n_channels=2, endian=endian)
        yield Shape(
            f"{name}-0-bits", partial(changed, make, (b"fmt ", 22, bytes(2))), "wav", 48_000, 2
        )
        yield Shape(f"{name}-14", partial(_without_bits, make), "wav", 48_000, 2)
    twice = partial(_without_bits, _wav())
    yield Shape("wav-14-tagged", partial(at_both_ends, twice, id3(ID3_BYTES)), "wav", 16_000)
    yield Shape("wav-14-cut", partial(cut, twice, 0, 42 + 2 * 16_000 * 2), "wav", 16_000,
                lasts_s=2.0, missing_s=1.0)  # fmt: skip


def _without_bits(make: Callable[[], bytes]) -> bytes:
    """Return a WAVE file of a header with the oldest format, and its audio."""
    data = make()
    order = ">" if data.startswith(b"RIFX") else "<"
    form = b"fmt " + struct.pack(order + "I", 14) + data[20:34]
    audio = data[data.index(b"data") :]
    size = struct.pack(order + "I", 4 + len(form) + len(audio))
    return data[:4] + size + b"WAVE" + form + audio


def _of_wide_samples() -> bytes:
    """Return a CAF file with 24 bits in the high bytes of 32."""
    data = bytearray(by_libsndfile("CAF", "PCM_32", 48_000))
    at = data.index(b"desc") + 12
    data[at + 28 : at + 32] = struct.pack(">I", 24)
    return bytes(data)


def _of_beginnings() -> Iterator[Shape]:
    """Streams that do not begin with a frame."""
    junk = np.random.default_rng(5).bytes(5_000)
    mp3 = partial(by_ffmpeg, "mp3", "libmp3lame", 44_100)
    for name, make in (
        ("cut-in-frame", partial(cut, mp3, 100)),
        ("zeros-first", partial(at_both_ends, mp3, bytes(417))),
        ("junk-first", partial(at_both_ends, mp3, junk)),
        ("id3", partial(at_both_ends, mp3, id3(ID3_BYTES))),
        ("id3-too-short", partial(at_both_ends, mp3, id3(20))),
        ("id3-too-long", partial(at_both_ends, mp3, id3(1_000_000))),
        ("id3-twice", partial(at_both_ends, mp3, id3(ID3_BYTES) * 2)),
        ("ape-tag", partial(at_both_ends, mp3, APE_TAG)),
        ("tag-last", partial(at_both_ends, mp3, b"", b"TAG" + bytes(125))),
    ):
        yield Shape(f"mp3-{name}", make, "mp3", 44_100, late_s=0.06, error_db=0.6, longer_s=0.2)
    flac = partial(by_libsndfile, "FLAC", "PCM_16", 16_000)
    yield Shape("flac-id3", partial(at_both_ends, flac, id3(ID3_BYTES)), "flac", 16_000)
    adts = partial(by_ffmpeg, "adts", "aac", 44_100)
    for name, make in (
        ("cut-in-frame", partial(cut, adts, 100)),
        ("junk-first", partial(at_both_ends, adts, junk)),
    ):
        yield Shape(f"aac-{name}", make, "aac", 44_100, late_s=0.06, error_db=0.6, longer_s=0.2)
    ts = partial(by_ffmpeg, "mpegts", "aac", 48_000)
    for name, make in (
        ("cut-in-packet", partial(cut, ts, 100)),
        ("192", partial(ts, options={"mpegts_m2ts_mode": "1"})),
    ):
        yield Shape(f"ts-{name}", make, "ts", 48_000, late_s=0.06, error_db=0.6, longer_s=0.2)
    for name, track in (("ps", Track()), ("ps-video", Track(video_s=3.0))):
        ps = partial(by_ffmpeg, "mpeg", "mp2", 48_000, **track)
        for how, make in (
            # The exports of some network recorders.
            ("behind-header", partial(at_both_ends, ps, b"IMKH" + bytes(36))),
            ("zeros-first", partial(at_both_ends, ps, bytes(2_048))),
        ):
            yield Shape(
                f"{name}-{how}", make, "ps", 48_000, late_s=0.06, error_db=0.6, longer_s=0.2
            )
    mov = partial(by_ffmpeg, "mov", "pcm_s16le", 48_000)
    # Without the type, a file begins with an atom of no content and the media.
    yield Shape("mov-without-type", partial(changed, mov, (b"ftyp", 0, b"free")), "mp4", 48_000)


def _of_videos() -> Iterator[Shape]:
    """Videos; in some the audio begins late, or packets are lost."""
    for kind, codec, container in (
        ("mp4", "aac", "mp4"),
        ("mov", "pcm_s16le", "mp4"),
        ("matroska", "flac", "matroska"),
        ("webm", "libopus", "webm"),
        ("mpegts", "mp2", "ts"),
        ("mpeg", "mp2", "ps"),
        ("asf", "wmav2", "asf"),
        ("flv", "libmp3lame", "flv"),
        ("avi", "libmp3lame", "avi"),
    ):
        rate_hz = 44_100 if kind in ("asf", "flv", "avi") else 48_000
        for begins_s in (0.0, 2.0):
            if begins_s and kind == "avi":
                continue
            track = Track(video_s=6.0, begins_s=begins_s, **_bit_rate(codec))
            yield Shape(
                f"{kind}-{codec}-video-{begins_s:g}",
                partial(by_ffmpeg, kind, codec, rate_hz, **track),
                container,
                rate_hz,
                late_s=0.06,
                early_s=_early_s(codec),
                error_db=0.6,
                lasts_s=SECONDS + begins_s,
                longer_s=0.2,
                begins_s=begins_s,
            )


SHAPES = (
    *_containers(),
    *_of_sizes(),
    *_of_long_sizes(),
    *_of_wrong_sizes(),
    *_of_unpadded_chunks(),
    *_of_forms_without_bits(),
    *_of_beginnings(),
    *_of_videos(),
)
