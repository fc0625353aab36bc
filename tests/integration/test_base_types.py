"""Sessions that are named by the base types beside their model, with random weights."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import text

from actors import noise_types
from actors.messages import AggregateSession, DetectSpan
from actors.runtime import Runtime
from actors.science.backbone import RATE_HZ as WIDE_RATE_HZ
from actors.science.backbone import Backbone
from actors.science.prepare import PCM_BYTES
from actors.science.tagger import Tagger
from actors.science.types import UNCLASSIFIED
from actors.steward import Steward
from tests.support import recordings, weights
from tests.support.pipeline import (
    add,
    api_of,
    detections_of,
    handle,
    run_to_the_end,
    session,
    split,
)

pytestmark = pytest.mark.integration

NETWORK = Backbone.from_bytes(weights.file_of(weights.random_state(width=0.4)))
TAGGER = Tagger(NETWORK, weights.random_head())


@pytest.fixture
def tagging(runtime: Runtime) -> Runtime:
    """A worker that has the backbone."""
    use(runtime, TAGGER)
    return runtime


def use(runtime: Runtime, tagger: Tagger | None) -> None:
    """Let a worker have this backbone, or none, whatever is on the machine."""
    runtime.__dict__["_tagger"] = (tagger, "as the test has it")


def test_a_session_says_which_backbone_named_it(tagging: Runtime) -> None:
    session_id = add(tagging, recordings.encode(recordings.demo()))
    done = run_to_the_end(tagging, session_id)
    assert (done.state, done.backbone) == ("completed", TAGGER.name)
    answered = api_of(tagging).simulate_get(f"/v1/sessions/{session_id}").json
    assert answered["summary"]["model"]["backbone"] == TAGGER.name
    with tagging.store.transaction() as db:
        found = {event.noise_type for event in detections_of(db, session_id)}
    assert found <= {*noise_types.table(), UNCLASSIFIED}


def test_without_a_backbone_a_session_says_so(runtime: Runtime) -> None:
    done = run_to_the_end(runtime, add(runtime, recordings.encode(recordings.demo())))
    assert (done.state, done.backbone, done.wide_pcm_key) == ("completed", None, None)
    assert done.summary is not None
    assert done.summary["model"]["backbone"] is None


def test_audio_at_32_khz_is_written_and_removed_with_the_other(tagging: Runtime) -> None:
    session_id = split(tagging, recordings.encode(recordings.demo()))
    row = session(tagging, session_id)
    assert row.wide_pcm_key is not None
    assert row.duration_s is not None
    n_samples = tagging.blobs.size(row.wide_pcm_key) / PCM_BYTES
    assert n_samples == pytest.approx(row.duration_s * WIDE_RATE_HZ, abs=2)
    run_to_the_end(tagging, session_id)
    Steward(tagging).round()
    assert session(tagging, session_id).wide_pcm_key is None
    assert not [key for key in tagging.blobs.keys("sessions/") if "pcm" in key]


def test_the_same_recording_has_the_same_answer(tagging: Runtime) -> None:
    content = recordings.encode(recordings.long(2.5))
    ids = [add(tagging, content) for _ in range(2)]
    answers = []
    for session_id in ids:
        run_to_the_end(tagging, session_id)
        with tagging.store.transaction() as db:
            events = detections_of(db, session_id)
            answers.append([(e.start_s, e.end_s, e.noise_type, e.confidence) for e in events])
    assert answers[0] == answers[1]
    assert answers[0]


def test_a_worker_without_the_backbone_leaves_the_session_to_one_that_has_it(
    tagging: Runtime,
) -> None:
    session_id = _heard(tagging)
    use(tagging, None)
    handle(tagging, AggregateSession(session_id=session_id))
    waiting = session(tagging, session_id)
    assert waiting.state == "aggregating"
    assert waiting.last_error
    use(tagging, TAGGER)
    with tagging.store.transaction() as db:
        db.execute(text("UPDATE audio_sessions SET due_at = now()"))
    assert run_to_the_end(tagging, session_id).state == "completed"


def _heard(runtime: Runtime) -> uuid.UUID:
    """A session whose spans are all heard, and that is not aggregated yet."""
    session_id = split(runtime, recordings.encode(recordings.demo()))
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    assert session(runtime, session_id).state == "aggregating"
    return session_id
