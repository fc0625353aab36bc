"""The audio of sessions with a privacy option, wherever a worker dies."""

from __future__ import annotations

import io
import uuid
import zipfile
from dataclasses import replace
from typing import Any

import falcon.testing
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.facts.third_octaves import NOMINAL_HZ
from actors.messaging.messages import (
    AggregateSession,
    CleanUpOldSessions,
    DetectSpan,
    ExportSessionData,
    ProcessAudioFile,
    SplitRecording,
)
from actors.recovery import Recovery
from actors.science.audio_io import flac
from actors.science.detection.tagging.tagger import Tagger
from actors.training import recordings as training_recordings
from actors.training.recordings import Wanted
from db.blobs.keys import product_key, recording_key, upload_key
from db.queries import session_queries
from db.queries.session_queries import NewDetectionRow
from db.tables.detections import NoiseDetection
from db.tables.sessions import AudioSession
from tests.integration.audio.test_base_types import use
from tests.support import accounts, outages, recordings, voices, weights
from tests.support.api import Api, client_of
from tests.support.clock import ask
from tests.support.metering import metered
from tests.support.pipeline import (
    add,
    age_ends,
    detections_of,
    handle,
    put_into,
    run_to_the_end,
    session,
    work_of,
)

pytestmark = pytest.mark.integration

RATE_HZ = 44_100
Samples = NDArray[np.float32]

#: A siren from 1 to 11 s, and a voice from 4 to 7 s.
SECONDS, SPOKEN_S = 12, (4.0, 7.0)
#: The muted interval is within the first and covers at least the second: the voice and its margin.
MUTED_S, LEAST_MUTED_S = (2.5, 8.5), (3.5, 7.5)


def scene() -> Samples:
    mono = 0.3 * voices.hiss(SECONDS, rate_hz=RATE_HZ)
    siren = voices.siren(SECONDS, rate_hz=RATE_HZ)
    mono[RATE_HZ : 11 * RATE_HZ] += siren[RATE_HZ : 11 * RATE_HZ]
    first, last = (int(at * RATE_HZ) for at in SPOKEN_S)
    mono[first:last] += voices.voice(SPOKEN_S[1] - SPOKEN_S[0], rate_hz=RATE_HZ)[: last - first]
    return np.stack([mono, 0.5 * mono], axis=1)


SCENE = scene()
CONTENT = recordings.encode(SCENE, rate_hz=RATE_HZ, subtype="PCM_24")
TAGGER = Tagger(voices.network(), weights.random_head())


@pytest.fixture
def voiced(runtime: Runtime) -> Runtime:
    """A worker that detects voices."""
    use(runtime, TAGGER)
    return runtime


def get(runtime: Runtime, session_id: uuid.UUID, what: str) -> falcon.testing.Result:
    return client_of(runtime).simulate_get(f"/v1/sessions/{session_id}/{what}")


def refused(result: falcon.testing.Result, status: int, name: str) -> str:
    assert (result.status_code, result.json["type"]) == (status, f"/problems/{name}")
    return str(result.json["detail"])


def blobs_of(runtime: Runtime, session_id: uuid.UUID) -> set[str]:
    return set(runtime.blobs.keys(f"sessions/{session_id}/"))


def events_of(runtime: Runtime, session_id: uuid.UUID) -> list[tuple[Any, ...]]:
    with runtime.store.transaction() as tx:
        return [_told(event) for event in detections_of(tx, session_id)]


def _told(event: NoiseDetection) -> tuple[Any, ...]:
    return (
        event.noise_type,
        event.start_s,
        event.end_s,
        event.confidence,
        event.laeq_db,
        event.lafmax_db,
        event.candidates,
    )


def read(content: bytes) -> Samples:
    samples, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return np.asarray(samples, dtype=np.float32)


def part(samples: Samples, times_s: tuple[float, float]) -> Samples:
    return samples[int(times_s[0] * RATE_HZ) : int(times_s[1] * RATE_HZ)]


def likeness(first: Samples, second: Samples) -> float:
    """Return the correlation of two single-channel sounds."""
    return float(np.corrcoef(first, second)[0, 1])


def lease_has_ended(runtime: Runtime) -> None:
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET due_at = now()"))


