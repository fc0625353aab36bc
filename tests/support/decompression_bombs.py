"""Small files that expand to large ones, or declare that they do."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

from tests.support.sounds import encoded_av

RATE_HZ = 16_000


def long_silence(minutes: int) -> bytes:
    """Return FLAC of digital silence: three kilobytes per minute."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE_HZ, 1, format="FLAC") as flac:
        for _ in range(minutes):
            flac.write(np.zeros(60 * RATE_HZ, np.int16))
    return file.getvalue()


def without_length(flac: bytes) -> bytes:
    """Return the same FLAC as from a streaming recorder: without a length in its header."""
    header = bytearray(flac)
    # 36 bits of STREAMINFO, which begins after the marker and a block header of 4 bytes each.
    header[21] &= 0xF0
    header[22:26] = bytes(4)
    return bytes(header)


def m4a(seconds: float) -> bytes:
    """Return AAC of digital silence."""
    samples = np.zeros((round(seconds * RATE_HZ), 1), np.float32)
    return encoded_av(samples, rate_hz=RATE_HZ, kind="ipod", codec="aac")


def announcing(m4a: bytes, seconds: float) -> bytes:
    """Return the same AAC with another length in its headers."""
    header = bytearray(m4a)
    scale = 0
    # The lengths of the movie and the track follow their timescales, in boxes of version 0.
    for name in (b"mvhd", b"mdhd"):
        at = header.index(name)
        [scale] = struct.unpack_from(">I", header, at + 16)
        struct.pack_into(">I", header, at + 20, round(scale * seconds))
    # A player would stop at the length in an edit list.
    at = header.find(b"edts")
    if at >= 0:
        header[at : at + 4] = b"free"
    return bytes(header)


def counting(m4a: bytes, n_packets: int) -> bytes:
    """Return the same AAC with tables that declare more packets than there are."""
    header = bytearray(m4a)
    at = header.index(b"stsz")
    struct.pack_into(">II", header, at + 8, 1, n_packets)
    struct.pack_into(">I", header, header.index(b"stts") + 12, n_packets)
    at = header.index(b"stsc")
    [n_runs] = struct.unpack_from(">I", header, at + 8)
    for run in range(n_runs):
        struct.pack_into(">I", header, at + 16 + 12 * run, n_packets)
    return bytes(header)


def ogg_announcing(seconds: float, *, lasts_s: float) -> bytes:
    """Return Ogg Vorbis of digital silence whose last page declares another time."""
    file = io.BytesIO()
    samples = np.zeros(round(lasts_s * RATE_HZ), np.float32)
    soundfile.write(file, samples, RATE_HZ, format="OGG", subtype="VORBIS")
    pages = bytearray(file.getvalue())
    at = pages.rindex(b"OggS")
    struct.pack_into("<q", pages, at + 6, round(seconds * RATE_HZ))
    struct.pack_into("<I", pages, at + 22, 0)
    struct.pack_into("<I", pages, at + 22, _ogg_sum(pages[at:]))
    return bytes(pages)


def _ogg_sum(page: bytearray) -> int:
    """Return the checksum of an Ogg page."""
    found = 0
    for byte in page:
        found ^= byte << 24
        for _ in range(8):
            found = (found << 1 ^ (0x04C11DB7 if found & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return found
