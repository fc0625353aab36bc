"""Numbers in answers have the same few decimals everywhere."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from actors.execution.runtime import Runtime
from actors.facts import rounding
from services.openapi.examples import EXAMPLES
from tests.support import accounts, labelled, recordings
from tests.support.api import Api
from tests.support.pipeline import add, run_to_the_end

pytestmark = pytest.mark.integration

#: The caller's own values are returned unchanged.
GIVEN = {"calibration_db", "metadata", "thresholds", "limit_db", "limits_db"}
#: Exact values: the scores of the probe sound that proves that a model gives the same scores here,
#: and exact frequencies.
EXACT = {"probe_scores", "exact_hz", "laf_interval_s"}


def numbers(value: Any, place: str = "", name: str = "") -> Iterator[tuple[str, str, float]]:
    """Yield every fractional number in some JSON: its path, its nearest name, and its value."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in GIVEN | EXACT:
                # Below a noise type or similar key, the name around it says what the number is.
                yield from numbers(each, f"{place}.{key}", name if name in NAMED else key)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each, f"{place}[]", name)
    elif isinstance(value, float):
        yield place, name, value


#: Objects keyed by noise types or similar.
NAMED = {"heard_s"}


def too_fine(value: Any) -> set[str]:
    """Return where numbers have more decimals than their kind allows."""
    found = set()
    for place, name, number in numbers(value):
        decimals = rounding.SHARE_DECIMALS
        if name.endswith("_db") or name in ("laeq", "lafmax"):
            decimals = rounding.LEVEL_DECIMALS
        elif name.endswith("_s"):
            decimals = rounding.SECOND_DECIMALS
        if round(number, decimals) != number:
            found.add(place)
    return found


def test_the_walk_finds_numbers_that_are_too_fine() -> None:
    answer = {
        "a_db": 1.234,
        "b_s": [0.1234, 0.123],
        "heard_s": {"rain": 1.23456},
        "score": 0.12345,
        "c": {"confidence": 0.1234},
        "calibration_db": 1.23456,
    }
    assert too_fine(answer) == {".a_db", ".b_s[]", ".heard_s.rain", ".score"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_have_the_decimals_of_answers(name: str) -> None:
    example = EXAMPLES[name]
    assert too_fine(example.answer) == set()


def listened(runtime: Runtime) -> uuid.UUID:
    """A finished session of a recording with an odd length and an odd sample rate."""
    generator = np.random.default_rng(7)
    samples = recordings.demo()[: 9 * recordings.RATE_HZ + 1_237]
    noisy = samples + 0.003 * generator.standard_normal(samples.shape)
    session_id = add(
        runtime,
        recordings.encode(noisy.astype(np.float32), rate_hz=44_100),
        recorded_at=datetime.now(UTC).replace(hour=0, minute=10),
        bands="third_octave",
        calibration_db=93.12345,
    )
    assert run_to_the_end(runtime, session_id).state == "completed"
    return session_id


def test_real_answers_have_the_decimals_of_their_kinds(admin: Api, runtime: Runtime) -> None:
    session_id = listened(runtime)
    body, headers = labelled.form(
        {"options": json.dumps({"algorithm": "random_forest"}), "manifest": labelled.clips()[0]},
        labelled.clips()[1],
    )
    training = admin.simulate_post("/v1/models", body=body, headers=headers).json
    run_to_the_end(runtime, session_id)
    training = admin.simulate_get(f"/v1/trainings/{training['id']}").json
    body, headers = labelled.form(
        {"manifest": labelled.clips(seed=5)[0]}, labelled.clips(seed=5)[1]
    )
    path = f"/v1/models/{training['model_id']}"
    validation = admin.simulate_post(f"{path}/validate", body=body, headers=headers).json
    day = datetime.now(UTC).date().isoformat()
    report = admin.simulate_post("/v1/reports", json={"day": day, "all_users": True}).json
    run_to_the_end(runtime, session_id)
    refused = admin.simulate_post(f"{path}/promote", json={})
    assert refused.status_code == 409
    session = f"/v1/sessions/{session_id}"
    found = {"promote": too_fine(refused.json)}
    for asked in (
        session,
        f"{session}/detections",
        f"{session}/levels",
        f"{session}/analysis",
        "/v1/sessions",
        "/v1/detections",
        "/v1/models",
        path,
        f"/v1/validations/{validation['id']}",
        f"/v1/reports/{report['id']}",
        f"/v1/usage?user_id={accounts.TEAM}",
        "/v1/trainings",
    ):
        answer = admin.simulate_get(asked)
        assert answer.status_code == 200, (asked, answer.text)
        assert list(numbers(answer.json)) or asked == "/v1/trainings", asked
        found[asked] = too_fine(answer.json)
    assert sorted(f"{asked} {place}" for asked, fine in found.items() for place in fine) == []