def until_aggregating(runtime: Runtime, session_id: uuid.UUID) -> None:
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    assert session(runtime, session_id).state == "aggregating"


# --- mute --------------------------------------------------------------------------------------


def test_speech_is_muted_and_all_that_was_measured_stays_as_it_is(voiced: Runtime) -> None:
    options = {"calibration_db": 94.0, "bands": "third_octave"}
    kept, muted = add(voiced, CONTENT, **options), add(voiced, CONTENT, privacy="mute", **options)
    wanted, done = run_to_the_end(voiced, kept), run_to_the_end(voiced, muted)
    assert (wanted.state, done.state) == ("completed", "completed")
    assert done.summary == wanted.summary
    assert events_of(voiced, muted) == events_of(voiced, kept) != []
    assert get(voiced, muted, "levels").json["series"] == get(voiced, kept, "levels").json["series"]

    answered = get(voiced, muted, "recording")
    assert answered.headers["content-type"] == "audio/flac"
    assert 'filename="a.flac"' in answered.headers["content-disposition"]
    told = soundfile.info(io.BytesIO(answered.content))
    assert (told.samplerate, told.channels, told.frames) == (RATE_HZ, 2, len(SCENE))
    found = read(answered.content)
    for outside in ((0.0, MUTED_S[0]), (MUTED_S[1], float(SECONDS))):
        assert np.abs(part(found, outside) - part(SCENE, outside)).max() <= 2.0**-22
    spoken, noise = part(SCENE, LEAST_MUTED_S), part(found, LEAST_MUTED_S)
    assert abs(likeness(spoken[:, 0], noise[:, 0])) < 0.02
    _assert_levels_are_alike(spoken, noise)

    ranged = client_of(voiced).simulate_get(
        f"/v1/sessions/{muted}/recording", headers={"Range": "bytes=10-19"}
    )
    assert ranged.status_code == 206
    assert ranged.content == answered.content[10:20]
    assert ranged.headers["content-range"] == f"bytes 10-19/{len(answered.content)}"


def test_a_channel_that_was_not_searched_for_speech_is_not_copied(voiced: Runtime) -> None:
    silent = np.zeros_like(SCENE[:, :1])
    content = recordings.encode(
        np.concatenate([silent, SCENE], axis=1), rate_hz=RATE_HZ, subtype="PCM_24"
    )
    muted = add(voiced, content, privacy="mute", channel="2")
    assert run_to_the_end(voiced, muted).state == "completed"
    found = read(get(voiced, muted, "recording").content)
    assert found.shape == (len(SCENE), 3)
    assert not found[:, [0, 2]].any()
    before = part(found, (0.0, MUTED_S[0]))[:, 1]
    assert np.abs(before - part(SCENE, (0.0, MUTED_S[0]))[:, 0]).max() <= 2.0**-22


def _assert_levels_are_alike(spoken: Samples, noise: Samples) -> None:
    """Check each third-octave band of the voice to within 1 dB; see the unit tests of muting."""
    before, after = (
        metered(each[:, 0].astype(np.float64), RATE_HZ, third_octaves=True)[1]
        for each in (spoken, noise)
    )
    assert before.band_mean_squares is not None
    assert after.band_mean_squares is not None
    compared = [band for band, nominal_hz in NOMINAL_HZ.items() if 125 <= nominal_hz <= 1_000]
    for band in compared:
        ratio = after.band_mean_squares[band] / before.band_mean_squares[band]
        assert 10 * np.log10(ratio) == pytest.approx(0, abs=1.0), NOMINAL_HZ[band]
    assert 10 * np.log10(after.a_mean_square / before.a_mean_square) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("privacy", ["mute", "discard_audio"])
def test_nothing_is_served_or_drawn_before_the_end(voiced: Runtime, privacy: str) -> None:
    session_id = add(voiced, CONTENT, privacy=privacy)
    for step in (ProcessAudioFile, SplitRecording, None):
        for what in ("recording", "spectrogram.png"):
            detail = refused(get(voiced, session_id, what), 409, "not-finished")
            assert f"privacy={privacy}" in detail
        if step is not None:
            handle(voiced, step(session_id=session_id))
    assert session(voiced, session_id).state == "detecting"
    assert not [key for key in blobs_of(voiced, session_id) if "spectrogram" in key]
    # Training cannot use it either.
    found = training_recordings.read(voiced, [Wanted(session_id=session_id)])
    assert found.refused.keys() == {0}


