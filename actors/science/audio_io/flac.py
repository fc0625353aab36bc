"""Sequential writing of FLAC files of any length, in bounded memory, and times of their frames.

libsndfile writes the length into the header when the file is complete. A blob store only accepts
bytes in order, so the length is inserted when the header is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import numpy as np
import soundfile
from numpy.typing import NDArray

#: Limits of FLAC.
HIGHEST_RATE_HZ = 655_350
MOST_CHANNELS = 8
#: Higher rates are written in units of 10 Hz.
_HIGHEST_EXACT_HZ = 65_535

#: Position of the number of frames in the header (RFC 9639, 8.2): the last 36 bits of these bytes.
_LENGTH = slice(21, 26)
_LENGTH_BITS = 36

#: Position of the count in the header of a frame, and its maximum length.
_COUNT_AT, _MOST_COUNT_BYTES = 4, 7


def writable_hz(rate_hz: int) -> int:
    """Return the highest rate that FLAC can have, not above a rate or, beyond the limit, half."""
    wanted_hz = rate_hz if rate_hz <= HIGHEST_RATE_HZ else rate_hz // 2
    return wanted_hz if wanted_hz <= _HIGHEST_EXACT_HZ else wanted_hz // 10 * 10


def write(
    blocks: Iterable[NDArray[np.float32]],
    file: IO[bytes],
    *,
    rate_hz: int,
    n_channels: int,
    n_frames: int,
) -> None:
    """Write audio as 24-bit FLAC.

    Parameters
    ----------
    blocks
        Audio [shape=(n, n_channels)], full scale = 1.0; louder samples are clipped.
    file
        Receives the bytes; it is not closed.
    rate_hz, n_channels
        A rate of `writable_hz`, and at most `MOST_CHANNELS`.
    n_frames
        The total length of the blocks.

    Raises
    ------
    RuntimeError
        If the blocks have another length.
    """
    forward = _Forward(file, n_frames=n_frames)
    n_written = 0
    try:
        with soundfile.SoundFile(
            forward, "w", rate_hz, n_channels, "PCM_24", format="FLAC"
        ) as encoder:
            for block in blocks:
                encoder.write(block)
                forward.reraise()
                n_written += len(block)
    except soundfile.SoundFileError:
        forward.reraise()
        raise
    forward.reraise()
    if n_written != n_frames:
        raise RuntimeError(f"{n_written} frames were written instead of {n_frames}")


def block_length(stream_info: bytes) -> int:
    """Return the greatest length of a frame according to the header (RFC 9639, 8.2)."""
    return int.from_bytes(stream_info[2:4])


def position(frame: bytes, *, n_block: int) -> int | None:
    """Return the position of an encoded frame in the stream, according to its header.

    It is counted in samples if frames have different lengths, else in frames of ``n_block``
    (RFC 9639, 9.1). ``None`` if it is not a frame.
    """
    if len(frame) < _COUNT_AT + _MOST_COUNT_BYTES or frame[:2] not in (b"\xff\xf8", b"\xff\xf9"):
        return None
    first = frame[_COUNT_AT]
    # Coded as a character in UTF-8: as many ones as there are bytes, or none for a single byte.
    n_bytes = 8 - (first ^ 0xFF).bit_length()
    count = first & (0x7F >> n_bytes)
    for byte in frame[_COUNT_AT + 1 : _COUNT_AT + n_bytes]:
        count = count << 6 | byte & 0x3F
    return count if frame[1] & 1 else count * n_block


class _Forward:
    """The file object for libsndfile, which drops bytes that are written a second time.

    libsndfile discards the errors of its file; `reraise` raises the first of them.
    """

    def __init__(self, file: IO[bytes], *, n_frames: int) -> None:
        self._file = file
        self._n_frames = n_frames
        self._position = self._n_passed = 0
        self._error: BaseException | None = None

    def write(self, data: memoryview) -> int:
        content = bytes(data)
        if self._position == self._n_passed and self._error is None:
            try:
                self._file.write(self._with_length(content))
            except BaseException as error:
                self._error = error
            self._n_passed += len(content)
        self._position += len(content)
        return len(content)

    def reraise(self) -> None:
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._n_passed)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""

    def _with_length(self, content: bytes) -> bytes:
        """Insert the length into the header, if it is in these bytes."""
        first, last = _LENGTH.start - self._position, _LENGTH.stop - self._position
        if first < 0 or last > len(content):
            return content
        field = int.from_bytes(content[first:last]) >> _LENGTH_BITS << _LENGTH_BITS
        length = (field | self._n_frames).to_bytes(last - first)
        return content[:first] + length + content[last:]
