"""Sessions classified with the base types beside their model, with random weights."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import text

from actors.audio import base_types, stored_pcm
from actors.execution import failures
from actors.execution.runtime import Runtime
from actors.facts import noise_types
from actors.messaging.messages import AggregateSession, DetectSpan
from actors.recovery import Recovery
from actors.science.detection import open_set
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_RATE_HZ
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from actors.science.types import UNCLASSIFIED
from tests.support import recordings, weights
from tests.support.api import client_of
from tests.support.pipeline import (
    add,
    detections_of,
    handle,
    run_to_the_end,
    session,
    split,
    summary_of,
    work_of,
)

pytestmark = pytest.mark.integration

NETWORK = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))
TAGGER = Tagger(NETWORK, weights.random_head("1" * 64))
#: Another network and its head.
OTHER = Tagger(
    BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4, seed=1))),
    weights.random_head("2" * 64, seed=1),
)


@pytest.fixture
def tagging(runtime: Runtime) -> Runtime:
    """A worker that has the backbone."""
    use(runtime, TAGGER)
    return runtime


def use(runtime: Runtime, tagger: Tagger | None) -> None:
    """Give a worker this backbone, or none, whatever the machine has."""
    runtime.loaded_tagger = (tagger, "as the test has it")


def test_a_session_says_which_backbone_named_it(tagging: Runtime) -> None:
    session_id = add(tagging, recordings.encode(recordings.demo()))
    done = run_to_the_end(tagging, session_id)
    assert (done.state, done.backbone) == ("completed", TAGGER.name)
    answered = client_of(tagging).simulate_get(f"/v1/sessions/{session_id}").json
    assert answered["summary"]["model"]["backbone"] == TAGGER.name
    with tagging.store.transaction() as tx:
        found = {event.noise_type for event in detections_of(tx, session_id)}
    assert found <= {*noise_types.table(), UNCLASSIFIED}


def test_without_a_backbone_a_session_says_so(runtime: Runtime) -> None:
    done = run_to_the_end(runtime, add(runtime, recordings.encode(recordings.demo())))
    assert (done.state, done.backbone, done.wide_pcm_key) == ("completed", None, None)
    assert done.summary is not None
    assert summary_of(done).model["backbone"] is None


def test_audio_at_32_khz_is_written_and_removed_with_the_other(tagging: Runtime) -> None:
    session_id = split(tagging, recordings.encode(recordings.demo()))
    row = session(tagging, session_id)
    assert row.wide_pcm_key is not None
    assert row.duration_s is not None
    n_samples = stored_pcm.opened(tagging.blobs, row.wide_pcm_key).n_samples
    assert n_samples == pytest.approx(row.duration_s * WIDE_RATE_HZ, abs=2)
    run_to_the_end(tagging, session_id)
    Recovery(tagging).round()
    assert session(tagging, session_id).wide_pcm_key is None
    assert not [key for key in tagging.blobs.keys("sessions/") if "pcm" in key]


def test_the_same_recording_has_the_same_answer(tagging: Runtime) -> None:
    content = recordings.encode(recordings.long(2.5))
    ids = [add(tagging, content) for _ in range(2)]
    for session_id in ids:
        run_to_the_end(tagging, session_id)
    one, other = (_events(tagging, session_id) for session_id in ids)
    assert one == other != []


@pytest.mark.parametrize("of_worker", [None, OTHER])
def test_a_worker_without_the_sessions_backbone_leaves_it_to_others_at_no_cost(
    tagging: Runtime, of_worker: Tagger | None
) -> None:
    session_id = _heard(tagging)
    use(tagging, of_worker)
    for times in range(1, 2 * tagging.settings.max_attempts):
        _try(tagging, session_id)
        waiting = work_of(tagging, session_id)
        assert (waiting.state, waiting.waits_for_storage) == ("aggregating", False)
        assert (waiting.attempt, waiting.uncounted) == (times, times)
        assert waiting.last_error is not None
        assert TAGGER.name in waiting.last_error
        with tagging.store.transaction() as tx:
            wait_s = tx.execute(
                text(
                    "SELECT extract(epoch FROM due_at - clock_timestamp()) FROM unfinished_sessions"
                )
            ).scalar_one()
        assert wait_s <= 1.25 * failures.BACKBONE_RETRY_MAX_S
    with tagging.store.transaction() as tx:
        kept = tx.execute(
            text("SELECT count(*) FROM processing_metrics WHERE result = 'retried'")
        ).scalar_one()
    assert kept == failures.UNCOUNTED_RUNS_KEPT
    use(tagging, TAGGER)
    _make_due(tagging)
    done = run_to_the_end(tagging, session_id)
    assert (done.state, done.problem, done.backbone) == ("completed", None, TAGGER.name)


@pytest.mark.parametrize("of_worker", [None, OTHER])
def test_where_no_worker_with_the_backbone_comes_the_model_names_the_sounds_alone(
    tagging: Runtime, of_worker: Tagger | None
) -> None:
    content = recordings.encode(recordings.demo())
    session_id = _heard(tagging)
    use(tagging, of_worker)
    _try(tagging, session_id)
    _wait(tagging, seconds=base_types.PATIENCE_S - 60)
    _try(tagging, session_id)
    assert session(tagging, session_id).state == "aggregating"
    _wait(tagging, seconds=61)
    _try(tagging, session_id)
    done = session(tagging, session_id)
    assert (done.state, done.backbone) == ("completed", None)
    answered = client_of(tagging).simulate_get(f"/v1/sessions/{session_id}").json
    assert answered["summary"]["model"]["backbone"] is None
    assert answered["problem"]["code"] == "backbone-missing"
    assert TAGGER.name in answered["problem"]["detail"]
    # The result equals that of a worker without any backbone.
    use(tagging, None)
    alone = run_to_the_end(tagging, add(tagging, content))
    assert alone.problem is None
    assert done.summary == alone.summary
    assert _events(tagging, session_id) == _events(tagging, alone.id) != []


def test_what_was_split_without_the_backbone_is_named_without_it_and_says_so(
    tagging: Runtime,
) -> None:
    use(tagging, None)
    session_id = _heard(tagging)
    use(tagging, TAGGER)
    _try(tagging, session_id)
    done = session(tagging, session_id)
    assert (done.state, done.backbone) == ("completed", None)
    assert done.summary is not None
    assert summary_of(done).model["backbone"] is None
    assert done.problem is not None
    assert done.problem["code"] == "backbone-missing"
    assert "no backbone" in done.problem["detail"]


def test_without_the_backbone_the_gate_of_the_shipped_model_is_asked(
    tagging: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tagging, None)
    monkeypatch.setattr(open_set, "is_known", lambda *_args, **_named: False)
    session_id = add(tagging, recordings.encode(recordings.demo()))
    run_to_the_end(tagging, session_id)
    with tagging.store.reading() as tx:
        found = detections_of(tx, session_id)
    assert {each.noise_type for each in found} == {UNCLASSIFIED}


def test_a_session_of_the_release_before_is_named_by_any_backbone(tagging: Runtime) -> None:
    session_id = _heard(tagging)
    with tagging.store.transaction() as tx:
        tx.execute(text("UPDATE audio_sessions SET backbone_sha256 = NULL"))
    use(tagging, OTHER)
    _try(tagging, session_id)
    done = session(tagging, session_id)
    assert (done.state, done.backbone, done.problem) == ("completed", OTHER.name, None)


def test_a_wait_for_the_backbone_ends_with_a_new_split(tagging: Runtime) -> None:
    """The wait starts again, since the new split may use another backbone."""
    session_id = _heard(tagging)
    use(tagging, OTHER)
    _try(tagging, session_id)
    pcm_key = session(tagging, session_id).wide_pcm_key
    assert pcm_key is not None
    tagging.blobs.delete(pcm_key)
    use(tagging, TAGGER)
    _try(tagging, session_id)
    back = work_of(tagging, session_id)
    assert (back.state, back.backbone_missed_at) == ("splitting", None)
    use(tagging, OTHER)
    done = run_to_the_end(tagging, session_id)
    assert (done.state, done.backbone, done.problem) == ("completed", OTHER.name, None)


def _try(runtime: Runtime, session_id: uuid.UUID) -> None:
    """Make a session due and let a worker aggregate it."""
    _make_due(runtime)
    handle(runtime, AggregateSession(session_id=session_id))


def _make_due(runtime: Runtime) -> None:
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET due_at = now()"))


def _wait(runtime: Runtime, *, seconds: float) -> None:
    """Backdate the start of the wait for the backbone."""
    with runtime.store.transaction() as tx:
        earlier = "backbone_missed_at - make_interval(secs => :seconds)"
        tx.execute(
            text(f"UPDATE unfinished_sessions SET backbone_missed_at = {earlier}"),  # noqa: S608
            {"seconds": seconds},
        )


def _events(runtime: Runtime, session_id: uuid.UUID) -> list[tuple[float, float, str, float]]:
    with runtime.store.transaction() as tx:
        events = detections_of(tx, session_id)
        return [(e.start_s, e.end_s, e.noise_type, e.confidence) for e in events]


def _heard(runtime: Runtime) -> uuid.UUID:
    """Return a session whose spans are all finished and that waits for aggregation."""
    session_id = split(runtime, recordings.encode(recordings.demo()))
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    assert session(runtime, session_id).state == "aggregating"
    return session_id
