"""A recording without a file, for what backends do with the audio of another."""

from __future__ import annotations

from collections.abc import Iterator

from actors.science.audio_io.containers import Container
from actors.science.audio_io.decoder import Backend, Decoder
from actors.science.audio_io.holes import Holes
from actors.science.types import AudioFormat
from tests.support.shapes import Samples


class Recorded:
    """A backend that yields the same samples several times."""

    def __init__(self, samples: Samples, *, rate_hz: int, repeated: int = 1) -> None:
        n_frames = len(samples) * repeated
        self.format = AudioFormat("wav", "pcm_16", rate_hz, samples.shape[1], n_frames)
        self.is_lossy = False
        self.holes = Holes()
        self.promised = n_frames
        self._samples, self._repeated = samples, repeated

    def pieces(self) -> Iterator[Samples]:
        """Yield the samples."""
        for _ in range(self._repeated):
            yield self._samples

    def close(self) -> None:
        """Do nothing."""


def opened(backend: Backend) -> Decoder:
    """Return the decoder of a backend."""
    return Decoder(backend, container=Container("wav", "wav"))
