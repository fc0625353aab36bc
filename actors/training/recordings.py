"""Labelled audio from the blob store; each recording is decoded once for all its intervals."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.facts.channel_rules import ENERGY_MEAN
from actors.science.audio_io.prepare import read_mono
from actors.science.detection.chunks import RATE_HZ
from actors.science.errors import EmptyRecording, RecordingError
from db.blobs.errors import BlobMissing
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.queries.session_queries import ServedAudio

#: Maximum audio of one job in memory, in seconds: 64 kB each, so about 460 MB. Half as many at
#: twice the rate.
MOST_TOTAL_S = 7_200.0
#: Maximum length of a clip or a labelled interval, which has one label; longer ones should be
#: recordings with events. A recording for validation may be as long as the whole job.
MOST_CLIP_S = 300.0
#: Minimum length.
LEAST_S = 0.1
#: Tolerance for an interval that ends after its recording: labels are rounded.
END_SLACK_S = 0.05

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Wanted:
    """A recording in the blob store, or an interval of one.

    Its place is ``blob_key`` or ``session_id``; neither, if a file was not sent. Without ``end_s``
    the interval extends to the end.
    """

    blob_key: str | None = None
    session_id: uuid.UUID | None = None
    start_s: float = 0.0
    end_s: float | None = None


@dataclass
class Read:
    """Mono samples of readable recordings, and reasons for the others, by index."""

    samples: dict[int, Samples] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    total_s: float = 0.0


def read(
    runtime: Runtime,
    wanted: Sequence[Wanted],
    *,
    rate_hz: int = RATE_HZ,
    longest_s: float = MOST_CLIP_S,
    on_progress: Callable[[float], None] = lambda _fraction: None,
) -> Read:
    """Read all usable recordings and intervals.

    Parameters
    ----------
    runtime
        Provides the stores.
    wanted
        The recordings or intervals; the result uses the indices of this list.
    rate_hz
        Sample rate of the result.
    longest_s
        Longer ones are rejected.
    on_progress
        Receives the fraction that is done; an exception from it stops the work.

    Raises
    ------
    Permanent
        If the total is too long.
    """
    result = Read()
    by_audio: dict[ServedAudio, list[int]] = defaultdict(list)
    for index, (each, audio) in enumerate(zip(wanted, _audio(runtime, wanted), strict=True)):
        if audio.key is None:
            result.refused[index] = (
                "the file was not sent"
                if each.session_id is None
                else "the recording is not stored"
            )
        elif (each.end_s or 0.0) - each.start_s > longest_s:
            result.refused[index] = f"lasts longer than {longest_s:g} s"
        else:
            by_audio[audio].append(index)
    for number, (audio, members) in enumerate(by_audio.items()):
        _read_one(
            runtime,
            audio,
            {index: wanted[index] for index in members},
            longest_s,
            result,
            rate_hz=rate_hz,
            tell=partial(on_progress, number / len(by_audio)),
        )
    return result


def _audio(runtime: Runtime, wanted: Sequence[Wanted]) -> list[ServedAudio]:
    """Return the audio of each recording, and which of its channels to use."""
    session_ids = {each.session_id for each in wanted if each.session_id}
    known: dict[uuid.UUID, ServedAudio] = {}
    if session_ids:
        with runtime.store.reading() as tx:
            known = session_queries.served_audio(tx, session_ids)
    # The recording of a deleted session is deleted, too.
    return [
        known.get(each.session_id, ServedAudio(recording_key(each.session_id), ENERGY_MEAN))
        if each.session_id
        else ServedAudio(each.blob_key, ENERGY_MEAN)
        for each in wanted
    ]


def _read_one(
    runtime: Runtime,
    audio: ServedAudio,
    wanted: dict[int, Wanted],
    longest_s: float,
    result: Read,
    *,
    rate_hz: int,
    tell: Callable[[], None],
) -> None:
    """Decode one recording and keep the wanted intervals of it.

    ``tell`` is called before each block.
    """
    tell()
    excerpts = {
        index: _Excerpt(
            start=round(each.start_s * rate_hz),
            stop=round((each.start_s + longest_s if each.end_s is None else each.end_s) * rate_hz),
            is_open=each.end_s is None,
            rate_hz=rate_hz,
        )
        for index, each in wanted.items()
    }
    last = max(each.stop for each in excerpts.values())
    n_samples = 0
    assert audio.key is not None
    try:
        with runtime.blobs.open(audio.key) as file:
            for block in read_mono(
                file, channel=audio.channel, until_s=last / rate_hz, to_hz=rate_hz
            ):
                tell()
                for excerpt in excerpts.values():
                    excerpt.take(block, at=n_samples)
                n_samples += block.size
                if n_samples > last:
                    break
        if not n_samples:
            raise EmptyRecording
    except RecordingError as error:
        result.refused |= dict.fromkeys(wanted, str(error))
        return
    except BlobMissing:
        result.refused |= dict.fromkeys(wanted, "the recording is not stored")
        return
    for index, excerpt in excerpts.items():
        reason = excerpt.refusal(n_samples, longest_s=longest_s)
        if reason is not None:
            result.refused[index] = reason
            continue
        result.samples[index] = excerpt.samples()
        result.total_s += result.samples[index].size / rate_hz
        most_s = MOST_TOTAL_S * RATE_HZ / rate_hz
        if result.total_s > most_s:
            raise Permanent("too-much-audio", f"more than {most_s:g} s of labelled audio at once")


class _Excerpt:
    """Samples ``[start, stop)`` of a recording that is read block by block."""

    def __init__(self, *, start: int, stop: int, is_open: bool, rate_hz: int) -> None:
        self.start, self.stop, self._rate_hz = start, stop, rate_hz
        #: Whether it extends to the end of the recording, up to ``stop``.
        self.is_open = is_open
        self._pieces: list[Samples] = []

    def take(self, block: Samples, *, at: int) -> None:
        piece = block[max(self.start - at, 0) : max(self.stop - at, 0)]
        if piece.size:
            self._pieces.append(piece)

    def samples(self) -> Samples:
        return np.concatenate(self._pieces)

    def refusal(self, n_samples: int, *, longest_s: float) -> str | None:
        """Return why it is unusable in a recording of ``n_samples``; None if it is usable."""
        lasts_s = n_samples / self._rate_hz
        if self.is_open and n_samples > self.stop:
            return f"lasts longer than {longest_s:g} s"
        if not self.is_open and self.stop / self._rate_hz > lasts_s + END_SLACK_S:
            end_s = self.stop / self._rate_hz
            return f"ends at {end_s:g} s, but the recording lasts {lasts_s:.2f} s"
        if sum(piece.size for piece in self._pieces) < LEAST_S * self._rate_hz:
            return f"lasts less than {LEAST_S:g} s"
        return None
