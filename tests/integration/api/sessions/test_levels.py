"""Levels end to end: options, a calibrator's tone, and the answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import dramatiq
import msgspec
import numpy as np
import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError

from actors import worker
from actors.execution.runtime import Runtime
from actors.recovery import Recovery
from actors.science import synth
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.tables.documents.sessions import Levels
from db.tables.sessions import AudioSession
from tests.support import recordings
from tests.support.api import Api
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

RATE_HZ = synth.DEMO_RATE_HZ
#: Digital full scale (an rms of 1.0) in dB SPL.
FULL_SCALE_DB = 120.0


@pytest.fixture(autouse=True)
def working(runtime: Runtime, memory: StubBroker) -> Iterator[None]:
    """Let the worker consume the broker."""
    worker.declare(memory, runtime)
    working = dramatiq.Worker(memory, worker_threads=1, worker_timeout=50)
    working.start()
    yield
    working.stop()


def post(api: Api, content: bytes, **params: object) -> Any:
    return api.simulate_post(
        "/v1/sessions", body=content, headers={"Content-Type": "audio/wav"}, params=params
    )


def finished(api: Api, content: bytes, **params: object) -> dict[str, Any]:
    """Post a recording and return its finished session."""
    posted = post(api, content, **params)
    assert posted.status_code == 202, posted.json

    def ended() -> dict[str, Any] | None:
        session: dict[str, Any] = api.simulate_get(posted.headers["location"]).json
        return session if session["finished_at"] is not None else None

    return eventually(ended, timeout_s=120, what="the end of the session")


def sine(level_spl_db: float, *, hz: float = 1000.0, seconds: float = 6.0) -> bytes:
    """Return a tone as recorded by a microphone whose full scale is `FULL_SCALE_DB`."""
    peak = np.sqrt(2) * 10 ** ((level_spl_db - FULL_SCALE_DB) / 20)
    samples = peak * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)
    return recordings.encode(samples.astype(np.float32), container="WAV", subtype="FLOAT")


def levels(api: Api, session: dict[str, Any]) -> Any:
    return api.simulate_get(f"/v1/sessions/{session['id']}/levels")


def test_a_calibrator_and_then_a_recording_with_what_it_said(
    api: Api,
) -> None:
    tone = finished(api, sine(94.0), calibration_tone_db=94)
    assert tone["state"] == "completed"
    assert tone["calibration_tone_db"] == 94
    assert tone["calibration_db"] == pytest.approx(FULL_SCALE_DB, abs=0.01)
    assert tone["summary"]["level_reference"] == "dB SPL"
    assert tone["summary"]["lzeq_db"] == pytest.approx(94, abs=0.02)

    session = finished(api, sine(80.0), calibration_db=tone["calibration_db"])
    assert session["calibration_db"] == tone["calibration_db"]
    summary = session["summary"]
    for name in ("laeq_db", "lceq_db", "lzeq_db", "l50_db"):
        assert summary[name] == pytest.approx(80, abs=0.05), name
    assert summary["lcpeak_db"] == pytest.approx(83.01, abs=0.05)
    assert summary["lae_db"] == pytest.approx(80 + 7.78, abs=0.05)


def test_detections_bear_the_calibration(api: Api) -> None:
    content = recordings.encode(recordings.demo())
    plain, loud = finished(api, content), finished(api, content, calibration_db="100.5")
    pages = [
        api.simulate_get(f"/v1/sessions/{session['id']}/detections").json
        for session in (plain, loud)
    ]
    assert [page["level_reference"] for page in pages] == ["dBFS", "dB SPL"]
    assert pages[0]["items"]
    for one, other in zip(pages[0]["items"], pages[1]["items"], strict=True):
        assert one["noise_type"] == other["noise_type"]
        for name in ("laeq_db", "lafmax_db", "lae_db", "lasmax_db", "lcpeak_db"):
            assert other[name] == pytest.approx(one[name] + 100.5, abs=0.011)
        for name in ("emergence_db", "above_background_s"):
            assert other[name] == one[name]
    assert plain["summary"]["level_reference"] == "dBFS"
    assert loud["summary"]["laeq_db"] == pytest.approx(plain["summary"]["laeq_db"] + 100.5)


def test_a_detection_has_its_own_levels_and_those_of_the_background_before_it(api: Api) -> None:
    rng = np.random.default_rng(1)
    sound = rng.normal(0, 0.001, 14 * RATE_HZ)
    sound[10 * RATE_HZ : 12 * RATE_HZ] *= 100
    content = recordings.encode(sound.astype(np.float32), container="WAV", subtype="FLOAT")
    session = finished(api, content, calibration_db="100.004")
    items = api.simulate_get(f"/v1/sessions/{session['id']}/detections").json["items"]
    event = max(items, key=lambda each: each["laeq_db"])
    length_s = event["end_s"] - event["start_s"]
    assert event["lae_db"] == pytest.approx(event["laeq_db"] + 10 * np.log10(length_s), abs=0.02)
    assert event["emergence_db"] == pytest.approx(40, abs=1.5)
    assert event["background_la90_db"] == pytest.approx(session["summary"]["l90_db"], abs=0.3)
    assert 2.0 <= event["above_background_s"] <= length_s
    # It holds the maxima of the recording, which it does not exceed by rounding.
    for name in ("lasmax_db", "lcpeak_db"):
        assert event[name] == session["summary"][name]


def test_the_levels_of_a_recording(api: Api, runtime: Runtime) -> None:
    content = recordings.encode(recordings.demo())
    session = finished(api, content, calibration_db=94, bands="third_octave")
    answered = levels(api, session)
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "application/json"
    found = answered.json
    # The API passes the levels on as the worker wrote them, and they match its description.
    described = msgspec.json.decode(answered.content, type=Levels)
    assert json.loads(msgspec.json.encode(described)) == found
    assert int(answered.headers["content-length"]) == len(answered.content)
    assert (found["unit"], found["level_reference"]) == ("dB", "dB SPL")
    assert found["calibration_db"] == 94
    assert found["overall"].items() <= session["summary"].items()
    assert found["overall"]["l95_db"] <= found["overall"]["l5_db"]
    assert found["supported_hz"] == [10, 20_000]
    assert [band["nominal_hz"] for band in found["third_octaves"]][:2] == [25, 31.5]
    bands_db = 10 * np.log10(sum(10 ** (b["lzeq_db"] / 10) for b in found["third_octaves"]))
    assert bands_db == pytest.approx(found["overall"]["lzeq_db"], abs=1.0)
    series = found["series"]
    assert series["step_s"] == 1
    assert len(series["laeq_db"]) == len(series["lafmax_db"]) == 30
    assert max(series["lafmax_db"]) == found["overall"]["lafmax_db"]
    mean_db = 10 * np.log10(np.mean(10 ** (np.array(series["laeq_db"]) / 10)))
    assert mean_db == pytest.approx(found["overall"]["laeq_db"], abs=0.01)

    # None of this needs the blobs that recovery removes.
    def tidied() -> AudioSession | None:
        # The worker's own recovery may hold the lock; then this one does nothing.
        Recovery(runtime).round()
        with runtime.store.transaction() as tx:
            row = session_queries.get_session(tx, uuid.UUID(session["id"]))
        return row if row is not None and row.pcm_key is None else None

    row = eventually(tidied, what="nothing to tidy")
    kept = {recording_key(row.id), row.levels_key, row.levels_answer_key, row.spectrogram_key}
    assert set(runtime.blobs.keys("sessions/")) == kept
    assert levels(api, session).json == found
    assert levels(api, finished(api, sine(80.0))).json["third_octaves"] is None


def test_silence_has_levels_that_are_null(api: Api) -> None:
    content = recordings.encode(np.zeros(2 * RATE_HZ, dtype=np.float32))
    found = levels(api, finished(api, content, calibration_db=94, bands="third_octave")).json
    assert set(found["overall"].values()) == {None}
    assert found["series"]["laeq_db"] == [None, None]
    assert {band["lzeq_db"] for band in found["third_octaves"]} == {None}


@pytest.mark.parametrize(
    ("content", "code"),
    [(sine(94.0, hz=700), "tone-missing"), (sine(94.0, seconds=1), "tone-too-short")],
)
def test_what_is_no_calibrator_fails_with_its_reason(api: Api, content: bytes, code: str) -> None:
    session = finished(api, content, calibration_tone_db=94)
    assert session["state"] == "failed"
    assert session["problem"]["code"] == code
    assert session["problem"]["detail"]
    assert session["calibration_db"] is None
    refused = levels(api, session)
    assert refused.status_code == 404
    assert refused.json["type"] == "/problems/no-levels"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("calibration_db", "'NaN'"),
        ("calibration_db", "251"),
        ("calibration_tone_db", "100"),
        ("bands", "'octave'"),
        ("channel", "'0'"),
        ("channel", "'left'"),
    ],
)
def test_the_table_refuses_what_the_api_refuses(runtime: Runtime, column: str, value: str) -> None:
    with pytest.raises(IntegrityError), runtime.store.transaction() as tx:
        tx.execute(
            insert(AudioSession).values(
                id=uuid.uuid4(),
                state="queued",
                file_name="a",
                recording_key="nowhere",
                **{column: text(value)},
            )
        )


def test_third_octaves_of_a_detection(api: Api, runtime: Runtime) -> None:
    content = recordings.encode(recordings.demo())
    session = finished(api, content, calibration_db=94, bands="third_octave")

    def items(**params: object) -> list[dict[str, Any]]:
        path = f"/v1/sessions/{session['id']}/detections"
        answer = api.simulate_get(path, params=params)
        assert answer.status_code == 200, answer.json
        found: list[dict[str, Any]] = answer.json["items"]
        return found

    whole = levels(api, session).json["third_octaves"]
    plain, full = items(), items(include="third_octaves")
    assert full
    assert {each["third_octaves"] for each in plain} == {None}
    assert plain == [each | {"third_octaves": None} for each in full]
    for event in full:
        bands = event["third_octaves"]
        for one, other in zip(bands, whole, strict=True):
            assert one | {"lzeq_db": 0} == other | {"lzeq_db": 0}
        # The energy of an event is at most that of its recording.
        length_s = event["end_s"] - event["start_s"]
        for one, other in zip(bands, whole, strict=True):
            most_db = other["lzeq_db"] + 10 * np.log10(session["duration_s"] / length_s)
            assert one["lzeq_db"] <= most_db + 0.01
        assert {round(each["lzeq_db"], 2) for each in bands} == {e["lzeq_db"] for e in bands}
    listed = api.simulate_get("/v1/detections", params={"include": "third_octaves"}).json["items"]
    by_start = {each["start_s"]: each["third_octaves"] for each in listed}
    assert by_start == {each["start_s"]: each["third_octaves"] for each in full}

    # Pages and their order do not depend on what they include.
    first = api.simulate_get(f"/v1/sessions/{session['id']}/detections", params={"limit": 1}).json
    assert items(include="third_octaves", cursor=first["next_cursor"]) == full[1:]
    refused = api.simulate_get(
        f"/v1/sessions/{session['id']}/detections", params={"include": "octaves"}
    )
    assert refused.status_code == 400


def test_third_octaves_of_a_detection_are_null_without_bands(api: Api) -> None:
    session = finished(api, recordings.encode(recordings.demo()))
    answer = api.simulate_get(
        f"/v1/sessions/{session['id']}/detections", params={"include": "third_octaves"}
    )
    assert {each["third_octaves"] for each in answer.json["items"]} == {None}
