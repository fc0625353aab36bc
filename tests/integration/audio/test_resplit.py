"""A product is missing but the recording exists: the session goes back to `splitting`."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text

from actors.audio.resplit import MOST_RESPLITS
from actors.execution.runtime import Runtime
from actors.messaging.messages import (
    AggregateSession,
    DetectSpan,
    ProcessAudioFile,
    SplitRecording,
)
from actors.recovery import Recovery
from db.blobs.keys import product_key, recording_key
from db.queries import session_queries, span_queries
from db.queue import fair_order
from tests.support import recordings
from tests.support.api import Api
from tests.support.pipeline import (
    add,
    detections_of,
    handle,
    run_to_the_end,
    session,
    span,
    split,
    work_of,
)

pytestmark = pytest.mark.integration

#: Two and a half minutes: three spans.
THREE_SPANS = recordings.encode(recordings.long(2.5))


def answer(runtime: Runtime, session_id: Any) -> list[tuple[Any, ...]]:
    with runtime.store.transaction() as tx:
        events = detections_of(tx, session_id)
        return [(e.start_s, e.end_s, e.noise_type, e.confidence, e.laeq_db) for e in events]


def remove(runtime: Runtime, session_id: Any, product: str) -> None:
    key = getattr(session(runtime, session_id), f"{product}_key")
    assert key in runtime.blobs.keys("sessions/")
    runtime.blobs.delete(key)


def runs(runtime: Runtime, step: str) -> list[str]:
    with runtime.store.transaction() as tx:
        rows = tx.execute(
            text("SELECT result FROM processing_metrics WHERE step = :step ORDER BY id"),
            {"step": step},
        )
        return list(rows.scalars())


@pytest.mark.parametrize("heard", [0, 1, 2])
def test_decoded_audio_that_is_missing_at_detect_is_decoded_again(
    runtime: Runtime, heard: int
) -> None:
    """After any number of spans: no span and no detection is counted twice."""
    whole = split(runtime, THREE_SPANS)
    wanted = run_to_the_end(runtime, whole)
    session_id = split(runtime, THREE_SPANS)
    for index in range(heard):
        handle(runtime, DetectSpan(session_id=session_id, span_index=index))
    assert work_of(runtime, session_id).spans_finished == heard
    remove(runtime, session_id, "pcm")
    handle(runtime, DetectSpan(session_id=session_id, span_index=heard))
    again = work_of(runtime, session_id)
    assert (again.state, again.resplits, again.attempt) == ("splitting", 1, 0)
    back = session(runtime, session_id)
    assert (back.spans_total, back.spans_finished) == (0, 0)
    assert (back.pcm_key, back.levels_key, back.spectrogram_key) == (None, None, None)
    with runtime.store.transaction() as tx:
        assert span_queries.spans_of(tx, session_id) == []
    assert runs(runtime, "detect")[-1] == "sent_back"

    ended = run_to_the_end(runtime, session_id)
    assert (ended.state, ended.problem) == ("completed", None)
    assert (ended.spans_total, ended.spans_finished) == (3, 3)
    assert ended.summary == wanted.summary
    assert answer(runtime, session_id) == answer(runtime, whole)
    assert runs(runtime, "aggregate") == ["done", "done"]
    # The recording counts once against its user's quota.
    with runtime.store.transaction() as tx:
        counted = tx.execute(text("SELECT sum(audio_s) FROM usage_months")).scalar_one()
    assert counted == pytest.approx(2 * (ended.duration_s or 0.0))
    # The first split's products are removed with the decoded audio of the second.
    Recovery(runtime).round()
    left = set(runtime.blobs.keys(f"sessions/{session_id}/"))
    ended = session(runtime, session_id)
    assert left == {
        ended.recording_key,
        ended.levels_key,
        ended.levels_answer_key,
        ended.spectrogram_key,
    }


@pytest.mark.parametrize("step", ["detect", "aggregate"])
def test_damaged_decoded_audio_is_made_again(runtime: Runtime, step: str) -> None:
    content = recordings.encode(recordings.demo())
    whole = add(runtime, content)
    wanted = run_to_the_end(runtime, whole)
    session_id = split(runtime, content)
    detect = DetectSpan(session_id=session_id, span_index=0)
    if step == "aggregate":
        handle(runtime, detect)
    key = session(runtime, session_id).pcm_key
    assert key is not None
    runtime.blobs.put(key, runtime.blobs.get(key)[1:])
    handle(runtime, detect if step == "detect" else AggregateSession(session_id=session_id))
    back = work_of(runtime, session_id)
    assert (back.state, back.resplits, back.spans_finished) == ("splitting", 1, 0)
    ended = run_to_the_end(runtime, session_id)
    assert (ended.state, ended.problem) == ("completed", None)
    assert ended.summary == wanted.summary
    assert answer(runtime, session_id) == answer(runtime, whole) != []


@pytest.mark.parametrize("product", ["pcm", "levels", "bands"])
def test_a_product_that_is_missing_at_aggregate_is_made_again(
    runtime: Runtime, product: str
) -> None:
    content = recordings.encode(recordings.demo())
    whole = add(runtime, content, bands="third_octave")
    wanted = run_to_the_end(runtime, whole)
    session_id = split(runtime, content, bands="third_octave")
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    assert session(runtime, session_id).state == "aggregating"
    remove(runtime, session_id, product)
    handle(runtime, AggregateSession(session_id=session_id))
    back = work_of(runtime, session_id)
    assert (back.state, back.resplits, back.spans_finished) == ("splitting", 1, 0)
    ended = run_to_the_end(runtime, session_id)
    assert (ended.state, ended.problem) == ("completed", None)
    assert ended.summary == wanted.summary
    assert answer(runtime, session_id) == answer(runtime, whole) != []
    assert runs(runtime, "aggregate") == ["done", "sent_back", "done"]


def test_where_the_recording_is_missing_too_the_session_fails_as_ever(runtime: Runtime) -> None:
    content = recordings.encode(recordings.demo())
    session_id = split(runtime, content)
    remove(runtime, session_id, "pcm")
    runtime.blobs.delete(recording_key(session_id))
    ended = run_to_the_end(runtime, session_id)
    assert ended.state == "failed"
    assert "sent_back" not in runs(runtime, "detect") + runs(runtime, "aggregate")
    assert ended.problem is not None
    assert ended.problem["code"] == "nothing-heard"

    session_id = split(runtime, content)
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    remove(runtime, session_id, "levels")
    runtime.blobs.delete(recording_key(session_id))
    ended = run_to_the_end(runtime, session_id)
    assert ended.state == "failed"
    assert "sent_back" not in runs(runtime, "detect") + runs(runtime, "aggregate")
    assert ended.problem is not None
    assert ended.problem["code"] == "recording-missing"


def test_an_ended_session_keeps_its_answer_where_products_are_missing(
    runtime: Runtime, api: Api
) -> None:
    """It is not split again: its end was reported, and its detections are in the database."""
    session_id = add(runtime, recordings.encode(recordings.demo()))
    handle_until_ended(runtime, session_id)
    for product in ("levels", "spectrogram"):
        remove(runtime, session_id, product)
    ended = run_to_the_end(runtime, session_id)
    assert ended.state == "completed"
    path = f"/v1/sessions/{session_id}"
    assert api.simulate_get(f"{path}/analysis").json["state"] == "completed"
    picture = api.simulate_get(f"{path}/spectrogram.png")
    assert (picture.status_code, picture.json["type"]) == (404, "/problems/no-spectrogram")
    assert session(runtime, session_id).state == "completed"


def handle_until_ended(runtime: Runtime, session_id: Any) -> None:
    """Run a session to its end, and its analysis not."""
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    handle(runtime, AggregateSession(session_id=session_id))
    assert session(runtime, session_id).state == "completed"


def test_a_store_that_goes_on_losing_files_does_not_have_it_decoded_for_ever(
    runtime: Runtime,
) -> None:
    session_id = split(runtime, recordings.encode(recordings.demo()))
    for resplits in range(MOST_RESPLITS):
        remove(runtime, session_id, "pcm")
        handle(runtime, DetectSpan(session_id=session_id, span_index=0))
        assert work_of(runtime, session_id).resplits == resplits + 1
        handle(runtime, SplitRecording(session_id=session_id))
    remove(runtime, session_id, "pcm")
    ended = run_to_the_end(runtime, session_id)
    assert ended.state == "failed"
    assert runs(runtime, "detect").count("sent_back") == MOST_RESPLITS
    assert ended.problem is not None
    assert ended.problem["code"] == "nothing-heard"
    assert ended.problem["detail"].endswith(str(span(runtime, session_id, 0).last_error))


def test_workers_of_before_can_write_nothing_into_the_second_round(runtime: Runtime) -> None:
    """Attempts start again at one, so the attempt number alone would not fence them off."""
    session_id = split(runtime, THREE_SPANS)
    with runtime.store.transaction() as tx:
        late, finder = fair_order.next_span(tx, lease_s=60), fair_order.next_span(tx, lease_s=60)
    assert late is not None
    assert finder is not None
    remove(runtime, session_id, "pcm")
    handle(runtime, DetectSpan(session_id=session_id, span_index=2))
    with runtime.store.transaction() as tx:
        # Another worker that also found it missing does not send the session back again.
        assert not span_queries.split_again(tx, finder.work, attempt=finder.attempt)
        assert span_queries.finish_span(tx, late.work, attempt=1, values={"state": "done"}) is None
    handle(runtime, SplitRecording(session_id=session_id))
    with runtime.store.transaction() as tx:
        again = fair_order.next_span(tx, lease_s=60)
        assert again is not None
        assert (again.work.span_index, again.attempt) == (late.work.span_index, late.attempt)
        assert span_queries.finish_span(tx, late.work, attempt=1, values={"state": "done"}) is None
        assert (
            span_queries.finish_span(tx, again.work, attempt=1, values={"state": "done"}) is False
        )
    assert work_of(runtime, session_id).spans_finished == 1
    # They also do not remove a product of the second round as their own discarded output.
    first = product_key(session_id, "pcm", attempt=1)
    assert session(runtime, session_id).pcm_key not in (None, first)


def test_a_cancelled_session_stays_cancelled(runtime: Runtime) -> None:
    session_id = split(runtime, THREE_SPANS)
    with runtime.store.transaction() as tx:
        claim = fair_order.next_span(tx, lease_s=60)
        assert claim is not None
        assert session_queries.cancel_session(tx, session_id)
    with runtime.store.transaction() as tx:
        assert not span_queries.split_again(tx, claim.work, attempt=claim.attempt)
    assert session(runtime, session_id).state == "cancelled"
    assert span(runtime, session_id, 0).state == "pending"


def test_spans_that_all_find_it_missing_at_once_send_it_back_once(runtime: Runtime) -> None:
    """Each locks spans and session; no order of them deadlocks."""
    session_id = split(runtime, recordings.encode(recordings.long(8)))
    with runtime.store.transaction() as tx:
        claimed = [fair_order.next_span(tx, lease_s=60) for _ in range(8)]
    outcomes: list[object] = []
    start = threading.Barrier(len(claimed))

    def finish(index: int) -> None:
        claim = claimed[index]
        assert claim is not None
        start.wait()
        try:
            with runtime.store.transaction() as tx:
                if index % 2:
                    span_queries.finish_span(tx, claim.work, attempt=1, values={"state": "done"})
                else:
                    outcomes.append(span_queries.split_again(tx, claim.work, attempt=1))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=finish, args=(index,)) for index in range(len(claimed))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["False"] * 3 + ["True"]
    back = work_of(runtime, session_id)
    assert (back.state, back.resplits, back.spans_finished) == ("splitting", 1, 0)
