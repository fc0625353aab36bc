"""Decoding of recordings to float blocks, for any container, in bounded memory.

WAVE, AIFF, CAF, AU, FLAC and Ogg Vorbis are read by libsndfile; all others, and anything that
libsndfile cannot open, by FFmpeg. (libsndfile stops at the length that it estimates from the
first frame of an MP3 file, and silently loses half of a file that was joined from two.) Joined
files are first split, by `joined`. File names are never passed to the libraries, and their messages
are never passed on: both libraries quote paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io import audiomoth, containers, joined, ogg
from actors.science.audio_io.bad_samples import BadSamples, merged
from actors.science.audio_io.containers import Container
from actors.science.audio_io.decode_av import AvBackend
from actors.science.audio_io.decode_continued import ContinuedBackend
from actors.science.audio_io.decode_soundfile import SoundFileBackend
from actors.science.audio_io.patched_file import BrokenAudio, PatchedFile
from actors.science.errors import (
    EmptyRecording,
    NonFiniteSamples,
    Undecodable,
    UnsupportedLayout,
)
from actors.science.types import AudioFormat, Hole

#: Supported sample rates; others are from damaged headers or not from sound recorders.
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000

#: More channels than any microphone array in use for noise; also bounds the memory.
MAX_CHANNELS = 64

#: A channel of which more than this share has to be replaced was not recorded or decoded correctly.
MOST_BAD_SHARE = 0.5

#: Containers and codecs that libsndfile reads well.
_LIBSNDFILE_CONTAINERS = frozenset({"wav", "rf64", "w64", "aiff", "au", "nist"})
#: The same, but libsndfile ends at damage that FFmpeg leaves out.
_CONTINUED_CONTAINERS = frozenset({"caf", "flac"})
_LIBSNDFILE_OGG_CODECS = frozenset({"vorbis", "flac"})

#: Lossy codecs pad both ends of a stream, and containers may or may not count that padding. A
#: deficit below this is padding.
LOSSY_TOLERANCE_S = 0.25

#: The same for lossless codecs: a header that is off by a few frames is negligible.
LOSSLESS_TOLERANCE_S = 0.01


class Backend(Protocol):
    """Interface of the decoding libraries' wrappers."""

    format: AudioFormat
    is_lossy: bool
    #: The holes of the audio that was yielded; its frames are zeros.
    holes: list[Hole]

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
        self._pieces = backend.pieces()
        self._first = self._next_piece(is_first=True)
        self._n_frames = 0
        self._bad = self._bad_samples(None)

    @property
    def holes(self) -> list[Hole]:
        """The intervals without audio, in order; those of all blocks that were yielded."""
        found = [*self._backend.holes, *self._bad.holes]
        return merged(found, n_apart=1) if found else found

    @property
    def bad_channels(self) -> list[int]:
        """The indices of the channels most of whose samples so far were not audio."""
        is_bad = self._bad.n_bad > MOST_BAD_SHARE * self._n_frames
        return np.flatnonzero(is_bad).tolist()

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

    def _bad_samples(self, used: Sequence[int] | None) -> BadSamples:
        n_channels = self.format.n_channels
        used = range(n_channels) if used is None else used
        return BadSamples(self.format.rate_hz, n_channels=n_channels, used=used)

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
        tolerance_s = LOSSY_TOLERANCE_S if self._backend.is_lossy else LOSSLESS_TOLERANCE_S
        return missing_s if missing_s > tolerance_s else 0.0


@contextmanager
def open_recording(file: BinaryIO) -> Iterator[Decoder]:
    """Open a recording for decoding.

    Parameters
    ----------
    file
        Seekable and binary. It stays open afterwards. An error raised by its ``read`` is re-raised
        unchanged, so that a storage failure does not look like a damaged recording.

    Raises
    ------
    UnknownAudioFormat
        If the content has no known format.
    Undecodable
        If not a single block can be decoded.
    EmptyRecording
        If it contains no audio.
    UnsupportedLayout
        If its rate is outside 4 kHz to 768 kHz or it has more than 64 channels.
    """
    container = containers.recognise(file)
    parts = joined.parts(file, container)
    if len(parts) > 1:
        backend: Backend = ogg.Chain(parts, partial(_open_link, file))
        decoder = Decoder(backend, container=container)
    else:
        visible = range(container.start, file.seek(0, 2))
        source = PatchedFile(file, patches=container.patches, part=visible)
        backend, decoder = _open(source, container)
    try:
        yield decoder
    finally:
        backend.close()


def _open_link(file: BinaryIO, part: range) -> tuple[Decoder, Callable[[], None]]:
    source = PatchedFile(file, patches={}, part=part)
    container = containers.recognise(cast(BinaryIO, source))
    source = PatchedFile(file, patches=container.patches, part=part[container.start :])
    backend, decoder = _open(source, container)
    return decoder, backend.close


def _open(source: PatchedFile, container: Container) -> tuple[Backend, Decoder]:
    failure: Exception = Undecodable()
    for make in _candidates(container):
        source.rewind()
        backend: Backend | None = None
        try:
            backend = make(source, container)
            _check_layout(backend.format)
            backend = _expanded(backend, container)
            return backend, Decoder(backend, container=container)
        except BrokenAudio:
            failure = Undecodable()
        except EmptyRecording as error:
            failure = error
        except BaseException:
            if backend is not None:
                backend.close()
            raise
        if backend is not None:
            backend.close()
    raise failure


def _expanded(backend: Backend, container: Container) -> Backend:
    """Return the backend with the times that AudioMoth did not record."""
    start = container.audiomoth_start
    if start is None or backend.format.codec != "pcm_16" or backend.format.n_channels != 1:
        return backend
    n_before = -start // 2 % audiomoth.BLOCK
    return audiomoth.Untriggered(backend, n_before=n_before)


def _candidates(container: Container) -> list[Callable[[PatchedFile, Container], Backend]]:
    if container.name in _CONTINUED_CONTAINERS:
        return [ContinuedBackend, AvBackend]
    by_libsndfile = container.name in _LIBSNDFILE_CONTAINERS or (
        container.name == "ogg" and container.codec in _LIBSNDFILE_OGG_CODECS
    )
    return [SoundFileBackend, AvBackend] if by_libsndfile else [AvBackend]


def _check_layout(audio: AudioFormat) -> None:
    if not MIN_RATE_HZ <= audio.rate_hz <= MAX_RATE_HZ:
        raise UnsupportedLayout(
            f"the sample rate is {audio.rate_hz} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz can be used"
        )
    if not 1 <= audio.n_channels <= MAX_CHANNELS:
        raise UnsupportedLayout(
            f"the recording has {audio.n_channels} channels; 1 to {MAX_CHANNELS} can be used"
        )