def test_what_was_sent_is_removed_after_the_end(voiced: Runtime) -> None:
    session_id = add(voiced, CONTENT, privacy="mute")
    done = run_to_the_end(voiced, session_id)
    # A worker that dies between the commit and the removal leaves it here, out of reach.
    assert recording_key(session_id) in blobs_of(voiced, session_id)
    assert (
        client_of(voiced).simulate_get(f"/v1/sessions/{session_id}").json["audio_removed_at"]
        is None
    )
    before = get(voiced, session_id, "recording").content
    Recovery(voiced).round()
    assert blobs_of(voiced, session_id) == {
        done.muted_key,
        done.levels_key,
        done.levels_answer_key,
        done.spectrogram_key,
    }
    assert get(voiced, session_id, "recording").content == before
    assert get(voiced, session_id, "spectrogram.png").content.startswith(b"\x89PNG")
    shown = client_of(voiced).simulate_get(f"/v1/sessions/{session_id}").json
    assert (shown["privacy"], shown["size_bytes"]) == ("mute", len(CONTENT))
    removed_at = shown["audio_removed_at"]
    assert removed_at is not None
    # Neither a repetition nor repeated messages change anything.
    handle(voiced, AggregateSession(session_id=session_id))
    handle(voiced, ProcessAudioFile(session_id=session_id))
    Recovery(voiced).round()
    assert session(voiced, session_id).muted_key == done.muted_key
    again = client_of(voiced).simulate_get(f"/v1/sessions/{session_id}").json
    assert again["audio_removed_at"] == removed_at


