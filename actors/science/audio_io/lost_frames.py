"""Damaged bytes between the frames of MP3, AAC and AC-3 files, and the audio that was in them.

Such files have no times, and decoders silently continue with the next frame, too early. So the
frames are counted here, and those in other bytes are estimated by the mean length of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from actors.facts import formats, frames
from actors.science.audio_io import containers
from actors.science.audio_io.containers import Container
from actors.science.audio_io.patched_file import PatchedFile

#: Bytes per read, and how many of them contain a frame and enough of those that follow it.
_BLOCK_BYTES, _LOOKAHEAD_BYTES = 1 << 20, 1 << 16

#: Most losses of a file; a crafted one could have millions.
_MOST_LOSSES = 10_000

#: A tag of version 1 of ID3, at the end of a part of a joined file, and its length.
_ID3_1, _ID3_1_BYTES = b"TAG", 128

#: How many frames before damaged bytes FFmpeg may fail to decode.
_MOST_BESIDE = 4


class Loss(NamedTuple):
    """The number of frames before damaged bytes, and an estimate of those that were in them."""

    n_before: int
    n_lost: int


class Losses:
    """The losses of a file while its frames are decoded."""

    def __init__(self, losses: Iterator[Loss]) -> None:
        self._losses = islice(losses, _MOST_LOSSES)
        self._next = next(self._losses, None)
        self._n_frames = 0
        self._has_failed = False

    def fail(self) -> None:
        """Take a packet that cannot be decoded."""
        self._has_failed = True

    def before_next(self) -> int:
        """Take a decoded frame; return how many are lost between it and the one before."""
        n_lost = 0
        n_beside = _MOST_BESIDE if self._has_failed else 0
        while self._next is not None and self._n_frames + n_beside >= self._next.n_before:
            n_lost += self._next.n_lost + max(self._next.n_before - self._n_frames, 0)
            self._n_frames = max(self._n_frames, self._next.n_before)
            self._next = next(self._losses, None)
        self._n_frames += 1
        self._has_failed = False
        return n_lost


def of(file: PatchedFile, container: Container) -> Losses:
    """Return the losses of a file that begins with a frame; none of one that has times."""
    if container.name not in frames.PARSERS:
        return Losses(iter(()))
    # The first frame of an MP3 file may be a header without audio.
    has_header = container.promised_frames is not None
    return Losses(_find(file, container.name, has_header=has_header))


def _find(file: PatchedFile, name: str, *, has_header: bool) -> Iterator[Loss]:
    """Yield the losses of a file, which keeps its position."""
    n_frames, n_bytes = -int(has_header), 0
    begin: int | None = 0
    while begin is not None:
        end, lengths = _run(file, begin, frames.PARSERS[name])
        n_frames, n_bytes = n_frames + lengths[0], n_bytes + lengths[1]
        begin, n_lost_bytes = _next_run(file, end, name)
        if begin is not None and n_lost_bytes and n_frames > 0:
            # The frame before is damaged too: the next one does not follow it.
            mean_bytes = n_bytes / n_frames
            n_frames -= 1
            yield Loss(n_frames, round((n_lost_bytes + lengths[2]) / mean_bytes))


def _run(file: PatchedFile, at: int, parse: frames.Parse) -> tuple[int, tuple[int, int, int]]:
    """Return the end of consecutive frames, their number, their bytes, and those of the last."""
    n_frames, n_last, start, kind = 0, 0, at, None
    while block := _read(file, at):
        offset = 0
        # A header may be cut off at the end of a block.
        n_usable = len(block) - (_LOOKAHEAD_BYTES if len(block) == _BLOCK_BYTES else 0)
        while offset < n_usable:
            frame = parse(block, offset)
            if frame is None or kind not in (None, frame.kind):
                return at + offset, (n_frames, at + offset - start, n_last)
            n_frames, n_last, kind = n_frames + 1, frame.n_bytes, frame.kind
            offset += n_last
        at += offset
    return at, (n_frames, at - start, n_last)


def _next_run(file: PatchedFile, at: int, name: str) -> tuple[int | None, int]:
    """Return where frames continue, and the number of bytes before them that are not of tags.

    None if no frames follow.
    """
    while n_tag := _tag_bytes(_read(file, at)):
        at += n_tag
    start = at
    while block := _read(file, at):
        found = frames.find_chain(block, name)
        if found is not None:
            return at + found, at + found - start
        if len(block) < _BLOCK_BYTES:
            break
        at += len(block) - _LOOKAHEAD_BYTES
    return None, 0


def _tag_bytes(head: bytes) -> int:
    """Return the length of the tag at the start of some bytes; 0 without one."""
    if head.startswith(_ID3_1):
        return _ID3_1_BYTES
    return containers.tag_bytes(head) if formats.container_of(head) == "tagged" else 0


def _read(file: PatchedFile, at: int) -> bytes:
    position = file.tell()
    file.seek(at)
    block = file.read(_BLOCK_BYTES)
    file.seek(position)
    return block
