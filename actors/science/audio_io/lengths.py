"""The length that the headers of AU, NIST SPHERE, VOC and ASF files declare.

Decoders silently shorten it to that of the file, so that a truncated recording would appear
complete.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from actors.science.audio_io import chunks, headers
from actors.science.audio_io.headers import Audio
from actors.science.errors import Undecodable

#: Bytes in which the header is searched for.
_HEAD_BYTES = 16_384

#: A field of a NIST SPHERE header: its name, its type and its value.
_NIST_FIELD = re.compile(rb"^(\w+) -(?:i|s\d+) (\S+)", re.MULTILINE)

#: The blocks of a VOC file with audio, the one that ends it, and sizes that mean "unknown".
_VOC_AUDIO, _VOC_END = (1, 2, 9), 0
_VOC_UNKNOWN = (0, 0xFF_FFFF)
_VOC_HEADER_BYTES = 4
_MOST_VOC_BLOCKS = 10_000

#: The file properties of an ASF file: the GUID, and from the play duration in 100 ns on.
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_DURATIONS = struct.Struct("<QQQI")
_ASF_DURATIONS_AT = 64
_ASF_UNIT_S, _ASF_PREROLL_UNIT_S = 1e-7, 1e-3
#: The flag of a broadcast, whose durations are invalid.
_ASF_BROADCAST = 1


def au(file: BinaryIO) -> Audio:
    """Find the audio of an AU file; raise Undecodable if its header is incomplete."""
    file_bytes = file.seek(0, 2)
    file.seek(4)
    sizes = file.read(8)
    if len(sizes) < 8:
        raise Undecodable("the AU file has no complete header")
    offset, size = struct.unpack(">II", sizes)
    held = max(file_bytes - offset, 0)
    if not chunks.is_unknown(size):
        return Audio(headers.share(held, size))
    return Audio(None, {8: struct.pack(">I", min(held, 0xFFFF_FFFF))})


def nist(file: BinaryIO) -> Audio:
    """Compare the number of samples in the header with the bytes of the file."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    fields = dict(_NIST_FIELD.findall(head))
    n_header = head[8:16].strip()
    counts = [fields.get(name, b"") for name in (b"sample_count", b"channel_count")]
    n_bytes = fields.get(b"sample_n_bytes", b"1")
    # Compressed audio, such as ``pcm,embedded-shorten-v2.00``, has no fixed size.
    is_compressed = b"," in fields.get(b"sample_coding", b"")
    if is_compressed or not all(each.isdigit() for each in (*counts, n_bytes, n_header)):
        return Audio()
    promised = int(counts[0]) * int(counts[1]) * int(n_bytes)
    held = file.seek(0, 2) - int(n_header)
    return Audio(min(max(held, 0) / promised, 1.0) if promised else None)


def voc(file: BinaryIO) -> Audio:
    """Compare the sizes of the audio blocks with the bytes of the file."""
    file.seek(20)
    at = int.from_bytes(file.read(2), "little")
    file_bytes = file.seek(0, 2)
    promised = held = 0
    for _ in range(_MOST_VOC_BLOCKS):
        file.seek(at)
        header = file.read(_VOC_HEADER_BYTES)
        if len(header) < _VOC_HEADER_BYTES or header[0] == _VOC_END:
            break
        at += _VOC_HEADER_BYTES
        size = int.from_bytes(header[1:], "little")
        if header[0] in _VOC_AUDIO:
            if size in _VOC_UNKNOWN:
                return Audio()
            promised += size
            held += max(min(size, file_bytes - at), 0)
        at += size
    return Audio(held / promised if promised else None)


def asf(file: BinaryIO) -> Audio:
    """Find the duration of an ASF file, which is that of its longest track."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or at + _ASF_DURATIONS_AT + _ASF_DURATIONS.size > len(head):
        return Audio()
    played, _, preroll, flags = _ASF_DURATIONS.unpack_from(head, at + _ASF_DURATIONS_AT)
    seconds = played * _ASF_UNIT_S - preroll * _ASF_PREROLL_UNIT_S
    return Audio(duration_s=None if flags & _ASF_BROADCAST or seconds <= 0 else seconds)
