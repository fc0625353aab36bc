"""The position and the size of the audio in files of chunks: WAVE, Wave64, AIFF and CAF.

Decoders silently shorten the length in the header to that of the file, so that a truncated
recording would appear complete. They take other wrong sizes literally: a recorder that writes into
a pipe, or is switched off, leaves 0, -1 or a maximum there. So chunks are parsed here, and wrong
sizes are replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal

from actors.science.audio_io.chunks import (
    CAF,
    RIFF,
    RIFX,
    W64,
    ChunkLayout,
    end_of_audio,
    is_unknown,
    is_unknown_long,
    next_chunk,
    walk,
)
from actors.science.errors import Undecodable

#: The format of a WAVE file has 14 to 50 bytes, with tables of a codec some hundred.
_MOST_FORMAT_BYTES = 4_096

#: The form of 14 bytes: codec, channels, rate, bytes of a second, and of a sample in all channels.
_OLDEST_FORM = struct.Struct("<HHIIH")
#: Integers and floating point.
_PCM_FORMS = (1, 3)

#: With as much as this behind it, 4 GiB, audio has a size that did not fit into 32 bits.
_TOO_MUCH_BEHIND = 1 << 32

#: Bytes before the audio in which the comment of the recorder is searched for.
_MOST_NOTE_BYTES = 4_096

#: The description of the audio of a CAF file: rate, codec, flags, bytes and frames of a packet,
#: channels, and bits of a sample.
_CAF_DESCRIPTION = struct.Struct(">d4sIIIII")
_CAF_FLOAT = 1


@dataclass(frozen=True)
class Audio:
    """The audio of a file of chunks.

    Attributes
    ----------
    held_share
        The fraction of the declared audio bytes that is in the file, at most 1; ``None`` if the
        header declares no size.
    patches
        Replacements for header bytes of the file, by offset.
    audiomoth_start
        The position of the audio in a file of AudioMoth, whose blocks are aligned to the file.
    duration_s
        The declared duration of the longest track; ``None`` if the header declares none.
    begin
        The position in the file where the decoder begins; patches are relative to it.
    """

    held_share: float | None = None
    patches: dict[int, bytes] = field(default_factory=dict)
    audiomoth_start: int | None = None
    duration_s: float | None = None
    begin: int = 0


def wave(file: BinaryIO) -> Audio:
    """Find the audio of a RIFF, RIFX, RF64 or BW64 file; raise Undecodable without any."""
    audio, start = _wave(file)
    file.seek(0)
    is_audiomoth = b"AudioMoth" in file.read(min(start, _MOST_NOTE_BYTES))
    return replace(audio, audiomoth_start=start) if is_audiomoth else audio


@dataclass
class _Header:
    """What a WAVE or AIFF file declares before its audio, and where that is."""

    kind: bytes
    form_type: bytes
    #: The description of the audio.
    form: bytes = b""
    #: The size of the audio in 64 bits, and the position of the sizes of 64 bits; 0 without any.
    long_size: int = 0
    long_sizes_at: int = 0
    #: Whether all chunks before the audio end on even positions.
    is_padded: bool = True
    #: The position of the audio, and its size in 32 bits.
    start: int = 0
    size: int = 0

    @property
    def is_long(self) -> bool:
        """Whether sizes of 64 bits are used where those of 32 do not fit."""
        return self.kind in (b"RF64", b"BW64")

    @property
    def layout(self) -> ChunkLayout:
        """The layout of its chunks."""
        return RIFX if self.kind in (b"RIFX", b"FORM") else RIFF

    @property
    def names(self) -> tuple[bytes, bytes]:
        """The names of the chunks with the description of the audio, and with the audio."""
        return (b"COMM", b"SSND") if self.kind == b"FORM" else (b"fmt ", b"data")

    @classmethod
    def of(cls, file: BinaryIO) -> tuple[_Header, Iterator[tuple[bytes, int, int]]]:
        """Read the chunks up to the audio; return also those behind it.

        Raises
        ------
        Undecodable
            If there is no audio.
        """
        file.seek(0)
        head = file.read(12)
        header = cls(kind=head[:4], form_type=head[8:])
        chunks = walk(file, 12, file.seek(0, 2), header.layout)
        header._read(file, chunks)
        return header, chunks

    def _read(self, file: BinaryIO, chunks: Iterator[tuple[bytes, int, int]]) -> None:
        form_name, audio_name = self.names
        next_at = 12
        for chunk, offset, size in chunks:
            begin = offset - self.layout.header.size
            self.is_padded = self.is_padded and begin == next_at
            next_at = next_chunk(begin, size, self.layout)
            file.seek(offset)
            if chunk == audio_name:
                self.start, self.size = offset, size
                return
            if chunk == form_name and size <= _MOST_FORMAT_BYTES:
                self.form = file.read(size)
            elif chunk == b"ds64" and len(body := file.read(16)) == 16:
                [self.long_size] = struct.unpack_from("<Q", body, 8)
                self.long_sizes_at = offset
        kind = "AIFF file has no sound" if self.kind == b"FORM" else "WAVE file has no data"
        raise Undecodable(f"the {kind} chunk")


def _wave(file: BinaryIO) -> tuple[Audio, int]:
    """Return the audio of a WAVE file and its position."""
    header, chunks = _Header.of(file)
    file_bytes = file.seek(0, 2)
    start, size = header.start, header.size
    form = _with_bits(header.form, header.layout)
    if form and not header.is_long and (form != header.form or not header.is_padded):
        n_audio = size
        if is_unknown(size):
            n_audio = end_of_audio(file, start, file_bytes, header.layout) - start
        return _with_new_header(replace(header, form=form), n_audio, file_bytes), start
    if header.is_long and size == 0xFFFF_FFFF and not is_unknown_long(header.long_size):
        return Audio(share(file_bytes - start, header.long_size)), start
    if not is_unknown(size) and start + size > file_bytes - _TOO_MUCH_BEHIND:
        return _of_known_size(header, chunks, file_bytes), start
    held = end_of_audio(file, start, file_bytes, header.layout) - start
    return _of_unknown_size(header, held, file_bytes), start


def _with_bits(form: bytes, layout: ChunkLayout) -> bytes:
    """Return a description of PCM with the bits of a sample, which the oldest form lacks.

    Decoders take the samples for bytes then. Some recorders write 0.
    """
    if len(form) < _OLDEST_FORM.size:
        return form
    order = layout.header.format[0]
    codec, n_channels, _, _, n_bytes = struct.unpack_from(order + _OLDEST_FORM.format[1:], form)
    given = form[_OLDEST_FORM.size : _OLDEST_FORM.size + 2]
    if codec not in _PCM_FORMS or not n_channels or any(given):
        return form
    bits = struct.pack(order + "H", 8 * (n_bytes // n_channels))
    return form[: _OLDEST_FORM.size] + bits + form[_OLDEST_FORM.size + 2 :]


def _of_known_size(
    header: _Header, chunks: Iterator[tuple[bytes, int, int]], file_bytes: int
) -> Audio:
    """Return audio of a size of 32 bits, with that in further chunks of audio."""
    # Decoders prefer a long size, even if it is wrong.
    long_sizes = struct.pack("<QQ", file_bytes - 8, header.size)
    patches = {header.long_sizes_at: long_sizes} if header.long_sizes_at else {}
    promised, held = header.size, min(header.size, file_bytes - header.start)
    for chunk, offset, size in chunks:
        if chunk == b"data":
            # libsndfile refuses a second one, and FFmpeg ignores the first.
            patches[offset - 8] = b"JUNK"
            promised += min(size, file_bytes - offset)
    return Audio(share(held, promised), patches)


def _of_unknown_size(header: _Header, held: int, file_bytes: int) -> Audio:
    """Return audio of which ``held`` bytes are there, with the sizes that the header lacks."""
    size_at = header.start - 4
    if header.long_sizes_at:
        sizes = struct.pack("<QQ", file_bytes - 8, held)
        return Audio(None, {header.long_sizes_at: sizes, size_at: b"\xff\xff\xff\xff"})
    order = header.layout.header.format[0]
    # Decoders take a size of 0 literally.
    patches = {size_at: struct.pack(order + "I", min(held, 0xFFFF_FFFF))}
    if header.is_long:
        # Without its long sizes it is a RIFF file.
        patches[0] = b"RIFF"
    patches[4] = struct.pack(order + "I", min(file_bytes - 8, 0xFFFF_FFFF))
    return Audio(None, patches)


def _with_new_header(header: _Header, n_audio: int, file_bytes: int) -> Audio:
    """Return audio behind a header that decoders cannot read, with a new one in place of its end.

    Decoders lose their way in chunks without padding. The new header has none but the description
    of the audio; it may begin before the file.
    """
    order: Literal["little", "big"] = "big" if header.layout is RIFX else "little"
    # The description may be the chunk without padding.
    form = header.form[: len(header.form) // 2 * 2]
    held = min(n_audio, file_bytes - header.start)

    def chunk(name: bytes, size: int) -> bytes:
        return name + min(size, 0xFFFF_FFFF).to_bytes(4, order)

    form_name, audio_name = header.names
    body = header.form_type + chunk(form_name, len(form)) + form + chunk(audio_name, held)
    whole = chunk(header.kind, len(body) + held) + body
    return Audio(share(held, n_audio), {0: whole}, begin=header.start - len(whole))


def w64(file: BinaryIO) -> Audio:
    """Find the audio of a Wave64 file; raise Undecodable without any."""
    file_bytes = file.seek(0, 2)
    for chunk, offset, size in walk(file, 40, file_bytes, W64):
        if chunk[:4] != b"data":
            continue
        if size > W64.header.size and not is_unknown_long(size):
            return Audio(share(file_bytes - offset, size - W64.header.size))
        held = end_of_audio(file, offset, file_bytes, W64) - offset
        sizes = [struct.pack("<Q", n_bytes) for n_bytes in (file_bytes, held + W64.header.size)]
        return Audio(None, {16: sizes[0], offset - 8: sizes[1]})
    raise Undecodable("the Wave64 file has no data chunk")


def aiff(file: BinaryIO) -> Audio:
    """Find the audio of an AIFF file; raise Undecodable without any."""
    header, _ = _Header.of(file)
    start, size, file_bytes = header.start, header.size, file.seek(0, 2)
    n_audio = size
    if is_unknown(size):
        n_audio = end_of_audio(file, start, file_bytes, RIFX) - start
    if header.form and not header.is_padded:
        return _with_new_header(header, n_audio, file_bytes)
    if is_unknown(size):
        return Audio(None, {start - 4: struct.pack(">I", min(n_audio, 0xFFFF_FFFF))})
    return Audio(share(file_bytes - start, size))


def caf(file: BinaryIO) -> Audio:
    """Find the audio of a CAF file; raise Undecodable without any."""
    file_bytes = file.seek(0, 2)
    patches: dict[int, bytes] = {}
    for chunk, offset, size in walk(file, 8, file_bytes, CAF):
        if chunk == b"desc":
            patches = _whole_bytes(file, offset)
        if chunk != b"data":
            continue
        held, held_share = file_bytes - offset, None
        if size <= 4 or is_unknown_long(size):
            held = end_of_audio(file, offset, file_bytes, CAF) - offset
        elif size > held:
            held_share = share(held, size)
        else:
            return Audio(1.0, patches)
        # libsndfile loses some frames if the size is beyond the end.
        return Audio(held_share, patches | {offset - 8: struct.pack(">q", held)})
    raise Undecodable("the CAF file has no data chunk")


def _whole_bytes(file: BinaryIO, offset: int) -> dict[int, bytes]:
    """Return a patch for a CAF description of samples that do not fill their bytes.

    They are the high bits of these, as 24 bits in 32 are; decoders expect them to be packed.
    """
    file.seek(offset)
    body = file.read(_CAF_DESCRIPTION.size)
    if len(body) < _CAF_DESCRIPTION.size:
        return {}
    _, codec, flags, n_bytes, n_frames, n_channels, bits = _CAF_DESCRIPTION.unpack(body)
    n_samples = n_frames * n_channels
    if codec != b"lpcm" or flags & _CAF_FLOAT or not n_samples or n_bytes % n_samples:
        return {}
    whole_bits = 8 * n_bytes // n_samples
    at = offset + _CAF_DESCRIPTION.size - 4
    return {at: struct.pack(">I", whole_bits)} if 0 < bits < whole_bits <= 32 else {}


def share(held: int, promised: int) -> float | None:
    """Return the fraction of the declared bytes that is there; None if none are declared."""
    return min(max(held, 0) / promised, 1.0) if promised > 0 else None
