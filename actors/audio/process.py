"""``process_audio_file``: the entry. Checks a recording and starts the pipeline."""

from __future__ import annotations

from actors import steps
from actors.messages import ProcessAudioFile, SplitRecording
from actors.runtime import Runtime
from actors.science import decode
from db.blobs import recording_key
from db.queries import Work


def process_audio_file(runtime: Runtime, nudge: ProcessAudioFile) -> None:
    """Find out what a recording is, give it the current model, and hand it to ``split``."""
    work = Work(session_id=nudge.session_id, state="queued")

    def perform(_attempt: int) -> steps.Outcome:
        with (
            runtime.blobs.open(recording_key(nudge.session_id)) as file,
            decode.open_recording(file) as decoder,
        ):
            audio = decoder.format
        model_id = runtime.current_model_id()
        # A model that cannot be used is told here, rather than by every span.
        runtime.model(model_id)
        return steps.Outcome(
            steps.move_on(
                work,
                to="splitting",
                values={
                    "model_id": model_id,
                    "container": audio.container,
                    "codec": audio.codec,
                    "rate_hz": audio.rate_hz,
                    "n_channels": audio.n_channels,
                },
                then=[SplitRecording(session_id=nudge.session_id)],
            )
        )

    steps.run(
        runtime,
        steps.Step(name="process", work=work, perform=perform, give_up=steps.fail(work)),
    )
