"""``process_audio_file``: check a recording and start the pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from actors.audio import fetch, limits, privacy
from actors.execution import runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.facts import noise_types
from actors.messaging.messages import ProcessAudioFile, SplitRecording
from actors.science.audio_io import decode
from actors.science.detection.classifier import Classifier
from actors.science.levels import channels
from db.queries import session_queries
from db.queries.stage_results import ProcessDone
from db.queue import fair_order
from db.queue.claims import SessionWork


def process_audio_file(runtime: Runtime, nudge: ProcessAudioFile) -> None:
    """Fetch a recording if necessary, read its header, and hand it to ``split``.

    The session gets the current model unless it was posted with one.
    """
    take = partial(fair_order.next_session, state="queued")
    runner.run(runtime, nudge, take, partial(_process, runtime))


def _process(runtime: Runtime, work: SessionWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        with runtime.store.reading() as tx:
            session = session_queries.get_session(tx, work.session_id)
        assert session is not None
        with (
            privacy.audio_is_needed(session),
            runtime.blobs.open(fetch.recording(runtime, session, work, lease)) as file,
            decode.open_recording(file) as decoder,
        ):
            audio = decoder.format
        limits.check_format(audio, runtime.settings)
        channels.check(session.channel, n_channels=audio.n_channels)
        lease.check()
        model_id = session.model_id or runtime.current_model_id()
        # An unusable model fails here, rather than in every span.
        _check_known({*session.thresholds, *session.types}, runtime.model(model_id))
        return runner.Result(
            runner.move_on(
                work,
                to="splitting",
                values=ProcessDone(
                    model_id=model_id,
                    container=audio.container,
                    codec=audio.codec,
                    rate_hz=audio.rate_hz,
                    n_channels=audio.n_channels,
                ),
                then=[SplitRecording(session_id=work.session_id)],
            )
        )

    return runner.Task(name="process", work=work, perform=perform, give_up=runner.fail(work))


def _check_known(names: Iterable[str], model: Classifier) -> None:
    """Reject names that are neither in the table of noise types nor reported by the model.

    The API has already checked them, unless no model was registered then.
    """
    unknown = noise_types.unknown(names, noise_types.of_model(model.header))
    if unknown is not None:
        raise Permanent("unknown-noise-type", unknown)
