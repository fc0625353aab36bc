"""Short recordings in one claim: the answers of the pipeline, whatever fails in the middle."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pytest
from dramatiq.brokers.stub import StubBroker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from actors.analytics import analysis_answer
from actors.audio import aggregate, detect, split
from actors.execution import progress
from actors.execution.runtime import Runtime
from actors.messaging.messages import AnalyzeSession, Nudge, ProcessAudioFile
from actors.recovery import Recovery
from actors.science.detection.tagging.tagger import Tagger
from db.blobs.errors import BlobMissing, StorageUnavailable
from db.blobs.keys import product_key, recording_key
from db.queries import session_queries
from db.queries.session_view_queries import SESSION_VIEW
from db.queue import fair_order
from db.settings import Settings
from db.tables.sessions import AudioSession
from services.api.sessions.progress import Progress
from tests.integration.audio.test_base_types import use
from tests.support import accounts, recordings, voices, weights
from tests.support.cluster import eventually
from tests.support.pipeline import add, handle, run_to_the_end, session, span, work_of
from tests.support.postgres_proxy import postgres_proxy

pytestmark = pytest.mark.integration

DEMO = recordings.demo()
CLIP = recordings.encode(DEMO[: 3 * recordings.RATE_HZ])
TWO_SPANS = recordings.encode(np.resize(DEMO[::2], 75 * 22_050), rate_hz=22_050)


@pytest.fixture
def whole(memory_settings: Settings, memory: StubBroker) -> Iterator[Runtime]:
    """A worker that processes short recordings in one claim."""
    runtime = Runtime(replace(memory_settings, one_claim_s=Settings.one_claim_s), memory)
    yield runtime
    runtime.close()


def process(runtime: Runtime, session_id: uuid.UUID) -> AudioSession:
    handle(runtime, ProcessAudioFile(session_id=session_id))
    return session(runtime, session_id)


def runs(runtime: Runtime, session_id: uuid.UUID) -> Counter[tuple[str, str]]:
    """Count the runs by step and result."""
    with runtime.store.transaction() as tx:
        rows = tx.execute(
            text("SELECT step, result FROM processing_metrics WHERE session_id = :id"),
            {"id": session_id},
        )
        return Counter((step, result) for step, result in rows)


ONCE = dict.fromkeys(
    [(step, "done") for step in ("process", "split", "detect", "aggregate", "analyze")], 1
)

#: Columns that differ between two sessions of the same recording.
OWN = {"id", "recording_key", "created_at", "started_at", "finished_at"}
#: Columns of products that recovery removes after the end, and that one claim does not store.
TEMPORARY = {"pcm_key", "wide_pcm_key", "bands_key"}


def answer_of(runtime: Runtime, session_id: uuid.UUID) -> dict[str, Any]:
    """Return all that is stored of a session, apart from IDs and times."""
    with runtime.store.transaction() as tx:
        [row] = tx.execute(
            text(
                "SELECT audio_sessions.*, duration_s, max_confidence, outcome"
                " FROM audio_sessions JOIN session_results ON session_id = id WHERE id = :id"
            ),
            {"id": session_id},
        ).mappings()
        spans = tx.execute(
            text(
                "SELECT span_index, start_sample, stop_sample, state, last_error"
                " FROM session_spans WHERE session_id = :id ORDER BY span_index"
            ),
            {"id": session_id},
        ).all()
        detections = tx.execute(
            text(
                "SELECT to_jsonb(d) - '{session_id,id}'::text[] FROM noise_detections AS d"
                " WHERE session_id = :id ORDER BY event_index"
            ),
            {"id": session_id},
        ).all()
        [analysis] = tx.execute(
            text(
                "SELECT state, percent, stage, attempt, problem, limits_db,"
                " result #- '{processing}' FROM analyses WHERE session_id = :id"
            ),
            {"id": session_id},
        ).all()
        [processing] = tx.scalars(
            text("SELECT result #> '{processing}' FROM analyses WHERE session_id = :id"),
            {"id": session_id},
        )
    columns = {name: value for name, value in row.items() if name not in OWN | TEMPORARY}
    for name in [name for name in columns if name.endswith("_key")]:
        columns[name] = columns[name] and runtime.blobs.get(columns[name])
    stages = [(each["step"], each["runs"]) for each in processing["stages"]]
    return columns | {
        "spans": spans,
        "detections": detections,
        "analysis": analysis,
        "stages": stages,
    }


def assert_same(whole: Runtime, apart: Runtime, content: bytes, **values: Any) -> AudioSession:
    """Check that a recording is processed in one claim, and with the same result as by steps."""
    one, other = (add(each, content, **values) for each in (whole, apart))
    # Each worker claims its own session, which is the next one.
    ended = process(whole, one)
    assert ended.finished_at is not None
    assert {getattr(ended, name) for name in TEMPORARY} == {None}
    assert runs(whole, one)["process", "done"] == runs(whole, one)["aggregate", "done"] == 1
    assert run_to_the_end(apart, other).finished_at is not None
    assert span(whole, one, 0).scores is None
    assert answer_of(whole, one) == answer_of(apart, other)
    return ended


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lasts_s=st.floats(1e-4, 8.0) | st.sampled_from([0.5, 1.0, 5.0]),
    start_s=st.floats(0, 20),
    kind=st.sampled_from(
        [
            ("WAV", "PCM_16", 44_100),
            ("WAV", "FLOAT", 8_000),
            ("FLAC", "PCM_24", 48_000),
            ("OGG", "VORBIS", 44_100),
            ("OGG", "OPUS", 48_000),
            ("MP3", "MPEG_LAYER_III", 44_100),
        ]
    ),
    n_channels=st.sampled_from([1, 2]),
    recorded_at=st.none() | st.just(datetime(2026, 3, 1, 22, 59, 58, 123_456, tzinfo=UTC)),
)
def test_a_recording_has_the_same_answer_both_ways(
    whole: Runtime,
    runtime: Runtime,
    lasts_s: float,
    start_s: float,
    kind: tuple[str, str, int],
    n_channels: int,
    recorded_at: datetime | None,
) -> None:
    container, subtype, rate_hz = kind
    start = round(start_s * recordings.RATE_HZ)
    samples = DEMO[start : start + max(1, int(lasts_s * rate_hz))]
    samples = np.stack([samples / (channel + 1) for channel in range(n_channels)], axis=1)
    content = recordings.encode(samples, rate_hz=rate_hz, container=container, subtype=subtype)
    assert_same(whole, runtime, content, recorded_at=recorded_at)


@pytest.mark.parametrize(
    "options",
    [
        {"bands": "third_octave", "calibration_db": 94.5, "noise_floor_db": 20.0},
        {"channel": "loudest", "types": ["siren"], "thresholds": {"siren": 0.9}},
        {"privacy": "discard_audio"},
        {"privacy": "mute"},
    ],
    ids=str,
)
def test_options_have_the_same_effect_both_ways(
    whole: Runtime, runtime: Runtime, options: dict[str, Any]
) -> None:
    tagger = Tagger(voices.network(), weights.random_head())
    for each in (whole, runtime):
        use(each, tagger)
    samples = np.stack([0.1 * DEMO, DEMO], axis=1)[: 12 * recordings.RATE_HZ]
    ended = assert_same(whole, runtime, recordings.encode(samples), **options)
    assert ended.state == "completed"
    assert ended.backbone == tagger.name


def test_a_calibrator_tone_is_measured_both_ways(whole: Runtime, runtime: Runtime) -> None:
    tone = 0.1 * np.sin(2 * np.pi * 1_000 * np.arange(5 * recordings.RATE_HZ) / recordings.RATE_HZ)
    content = recordings.encode(tone.astype(np.float32))
    ended = assert_same(whole, runtime, content, calibration_tone_db=94.0)
    assert ended.calibration_db == pytest.approx(117, abs=0.1)


def test_several_spans_have_the_same_answer_both_ways(whole: Runtime, runtime: Runtime) -> None:
    ended = assert_same(whole, runtime, TWO_SPANS)
    assert (ended.state, ended.spans_total) == ("completed", 2)


def test_a_damaged_recording_ends_partial_both_ways(whole: Runtime, runtime: Runtime) -> None:
    content = recordings.encode(DEMO, container="WAV", subtype="PCM_16")
    assert assert_same(whole, runtime, content[: len(content) // 2]).state == "partial"


@pytest.mark.parametrize(
    ("settings", "is_whole"),
    [
        ({"one_claim_s": 3.0}, True),
        ({"one_claim_s": 2.999}, False),
        ({"one_claim_s": 0.0}, False),
        # The last attempt is for the pipeline.
        ({"one_claim_s": 3.0, "max_attempts": 1}, False),
    ],
    ids=str,
)
def test_what_exceeds_the_bound_goes_through_the_pipeline(
    runtime: Runtime, settings: dict[str, Any], is_whole: bool
) -> None:
    runtime.settings = replace(runtime.settings, **settings)
    session_id = add(runtime, CLIP)
    assert process(runtime, session_id).state == ("completed" if is_whole else "splitting")
    assert run_to_the_end(runtime, session_id).state == "completed"
    assert runs(runtime, session_id) == ONCE


def test_many_samples_a_second_count_as_more_seconds(runtime: Runtime) -> None:
    """Four channels at 48 kHz count twice."""
    four = recordings.encode(np.tile(DEMO[:144_000, None], 4), rate_hz=48_000)
    for one_claim_s, state in ((5.999, "splitting"), (6.0, "completed")):
        runtime.settings = replace(runtime.settings, one_claim_s=one_claim_s)
        session_id = add(runtime, four)
        assert process(runtime, session_id).state == state
        assert run_to_the_end(runtime, session_id).state == "completed"


def test_a_recording_that_is_longer_than_it_promised_is_not_held_in_memory(
    runtime: Runtime,
) -> None:
    """The header of an Ogg file lacks its length, which is estimated from its bytes."""
    content = recordings.encode(0 * DEMO, container="OGG", subtype="OPUS", rate_hz=48_000)
    runtime.settings = replace(runtime.settings, one_claim_s=5.0)
    session_id = add(runtime, content)
    assert process(runtime, session_id).state == "splitting"
    assert runtime.blobs.keys(f"sessions/{session_id}/") == [recording_key(session_id)]
    assert run_to_the_end(runtime, session_id).state == "completed"
    assert runs(runtime, session_id) == ONCE


def test_a_clip_takes_few_statements_and_no_second_message(
    whole: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Nudge] = []
    monkeypatch.setattr(whole.publisher, "send", lambda *nudges: sent.extend(nudges))
    process(whole, add(whole, CLIP))  # Loads the model.
    statements: list[str] = []
    session_id = add(whole, CLIP)
    for name, times in {"execute": lambda _rows: 1, "executemany": len}.items():
        original = getattr(psycopg.Cursor, name)

        def count(
            cursor: Any,
            query: str,
            values: Any = (),
            *,
            times: Any = times,
            original: Any = original,
            **options: Any,
        ) -> Any:
            statements.extend([query] * times(values))
            return original(cursor, query, values, **options)

        monkeypatch.setattr(psycopg.Cursor, name, count)
    for name in ("begin", "commit"):
        event.listen(
            whole.store.engine, name, lambda _connection, name=name: statements.append(name)
        )
    assert process(whole, session_id).state == "completed"
    # Of these, two are of this test's own read of the row, and its transaction.
    assert len(statements) <= 16, statements
    assert sent == []
    assert runs(whole, session_id) == ONCE


def test_its_user_and_webhooks_see_one_recording(whole: Runtime) -> None:
    with whole.store.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO webhooks (id, user_id, url, all_sessions, secret, state)"
                " VALUES (gen_random_uuid(), :user, 'https://example.org', true, 'x', 'active')"
            ),
            {"user": accounts.TEAM},
        )
    session_id = add(whole, CLIP)
    for _ in range(2):
        assert process(whole, session_id).state == "completed"
    with whole.store.transaction() as tx:
        delivered = tx.execute(text("SELECT type, session_id FROM webhook_deliveries")).all()
        used = tx.execute(text("SELECT audio_s, sessions FROM usage_months")).all()
    assert delivered == [("session.completed", session_id)]
    assert used == [(3.0, 1)]


# --- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "step", "error"),
    [
        (split, "split", StorageUnavailable("the store is away")),
        (split, "split", OSError("a decoder's file")),
        (detect, "score", BlobMissing("pcm")),
        (detect, "score", RuntimeError("a bug")),
        (aggregate, "aggregate", ValueError("a bug that any attempt has")),
        (aggregate, "aggregate", MemoryError()),
    ],
    ids=str,
)
def test_where_a_step_fails_the_session_goes_through_the_pipeline(
    whole: Runtime,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    step: str,
    error: Exception,
) -> None:
    """Nothing of the failed claim is left, and no attempt of the steps is used up."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    one, other = add(whole, CLIP), add(runtime, CLIP)
    with monkeypatch.context() as patched:
        patched.setattr(module, step, fail)
        waiting = process(whole, one)
    work = work_of(whole, one)
    assert (waiting.state, work.attempt, work.last_error) == ("splitting", 0, None)
    assert whole.blobs.keys(f"sessions/{one}/") == [recording_key(one)]
    assert runs(whole, one) == {("process", "done"): 1}
    assert run_to_the_end(whole, one).state == "completed"
    assert runs(whole, one) == ONCE
    run_to_the_end(runtime, other)
    assert answer_of(whole, one) == answer_of(runtime, other)


