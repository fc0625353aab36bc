"""``split_recording``: decode, measure levels, store the mono mix packed, draw, plan spans."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from actors.audio import base_types, privacy, products, progress, stored_pcm
from actors.audio.allowance import Allowance
from actors.execution import runner
from actors.execution.failures import still_there
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.execution.turns import Turns
from actors.facts import audio_cost
from actors.messaging.messages import DetectSpan, Nudge, SplitRecording
from actors.science.audio_io import decode, spectrogram
from actors.science.audio_io.prepare import Prepared, prepare
from actors.science.audio_io.spectrogram import Spectrogram
from actors.science.detection import chunks
from actors.science.levels import calibration, channels
from actors.science.levels.totals import ChannelTotals
from actors.science.types import Hole
from db.queries import session_queries, span_queries, usage_limit_queries
from db.queries.stage_results import SplitDone
from db.queue import fair_order
from db.queue.claims import Claim, SessionWork
from db.tables.base import StoredHole
from db.tables.sessions import KEEP, AudioSession
from db.tables.spans import SessionSpan

Samples = NDArray[np.float32]

#: The keys of decoded audio at 16 kHz and at 32 kHz; the second one only with a backbone.
PcmKeys = tuple[str, str | None]
Write = Callable[[bytes], object]

log = structlog.get_logger(__name__)

#: The state of sessions that wait to be split.
STATE = "splitting"
#: A recording that has been due for this long is not left to idle workers: there are none. Sooner
#: begins it sooner, but more often in a worker that has something else to do.
UNTAKEN_S = 5.0
#: Decimals of a measured calibration in dB, which people read and type in again.
CALIBRATION_DECIMALS = 3


def split_recording(runtime: Runtime, nudge: SplitRecording) -> None:
    """Split a recording into spans that many workers can process at once."""
    take = partial(_take, runtime.turns)
    runner.run(runtime, nudge, take, partial(_split, runtime), in_one_statement=True)


def find_waiting(runtime: Runtime, beside: Sequence[uuid.UUID]) -> SplitRecording | None:
    """Return a message for a recording that no worker takes, if there is one.

    Of another lane than those of the sessions ``beside``.
    """
    with runtime.store.reading() as tx:
        found = fair_order.waiting_session(tx, state=STATE, beside=beside, for_s=UNTAKEN_S)
    return None if found is None else SplitRecording(session_id=found)


def _take(turns: Turns, tx: Session, *, lease_s: float) -> Claim[SessionWork] | None:
    """Claim the next recording: first of a lane that has no open run in this process.

    A run that began in a turn claims no other.
    """
    take = partial(fair_order.next_session, tx, state=STATE, lease_s=lease_s)
    open_sessions = turns.open_sessions()
    if open_sessions:
        claim = take(beside=open_sessions)
        if claim is not None or turns.is_beside:
            return claim
    return take()


def _split(runtime: Runtime, work: SessionWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        with runtime.store.reading() as tx:
            session = still_there(session_queries.get_session(tx, work.session_id))
        most_s, tell = runtime.settings.max_duration_s, progress.of_stage(runtime, work, lease)
        done = split(runtime, work, session, lease, most_s=most_s, tell=tell)
        move_on = runner.move_on(
            work,
            to="detecting",
            values=done.values,
            then=[
                DetectSpan(session_id=session.id, span_index=span.span_index) for span in done.spans
            ],
        )

        def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
            nudges = move_on(tx, attempt)
            if nudges is not None:
                done.add_rows(tx)
            return nudges

        return runner.Result(write)

    return runner.Task(name="split", work=work, perform=perform, give_up=runner.fail(work))


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """The result of a split: columns of the session, its spans, and its cost if it counts."""

    values: SplitDone
    spans: Sequence[SessionSpan]
    #: None if the recording was counted before.
    cost_s: float | None

    def add_rows(self, tx: Session) -> None:
        """Add the spans, and count the audio of the recording for its user.

        Behind the fence, so that a recording counts once, however many attempts it takes.
        """
        span_queries.add_spans(tx, self.spans)
        if self.cost_s is not None:
            usage_limit_queries.count_audio(tx, self.spans[0].session_id, audio_s=self.cost_s)


def split(
    runtime: Runtime,
    work: SessionWork,
    session: AudioSession,
    lease: Lease,
    *,
    most_s: float,
    tell: Callable[[float], None],
) -> Splitting:
    """Decode a recording, store its products, and plan its spans.

    ``tell`` is called with the share that is decoded.

    Raises
    ------
    Permanent
        ``too-long`` if the recording is longer than ``most_s``, whatever its header says;
        ``quota-exceeded`` if it costs more than was reserved, and its user has nothing left.
    """
    privacy.require_mutable(session, runtime.tagger)
    with privacy.audio_is_needed(session):
        pcm_key, wide_key, levels_key, bands_key, picture_key = (
            products.new_key(work, lease, name)
            for name in (*products.decoded_names(work), "levels", "bands", "spectrogram")
        )
        tagger = runtime.tagger
        keys = (pcm_key, None if tagger is None else wide_key)
        allowance = Allowance(runtime, session, most_s=most_s)
        prepared, picture = _decode(runtime, session, keys, allowance=allowance, tell=tell)
        calibration_db = _calibration_db(runtime, session, prepared.totals.used, lease)
    runtime.blobs.put(levels_key, prepared.levels.to_bytes())
    if prepared.bands is not None:
        runtime.blobs.put(bands_key, prepared.bands.to_bytes())
    # With privacy the spectrogram is drawn at the end, without speech, or not at all.
    is_drawn = session.privacy == KEEP
    if is_drawn:
        runtime.blobs.put(picture_key, spectrogram.to_png(picture.finish()))
    planned = chunks.plan_spans(prepared.grid.length)
    spans = span_queries.new_spans(
        session.id, [(span.index, span.start, span.stop) for span in planned]
    )
    return Splitting(
        values=SplitDone(
            duration_s=prepared.duration_s,
            missing_s=prepared.missing_s,
            holes=[_stored(hole, prepared.format.rate_hz) for hole in prepared.holes],
            calibration_db=calibration_db,
            totals=prepared.totals.to_json(),
            n_samples=prepared.grid.n_samples,
            grid_lead=prepared.grid.lead,
            pcm_key=pcm_key,
            wide_pcm_key=keys[1],
            levels_key=levels_key,
            bands_key=None if prepared.bands is None else bands_key,
            spectrogram_key=picture_key if is_drawn else None,
            spans_total=len(spans),
            **base_types.of_split(tagger),
        ),
        spans=spans,
        # A recording that was decoded, given up and then retried has already been counted.
        cost_s=None
        if session.duration_s is not None
        else audio_cost.cost_s(
            prepared.duration_s,
            rate_hz=prepared.format.rate_hz,
            n_channels=prepared.format.n_channels,
        ),
    )


def _stored(hole: Hole, rate_hz: int) -> StoredHole:
    return StoredHole(start_s=hole.start / rate_hz, end_s=hole.stop / rate_hz, kind=hole.kind.value)


def _calibration_db(
    runtime: Runtime, session: AudioSession, used: Sequence[int], lease: Lease
) -> float | None:
    """Return the calibration of the session: as posted, or measured from its calibrator tone.

    The tone is that of the used channels: an input without a microphone has none.
    """
    if session.calibration_tone_db is None:
        return session.calibration_db
    with (
        runtime.blobs.open(session.recording_key) as file,
        decode.open_recording(file) as decoder,
    ):
        rate_hz = decoder.format.rate_hz
        found = calibration.from_tone(
            _checked(
                decoder.blocks(calibration.frame_length(rate_hz), used=used), used, runtime, lease
            ),
            rate_hz=rate_hz,
            tone_spl_db=session.calibration_tone_db,
        )
    log.info("calibrator_heard", session_id=str(session.id), **dataclasses.asdict(found))
    return round(found.calibration_db, CALIBRATION_DECIMALS)


def _checked(
    blocks: Iterable[Samples], used: Sequence[int], runtime: Runtime, lease: Lease
) -> Iterator[Samples]:
    for block in blocks:
        runtime.turns.give(lease)
        lease.check()
        yield block[:, used]


def _decode(
    runtime: Runtime,
    session: AudioSession,
    keys: PcmKeys,
    *,
    allowance: Allowance,
    tell: Callable[[float], None],
) -> tuple[Prepared, Spectrogram]:
    """Decode a recording into audio and a spectrogram; ``tell`` takes the share decoded so far.

    It is decoded again if the levels show that other channels are to be used than was assumed. Then
    only these are measured: the levels of the others are known.
    """
    assert session.n_channels is not None
    used = channels.assumed(session.channel, n_channels=session.n_channels)
    prepared, picture = _decode_channels(
        runtime, session, keys, used, allowance=allowance, tell=tell
    )
    usable = [index for index in used if index not in prepared.bad_channels]
    if usable != used:
        # The levels of all channels lack the holes of the bad ones.
        used = usable
        prepared, picture = _decode_channels(
            runtime, session, keys, used, allowance=allowance, tell=tell
        )
    chosen = channels.chosen(session.channel, prepared.totals.channels)
    if chosen == used:
        return prepared, picture
    log.info("channels_chosen", session_id=str(session.id), used=chosen)
    return _decode_channels(
        runtime,
        session,
        keys,
        chosen,
        measured=prepared.totals.channels,
        allowance=allowance,
        tell=tell,
    )


@contextmanager
def _writers(runtime: Runtime, keys: PcmKeys) -> Iterator[tuple[Write, Write | None]]:
    """Open the writers of decoded audio at 16 kHz, and at 32 kHz if it has a key."""
    with ExitStack() as stack:
        narrow, wide = keys
        write = stack.enter_context(stored_pcm.writer(runtime.blobs, narrow))
        if wide is None:
            yield write, None
        else:
            yield write, stack.enter_context(stored_pcm.writer(runtime.blobs, wide))


def _decode_channels(
    runtime: Runtime,
    session: AudioSession,
    keys: PcmKeys,
    used: Sequence[int],
    *,
    measured: Sequence[ChannelTotals] = (),
    allowance: Allowance,
    tell: Callable[[float], None],
) -> tuple[Prepared, Spectrogram]:
    with (
        runtime.blobs.open(session.recording_key) as file,
        decode.open_recording(file) as decoder,
        _writers(runtime, keys) as (write, write_wide),
    ):
        promised = decoder.format.n_frames
        picture = Spectrogram()

        def on_progress(decoded_s: float) -> None:
            allowance.check(decoded_s)
            # Some headers lack the length of the recording; then the position in the file counts.
            if promised:
                tell(decoded_s * decoder.format.rate_hz / promised)
            else:
                assert session.size_bytes is not None
                tell(file.tell() / session.size_bytes)

        prepared = prepare(
            decoder,
            used=used,
            measured=measured,
            write=write,
            write_wide=write_wide,
            third_octaves=session.bands == "third_octave",
            spectrogram=picture,
            on_progress=on_progress,
        )
    return prepared, picture
