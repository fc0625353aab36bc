"""The audio of sessions with privacy.

No audio of such a session is served before it ends, and the original is not kept after that. The
update that ends the session names the muted copy, if one was requested; then recovery removes all
audio that the row does not name. So it does not matter when a worker dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from actors.audio import pcm, products
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.facts import noise_types
from actors.science.audio_io import decode, flac, muting, spectrogram
from actors.science.audio_io.spectrogram import Spectrogram
from actors.science.detection.chunks import RATE_HZ
from actors.science.detection.tagging import speech
from actors.science.detection.tagging.tagger import Tagger
from actors.science.levels.totals import Totals
from actors.science.types import Event
from db.blobs.errors import BlobMissing
from db.queries.stage_results import MutedAudio
from db.queue.claims import SessionWork
from db.tables.sessions import KEEP, MUTE, AudioSession

#: The progress of muting once speech is found, and once the copy is written.
FOUND_SHARE, COPIED_SHARE = 0.6, 0.95


def require_mutable(session: AudioSession, tagger: Tagger | None) -> None:
    """Reject a recording whose speech is to be muted, if that is impossible.

    Raises
    ------
    Permanent
        ``backbone-missing`` or ``cannot-mute``.
    """
    if session.privacy != MUTE:
        return
    if tagger is None:
        raise Permanent(
            "backbone-missing",
            "speech cannot be muted, because the weights of the backbone, which finds it, are not"
            " installed on this worker: install them with `clamor model fetch`, or send the"
            " recording with privacy=discard_audio, which works without them",
        )
    assert session.n_channels is not None
    assert session.rate_hz is not None
    is_writable = flac.writable_hz(session.rate_hz) == session.rate_hz
    if session.n_channels > flac.MOST_CHANNELS or not is_writable:
        raise Permanent(
            "cannot-mute",
            f"speech can be muted in recordings of up to {flac.MOST_CHANNELS} channels and"
            f" {flac.HIGHEST_RATE_HZ} Hz (in steps of 10 Hz from 65536 Hz on): send this one with"
            " privacy=discard_audio",
        )


@contextmanager
def audio_is_needed(session: AudioSession) -> Iterator[None]:
    """Explain the missing recording of a session with privacy.

    Raises
    ------
    Permanent
        ``audio-removed`` in place of :class:`BlobMissing`.
    """
    try:
        yield
    except BlobMissing:
        if session.privacy == KEEP:
            raise
        raise Permanent(
            "audio-removed",
            f"the recording is no longer stored: with privacy={session.privacy} it is removed when"
            " its session ends; send it again",
        ) from None


def mute(
    runtime: Runtime,
    session: AudioSession,
    work: SessionWork,
    lease: Lease,
    events: Iterable[Event],
    *,
    tell: Callable[[float], None],
) -> MutedAudio:
    """Write the copy of a recording without speech, and its spectrogram; return their keys.

    Parameters
    ----------
    runtime, session, work, lease
        Of the step that ends the session.
    events
        All detections. Those of speech are muted even if the backbone finds no speech there.
    tell
        Called with the share of muting that is done.

    Raises
    ------
    Permanent
        As in `require_mutable`: another worker may have decoded the recording.
    """
    require_mutable(session, runtime.tagger)
    muted_key, picture_key = (
        products.new_key(work, lease, name) for name in ("muted", "spectrogram")
    )
    intervals = _speech(runtime, session, lease, events, tell=tell)
    _write_copy(runtime, session, muted_key, intervals, tell=tell)
    picture = Spectrogram()
    blocks = (block[:, None] for block in pcm.blocks(runtime.blobs, session, lease))
    for block in muting.muted(blocks, intervals, rate_hz=RATE_HZ):
        picture.push(block[:, 0])
    runtime.blobs.put(picture_key, spectrogram.to_png(picture.finish()))
    return MutedAudio(muted_key=muted_key, spectrogram_key=picture_key)


def _speech(
    runtime: Runtime,
    session: AudioSession,
    lease: Lease,
    events: Iterable[Event],
    *,
    tell: Callable[[float], None],
) -> speech.Intervals:
    assert runtime.tagger is not None
    read, n_samples = pcm.wide_reader(runtime.blobs, session, lease, with_filled_holes=False)
    found = speech.find(
        runtime.tagger.backbone,
        read,
        n_samples,
        on_progress=lambda share: tell(share * FOUND_SHARE),
    )
    kinds = noise_types.below("speech")
    named = ((event.start_s, event.end_s) for event in events if event.noise_type in kinds)
    return speech.union(found, speech.widened(named))


def _write_copy(
    runtime: Runtime,
    session: AudioSession,
    key: str,
    intervals: speech.Intervals,
    *,
    tell: Callable[[float], None],
) -> None:
    assert session.duration_s is not None
    assert session.totals
    totals = Totals.from_json(dict(session.totals))
    # Speech was searched for in the used channels only, so the others are not copied.
    unused = [index for index in range(len(totals.channels)) if index not in totals.used]
    with (
        runtime.blobs.open(session.recording_key) as file,
        decode.open_recording(file) as decoder,
        runtime.blobs.writer(key) as out,
    ):
        rate_hz, n_channels = decoder.format.rate_hz, decoder.format.n_channels
        n_frames = round(session.duration_s * rate_hz)

        def counted() -> Iterator[muting.Block]:
            n_passed = 0
            for block in muting.muted(decoder.blocks(used=totals.used), intervals, rate_hz=rate_hz):
                n_passed += len(block)
                share = n_passed / n_frames
                tell(FOUND_SHARE + share * (COPIED_SHARE - FOUND_SHARE))
                yield _without(block, unused)

        flac.write(counted(), out, rate_hz=rate_hz, n_channels=n_channels, n_frames=n_frames)


def _without(block: muting.Block, channels: Sequence[int]) -> muting.Block:
    """Replace some channels of a block by silence."""
    if not channels:
        return block
    rest = block.copy()
    rest[:, channels] = 0.0
    return rest
