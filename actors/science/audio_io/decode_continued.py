"""libsndfile as a backend of the decoder, continued by FFmpeg behind damage.

libsndfile ends at the first damaged frame of a FLAC file, and at the first damaged packet of Apple
Lossless. FFmpeg leaves out the damaged ones, and decodes all others to the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.containers import Container
from actors.science.audio_io.decode_av import AvBackend
from actors.science.audio_io.decode_soundfile import SoundFileBackend
from actors.science.audio_io.holes import Holes
from actors.science.audio_io.layout import Layout
from actors.science.audio_io.patched_file import BrokenAudio, PatchedFile
from actors.science.errors import RecordingError
from actors.science.types import Hole


class ContinuedBackend:
    """libsndfile, and FFmpeg from the frame at which libsndfile ends too early."""

    def __init__(self, source: PatchedFile, container: Container) -> None:
        self._source = source
        self._container = container
        self._backend: SoundFileBackend | AvBackend = SoundFileBackend(source, container)
        self.holes = Holes()
        self.format = self._backend.format
        self.is_lossy = self._backend.is_lossy
        self.promised = self._backend.promised

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        n_frames = 0
        try:
            for piece in self._backend.pieces():
                n_frames += len(piece)
                yield piece
        except BrokenAudio:
            if not n_frames:
                raise
        else:
            if n_frames >= (self.promised or 0):
                return
        yield from self._continued(n_frames)

    def close(self) -> None:
        self._backend.close()

    def _continued(self, n_before: int) -> Iterator[NDArray[np.float32]]:
        """Yield the audio after the first ``n_before`` frames, as FFmpeg decodes it."""
        self._backend.close()
        self._source.rewind()
        try:
            self._backend = AvBackend(self._source, self._container)
        except RecordingError as error:
            raise BrokenAudio from error
        if Layout.of(self._backend.format) != Layout.of(self.format):
            raise BrokenAudio
        n_left = known_until = n_before
        for piece in self._backend.pieces():
            for hole in self._backend.holes.in_order():
                if hole.stop > known_until:
                    self.holes.add(Hole(max(hole.start, known_until), hole.stop, hole.kind))
                    known_until = hole.stop
            yield piece[n_left:]
            n_left = max(n_left - len(piece), 0)
