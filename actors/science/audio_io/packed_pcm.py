"""Decoded audio, packed without loss so that any part of it can be read alone.

Packed audio is a series of frames, followed by their index::

    frames     each of `FRAME` samples, the last one of the rest: as PCM; or the low bytes of the
               samples, then their high bytes, compressed by zstd to fewer bytes than the PCM has
    entries    the size and the CRC-32 of each frame as stored, both uint32
    trailer    the number of samples (uint64), the CRC-32 of the entries and this number, `_MAGIC`

All numbers are little endian. A frame is compressed if it shrinks to less than half, such as
silence, which shrinks to less than a thousandth. Most recordings would shrink to two thirds by zstd
and to six tenths by FLAC; but to write and read them would take up to a tenth of the CPU time of
the whole analysis by zstd, and about three times as much by FLAC.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.prepare import PCM_BYTES
from actors.science.detection.chunks import RATE_HZ

if TYPE_CHECKING:
    import pyarrow as pa

#: Samples of a frame. A longer one packs no better; a short read unpacks one or two whole ones.
FRAME = 10 * RATE_HZ
_FRAME_BYTES = FRAME * PCM_BYTES

_ENTRY = np.dtype([("size", "<u4"), ("crc", "<u4")])
_COUNT = struct.Struct("<Q")
_SEAL = struct.Struct("<I4s")
_MAGIC = b"cpz1"
_TRAILER_BYTES = _COUNT.size + _SEAL.size

#: The first read fetches this much of the end: the index of a day at 16 kHz and half a day at
#: 32 kHz. A longer index takes a second read.
END_BYTES = 72 * 1024

#: The fastest level that compresses as well as any other.
_LEVEL = 1
#: Whether a frame shrinks is judged by this many parts of it, each of so many samples.
_PARTS, _PART = 16, 256


class DamagedPcm(Exception):
    """Packed audio is cut off, or some of its bytes have changed."""


class Packer:
    """Packs PCM piece by piece, with less than a frame and a piece in memory."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._rest = bytearray()
        self._entries: list[tuple[int, int]] = []
        self._n_samples = 0

    def write(self, pcm: bytes) -> None:
        """Take the next samples, as int16 little endian."""
        self._rest += pcm
        while len(self._rest) >= _FRAME_BYTES:
            self._add(bytes(self._rest[:_FRAME_BYTES]))
            del self._rest[:_FRAME_BYTES]

    def finish(self) -> None:
        """Write the remaining samples and the index."""
        if self._rest:
            self._add(bytes(self._rest))
        index = np.array(self._entries, _ENTRY).tobytes() + _COUNT.pack(self._n_samples)
        self._write(index + _SEAL.pack(zlib.crc32(index), _MAGIC))

    def _add(self, pcm: bytes) -> None:
        stored = _packed(pcm)
        self._write(stored)
        self._entries.append((len(stored), zlib.crc32(stored)))
        self._n_samples += len(pcm) // PCM_BYTES


class PackedPcm:
    """Reads packed audio, each part by one read of its frames. The last frames read are kept.

    Parameters
    ----------
    read_end
        Returns at most this many bytes of the end of the file, and the size of the file.
    read_range
        Returns a number of bytes from a position.

    Raises
    ------
    DamagedPcm
    """

    def __init__(
        self,
        read_end: Callable[[int], tuple[bytes, int]],
        read_range: Callable[[int, int], bytes],
    ) -> None:
        self._read_range = read_range
        entries, self.n_samples = _index(read_end)
        self._crcs: list[int] = entries["crc"].tolist()
        self._bounds: list[int] = [0, *np.cumsum(entries["size"], dtype=np.int64).tolist()]
        self._kept = range(0)
        self._kept_pcm = b""

    def read(self, start: int, stop: int) -> bytes:
        """Return the samples ``[start, stop)``, which are within the audio, as PCM.

        Raises
        ------
        DamagedPcm
        """
        if start >= stop:
            return b""
        frames = range(start // FRAME, -(-stop // FRAME))
        if frames.start < self._kept.start or frames.stop > self._kept.stop:
            self._kept_pcm = self._frames(frames)
            self._kept = frames
        before = self._kept.start * FRAME
        return self._kept_pcm[(start - before) * PCM_BYTES : (stop - before) * PCM_BYTES]

    def _frames(self, frames: range) -> bytes:
        begin, end = self._bounds[frames.start], self._bounds[frames.stop]
        stored = memoryview(self._read_range(begin, end - begin))
        return b"".join(
            self._frame(
                stored[self._bounds[frame] - begin : self._bounds[frame + 1] - begin], frame
            )
            for frame in frames
        )

    def _frame(self, stored: memoryview, frame: int) -> bytes | memoryview:
        if zlib.crc32(stored) != self._crcs[frame]:
            raise DamagedPcm
        n_bytes = min(FRAME, self.n_samples - frame * FRAME) * PCM_BYTES
        if len(stored) == n_bytes:
            return stored
        return _joined(_zstd().decompress(stored, n_bytes, asbytes=True))


def _index(read_end: Callable[[int], tuple[bytes, int]]) -> tuple[NDArray[np.void], int]:
    """Return the entries of the frames, and the number of samples."""
    end, n_bytes = read_end(END_BYTES)
    if not end.endswith(_MAGIC) or len(end) < _TRAILER_BYTES:
        raise DamagedPcm
    (n_samples,) = _COUNT.unpack_from(end, len(end) - _TRAILER_BYTES)
    index_bytes = -(-n_samples // FRAME) * _ENTRY.itemsize + _TRAILER_BYTES
    if index_bytes > n_bytes:
        raise DamagedPcm
    if index_bytes > len(end):
        end, _ = read_end(index_bytes)
    index = end[-index_bytes : -_SEAL.size]
    entries = np.frombuffer(index[: -_COUNT.size], _ENTRY)
    is_whole = int(entries["size"].sum(dtype=np.int64)) + index_bytes == n_bytes
    if not is_whole or end[-_SEAL.size :] != _SEAL.pack(zlib.crc32(index), _MAGIC):
        raise DamagedPcm
    return entries, n_samples


def _packed(pcm: bytes) -> bytes:
    """Return a frame as it is to be stored."""
    samples = np.frombuffer(pcm, "<u2")
    if not _shrinks(samples):
        return pcm
    packed: bytes = _zstd().compress(_split(samples), asbytes=True)
    return min(packed, pcm, key=len)


def _shrinks(samples: NDArray[np.uint16]) -> bool:
    """Whether a frame is likely to shrink to less than half, judged by parts of it."""
    length = samples.size // _PARTS
    if length > _PART:
        samples = samples[: _PARTS * length].reshape(_PARTS, length)[:, :_PART].ravel()
    return 2 * len(_zstd().compress(_split(samples), asbytes=True)) < samples.nbytes


def _split(samples: NDArray[np.uint16]) -> bytes:
    """Return the low bytes of the samples, then their high bytes, which resemble each other."""
    split = np.empty((2, samples.size), np.uint8)
    np.copyto(split[0], samples, casting="unsafe")
    np.right_shift(samples, 8, out=split[1], casting="unsafe")
    return split.tobytes()


def _joined(split: bytes) -> bytes:
    """Return the PCM of the samples of which `_split` returned the bytes."""
    low, high = np.frombuffer(split, np.uint8).reshape(2, -1)
    samples = high.astype("<u2")
    samples <<= 8
    samples |= low
    return samples.tobytes()


@cache
def _zstd() -> pa.Codec:
    # Imported at first use: it takes 27 MB, and only long recordings are packed.
    import pyarrow as pa

    return pa.Codec("zstd", compression_level=_LEVEL)
