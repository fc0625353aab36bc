"""Training, validation and promotion over a real database, with a worker in this process."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from actors import worker
from actors.execution.runtime import Runtime
from actors.messaging.messages import TrainNoiseClassifier
from actors.recovery import nudge_for, take_stalled
from actors.science import synth
from actors.science.detection import classifier
from actors.training import learn, waveform_trainer
from actors.training import recordings as training_recordings
from actors.training.network import Course
from actors.training.recordings import Wanted
from actors.training.train import train_noise_classifier
from actors.training.waveform_trainer import Effort
from db.queries import model_queries
from db.queries.model_queries import JobWork
from db.queue import claims
from db.tables.training import TrainingJob, Validation
from tests.support import accounts, labelled, recordings
from tests.support.api import Api, client_of
from tests.support.pipeline import add

pytestmark = pytest.mark.integration


def work(runtime: Runtime) -> None:
    """Handle every nudge twice until no work item is due."""
    handlers = {entry.nudge: entry.handle for entry in worker.ACTORS}
    for _ in range(20):
        with runtime.store.transaction() as db:
            found = take_stalled(db, quiet_s=0, limit=100)
        for nudge in [nudge_for(unit) for unit in found] * 2:
            handlers[type(nudge)](runtime, nudge)
        if not found:
            return
    raise AssertionError("the work never ends")


def post(
    admin: Api,
    path: str,
    texts: dict[str, Any],
    files: dict[str, bytes] | None = None,
    *,
    model: bytes | None = None,
) -> Any:
    body, headers = labelled.form(texts, files or {}, model=model)
    return admin.simulate_post(path, body=body, headers=headers)


def train(
    admin: Api,
    runtime: Runtime,
    manifest: str,
    files: dict[str, bytes],
    **options: Any,
) -> Any:
    """Train to the end; return the training as the API shows it."""
    options = {"algorithm": "random_forest"} | options
    posted = post(
        admin, "/v1/models", {"options": json.dumps(options), "manifest": manifest}, files
    )
    assert posted.status_code == 202, posted.text
    work(runtime)
    return admin.simulate_get(posted.headers["location"]).json


@pytest.fixture
def trained(admin: Api, runtime: Runtime) -> Any:
    return train(admin, runtime, *labelled.clips(), name="hums")


def validate(
    admin: Api,
    runtime: Runtime,
    model_id: str,
    manifest: str | None = None,
    files: dict[str, bytes] | None = None,
) -> Any:
    path = f"/v1/models/{model_id}/validate"
    if manifest is None:
        posted = admin.simulate_post(path)
    else:
        posted = post(admin, path, {"manifest": manifest}, files)
    assert posted.status_code == 202, posted.text
    work(runtime)
    return admin.simulate_get(posted.headers["location"]).json


def promote(admin: Api, model_id: str, *, force: bool = False) -> Any:
    return admin.simulate_post(f"/v1/models/{model_id}/promote", json={"force": force})


def listen(admin: Api, runtime: Runtime) -> Any:
    """Post a recording and process it; return the finished session."""
    posted = admin.simulate_post(
        "/v1/sessions",
        body=recordings.encode(labelled.sound("mains_hum", seconds=4), rate_hz=16_000),
        headers={"Content-Type": "audio/flac"},
    )
    work(runtime)
    return admin.simulate_get(posted.headers["location"]).json


def assert_problem(result: Any, status: int, name: str) -> str:
    assert result.status_code == status, result.text
    assert result.json["type"] == f"/problems/{name}"
    return str(result.json["detail"])


# --- training ----------------------------------------------------------------------------------


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
    assert classifier.Model.from_bytes(file.content).sha256 == model["sha256"]
    assert "hums-1.clamor" in file.headers["content-disposition"]
    with runtime.store.transaction() as db:
        runs = db.execute(text("SELECT job_id, step, result FROM processing_metrics")).all()
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
    assert refused == {
        "noise.txt": "The file is not in a known audio format",
        "empty.wav": refused["empty.wav"],
        "forgotten.wav": "the file was not sent",
        "mains_hum/0.flac": "ends at 9 s, but the recording lasts 1.50 s",
        str(nobody): "the recording is not stored",
    }
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
    assert "none of the 2 clips" in failed["problem"]["detail"]
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
    assert read.refused == {
        1: "lasts longer than 2 s",
        2: "lasts longer than 2 s",
        4: "lasts less than 0.1 s",
    }
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
        with runtime.store.transaction() as db:
            # A worker that dies: it claims, and then disappears.
            assert claims.this(unit, db, lease_s=0)
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
        with runtime.store.transaction() as db:
            db.execute(text("UPDATE training_jobs SET due_at = now() - interval '1 s'"))
        with runtime.store.transaction() as db:
            assert claims.this(unit, db, lease_s=30) == claims.Claim(unit, 2)
        return learnt

    monkeypatch.setattr(learn, "learn", slow)
    train_noise_classifier(runtime, TrainNoiseClassifier(job_id=unit.id))
    shown = admin.simulate_get(f"/v1/trainings/{job['id']}").json
    assert (shown["state"], shown["model_id"]) == ("pending", None)
    assert admin.simulate_get("/v1/models").json["items"] == []
    assert not [key for key in runtime.blobs.keys("trainings/") if "model" in key]


# --- forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "name", "told"),
    [
        ({}, "invalid-form", "manifest"),
        ({"manifest": "file,label\n"}, "invalid-manifest", "header"),
        ({"manifest": "file,class\na.wav,x"}, "invalid-manifest", "class"),
        ({"manifest": "file,label\na.wav,"}, "invalid-manifest", "line 2: label must not be empty"),
        (
            {"manifest": "file,label,start_s,end_s\na.wav,x,3,2"},
            "invalid-manifest",
            "line 2: start_s must be 0 or more, and end_s after it",
        ),
        ({"manifest": "file,label\nb.wav,x"}, "invalid-manifest", "not in the manifest: a.wav"),
        ({"manifest": b"\xff\xfe"}, "invalid-manifest", "UTF-8"),
        ({"manifest": "file,label\na.wav,x", "options": "{"}, "invalid-options", ""),
        ({"manifest": "file,label\na.wav,x", "options": '{"nme": "x"}'}, "invalid-options", "nme"),
        ({"manifest": "file,label\na.wav,x", "options": '{"name": "../x"}'}, "invalid-options", ""),
        ({"manifest": "file,label\na.wav,x", "manifesto": "x"}, "invalid-form", "manifesto"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_and_leaves_nothing(
    admin: Api,
    runtime: Runtime,
    texts: dict[str, Any],
    name: str,
    told: str,
) -> None:
    assert told in assert_problem(post(admin, "/v1/models", texts, {"a.wav": b"RIFF"}), 400, name)
    assert runtime.blobs.keys("trainings/") == []


def test_names_of_clips_are_never_paths(admin: Api, runtime: Runtime) -> None:
    name = "../../../../tmp/clamor-escape.wav"
    posted = post(admin, "/v1/models", {"manifest": f"file,label\n{name},x"}, {name: b"RIFF"})
    assert posted.status_code == 202
    [key] = runtime.blobs.keys("trainings/")
    assert key == f"trainings/{posted.json['id']}/clips/0"


def test_a_form_that_breaks_off_is_refused_and_leaves_nothing(admin: Api, runtime: Runtime) -> None:
    manifest, files = labelled.clips()
    body, headers = labelled.form({"manifest": manifest}, files)
    for length in (len(body) // 2, len(body) - 4):
        refused = admin.simulate_post("/v1/models", body=body[:length], headers=headers)
        assert refused.status_code == 400
    assert runtime.blobs.keys("trainings/") == []


def test_more_bytes_than_are_taken_are_refused_while_they_arrive(runtime: Runtime) -> None:
    settings = replace(runtime.settings, max_upload_bytes=10_000)
    admin = client_of(runtime, accounts.ADMIN_KEY, settings=settings)
    files = {"a.wav": bytes(6_000), "b.wav": bytes(6_000)}
    refused = post(admin, "/v1/models", {"manifest": "file,label\na.wav,x\nb.wav,y"}, files)
    assert_problem(refused, 413, "upload-too-large")
    assert runtime.blobs.keys("trainings/") == []


def test_what_is_not_there_is_not_found(admin: Api) -> None:
    nobody = uuid.uuid4()
    for path in ("", "/confusion.png", "/file"):
        assert_problem(admin.simulate_get(f"/v1/models/{nobody}{path}"), 404, "model-not-found")
    for path in ("/validate", "/promote"):
        assert_problem(admin.simulate_post(f"/v1/models/{nobody}{path}"), 404, "model-not-found")
    assert_problem(admin.simulate_get(f"/v1/trainings/{nobody}"), 404, "training-not-found")
    assert_problem(admin.simulate_get(f"/v1/validations/{nobody}"), 404, "validation-not-found")


# --- validation --------------------------------------------------------------------------------


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
    assert report["refused"] == [
        {"file": "x.wav", "reason": "The file is not in a known audio format"}
    ]


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
    assert "a.wav: The file is not in a known audio format" in done["problem"]["detail"]


def test_overlapping_events_of_one_label_are_refused(admin: Api, trained: Any) -> None:
    manifest = "file,onset_s,offset_s,label\na.wav,0,2,x\na.wav,1,3,x"
    refused = post(
        admin, f"/v1/models/{trained['model_id']}/validate", {"manifest": manifest}, {"a.wav": b"?"}
    )
    assert "two x events overlap at 1 s" in assert_problem(refused, 400, "invalid-manifest")


# --- promotion ---------------------------------------------------------------------------------


def test_a_promoted_model_hears_the_next_session_without_a_restart(
    admin: Api, runtime: Runtime, trained: Any
) -> None:
    before = listen(admin, runtime)
    assert before["summary"]["model"]["name"] == "clamor-base"
    refused = promote(admin, trained["model_id"])
    assert "(13): alarm_tone" in assert_problem(refused, 409, "regression")
    done = promote(admin, trained["model_id"], force=True)
    assert done.status_code == 200, done.text
    comparison = done.json["comparison"]
    assert (done.json["forced"], comparison["basis"]) == (True, "nothing in common")
    assert comparison == refused.json["comparison"]
    lost = {*classifier.shipped().classes} - {*labelled.LABELS, "background"}
    assert comparison["lost_noise_types"] == sorted(lost)
    model = listen(admin, runtime)["summary"]["model"]
    assert model == {"name": "hums", "version": "1", "backbone": None}
    listed = admin.simulate_get("/v1/models").json["items"]
    in_use = {each["name"]: each["in_use"] for each in listed}
    assert in_use == {"hums": True, "clamor-base": False}
    # A repetition changes nothing.
    assert promote(admin, trained["model_id"]).json == done.json
    # The shipped model can be promoted back.
    assert promote(admin, str(runtime.shipped_model_id), force=True).status_code == 200
    assert listen(admin, runtime)["summary"]["model"]["name"] == "clamor-base"
    with runtime.store.transaction() as db:
        assert db.execute(text("SELECT count(*) FROM promotions")).scalar_one() == 2


def test_a_regression_is_refused_with_the_figures_unless_forced(
    admin: Api, runtime: Runtime, trained: Any
) -> None:
    """The worse model was trained with swapped labels."""
    manifest, files = labelled.clips()
    hum, siren = (f",{label}" for label in labelled.LABELS)
    swapped = manifest.replace(hum, ",?").replace(siren, hum).replace(",?", siren)
    worse = train(admin, runtime, swapped, files, name="wrong")
    held_out = labelled.clips(seed=50)
    for model_id in (trained["model_id"], worse["model_id"]):
        validate(admin, runtime, model_id, *held_out)
    assert promote(admin, trained["model_id"], force=True).status_code == 200
    refused = promote(admin, worse["model_id"])
    detail = assert_problem(refused, 409, "regression")
    assert "clip_accuracy" in detail
    comparison = refused.json["comparison"]
    assert (comparison["basis"], comparison["in_use"]) == ("validation", "hums 1")
    figure = next(each for each in comparison["figures"] if each["name"] == "clip_accuracy")
    assert figure["is_worse"]
    assert comparison["lost_noise_types"] == []
    assert figure["candidate"] < 0.5 < figure["in_use"]
    models = admin.simulate_get("/v1/models").json["items"]
    assert [each["name"] for each in models if each["in_use"]] == ["hums"]
    forced = promote(admin, worse["model_id"], force=True).json
    assert forced["forced"]
    assert forced["comparison"]["figures"] == comparison["figures"]
    with runtime.store.transaction() as db:
        rows = db.execute(text("SELECT forced FROM promotions ORDER BY id")).scalars().all()
    # No worker had registered the shipped model, so the first promotion had no comparison.
    assert rows == [False, True]


def test_a_set_on_which_a_file_did_not_pass_is_not_compared(
    admin: Api, runtime: Runtime, trained: Any
) -> None:
    held_out = labelled.clips(seed=50)
    validate(admin, runtime, trained["model_id"], *held_out)
    shipped_id = str(runtime.shipped_model_id)
    tamper(runtime, shipped_id)
    assert not validate(admin, runtime, shipped_id, *held_out)["report"]["passed"]
    refused = promote(admin, trained["model_id"])
    assert refused.json["comparison"]["basis"] == "nothing in common"


def test_without_a_shared_set_cross_validated_accuracy_is_compared(
    admin: Api, runtime: Runtime, trained: Any
) -> None:
    again = train(admin, runtime, *labelled.clips(), name="hums")
    validate(admin, runtime, again["model_id"], *labelled.clips(seed=50))
    promote(admin, trained["model_id"], force=True)
    with runtime.store.transaction() as db:
        db.execute(
            text(
                "UPDATE noise_models SET card = jsonb_set(card, '{clip_accuracy}', '0.5')"
                " WHERE id = :id"
            ),
            {"id": again["model_id"]},
        )
    refused = promote(admin, again["model_id"])
    assert_problem(refused, 409, "regression")
    assert refused.json["comparison"]["basis"] == "cross-validation"


# --- tampered files ----------------------------------------------------------------------------


def tamper(runtime: Runtime, model_id: str) -> None:
    """Flip one byte of a model's file."""
    with runtime.store.transaction() as db:
        row = model_queries.get_model(db, uuid.UUID(model_id))
    assert row is not None
    assert row.blob_key
    data = bytearray(runtime.blobs.get(row.blob_key))
    data[len(data) // 2] ^= 1
    runtime.blobs.put(row.blob_key, bytes(data))


def test_a_tampered_file_is_refused_everywhere(admin: Api, runtime: Runtime, trained: Any) -> None:
    model_id = trained["model_id"]
    assert promote(admin, model_id, force=True).status_code == 200
    tamper(runtime, model_id)
    session = listen(admin, runtime)
    assert session["state"] == "failed"
    assert session["problem"]["code"] == "bad-model"
    assert "its hash does not fit" in session["problem"]["detail"]
    assert_problem(admin.simulate_get(f"/v1/models/{model_id}/file"), 409, "model-damaged")
    report = validate(admin, runtime, model_id)["report"]
    assert not report["passed"]
    assert [check["name"] for check in report["checks"]] == ["hash"]
    assert promote(admin, str(runtime.shipped_model_id), force=True).status_code == 200
    assert_problem(promote(admin, model_id, force=True), 409, "model-damaged")


def test_progress_is_told(admin: Api, runtime: Runtime, trained: Any) -> None:
    unit = JobWork(job=Validation, id=uuid.uuid4())
    with runtime.store.transaction() as db:
        model_queries.add_validation(db, id=unit.id, model_id=uuid.UUID(trained["model_id"]))
        assert claims.this(unit, db, lease_s=30)
        assert model_queries.note_progress(db, unit, attempt=1, percent=40, stage="listening")
        assert not model_queries.note_progress(db, unit, attempt=2, percent=50, stage="listening")
    shown = admin.simulate_get(f"/v1/validations/{unit.id}").json
    assert (shown["state"], shown["percent"], shown["stage"]) == ("pending", 40, "listening")
    assert shown["started_at"]
