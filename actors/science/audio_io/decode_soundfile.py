"""libsndfile as a backend of the decoder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soundfile
from numpy.typing import NDArray

from actors.science.audio_io import codec_names
from actors.science.audio_io.containers import Container
from actors.science.audio_io.holes import Holes
from actors.science.audio_io.patched_file import BrokenAudio, PatchedFile
from actors.science.types import AudioFormat

#: A length from libsndfile beyond this means that it is unknown.
_UNKNOWN_FRAMES = 1 << 40


class SoundFileBackend:
    """libsndfile as a backend of the decoder."""

    #: Maximum frames per read; fewer for many channels, so that a read stays within 8 MB.
    _FRAMES = 65_536

    def __init__(self, source: PatchedFile, container: Container) -> None:
        self._source = source
        #: It has none: the files that libsndfile reads have no times.
        self.holes = Holes()
        try:
            self._file = soundfile.SoundFile(source)
        except Exception as error:
            source.reraise()
            raise BrokenAudio from error
        source.reraise()
        known = 0 < self._file.frames < _UNKNOWN_FRAMES
        self.promised = int(self._file.frames) if known else None
        self.is_lossy = container.name == "ogg" or self._file.subtype.startswith("MPEG")
        self.format = AudioFormat(
            container=container.name,
            codec=codec_names.of_libsndfile(self._file.subtype, container),
            rate_hz=int(self._file.samplerate),
            n_channels=int(self._file.channels),
            n_frames=self.promised,
        )

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        n_channels = self.format.n_channels
        n_frames = min(self._FRAMES, max(1, 2_000_000 // n_channels))
        while True:
            # libsndfile reports failure of a whole read although it decoded a part of it. That part
            # is found as the frames where it overwrote the NaN.
            piece = np.full((n_frames, n_channels), np.nan, dtype=np.float32)
            try:
                n_read = len(self._file.read(out=piece))
            except Exception as error:
                self._source.reraise()
                written = ~np.isnan(piece).all(axis=1)
                n_read = n_frames if written.all() else int(written.argmin())
                if n_read:
                    yield piece[:n_read]
                raise BrokenAudio from error
            self._source.reraise()
            if not n_read:
                return
            yield piece[:n_read]

    def close(self) -> None:
        self._file.close()
