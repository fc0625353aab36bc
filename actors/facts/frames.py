"""Frames of streams without a header: MPEG audio, AAC, AC-3, transport and program streams.

A single frame header is a few bits that other files have as well, so a stream is recognised by
consecutive frames: each header gives the position of the next one. A stream that was recorded from
its middle begins inside a frame, and others begin with padding or a damaged tag, so the first
frame is searched for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

#: Consecutive frames that are required. Random bytes have one such chain in a hundred terabytes.
LEAST_FRAMES = 3
#: The same for LATM, whose header has only eleven fixed bits.
_LEAST_LATM_FRAMES = 6
#: The same from the first byte on for a file that ends before: shorter ones hardly contain a sound.
_LEAST_WHOLE_FRAMES = 2

#: Bytes of the packets of transport streams: plain, with a time stamp, with error correction.
_PACKET_BYTES = (188, 192, 204)
#: Consecutive packets that are required, and the bytes in which the first one is searched for.
_LEAST_PACKETS = 5
_MOST_TS_OFFSET = 204

#: The beginning of a pack of a program stream, in MPEG-2 or MPEG-1.
_PACK = re.compile(rb"\x00\x00\x01\xba(?:[\x40-\x7f].{8}(.)|[\x21-\x2f].{7})", re.DOTALL)
#: Packs that are required, not consecutive ones: their lengths differ.
_LEAST_PACKS = 3


class Frame(NamedTuple):
    """The content of a frame header: the length of the frame, and what all frames share."""

    n_bytes: int
    kind: int


#: Parses a frame header at a position; None if there is none.
Parse: TypeAlias = Callable[[bytes, int], Frame | None]

#: Bytes that begin a frame. A lookahead, since one may begin at the second byte of another match.
_SYNC = re.compile(rb"(?=\xff[\xe0-\xff]|\x0b\x77|\x56[\xe0-\xff])")

#: Bit rates in kbit/s by index 1 to 14, of MPEG-1 by layer, and of MPEG-2 for both.
_MPEG_1_KBIT = {
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_MPEG_2_KBIT = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_RATES_HZ = (44_100, 48_000, 32_000)
_AC3_KBIT = (
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
)  # fmt: skip


def find(head: bytes, *, is_whole: bool) -> tuple[str, int] | None:
    """Find the first frame of a stream.

    Parameters
    ----------
    head
        The first bytes of a file.
    is_whole
        Whether the file ends there.

    Returns
    -------
    tuple of str and int, or None
        ``mp3``, ``aac``, ``latm``, ``ac3``, ``eac3``, ``ts`` or ``ps``, and the position of the
        frame.
    """
    if _is_transport_stream(head):
        return "ts", 0
    packs = _packs(head)
    if len(packs) >= _LEAST_PACKS:
        return "ps", packs[0]
    for found in _SYNC.finditer(head):
        at = found.start()
        for name, parse in PARSERS.items():
            if _is_chain(head, at, name, parse, is_whole=is_whole):
                return name, at
    return None


def find_chain(data: bytes, name: str) -> int | None:
    """Return where consecutive frames of a stream, one of `PARSERS`, begin; None if nowhere."""
    for found in _SYNC.finditer(data):
        if _is_chain(data, found.start(), name, PARSERS[name], is_whole=False):
            return found.start()
    return None


def _is_chain(head: bytes, at: int, name: str, parse: Parse, *, is_whole: bool) -> bool:
    """Return whether enough consecutive frames of one kind begin at a position."""
    least = _LEAST_LATM_FRAMES if name == "latm" else LEAST_FRAMES
    least_whole = _LEAST_WHOLE_FRAMES if is_whole and at == 0 and name != "latm" else least
    kind: int | None = None
    for n_frames in range(least):
        frame = parse(head, at)
        if frame is None or kind not in (None, frame.kind):
            # Fewer are enough if the file ends here.
            return n_frames >= least_whole and at >= len(head)
        kind = frame.kind
        at += frame.n_bytes
    return True


def mpeg(data: bytes, at: int) -> Frame | None:
    """Parse a header of MPEG audio: layer II or III of MPEG-1 and MPEG-2, or layer III of MPEG-2.5.

    Layer I (ISO 11172-3) is left out. Nothing records it, and one in twenty programs and
    uncompressed pictures has three of its headers, FF FE or FF FF, at the right distance.
    """
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    rate, kbit = data[at + 2] >> 2 & 3, data[at + 2] >> 4
    # MPEG-2.5 (version 0) has no layer II.
    if version == 1 or layer not in _MPEG_1_KBIT or (version, layer) == (0, 2):
        return None
    if kbit in (0, 15) or rate == 3:
        return None
    is_mpeg_1 = version == 3
    rate_hz = _MPEG_RATES_HZ[rate] // (1 if is_mpeg_1 else 2 if version == 2 else 4)
    bit_s = (_MPEG_1_KBIT[layer] if is_mpeg_1 else _MPEG_2_KBIT)[kbit - 1] * 1_000
    padding = data[at + 2] >> 1 & 1
    kind = version << 4 | layer << 2 | rate
    slots = 144 if is_mpeg_1 or layer == 2 else 72
    return Frame(slots * bit_s // rate_hz + padding, kind)


def mpeg_samples(header: bytes) -> int:
    """Return the samples per frame of MPEG audio layer III, by a valid header."""
    return 1_152 if header[1] >> 3 & 3 == 3 else 576


def _adts(data: bytes, at: int) -> Frame | None:
    """Parse a header of AAC in ADTS (ISO 13818-7)."""
    if at + 7 > len(data) or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return None
    n_bytes = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    rate = data[at + 2] >> 2 & 15
    if n_bytes < 8 or rate > 12:
        return None
    return Frame(n_bytes, data[at + 1] << 8 | data[at + 2] & 0xFC)


def _latm(data: bytes, at: int) -> Frame | None:
    """Parse a header of AAC in LATM with its synchronisation layer (ISO 14496-3)."""
    if at + 3 > len(data) or data[at] != 0x56 or data[at + 1] & 0xE0 != 0xE0:
        return None
    n_bytes = (data[at + 1] & 0x1F) << 8 | data[at + 2]
    return Frame(n_bytes + 3, 0) if n_bytes else None


def _ac3(data: bytes, at: int) -> Frame | None:
    """Parse a header of AC-3 (ETSI TS 102 366)."""
    if at + 6 > len(data) or data[at : at + 2] != b"\x0b\x77" or data[at + 5] >> 3 > 10:
        return None
    rate, size = data[at + 4] >> 6, data[at + 4] & 63
    if rate == 3 or size >> 1 >= len(_AC3_KBIT):
        return None
    kbit = _AC3_KBIT[size >> 1]
    n_words = (2 * kbit, kbit * 320 // 147 + (size & 1), 3 * kbit)[rate]
    return Frame(2 * n_words, rate)


def _eac3(data: bytes, at: int) -> Frame | None:
    """Parse a header of Enhanced AC-3 (ETSI TS 102 366, annex E)."""
    if at + 6 > len(data) or data[at : at + 2] != b"\x0b\x77" or not 11 <= data[at + 5] >> 3 <= 16:
        return None
    n_words = ((data[at + 2] & 7) << 8 | data[at + 3]) + 1
    return Frame(2 * n_words, data[at + 4] >> 6) if n_words > 8 else None


#: Streams that consist of frames without times.
PARSERS: dict[str, Parse] = {
    "mp3": mpeg,
    "aac": _adts,
    "latm": _latm,
    "ac3": _ac3,
    "eac3": _eac3,
}

#: The streams whose first frame may follow other bytes.
NAMES = frozenset({*PARSERS, "ps"})


def _packs(head: bytes) -> list[int]:
    """Return where packs of an MPEG program stream begin: each is followed by another header."""
    found = []
    for pack in _PACK.finditer(head):
        n_stuffed = pack[1][0] & 7 if pack[1] else 0
        after = head[pack.end() + n_stuffed :][:4]
        if after[:3] == b"\0\0\1" and after[3:] >= b"\xb9":
            found.append(pack.start())
    return found


def _is_transport_stream(head: bytes) -> bool:
    """Return whether consecutive packets of an MPEG transport stream begin near the start."""
    return any(
        _are_packets(head, at, n_bytes)
        for n_bytes in _PACKET_BYTES
        for at in range(min(_MOST_TS_OFFSET, len(head)))
        if head[at] == 0x47
    )


def _are_packets(head: bytes, at: int, n_bytes: int) -> bool:
    headers = [head[at + n_bytes * i :][:4] for i in range(_LEAST_PACKETS)]
    return (
        all(
            # The synchronisation byte, no error, not scrambled, and a payload or a field.
            len(header) == 4
            and header[0] == 0x47
            and not header[1] & 0x80
            and not header[3] & 0xC0
            and header[3] & 0x30
            for header in headers
        )
        # A text with a G in each line may pass all of that, but has no control characters there.
        and any(header[3] < 0x20 for header in headers)
    )
