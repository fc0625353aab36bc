"""The parts of a file in which recordings were joined, such as by ``cat``; `chain` decodes them."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import BinaryIO

from actors.science.audio_io import ogg
from actors.science.audio_io.chain import MOST_PARTS
from actors.science.audio_io.containers import Container
from actors.science.errors import Undecodable

#: The beginning of a FLAC file: its mark, and the header of a stream info block, whose length is
#: always 34 bytes (RFC 9639, 8). It does not occur by chance.
_FLAC_BEGINNING = b"fLaC\x00\x00\x00\x22"

#: Bytes of the header of a WAVE file: kind, size, and form.
_WAVE_HEADER_BYTES = 12
#: The orders of the bytes of its size, by kind. A file with 64-bit sizes does not have it here.
_WAVE_ORDERS = {b"RIFF": "<", b"RIFX": ">"}

#: Bytes per read.
BLOCK_BYTES = 1 << 20


def parts(file: BinaryIO, container: Container) -> list[range]:
    """Return the byte ranges of the recordings in a file, in order; of one recording, that one.

    Raises
    ------
    Undecodable
        If there are more than `chain.MOST_PARTS`.
    """
    if container.name == "ogg":
        return ogg.links(file)
    starts = [container.start]
    if container.name == "flac":
        starts = _flac_starts(file, container.start)
    elif container.name == "wav":
        # A new header may begin before the file.
        starts = _wave_starts(file, max(container.start, 0))
    if len(starts) > MOST_PARTS:
        raise Undecodable(f"the file joins more than {MOST_PARTS} recordings")
    return [range(start, end) for start, end in pairwise([*starts, file.seek(0, 2)])]


def _flac_starts(file: BinaryIO, start: int) -> list[int]:
    starts = [start]
    position, kept = start + len(_FLAC_BEGINNING), b""
    while len(starts) <= MOST_PARTS:
        file.seek(position)
        data = file.read(BLOCK_BYTES)
        if not data:
            break
        block = kept + data
        at = block.find(_FLAC_BEGINNING)
        while at >= 0:
            starts.append(position - len(kept) + at)
            at = block.find(_FLAC_BEGINNING, at + 1)
        position += len(data)
        kept = block[1 - len(_FLAC_BEGINNING) :]
    return starts


def _wave_starts(file: BinaryIO, start: int) -> list[int]:
    """Return the starts of WAVE files, each at the end of the one before."""
    starts: list[int] = []
    while len(starts) <= MOST_PARTS:
        file.seek(start)
        header = file.read(_WAVE_HEADER_BYTES)
        order = _WAVE_ORDERS.get(header[:4])
        if starts and (order is None or header[8:] != b"WAVE"):
            break
        starts.append(start)
        if order is None:
            break
        size: int = struct.unpack_from(order + "I", header, 4)[0]
        start += 8 + size + size % 2
    return starts