def test_a_removal_that_fails_is_done_again(
    voiced: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = add(voiced, CONTENT, privacy="discard_audio")
    run_to_the_end(voiced, session_id)
    with monkeypatch.context() as patched:
        patched.setattr(voiced.blobs, "delete", _failing)
        with pytest.raises(OSError, match="away"):
            Recovery(voiced).round()
    assert session(voiced, session_id).audio_removed_at is None
    Recovery(voiced).round()
    assert session(voiced, session_id).audio_removed_at is not None
    assert recording_key(session_id) not in blobs_of(voiced, session_id)


def _failing(*_keys: str) -> None:
    raise OSError("away")


def test_a_worker_that_dies_before_the_commit_costs_nothing(
    voiced: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = add(voiced, CONTENT, privacy="mute")
    until_aggregating(voiced, session_id)
    put = voiced.blobs.put

    def put_and_die(key: str, content: bytes) -> None:
        put(key, content)
        raise SystemExit

    with monkeypatch.context() as patched:
        # The picture is stored last, after the copy.
        patched.setattr(voiced.blobs, "put", put_and_die)
        with pytest.raises(SystemExit):
            handle(voiced, AggregateSession(session_id=session_id))
    orphan = product_key(session_id, "muted", attempt=1)
    assert {orphan, recording_key(session_id)} <= blobs_of(voiced, session_id)
    refused(get(voiced, session_id, "recording"), 409, "not-finished")
    lease_has_ended(voiced)
    done = run_to_the_end(voiced, session_id)
    assert (done.state, done.muted_key) == (
        "completed",
        product_key(session_id, "muted", attempt=2),
    )
    Recovery(voiced).round()
    assert not {orphan, recording_key(session_id)} & blobs_of(voiced, session_id)
    assert len(read(get(voiced, session_id, "recording").content)) == len(SCENE)


def test_a_copy_that_cannot_be_written_is_written_again(voiced: Runtime) -> None:
    session_id = add(voiced, CONTENT, privacy="mute")
    until_aggregating(voiced, session_id)
    # The copy is larger, everything else smaller.
    with outages.small_files(500_000):
        handle(voiced, AggregateSession(session_id=session_id))
    waiting = session(voiced, session_id)
    assert (waiting.state, waiting.muted_key) == ("aggregating", None)
    assert work_of(voiced, session_id).last_error
    assert not [key for key in blobs_of(voiced, session_id) if "muted" in key]
    lease_has_ended(voiced)
    assert run_to_the_end(voiced, session_id).state == "completed"


def test_without_the_backbone_nothing_is_muted_and_nothing_kept(runtime: Runtime) -> None:
    session_id = add(runtime, CONTENT, privacy="mute")
    failed = run_to_the_end(runtime, session_id)
    assert failed.state == "failed"
    assert failed.problem is not None
    assert failed.problem["code"] == "backbone-missing"
    detail = refused(get(runtime, session_id, "recording"), 404, "no-recording")
    assert "privacy=mute" in detail
    refused(get(runtime, session_id, "spectrogram.png"), 404, "no-spectrogram")
    Recovery(runtime).round()
    assert blobs_of(runtime, session_id) == set()


def test_the_api_refuses_to_mute_where_no_backbone_is_used(runtime: Runtime) -> None:
    def api(setting: str) -> Api:
        settings = replace(runtime.settings, backbone_url=setting)
        return client_of(runtime, settings=settings)

    asked = {"query_string": "privacy=mute", "body": CONTENT}
    for path in ("/v1/sessions", "/v1/batches"):
        detail = refused(api("off").simulate_post(path, **asked), 400, "invalid-parameter")
        assert "CLAMOR_BACKBONE_URL" in detail
        assert "discard_audio" in detail
    posted = api("").simulate_post("/v1/sessions", **asked)
    assert (posted.status_code, posted.json["privacy"]) == (202, "mute")
    other = api("off").simulate_post("/v1/sessions", query_string="privacy=none", body=CONTENT)
    refused(other, 400, "invalid-parameter")


def test_more_channels_than_a_copy_can_have_are_refused(voiced: Runtime) -> None:
    many = np.zeros((RATE_HZ, flac.MOST_CHANNELS + 1), dtype=np.float32)
    content = recordings.encode(many, rate_hz=RATE_HZ, container="WAV")
    failed = run_to_the_end(voiced, add(voiced, content, privacy="mute"))
    assert failed.problem is not None
    assert failed.problem["code"] == "cannot-mute"
    done = run_to_the_end(voiced, add(voiced, content, privacy="discard_audio"))
    assert done.state == "completed"


# --- discard_audio -----------------------------------------------------------------------------


def test_audio_is_discarded_and_results_stay(runtime: Runtime) -> None:
    kept = add(runtime, CONTENT)
    session_id = add(runtime, CONTENT, privacy="discard_audio")
    run_to_the_end(runtime, kept)
    done = run_to_the_end(runtime, session_id)
    for _ in range(2):
        detail = refused(get(runtime, session_id, "recording"), 404, "no-recording")
        assert "privacy=discard_audio" in detail
        detail = refused(get(runtime, session_id, "spectrogram.png"), 404, "no-spectrogram")
        assert "privacy=discard_audio" in detail
        Recovery(runtime).round()
    assert blobs_of(runtime, session_id) == {done.levels_key, done.levels_answer_key}
    assert events_of(runtime, session_id) == events_of(runtime, kept) != []
    assert get(runtime, session_id, "levels").status_code == 200


@pytest.mark.parametrize("privacy", ["mute", "discard_audio"])
def test_a_session_that_is_cancelled_early_loses_its_audio_too(
    runtime: Runtime, privacy: str
) -> None:
    session_id = add(runtime, CONTENT, privacy=privacy)
    kept = add(runtime, CONTENT)
    put = upload_key(uuid.uuid4(), accounts.TEAM)
    runtime.blobs.put(put, CONTENT)
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=(uploaded := uuid.uuid4()),
            user_id=accounts.TEAM,
            file_name="a",
            recording_key=recording_key(uploaded),
            source_key=put,
            privacy=privacy,
        )
    api = client_of(runtime)
    for each in (session_id, kept, uploaded):
        assert api.simulate_post(f"/v1/sessions/{each}/cancel").status_code == 200
    Recovery(runtime).round()
    assert blobs_of(runtime, session_id) == set()
    assert runtime.blobs.keys("uploads/") == []
    assert blobs_of(runtime, kept) == {recording_key(kept)}
    refused(get(runtime, session_id, "recording"), 404, "no-recording")
    assert session(runtime, session_id).audio_removed_at is not None
    assert session(runtime, kept).audio_removed_at is None


def test_a_session_whose_audio_is_removed_is_not_retried(runtime: Runtime) -> None:
    session_id = add(runtime, CONTENT, privacy="discard_audio")
    problem = {"code": "given-up", "detail": "its worker was killed"}
    with runtime.store.transaction() as tx:
        put_into(tx, session_id, "failed", problem=problem)
    answered = client_of(runtime).simulate_post(f"/v1/sessions/{session_id}/retry")
    refused(answered, 409, "not-given-up")


@pytest.mark.parametrize("stage", ["queued", "splitting", "aggregating"])
def test_work_on_a_recording_that_was_removed_ends_with_the_reason(
    voiced: Runtime, stage: str
) -> None:
    """A restored database may have unfinished sessions whose audio has since been removed."""
    session_id = add(voiced, CONTENT, privacy="mute")
    if stage == "splitting":
        handle(voiced, ProcessAudioFile(session_id=session_id))
    if stage == "aggregating":
        until_aggregating(voiced, session_id)
    voiced.blobs.delete(*blobs_of(voiced, session_id))
    failed = run_to_the_end(voiced, session_id)
    assert failed.state == "failed"
    assert failed.problem is not None
    assert failed.problem["code"] == "audio-removed"


# --- clips -------------------------------------------------------------------------------------


def with_an_event(runtime: Runtime, session_id: uuid.UUID) -> AudioSession:
    """Add a detection where the voice is to an ended session."""
    done = run_to_the_end(runtime, session_id)
    assert done.state == "completed"
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM noise_detections WHERE session_id = :id"), {"id": session_id})
        start_s, end_s = SPOKEN_S
        event = NewDetectionRow(noise_type="speech", confidence=0.9, start_s=start_s, end_s=end_s)
        session_queries.add_detections(tx, session_id, [event])
    return done


@pytest.mark.parametrize("is_tidied", [False, True])
def test_clips_of_an_export_have_noise_in_place_of_speech(
    voiced: Runtime, *, is_tidied: bool
) -> None:
    """This holds even before the uploaded recording is removed."""
    names = {}
    for privacy in ("keep", "mute", "discard_audio"):
        session_id = add(voiced, CONTENT, privacy=privacy)
        with_an_event(voiced, session_id)
        if is_tidied:
            Recovery(voiced).round()
        api = client_of(voiced)
        asked = {"format": "clips", "session_ids": [str(session_id)]}
        made = api.simulate_post("/v1/exports", json=asked).json
        handle(voiced, ExportSessionData(export_id=uuid.UUID(made["id"])))
        file = api.simulate_get(f"/v1/exports/{made['id']}/file")
        assert file.status_code == 200
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            clips = [read(archive.read(name)) for name in archive.namelist() if "clips/" in name]
            names[privacy] = archive.namelist()
        spoken = part(SCENE, SPOKEN_S)[:, 0]
        for clip in clips:
            found = clip[RATE_HZ // 2 :][: len(spoken), 0]
            is_alike = abs(likeness(spoken, found)) > 0.9
            assert is_alike == (privacy == "keep")
            assert is_alike or abs(likeness(spoken, found)) < 0.02
        assert len(clips) == (privacy != "discard_audio")
    assert names["discard_audio"] == ["events.csv"]


def test_clips_that_outlive_their_session_have_noise_in_place_of_speech(voiced: Runtime) -> None:
    ids = {
        add(voiced, CONTENT, privacy=privacy): privacy
        for privacy in ("keep", "mute", "discard_audio")
    }
    for session_id in ids:
        with_an_event(voiced, session_id)
    with voiced.store.transaction() as tx:
        age_ends(tx, days=90)
    run = ask(voiced, CleanUpOldSessions(), keep_best=10)
    assert run.result is not None, run.problem
    assert (run.result["sessions"], run.result["kept_clips"]) == (3, 2)
    with voiced.store.transaction() as tx:
        rows = tx.execute(text("SELECT session_id, blob_key FROM kept_clips")).all()
    assert {ids[row.session_id] for row in rows} == {"keep", "mute"}
    spoken = part(SCENE, SPOKEN_S)[:, 0]
    for row in rows:
        found = read(voiced.blobs.get(row.blob_key))[RATE_HZ // 2 :][: len(spoken), 0]
        is_alike = abs(likeness(spoken, found)) > 0.9
        assert is_alike == (ids[row.session_id] == "keep")
