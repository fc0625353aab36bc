"""A recording that is being decoded, and the interface of the libraries' wrappers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.bad_samples import BadSamples
from actors.science.audio_io.containers import Container
from actors.science.audio_io.holes import Holes
from actors.science.audio_io.patched_file import BrokenAudio
from actors.science.errors import EmptyRecording, NonFiniteSamples
from actors.science.types import AudioFormat, Hole

#: A channel of which more than this share has to be replaced was not recorded or decoded correctly.
MOST_BAD_SHARE = 0.5

#: Lossy codecs pad both ends of a stream, and containers may or may not count that padding. A
#: deficit below this is padding.
LOSSY_TOLERANCE_S = 0.25

#: The same for lossless codecs: a header that is off by a few frames is negligible. CAF is an
#: exception, since encoders count whole packets there.
LOSSLESS_TOLERANCE_S = 0.01


class Backend(Protocol):
    """Interface of the decoding libraries' wrappers."""

    format: AudioFormat
    is_lossy: bool
    #: All holes of the audio that was yielded, perhaps with some of the audio that follows. The
    #: decoder adds those of bad samples.
    holes: Holes

    @property
    def promised(self) -> int | None:
        """The length in frames that the header declares, where it is reliable."""

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """Yield audio [shape=(n, n_channels)] in pieces of any length; raise BrokenAudio."""

    def close(self) -> None:
        """Release the library's memory."""


class Decoder:
    """An opened recording: its format, and its audio, which can be read once.

    Attributes
    ----------
    format : AudioFormat
        The format according to the header.
    missing_s : float
        After `blocks` is exhausted: the seconds that the header declares but that are missing from
        the file, or damaged. 0 if the header declares no length.
    """

    def __init__(self, backend: Backend, *, container: Container) -> None:
        self.format = backend.format
        self.missing_s = 0.0
        self._backend = backend
        self._held_share = container.held_share
        counts_packets = container.name == "caf" and not backend.format.codec.startswith("pcm_")
        self._tolerance_s = (
            LOSSY_TOLERANCE_S if backend.is_lossy or counts_packets else LOSSLESS_TOLERANCE_S
        )
        self._pieces = backend.pieces()
        self._first = self._next_piece(is_first=True)
        self._n_frames = 0
        self._bad = self._bad_samples(None)

    @property
    def holes(self) -> list[Hole]:
        """The intervals without audio, in order; at least those of the blocks that were yielded."""
        return self._backend.holes.in_order()

    @property
    def bad_channels(self) -> list[int]:
        """The indices of the channels most of whose samples so far were not audio."""
        found: list[int] = np.flatnonzero(
            self._bad.n_bad > MOST_BAD_SHARE * self._n_frames
        ).tolist()
        return found

    def blocks(
        self, n_frames: int = 65_536, *, used: Sequence[int] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the audio from its beginning; it can be read once.

        Parameters
        ----------
        n_frames
            Length of a block; the last one may be shorter.
        used
            Indices of the channels whose bad samples are holes, in which all channels are zeros. In
            other channels only the bad samples themselves are zeros. Default: all.

        Yields
        ------
        numpy.ndarray [shape=(n, n_channels), dtype=float32]
            Full scale = 1.0.

        Raises
        ------
        NonFiniteSamples
            If most samples of each used channel are not finite, or absurdly large.
        """
        if n_frames < 1:
            raise ValueError("a block has at least one frame")
        held: list[NDArray[np.float32]] = []
        n_held = 0
        self._bad = self._bad_samples(used)
        for piece in filter(len, self._checked(used)):
            held.append(piece)
            n_held += len(piece)
            if n_held < n_frames:
                continue
            joined = held[0] if len(held) == 1 else np.concatenate(held)
            whole = n_held - n_held % n_frames
            for first in range(0, whole, n_frames):
                yield joined[first : first + n_frames]
            held = [joined[whole:]] if whole < n_held else []
            n_held -= whole
        if held:
            yield np.concatenate(held)
        self.missing_s = self._missing()

    def close(self) -> None:
        """Release the library's memory."""
        self._backend.close()

    def _bad_samples(self, used: Sequence[int] | None) -> BadSamples:
        n_channels = self.format.n_channels
        used = range(n_channels) if used is None else used
        holes = self._backend.holes
        return BadSamples(self.format.rate_hz, holes, n_channels=n_channels, used=used)

    def _checked(self, used: Sequence[int] | None) -> Iterator[NDArray[np.float32]]:
        piece: NDArray[np.float32] | None = self._first
        while piece is not None:
            self._n_frames += len(piece)
            yield self._bad.push(piece)
            piece = self._next_piece()
        held = self._bad.finish()
        if held is not None:
            yield held
        if set(used or range(self.format.n_channels)) <= set(self.bad_channels):
            raise NonFiniteSamples(
                "most samples of each used channel are not finite numbers or are absurdly large:"
                " record as 16-bit or 24-bit PCM, or send it again with another channel"
            )

    def _next_piece(self, *, is_first: bool = False) -> NDArray[np.float32] | None:
        try:
            for piece in self._pieces:
                if len(piece):
                    return piece
        except BrokenAudio:
            if is_first:
                raise
            # The decoded audio is kept; the rest of the declared length is missing.
            return None
        if is_first:
            raise EmptyRecording
        return None

    def _missing(self) -> float:
        got = self._n_frames
        promised = self._backend.promised or 0
        if self._held_share is not None:
            promised = max(promised, round(got / self._held_share)) if self._held_share else 0
        missing_s = (promised - got) / self.format.rate_hz
        return missing_s if missing_s > self._tolerance_s else 0.0
