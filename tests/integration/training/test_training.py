"""Labelled clips become a model."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import TrainNoiseClassifier
from actors.science.detection import classifier
from actors.training import learn, waveform_trainer
from actors.training import recordings as training_recordings
from actors.training.network import Course
from actors.training.recordings import Wanted
from actors.training.train import train_noise_classifier
from actors.training.waveform_trainer import Effort
from db.queries.model_queries import JobWork
from db.queue import claims
from db.tables.training import TrainingJob
from tests.integration.training.models import listen, post, promote, train, validate, work
from tests.support import labelled, recordings
from tests.support.api import Api
from tests.support.pipeline import add

pytestmark = pytest.mark.integration


def test_labelled_clips_become_a_model_with_a_card(
    admin: Api, runtime: Runtime, trained: Any
) -> None:
    assert (trained["state"], trained["percent"], trained["stage"]) == ("completed", 100, "done")
    assert (trained["clips_total"], trained["clips_refused"]) == (8, [])
    path = f"/v1/models/{trained['model_id']}"
    model = admin.simulate_get(path).json
    assert (model["name"], model["version"], model["in_use"]) == ("hums", "1", False)
    card = model["card"]
    assert model["clip_accuracy"] == card["clip_accuracy"] > 0.8
    counts = {each["name"]: each["n_clips"] for each in card["classes"]}
    assert (counts["mains_hum"], counts["siren_sweep"]) == (4, 4)
    assert sum(map(sum, card["confusion"])) == card["n_clips"] == card["n_sources"] == 8
    assert len(card["data_sha256"]) == 64
    assert card["calibration"]["expected_error"] is not None
    assert card["libraries"]["scikit-learn"]
    picture = admin.simulate_get(f"{path}/confusion.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    file = admin.simulate_get(f"{path}/file")
    assert classifier.Classifier.from_bytes(file.content).sha256 == model["sha256"]
    assert "hums-1.clamor" in file.headers["content-disposition"]
    with runtime.store.transaction() as tx:
        runs = tx.execute(text("SELECT job_id, step, result FROM processing_metrics")).all()
    # Every message came twice.
    assert runs == [(uuid.UUID(trained["id"]), "train", "done")]


def test_versions_of_a_name_are_counted(admin: Api, runtime: Runtime, trained: Any) -> None:
    again = train(admin, runtime, *labelled.clips(), name="hums")
    other = train(admin, runtime, *labelled.clips(), name="others")
    assert [each["version"] for each in (trained, again, other)] == ["1", "2", "1"]
    listed = admin.simulate_get("/v1/models").json["items"]
    assert [(each["name"], each["version"]) for each in listed] == [
        ("others", "1"),
        ("hums", "2"),
        ("hums", "1"),
    ]


def test_clips_that_cannot_be_used_are_named_and_the_rest_kept(
    admin: Api, runtime: Runtime
) -> None:
    manifest, files = labelled.clips()
    lines = ["file,label,group,start_s,end_s,session_id"]
    lines += [f"{line},,,," for line in manifest.splitlines()[1:]]
    nobody = uuid.uuid4()
    lines += [
        "noise.txt,mains_hum,,,,",
        "empty.wav,mains_hum,,,,",
        "forgotten.wav,mains_hum,,,,",
        "mains_hum/0.flac,mains_hum,,1,9,",
        "mains_hum/0.flac,mains_hum,,0.5,1.2,",
        f",siren_sweep,,0,1,{nobody}",
    ]
    files |= {"noise.txt": b"this is no sound", "empty.wav": b""}
    done = train(admin, runtime, "\n".join(lines), files)
    assert done["state"] == "completed"
    assert done["clips_total"] == 14
    refused = {clip["file"]: clip["reason"] for clip in done["clips_refused"]}
    unused = {"noise.txt", "empty.wav", "forgotten.wav", "mains_hum/0.flac", str(nobody)}
    assert refused.keys() == unused
    assert all(refused.values())
    for figure in ("9 s", "1.50 s"):
        assert figure in refused["mains_hum/0.flac"]
    card = admin.simulate_get(f"/v1/models/{done['model_id']}").json["card"]
    assert {each["file"] for each in card["refused"]} == set(refused)
    # The part of a file that exists is a clip of the same source.
    assert (card["n_clips"], card["n_sources"]) == (9, 8)


def test_stretches_of_sessions_are_clips(admin: Api, runtime: Runtime) -> None:
    sessions = []
    for seed in range(2):
        for_both = [labelled.sound(label, seconds=3, seed=seed) for label in labelled.LABELS]
        content = recordings.encode(np.concatenate(for_both), rate_hz=labelled.RATE_HZ)
        sessions.append(add(runtime, content))
    lines = ["session_id,file,label,start_s,end_s"]
    for session_id in sessions:
        lines += [f"{session_id},,mains_hum,{start},{start + 1.5}" for start in (0, 1.5)]
        lines += [f"{session_id},,siren_sweep,{start},{start + 1.5}" for start in (3, 4.5)]
    done = train(admin, runtime, "\n".join(lines), {})
    assert (done["state"], done["clips_refused"]) == ("completed", [])
    assert admin.simulate_get(f"/v1/models/{done['model_id']}").json["card"]["n_sources"] == 2


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ({"labels": ("mains_hum",)}, "one-class-only", "mains_hum: 4"),
        ({"each": 1}, "too-few-examples", "mains_hum: 1, siren_sweep: 1"),
    ],
)
def test_too_little_to_learn_from_is_told_with_classes_and_counts(
    admin: Api, runtime: Runtime, how: dict[str, Any], code: str, told: str
) -> None:
    failed = train(admin, runtime, *labelled.clips(**how))
    assert failed["state"] == "failed"
    assert failed["problem"]["code"] == code
    assert told in failed["problem"]["detail"]
    assert failed["model_id"] is None
    assert admin.simulate_get("/v1/models").json["items"] == []


def test_a_training_that_fails_still_names_the_clips(admin: Api, runtime: Runtime) -> None:
    failed = train(admin, runtime, "file,label\na.wav,x\nb.wav,y", {"a.wav": b"?", "b.wav": b"?"})
    assert failed["problem"]["code"] == "no-clips"
    assert [clip["file"] for clip in failed["clips_refused"]] == ["a.wav", "b.wav"]


def test_too_much_audio_is_not_taken_into_memory(
    admin: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_recordings, "MOST_TOTAL_S", 5.0)
    failed = train(admin, runtime, *labelled.clips())
    assert (failed["state"], failed["problem"]["code"]) == ("failed", "too-much-audio")


def test_stretches_are_cut_to_the_sample_and_long_ones_refused(runtime: Runtime) -> None:
    samples = labelled.sound("mains_hum", seconds=3)
    runtime.blobs.put("a", recordings.encode(samples, rate_hz=16_000, container="WAV"))
    wanted = [
        Wanted("a", None, 0.5, 1.25),
        Wanted("a"),
        Wanted("a", None, 1.0, 3.04),
        Wanted("a", None, 2.0, 3.03),
        Wanted("a", None, 2.95, 3.0),
    ]
    read = training_recordings.read(runtime, wanted, longest_s=2.0)
    assert read.refused.keys() == {1, 2, 4}
    for index, limit in ((1, "2 s"), (2, "2 s"), (4, "0.1 s")):
        assert limit in read.refused[index]
    np.testing.assert_allclose(read.samples[0], samples[8_000:20_000], atol=2**-15)
    assert read.samples[3].size == 16_000
    assert read.total_s == pytest.approx(1.75)


def test_an_unknown_algorithm_is_told_with_those_there_are(admin: Api, runtime: Runtime) -> None:
    failed = train(admin, runtime, *labelled.clips(), algorithm="divination")
    assert failed["problem"]["code"] == "unknown-algorithm"
    assert "random_forest" in failed["problem"]["detail"]


def test_a_network_is_trained_looked_at_and_put_to_use(
    admin: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest possible network; a training job has no option for how long it learns."""
    course = Course(n_real=16, epochs=2, batch=8, widths=(4, 6, 8), hidden=8)
    monkeypatch.setattr(
        waveform_trainer, "EFFORT", Effort(course=course, n_scenes=16, n_beds=4, n_folds=2)
    )
    done = train(admin, runtime, *labelled.clips(), algorithm="cnn", name="heard")
    assert (done["state"], done["percent"], done["problem"]) == ("completed", 100, None)
    model = admin.simulate_get(f"/v1/models/{done['model_id']}").json
    assert (model["algorithm"], model["card"]["n_clips"]) == ("cnn", 8)
    assert model["card"]["calibration"]["expected_error"] is not None
    assert validate(admin, runtime, done["model_id"])["report"]["passed"]
    assert promote(admin, done["model_id"], force=True).status_code == 200
    session = listen(admin, runtime)
    assert session["state"] == "completed"
    assert session["summary"]["model"] == {"name": "heard", "version": "1", "backbone": None}


