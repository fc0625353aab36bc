"""A model is put to use, unless it is worse or damaged."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.science.detection import classifier
from db.queries import model_queries
from tests.integration.training.models import assert_problem, listen, promote, train, validate
from tests.support import labelled
from tests.support.api import Api

pytestmark = pytest.mark.integration


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
    with runtime.store.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM promotions")).scalar_one() == 2


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
    with runtime.store.transaction() as tx:
        rows = tx.execute(text("SELECT forced FROM promotions ORDER BY id")).scalars().all()
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
    with runtime.store.transaction() as tx:
        tx.execute(
            text(
                "UPDATE noise_models SET card = jsonb_set(card, '{clip_accuracy}', '0.5')"
                " WHERE id = :id"
            ),
            {"id": again["model_id"]},
        )
    refused = promote(admin, again["model_id"])
    assert_problem(refused, 409, "regression")
    assert refused.json["comparison"]["basis"] == "cross-validation"


def tamper(runtime: Runtime, model_id: str) -> None:
    """Flip one byte of a model's file."""
    with runtime.store.transaction() as tx:
        row = model_queries.get_model(tx, uuid.UUID(model_id))
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
    assert_problem(admin.simulate_get(f"/v1/models/{model_id}/file"), 409, "model-damaged")
    report = validate(admin, runtime, model_id)["report"]
    assert not report["passed"]
    assert [check["name"] for check in report["checks"]] == ["hash"]
    assert promote(admin, str(runtime.shipped_model_id), force=True).status_code == 200
    assert_problem(promote(admin, model_id, force=True), 409, "model-damaged")
