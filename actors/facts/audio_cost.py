"""What a recording costs, in seconds of usual audio: the unit of quotas.

Decoding and measuring take as long as there are samples, so a recording with more samples a second
than usual counts as a longer one: ten minutes of eight channels at 384 kHz as five hours.
"""

from __future__ import annotations

import struct

#: The most samples a second, of all channels together, of which a second costs one second: those of
#: stereo at 48 kHz.
USUAL_SAMPLES_S = 96_000
#: The bytes a second that are assumed of a recording whose length is not known: those of speech at
#: 32 kbit/s. Most recordings have more, and cost less than is assumed.
ASSUMED_BYTES_S = 4_000
#: The seconds that are assumed of a recording of which nothing is known, not even its size.
UNKNOWN_S = 3_600.0

#: From the chunk ``fmt`` of a WAV file: channels, sample rate, (bytes a second), bytes of a frame.
_WAV_FORMAT = struct.Struct("<2xHI4xH")
_CHUNK = struct.Struct("<4sI")


def cost_s(duration_s: float, *, rate_hz: float, n_channels: int) -> float:
    """Return the cost of a recording in seconds."""
    return duration_s * max(1.0, rate_hz * n_channels / USUAL_SAMPLES_S)


def promised_cost_s(head: bytes, size_bytes: int) -> float:
    """Return the cost that the header of a recording promises, or its size if that says nothing.

    Parameters
    ----------
    head
        The first bytes of the file; a few kilobytes hold the header of most files.
    size_bytes
        The size of the whole file.
    """
    found = _flac(head) or _wav(head, size_bytes)
    if found is None:
        return size_bytes / ASSUMED_BYTES_S
    n_frames, rate_hz, n_channels = found
    return cost_s(n_frames / rate_hz, rate_hz=rate_hz, n_channels=n_channels)


def _flac(head: bytes) -> tuple[int, int, int] | None:
    """Return the frames, the sample rate and the channels of STREAMINFO (RFC 9639, 8.2)."""
    if head[:4] != b"fLaC" or len(head) < 26 or head[4] & 0x7F:
        return None
    bits = int.from_bytes(head[18:26], "big")
    rate_hz, n_frames = bits >> 44, bits & (1 << 36) - 1
    return (n_frames, rate_hz, (bits >> 41 & 7) + 1) if rate_hz and n_frames else None


def _wav(head: bytes, size_bytes: int) -> tuple[int, int, int] | None:
    """Return the same of a WAV or RF64 file, whose data is assumed to fill the rest of the file."""
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        return None
    start = 12
    while start + _CHUNK.size + _WAV_FORMAT.size <= len(head):
        name, n_bytes = _CHUNK.unpack_from(head, start)
        start += _CHUNK.size
        if name == b"fmt ":
            n_channels, rate_hz, frame_bytes = _WAV_FORMAT.unpack_from(head, start)
            if not (n_channels and rate_hz and frame_bytes):
                return None
            return (size_bytes - start) // frame_bytes, rate_hz, n_channels
        start += n_bytes + n_bytes % 2
    return None