def test_a_part_that_always_fails_leaves_the_others(
    whole: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = detect.score

    def fail_at_the_second(runtime: Runtime, row: Any, part: Any, lease: Any) -> bytes:
        if part.span_index == 1:
            raise ValueError("a bug that any attempt has")
        return score(runtime, row, part, lease)

    monkeypatch.setattr(detect, "score", fail_at_the_second)
    session_id = add(whole, TWO_SPANS)
    ended = run_to_the_end(whole, session_id)
    assert ended.state == "partial"
    assert [span(whole, session_id, index).state for index in (0, 1)] == ["done", "failed"]


@pytest.mark.parametrize("content", [CLIP[:60], CLIP[: len(CLIP) // 3], b"RIFF\xff\x07\0\0WAVEx"])
def test_what_cannot_be_decoded_fails_with_the_same_problem(
    whole: Runtime, runtime: Runtime, content: bytes
) -> None:
    one, other = (run_to_the_end(each, add(each, content)) for each in (whole, runtime))
    assert (one.state, one.problem) == (other.state, other.problem)


def test_an_analysis_that_fails_is_made_by_its_own_message(
    whole: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_given: Any) -> Any:
        raise RuntimeError

    sent: list[Nudge] = []
    monkeypatch.setattr(whole.publisher, "send", lambda *nudges: sent.extend(nudges))
    session_id = add(whole, CLIP)
    with monkeypatch.context() as patched:
        patched.setattr(analysis_answer, "document", fail)
        assert process(whole, session_id).state == "completed"
    assert sent == [AnalyzeSession(session_id=session_id)]
    handle(whole, sent[0])
    assert runs(whole, session_id) == ONCE


def test_after_a_death_the_session_goes_through_the_pipeline(whole: Runtime) -> None:
    session_id = add(whole, CLIP)
    with whole.store.transaction() as tx:
        # A worker that dies: it claims, and then disappears.
        assert fair_order.next_session(tx, state="queued", lease_s=0)
    assert process(whole, session_id).state == "splitting"
    assert run_to_the_end(whole, session_id).state == "completed"


def test_a_zombie_neither_writes_nor_removes_anything_of_its_successor(
    whole: Runtime, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It resumes after its claim was lost, and after another worker has ended the session."""
    session_id, other = add(whole, CLIP), add(runtime, CLIP)
    finish = aggregate.aggregate
    passed: list[AudioSession] = []

    def lose_the_claim(*args: Any, **options: Any) -> Any:
        answer = finish(*args, **options)
        if not passed:
            with whole.store.transaction() as tx:
                tx.execute(
                    text("UPDATE unfinished_sessions SET due_at = now() WHERE session_id = :id"),
                    {"id": session_id},
                )
            passed.append(session(runtime, session_id))
            passed.append(run_to_the_end(runtime, session_id))
        return answer

    monkeypatch.setattr(aggregate, "aggregate", lose_the_claim)
    zombie = process(whole, session_id)
    assert [each.state for each in passed] == ["queued", "completed"]
    assert zombie.finished_at == passed[1].finished_at
    assert answer_of(whole, session_id) == answer_of(runtime, other)
    done = runs(whole, session_id)
    assert (done["process", "superseded"], done["aggregate", "done"]) == (1, 1)
    Recovery(runtime).round()
    assert set(whole.blobs.keys(f"sessions/{session_id}/")) == {
        recording_key(session_id),
        *(
            product_key(session_id, name, attempt=1)
            for name in ("levels", "levels-answer", "spectrogram")
        ),
    }


def test_a_cancel_ends_the_work_between_its_steps(
    whole: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that holds the claim notices within a second, and the next check ends the work."""
    session_id, begun, going_on = add(whole, TWO_SPANS), threading.Event(), threading.Event()
    score = detect.score

    def wait(runtime: Runtime, row: Any, part: Any, lease: Any) -> bytes:
        begun.set()
        going_on.wait(60)
        eventually(lambda: lease._is_lost, what="the lost claim")
        return score(runtime, row, part, lease)

    monkeypatch.setattr(detect, "score", wait)
    working = threading.Thread(target=process, args=(whole, session_id))
    working.start()
    assert begun.wait(60)
    with whole.store.transaction() as tx:
        assert session_queries.cancel_session(tx, session_id)
    going_on.set()
    working.join(60)
    assert session(whole, session_id).state == "cancelled"
    assert whole.blobs.keys(f"sessions/{session_id}/") == [recording_key(session_id)]
    assert runs(whole, session_id) == {("process", "cancelled"): 1}


def test_a_commit_that_was_not_answered_is_not_done_again(
    whole: Runtime, database_url: str, memory: StubBroker
) -> None:
    with postgres_proxy(database_url) as cable:
        cut = Runtime(replace(whole.settings, database_url=cable.url), memory)
        session_id = add(whole, CLIP)
        cable.lose_commit(after="INSERT INTO processing_metrics")
        handle(cut, ProcessAudioFile(session_id=session_id))
        assert cable.lost.is_set()
        cut.close()
    ended = run_to_the_end(whole, session_id)
    assert ended.state == "completed"
    assert runs(whole, session_id) == ONCE | {("process", "superseded"): 1}
    assert ended.levels_answer_key in whole.blobs.keys(f"sessions/{session_id}/")


# --- progress ----------------------------------------------------------------------------------


def test_its_progress_is_that_of_all_stages(
    whole: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Progress] = []

    def spy(tx: Any, work: Any, **values: Any) -> bool:
        held = note(tx, work, **values)
        row = tx.execute(SESSION_VIEW).one()
        shown.append(Progress.of(row, now=session_queries.clock(tx)))
        return held

    note = session_queries.note_share
    monkeypatch.setattr(session_queries, "note_share", spy)
    process(whole, add(whole, CLIP))
    # Too short for an update.
    assert shown == []
    with whole.store.transaction() as tx:
        tx.execute(text("TRUNCATE audio_sessions CASCADE"))
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    assert process(whole, add(whole, TWO_SPANS)).state == "completed"
    percents = [each.percent for each in shown]
    assert percents == sorted(percents)
    assert percents[0] < 10
    assert percents[-1] > 75
    stages = list(dict.fromkeys(each.stage for each in shown))
    assert stages == ["decoding and measuring levels", "listening for noise", "merging events"]
