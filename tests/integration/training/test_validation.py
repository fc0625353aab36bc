"""A model is checked, and measured on a labelled set."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from actors.execution.runtime import Runtime
from actors.science import synth
from actors.science.detection import classifier
from actors.science.errors import UnknownAudioFormat
from db.queries import model_queries
from db.queries.model_queries import JobWork
from db.queue import claims
from db.tables.training import Validation
from tests.integration.training.models import assert_problem, post, validate, work
from tests.support import labelled, recordings
from tests.support.api import Api

pytestmark = pytest.mark.integration


def test_without_a_set_integrity_is_looked_at(admin: Api, runtime: Runtime, trained: Any) -> None:
    done = validate(admin, runtime, trained["model_id"])
    assert done["state"] == "completed"
    assert done["report"]["passed"]
    assert {check["name"]: check["passed"] for check in done["report"]["checks"]} == dict.fromkeys(
        ("hash", "schema", "classes", "outputs", "round_trip", "known_vectors"), True
    )
    assert "figures" not in done["report"]


def test_a_set_of_clips_measures_accuracy_and_false_alarms(
    admin: Api, runtime: Runtime, trained: Any
) -> None:
    manifest, files = labelled.clips(labels=(*labelled.LABELS, "background"), seed=50)
    files["x.wav"] = b"?"
    done = validate(admin, runtime, trained["model_id"], f"{manifest}\nx.wav,mains_hum", files)
    report = done["report"]
    assert report["kind"] == "clips"
    assert report["figures"]["clip_accuracy"] > 0.6
    assert report["figures"]["false_alarms_per_hour"] >= 0
    assert report["n_recordings"] == 12
    assert report["refused"] == [{"file": "x.wav", "reason": str(UnknownAudioFormat())}]


def test_a_set_of_events_measures_them(admin: Api, runtime: Runtime) -> None:
    """The shipped model on its own demo recording: a good score, though not a perfect one."""
    samples, truth = synth.demo_recording(7)
    lines = ["file,onset_s,offset_s,label"]
    lines += [f"demo.flac,{event.start_s},{event.end_s},{event.noise_type}" for event in truth]
    lines += ["bed.flac,,,"]
    files = {
        "demo.flac": recordings.encode(samples),
        "bed.flac": recordings.encode(labelled.sound("background", seconds=5), rate_hz=16_000),
    }
    done = validate(admin, runtime, str(runtime.shipped_model_id), "\n".join(lines), files)
    report = done["report"]
    assert (report["kind"], report["n_recordings"]) == ("events", 2)
    assert report["figures"]["segment_f1"] > 0.6
    assert 0 <= report["figures"]["event_f1"] <= 1
    assert 0 < report["figures"]["psds"] <= 1
    assert report["figures"]["false_alarms_per_hour"] == 0
    assert report["activity"]["f1"] > 0.6
    assert report["unknown_labels"] == []


def test_a_file_is_validated_and_registered_if_it_passes(admin: Api, runtime: Runtime) -> None:
    data = classifier.shipped().to_bytes()
    path = post(admin, "/v1/validations", {}, model=data).headers["location"]
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    bad_path = post(admin, "/v1/validations", {}, model=bytes(damaged)).headers["location"]
    work(runtime)
    good, bad = admin.simulate_get(path).json, admin.simulate_get(bad_path).json
    assert good["report"]["passed"]
    assert admin.simulate_get(f"/v1/models/{good['model_id']}").json["name"] == "clamor-base"
    assert (bad["state"], bad["report"]["passed"], bad["model_id"]) == ("completed", False, None)
    [check] = [each for each in bad["report"]["checks"] if each["passed"] is False]
    assert check["name"] == "schema"
    assert "checksum" in check["detail"]


def test_a_set_of_which_nothing_can_be_used_fails(
    admin: Api, runtime: Runtime, trained: Any
) -> None:
    done = validate(admin, runtime, trained["model_id"], "file,label\na.wav,x", {"a.wav": b"?"})
    assert done["state"] == "failed"
    assert done["problem"]["code"] == "nothing-to-hear"


def test_overlapping_events_of_one_label_are_refused(admin: Api, trained: Any) -> None:
    manifest = "file,onset_s,offset_s,label\na.wav,0,2,x\na.wav,1,3,x"
    refused = post(
        admin, f"/v1/models/{trained['model_id']}/validate", {"manifest": manifest}, {"a.wav": b"?"}
    )
    assert_problem(refused, 400, "invalid-manifest")


def test_progress_is_told(admin: Api, runtime: Runtime, trained: Any) -> None:
    unit = JobWork(job=Validation, id=uuid.uuid4())
    with runtime.store.transaction() as tx:
        model_queries.add_validation(tx, id=unit.id, model_id=uuid.UUID(trained["model_id"]))
        assert claims.this(unit, tx, lease_s=30)
        assert model_queries.note_progress(tx, unit, attempt=1, percent=40, stage="listening")
        assert not model_queries.note_progress(tx, unit, attempt=2, percent=50, stage="listening")
    shown = admin.simulate_get(f"/v1/validations/{unit.id}").json
    assert (shown["state"], shown["percent"], shown["stage"]) == ("pending", 40, "listening")
    assert shown["started_at"]
