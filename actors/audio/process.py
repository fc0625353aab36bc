"""``process_audio_file``: check a recording, find when it began, and start the pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import BinaryIO

from actors.audio import fetch, limits, one_claim, privacy
from actors.execution import runner
from actors.execution.failures import Permanent, still_there
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.facts import noise_types
from actors.messaging.messages import ProcessAudioFile, SplitRecording
from actors.science.audio_io import decode
from actors.science.audio_io.recording_time import finder
from actors.science.detection.classifier import Classifier
from actors.science.levels import channels
from actors.science.types import AudioFormat
from db.queries import session_queries
from db.queries.stage_results import ProcessDone, RecordedAtFound
from db.queue import fair_order
from db.queue.claims import SessionWork
from db.tables.sessions import AudioSession

#: How long after its post a recording may have begun by the clock of its recorder. A time zone that
#: is assumed wrongly makes half a day.
MAX_CLOCK_ERROR = timedelta(days=1)


def process_audio_file(
    runtime: Runtime, nudge: ProcessAudioFile, *, analyze: one_claim.Analyze
) -> None:
    """Fetch a recording if necessary, read its header, and hand it to ``split``.

    The session gets the current model unless it was posted with one. A short recording is processed
    to its end in the same claim, for which ``analyze`` computes its analysis.
    """
    take = partial(fair_order.next_session, state="queued")
    task_of = partial(_process, runtime, analyze)
    runner.run(runtime, nudge, take, task_of, in_one_statement=True)


def _process(runtime: Runtime, analyze: one_claim.Analyze, work: SessionWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        with runtime.store.reading() as tx:
            found = session_queries.session_to_process(tx, work.session_id)
        session, promoted_model_id = still_there(found)
        with privacy.audio_is_needed(session):
            fetch.recording(runtime, session, work, lease)
            with runtime.blobs.open(session.recording_key) as file:
                with decode.open_recording(file) as decoder:
                    audio = decoder.format
                limits.check_format(audio, runtime.settings)
                channels.check(session.channel, n_channels=audio.n_channels)
                recorded_at = _recorded_at(session, audio, file)
        lease.check()
        model_id = session.model_id or promoted_model_id or runtime.shipped_model_id
        # An unusable model fails here, rather than in every span.
        _check_known({*session.thresholds, *session.types}, runtime.model(model_id))
        checked = ProcessDone(
            model_id=model_id,
            container=audio.container,
            codec=audio.codec,
            rate_hz=audio.rate_hz,
            n_channels=audio.n_channels,
            **recorded_at,
        )
        whole: runner.Result | None = None
        if one_claim.fits(session, audio, lease, runtime.settings):
            whole = one_claim.result(
                runtime, work, session, lease, checked=checked, analyze=analyze
            )
        return whole or runner.Result(
            runner.move_on(
                work,
                to="splitting",
                values=checked,
                then=[SplitRecording(session_id=work.session_id)],
            )
        )

    return runner.Task(name="process", work=work, perform=perform, give_up=runner.fail(work))


def _recorded_at(session: AudioSession, audio: AudioFormat, file: BinaryIO) -> RecordedAtFound:
    """Return when the recording began, according to its file, unless the caller said so."""
    if session.recorded_at is not None and session.recorded_at_from is None:
        return {}
    found = finder.find(
        file,
        container=audio.container,
        rate_hz=audio.rate_hz,
        file_name=session.file_name,
        time_zone=session.time_zone,
        not_after=session.created_at + MAX_CLOCK_ERROR,
    )
    if found is None:
        return {}
    return RecordedAtFound(
        recorded_at=found.at, recorded_at_from=found.origin, recorded_at_zone=found.zone
    )


def _check_known(names: Iterable[str], model: Classifier) -> None:
    """Reject names that are neither in the table of noise types nor reported by the model.

    The API has already checked them, unless no model was registered then.
    """
    unknown = noise_types.unknown(names, noise_types.of_model(model.header))
    if unknown is not None:
        raise Permanent("unknown-noise-type", unknown)
