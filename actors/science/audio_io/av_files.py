"""Opening of files by FFmpeg, within limits that no genuine file reaches."""

from __future__ import annotations

import ctypes.util
import functools
from pathlib import Path

import av

from actors.science.audio_io.containers import Container
from actors.science.audio_io.patched_file import BrokenAudio, PatchedFile

# A crafted file of a few kilobytes can request gigabytes: by a packet that declares millions of
# frames, or by tables for samples that do not exist.
#: Frames per packet; encoders pack thousands.
MOST_FRAMES = 1 << 18
#: Bytes of a single allocation: an index of five million packets, 24 hours of most codecs.
_MOST_BLOCK_BYTES = 1 << 27
#: Tracks, each of which has an index.
_MOST_TRACKS = 16


@functools.cache
def _limit_blocks() -> None:
    """Limit the size of FFmpeg's memory allocations in this process.

    PyAV does not expose this. Its wheel includes the library; otherwise the system's is used.
    """
    beside = Path(av.__file__).parent.with_name("av.libs").glob("libavutil*")
    library = next(map(str, beside), None) or ctypes.util.find_library("avutil")
    if library is not None:
        ctypes.CDLL(library).av_max_alloc(ctypes.c_size_t(_MOST_BLOCK_BYTES))


def open_in_limits(source: PatchedFile, container: Container) -> av.container.InputContainer:
    """Open a file; raise BrokenAudio if that is not possible."""
    _limit_blocks()
    try:
        opened = av.open(
            source,
            mode="r",
            format=container.demuxer,
            metadata_errors="ignore",
            options={"max_streams": str(_MOST_TRACKS)},
        )
    except Exception as error:
        source.reraise()
        raise BrokenAudio from error
    source.reraise()
    return opened
