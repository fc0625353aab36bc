"""Forms with labelled clips."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from actors.execution.runtime import Runtime
from tests.integration.training.models import assert_problem, post
from tests.support import accounts, labelled
from tests.support.api import Api, client_of

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("texts", "name", "told"),
    [
        ({}, "invalid-form", "manifest"),
        ({"manifest": "file,label\n"}, "invalid-manifest", "header"),
        ({"manifest": "file,class\na.wav,x"}, "invalid-manifest", "class"),
        ({"manifest": "file,label\na.wav,"}, "invalid-manifest", "line 2: label"),
        (
            {"manifest": "file,label,start_s,end_s\na.wav,x,3,2"},
            "invalid-manifest",
            "line 2: start_s",
        ),
        ({"manifest": "file,label\nb.wav,x"}, "invalid-manifest", "a.wav"),
        ({"manifest": b"\xff\xfe"}, "invalid-manifest", "UTF-8"),
        ({"manifest": "file,label\na.wav,x", "options": "{"}, "invalid-options", ""),
        ({"manifest": "file,label\na.wav,x", "options": '{"nme": "x"}'}, "invalid-options", "nme"),
        ({"manifest": "file,label\na.wav,x", "options": '{"name": "../x"}'}, "invalid-options", ""),
        (
            {"manifest": "file,label\na.wav,x", "options": '{"name": "Clamor-x"}'},
            "invalid-options",
            "",
        ),
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
