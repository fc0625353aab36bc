"""Decoding of recordings to float blocks, for any container, in bounded memory.

WAVE, AIFF, CAF, AU, FLAC, NIST SPHERE and whole files of Ogg Vorbis are read by libsndfile; all
others, and anything that libsndfile cannot open, by FFmpeg. (libsndfile stops at the length that it
estimates from the first frame of an MP3 file, silently loses half of a file that was joined from
two, passes over lost pages of Ogg, and takes floating point for integers in extensible Wave64.
FFmpeg is inexact at both ends of Vorbis.) Joined files are first split, by `joined`. File names are
never passed to the libraries, and their messages are never passed on: both libraries quote paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

from actors.science.audio_io import audiomoth, containers, joined, ogg
from actors.science.audio_io.chain import Chain
from actors.science.audio_io.containers import Container
from actors.science.audio_io.decode_av import AvBackend
from actors.science.audio_io.decode_continued import ContinuedBackend
from actors.science.audio_io.decode_soundfile import SoundFileBackend
from actors.science.audio_io.decoder import Backend, Decoder
from actors.science.audio_io.patched_file import BrokenAudio, PatchedFile
from actors.science.errors import EmptyRecording, Undecodable, UnsupportedLayout
from actors.science.types import AudioFormat

#: Supported sample rates; others are from damaged headers or not from sound recorders.
MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000

#: More channels than any microphone array in use for noise; also bounds the memory.
MAX_CHANNELS = 64

#: Containers that libsndfile reads well.
_LIBSNDFILE_CONTAINERS = frozenset({"wav", "rf64", "aiff", "au", "nist"})
#: Where the audio of a WAVE file is larger than its sizes can be, libsndfile ends there.
_MOST_RIFF_BYTES = 1 << 32
#: The same, but libsndfile ends at damage that FFmpeg leaves out.
_CONTINUED_CONTAINERS = frozenset({"caf", "flac"})


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
        decoder = Decoder(Chain(parts, partial(_open_part, file)), container=container)
    else:
        visible = range(container.start, file.seek(0, 2))
        source = PatchedFile(file, patches=container.patches, part=visible)
        decoder = _open(source, container)
    try:
        yield decoder
    finally:
        decoder.close()


def _open_part(file: BinaryIO, part: range) -> Decoder:
    source = PatchedFile(file, patches={}, part=part)
    container = containers.recognise(cast(BinaryIO, source))
    visible = range(part.start + container.start, part.stop)
    source = PatchedFile(file, patches=container.patches, part=visible)
    return _open(source, container)


def _open(source: PatchedFile, container: Container) -> Decoder:
    failure: Exception = Undecodable()
    for make in _candidates(source, container):
        source.rewind()
        backend: Backend | None = None
        try:
            backend = make(source, container)
            _check_layout(backend.format)
            backend = _expanded(backend, container)
            return Decoder(backend, container=container)
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
    return audiomoth.AudioMothExpander(backend, n_before=n_before)


def _candidates(
    source: PatchedFile, container: Container
) -> list[Callable[[PatchedFile, Container], Backend]]:
    if container.name in _CONTINUED_CONTAINERS:
        return [ContinuedBackend, AvBackend]
    is_beyond_sizes = container.name == "wav" and source.n_bytes > _MOST_RIFF_BYTES
    by_libsndfile = (container.name in _LIBSNDFILE_CONTAINERS and not is_beyond_sizes) or (
        container.name == "ogg" and ogg.is_whole_vorbis(source)
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