def test_a_poison_training_is_given_up(admin: Api, runtime: Runtime) -> None:
    manifest, files = labelled.clips()
    job = post(admin, "/v1/models", {"manifest": manifest}, files).json
    unit = JobWork(job=TrainingJob, id=uuid.UUID(job["id"]))
    for _ in range(runtime.settings.max_attempts):
        with runtime.store.transaction() as tx:
            # A worker that dies: it claims, and then disappears.
            assert claims.this(unit, tx, lease_s=0)
    work(runtime)
    failed = admin.simulate_get(f"/v1/trainings/{job['id']}").json
    assert (failed["state"], failed["problem"]["code"]) == ("failed", "given-up")


def test_a_training_that_was_taken_over_stops_and_leaves_nothing(
    admin: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ends during training and another worker claims: the first writes no more."""
    manifest, files = labelled.clips()
    job = post(admin, "/v1/models", {"manifest": manifest}, files).json
    unit = JobWork(job=TrainingJob, id=uuid.UUID(job["id"]))
    real = learn.learn

    def slow(*args: Any, **options: Any) -> Any:
        learnt = real(*args, **{**options, "on_progress": None})
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE training_jobs SET due_at = now() - interval '1 s'"))
        with runtime.store.transaction() as tx:
            assert claims.this(unit, tx, lease_s=30) == claims.Claim(unit, 2)
        return learnt

    monkeypatch.setattr(learn, "learn", slow)
    train_noise_classifier(runtime, TrainNoiseClassifier(job_id=unit.id))
    shown = admin.simulate_get(f"/v1/trainings/{job['id']}").json
    assert (shown["state"], shown["model_id"]) == ("pending", None)
    assert admin.simulate_get("/v1/models").json["items"] == []
    assert not [key for key in runtime.blobs.keys("trainings/") if "model" in key]
