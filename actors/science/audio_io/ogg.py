"""The links of chained Ogg files, complete streams one after the other, as recorders of streams
write them; and the times of their pages.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import BinaryIO

from av.audio.stream import AudioStream
from av.packet import Packet

from actors.science.audio_io.chain import MOST_PARTS
from actors.science.audio_io.patched_file import PatchedFile
from actors.science.errors import Undecodable

#: The first page of a stream: version 0, the flag for a beginning, and a position of 0.
_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]\x00{8}")
_MARK_BYTES = 14
#: Length of a page's header up to the segment table; its last byte is the table's length.
_HEADER_BYTES = 27
BLOCK_BYTES = 1 << 20

#: From the mark to the checksum, with a granule position, a serial and a sequence number.
_PAGE = struct.Struct("<4sBBqIII")
_CHECKSUM = slice(22, 26)
#: Pages that are checked: a week of them. A crafted file could have many more.
_MOST_PAGES = 2_000_000
_VORBIS = b"\x01vorbis"
#: The bits of each byte in reverse order.
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

#: Position of the granule position in the header of a page: the number of samples up to the end of
#: the last packet that ends on the page (RFC 3533, 6); -1 if none does.
_GRANULE = slice(6, 14)
#: Larger positions are damaged, and their sums might not fit into 64 bits.
_MOST_SAMPLES = 1 << 60


def links(file: BinaryIO) -> list[range]:
    """Return the byte ranges of the links of an Ogg file, in order.

    First pages without a gap between them begin simultaneous streams of one link.

    Raises
    ------
    Undecodable
        If there are more than `chain.MOST_PARTS`.
    """
    starts: list[int] = []
    group_end = 0
    for offset in _first_pages(file):
        if not starts or offset != group_end:
            starts.append(offset)
        if len(starts) > MOST_PARTS:
            raise Undecodable(f"the file joins more than {MOST_PARTS} Ogg streams")
        group_end = offset + _page_bytes(file, offset)
    bounds = [*starts, file.seek(0, 2)]
    return [range(start, end) for start, end in pairwise(bounds)]


def _first_pages(file: BinaryIO) -> Iterator[int]:
    """Yield the offsets of all pages that begin a stream."""
    position, kept = 0, b""
    while True:
        file.seek(position)
        data = file.read(BLOCK_BYTES)
        if not data:
            return
        block = kept + data
        for found in _FIRST_PAGE.finditer(block):
            yield position - len(kept) + found.start()
        position += len(data)
        kept = block[1 - _MARK_BYTES :]


def _page_bytes(file: BinaryIO, offset: int) -> int:
    file.seek(offset)
    header = file.read(_HEADER_BYTES + 255)
    table = header[_HEADER_BYTES : _HEADER_BYTES + header[_HEADER_BYTES - 1]]
    return _HEADER_BYTES + len(table) + sum(table)


def is_whole_vorbis(file: PatchedFile) -> bool:
    """Return whether a file is a single stream of Vorbis, and no page is damaged or missing."""
    file.seek(0)
    last: tuple[int, int] | None = None
    is_header = True
    for _ in range(_MOST_PAGES):
        header = file.read(_HEADER_BYTES)
        if not header:
            return last is not None
        table = file.read(header[-1])
        content = file.read(sum(table))
        if len(header) < _HEADER_BYTES or _checksum(header + table + content) != header[_CHECKSUM]:
            return False
        _, _, _, granule, serial, number, _ = _PAGE.unpack_from(header)
        if last is None and not content.startswith(_VORBIS):
            return False
        # The headers come first, also where a stream was recorded from its middle.
        if last is not None and (serial != last[0] or (not is_header and number != last[1] + 1)):
            return False
        last, is_header = (serial, number), granule == 0
    return False


def _checksum(page: bytes) -> bytes:
    """Return the checksum of a page (RFC 3533, 6), which is that of zlib with all bits reversed."""
    zeroed = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    found = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{found:032b}"[::-1], 2).to_bytes(4, "little")


def with_page_times(
    packets: Iterator[Packet[AudioStream]], file: PatchedFile
) -> Iterator[Packet[AudioStream]]:
    """Yield the packets of a stream with the times that their pages state.

    A page states the time at its end only. FFmpeg continues from the page before, so that packets
    after lost pages would be too early, up to a page.
    """
    # Opus counts samples that are not played, and a stream may be recorded from its middle.
    shift: int | None = None
    end: int | None = None
    longest = 0
    for offset, group in groupby(packets, key=lambda packet: packet.pos):
        page = list(group)
        lasts = [packet.duration or 0 for packet in page]
        longest = max([longest, *lasts[:-1]])
        # FFmpeg makes the last packet of a stream as long as lost pages before it.
        lasts[-1] = min(lasts[-1], longest or lasts[-1])
        begin = _begin(file, offset, lasts=sum(lasts))
        if begin is not None:
            shift = (page[0].pts or 0) - begin if shift is None else shift
            # The last page is cut off, and seems to begin earlier.
            end = begin + shift if end is None else max(begin + shift, end)
        for packet, n_samples in zip(page, lasts, strict=True):
            if end is not None and packet.size:
                packet.pts = end
                end += n_samples
            yield packet


def _begin(file: PatchedFile, offset: int | None, *, lasts: int) -> int | None:
    """Return the sample with which a page begins; None if it does not say."""
    if offset is None:
        return None
    position = file.tell()
    file.seek(offset)
    granule = file.read(_HEADER_BYTES)[_GRANULE]
    file.seek(position)
    end = int.from_bytes(granule, "little", signed=True)
    return end - lasts if 0 <= end < _MOST_SAMPLES else None
