"""Overload and under-range, from the recording to the answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.execution.runtime import Runtime
from tests.support import recordings
from tests.support.api import Api
from tests.support.pipeline import add, run_to_the_end

pytestmark = pytest.mark.integration

RATE_HZ = recordings.RATE_HZ
#: The demo, with the middle 10 s cut off and attenuated.
CUT_OFF = np.array(recordings.demo())
CUT_OFF[10 * RATE_HZ : 20 * RATE_HZ] = np.clip(10 * CUT_OFF[10 * RATE_HZ : 20 * RATE_HZ], -0.5, 0.5)


def answered(
    api: Api, runtime: Runtime, samples: NDArray[np.float32], **options: float
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Return the summary, the levels and the detections of a recording."""
    session_id = add(runtime, recordings.encode(samples), **options)
    assert run_to_the_end(runtime, session_id).state == "completed"
    path = f"/v1/sessions/{session_id}"
    return (
        api.simulate_get(path).json["summary"],
        api.simulate_get(f"{path}/levels").json,
        api.simulate_get(f"{path}/detections").json["items"],
    )


def test_overload_is_in_every_answer(api: Api, runtime: Runtime) -> None:
    summary, levels, detections = answered(api, runtime, CUT_OFF)
    overload = summary["overload"]
    assert overload == levels["overload"]
    assert 10.0 <= overload["first_s"] < 20.0
    assert 0 < overload["overloaded_s"] <= 10.0
    assert overload["share"] == pytest.approx(overload["overloaded_s"] / 30, abs=1e-3)
    marked = np.flatnonzero(levels["series"]["overloaded"])
    assert len(levels["series"]["overloaded"]) == 30
    assert marked.min() >= 10
    assert marked.max() < 20
    for event in detections:
        inside = event["start_s"] < 20 and event["end_s"] > 10
        assert inside or event["overloaded"] is False
    assert any(event["overloaded"] for event in detections)
    assert summary["under_range"] is None
    assert levels["series"]["under_range"] is None
    session_id = api.simulate_get("/v1/sessions").json["items"][0]["id"]
    analysis = api.simulate_get(f"/v1/sessions/{session_id}/analysis").json["result"]
    assert analysis["overload"] == overload
    assert sum(analysis["minutes"]["overloaded_s"]) == pytest.approx(overload["overloaded_s"])
    by_start = {event["start_s"]: event["overloaded"] for event in detections}
    for event in analysis["loudest"]:
        assert event["overloaded"] is by_start[event["start_s"]]


def test_a_recording_with_headroom_is_not_overloaded(api: Api, runtime: Runtime) -> None:
    summary, levels, detections = answered(api, runtime, recordings.demo())
    assert summary["overload"] == {"overloaded_s": 0.0, "share": 0.0, "first_s": None}
    assert not any(levels["series"]["overloaded"])
    assert {event["overloaded"] for event in detections} == {False}


def test_levels_near_the_noise_floor_are_upper_bounds(api: Api, runtime: Runtime) -> None:
    summary, levels, _ = answered(
        api, runtime, recordings.demo(), calibration_db=100.0, noise_floor_db=50.0
    )
    under_range = summary["under_range"]
    assert under_range == levels["under_range"]
    assert under_range["limit_db"] == pytest.approx(57.7, abs=0.05)
    series = levels["series"]
    assert series["under_range"] == [
        level_db is None or level_db < under_range["limit_db"] for level_db in series["laeq_db"]
    ]
    assert under_range["under_range_s"] == sum(series["under_range"])
    assert 0 < under_range["share"] < 1
    for name, level_db in levels["overall"].items():
        if name not in ("lceq_db", "lzeq_db", "lcpeak_db", "lae_db"):
            assert (name in under_range["upper_bounds"]) is (level_db < under_range["limit_db"])
    assert "l95_db" in under_range["upper_bounds"]


@pytest.mark.parametrize("query", ["noise_floor_db=30", "noise_floor_db=151&calibration_db=94"])
def test_a_noise_floor_needs_a_calibration_and_a_range(api: Api, query: str) -> None:
    refused = api.simulate_post("/v1/sessions", body=recordings.HEADER, query_string=query)
    assert refused.status_code == 400
    assert refused.json["errors"][0]["field"] == "noise_floor_db"


def test_sessions_of_an_older_release_have_no_overload(api: Api, runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))
    run_to_the_end(runtime, session_id)
    with runtime.store.transaction() as tx:
        connection = tx.connection()
        connection.exec_driver_sql("UPDATE noise_detections SET overloaded = NULL")
        connection.exec_driver_sql("UPDATE audio_sessions SET summary = summary - 'overload'")
    path = f"/v1/sessions/{session_id}"
    assert api.simulate_get(path).json["summary"]["overload"] is None
    [*detections] = api.simulate_get(f"{path}/detections").json["items"]
    assert {event["overloaded"] for event in detections} == {None}
