"""Options of a posted recording: stored, shown, and applied by the workers."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any
from urllib.parse import urlencode

import pytest

from actors.execution.runtime import Runtime
from actors.facts.noise_types import group_of, with_below
from actors.messaging.messages import BatchProcessFiles
from actors.science.detection.classifier import Classifier
from actors.science.types import UNCLASSIFIED
from db.queries import model_queries
from db.tables.detections import NoiseDetection
from tests.support import accounts, networks, recordings
from tests.support.api import Api
from tests.support.pipeline import add, detections_of, handle, run_to_the_end, session, summary_of

pytestmark = pytest.mark.integration

STRANGER = uuid.UUID("33333333-3333-4333-8333-333333333333")


def post(api: Api, body: bytes = recordings.HEADER, **params: Any) -> Any:
    return api.simulate_post(
        "/v1/sessions",
        body=body,
        headers={"Content-Type": "audio/flac"},
        query_string=urlencode(params, doseq=True),
    )


def refusal(result: Any, status: int, name: str) -> str:
    assert (result.status_code, result.json["type"]) == (status, f"/problems/{name}")
    return str(result.json["detail"])


def register(
    runtime: Runtime, model: Classifier, *, user_id: uuid.UUID = accounts.TEAM
) -> uuid.UUID:
    data = model.to_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"models/{sha256}"
    runtime.blobs.put(key, data)
    with runtime.store.transaction() as tx:
        return model_queries.register_model(
            tx,
            blob_key=key,
            name="small",
            version="1",
            sha256=sha256,
            user_id=user_id,
            header=dict(model.header),
        )


def heard(runtime: Runtime, session_id: uuid.UUID) -> list[NoiseDetection]:
    with runtime.store.transaction() as tx:
        return detections_of(tx, session_id)


# --- the API -----------------------------------------------------------------------------------


def test_what_it_is_posted_with_is_kept_and_shown(api: Api, runtime: Runtime) -> None:
    model_id = register(runtime, networks.untrained())
    own = {
        "site": "7",
        "floor": 3,
        "height_m": 1.5,
        "indoors": False,
        "note": None,
        "ö": "\U0001f6a7",
    }
    posted = post(
        api,
        model=model_id,
        threshold=["rain:0.7", "unclassified:0.5"],
        time_zone="Asia/Tokyo",
        types=["traffic", "unclassified", "traffic"],
        recorded_at="2026-03-29T02:30:00+09:00",
        metadata=json.dumps(own),
        file_name="x/a.flac",
    )
    assert posted.status_code == 202, posted.text
    shown = api.simulate_get(posted.headers["location"]).json
    assert shown == posted.json
    assert shown["model_id"] == str(model_id)
    assert shown["thresholds"] == {"rain": 0.7, "unclassified": 0.5}
    assert shown["types"] == ["traffic", "unclassified"]
    assert (shown["time_zone"], shown["recorded_at"]) == ("Asia/Tokyo", "2026-03-28T17:30:00Z")
    assert (shown["metadata"], shown["file_name"]) == (own, "a.flac")
    plain = post(api).json
    assert (plain["model_id"], plain["recorded_at"], plain["time_zone"]) == (None, None, None)
    assert (plain["thresholds"], plain["types"], plain["metadata"]) == ({}, [], {})
    assert (plain["privacy"], plain["channel"]) == ("keep", "energy_mean")


def test_a_model_or_a_noise_type_that_is_not_known_is_refused_before_anything_is_kept(
    api: Api, runtime: Runtime
) -> None:
    with runtime.store.transaction() as tx:
        accounts.add_user(tx, STRANGER, "stranger@example.org")
    ours = register(runtime, networks.untrained())
    theirs = register(runtime, networks.background_only(), user_id=STRANGER)
    for model_id in (theirs, uuid.uuid4()):
        refusal(post(api, model=model_id), 404, "model-not-found")
    _ = runtime.shipped_model_id
    for params in (
        {"threshold": "gong:0.5"},
        {"model": ours, "threshold": "gong:0.5"},
        {"model": ours, "threshold": "background:0.5"},
    ):
        told = refusal(post(api, **params), 400, "invalid-parameter")
        assert str(params["threshold"]).partition(":")[0] in told
        assert "rain" in told
    # In a body, too: a batch with keys writes its row first.
    batch = api.simulate_post("/v1/batches", json={"keys": ["inbox/a"]}, params={"model": theirs})
    refusal(batch, 404, "model-not-found")
    assert runtime.blobs.keys("sessions/") == []
    assert post(api, model=ours, threshold="sneeze:0.5").status_code == 202


def test_thresholds_stay_with_the_model_that_they_were_compared_with(
    api: Api, runtime: Runtime
) -> None:
    assert post(api, threshold="rain:0.5").json["model_id"] is None
    shipped = runtime.shipped_model_id
    assert post(api, threshold="rain:0.5").json["model_id"] == str(shipped)
    assert post(api).json["model_id"] is None


@pytest.mark.parametrize(
    "name", ["threshold", "types", "privacy", "metadata", "model", "recorded_at", "time_zone"]
)
def test_an_option_is_no_field_of_a_form(api: Api, runtime: Runtime, name: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + recordings.HEADER
        + f'\r\n--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n1\r\n--x--\r\n'.encode()
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for path in ("/v1/sessions", "/v1/batches"):
        refused = api.simulate_post(path, body=body, headers=headers)
        assert name in refusal(refused, 400, "invalid-parameter")
    # A batch keeps the files that came before.
    assert len(runtime.blobs.keys("sessions/")) <= 1


def test_a_form_has_one_recording(api: Api, runtime: Runtime) -> None:
    """The second one used to be dropped silently."""
    field = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = 2 * (field + recordings.HEADER + b"\r\n") + b"--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    refused = api.simulate_post("/v1/sessions", body=body, headers=headers)
    assert "/v1/batches" in refusal(refused, 400, "invalid-parameter")
    assert runtime.blobs.keys("sessions/") == []


@pytest.mark.parametrize("channel", ["1.5", "0", "65", "left", ""])
def test_the_allowed_channels_are_named(api: Api, channel: str) -> None:
    detail = refusal(post(api, channel=channel), 400, "invalid-parameter")
    for allowed in ("energy_mean", "loudest", "64"):
        assert allowed in detail


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"this is no recording",
        b"RIFF\x10\0\0\0WEBP" + bytes(100),
        b"%PDF-1.7\n" * 20,
        b"<html>" + bytes(200),
        b"PK\x03\x04" + bytes(300_000),
        b"\xff\xff\xff\xff",
        bytes(64),
    ],
)
def test_what_cannot_be_a_recording_is_refused_by_its_first_bytes(
    api: Api, runtime: Runtime, body: bytes
) -> None:
    refusal(post(api, body), 415, "unknown-format")
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    refused = api.simulate_post(
        "/v1/sessions",
        body=form + body + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    refusal(refused, 415, "unknown-format")
    assert runtime.blobs.keys("sessions/") == []


# --- the pipeline ------------------------------------------------------------------------------


def test_the_model_that_was_asked_for_is_the_one_that_hears(api: Api, runtime: Runtime) -> None:
    deaf = register(runtime, networks.background_only())
    content = recordings.encode(recordings.demo())
    by_deaf = uuid.UUID(post(api, content, model=deaf).json["id"])
    by_shipped = uuid.UUID(post(api, content).json["id"])
    ended = run_to_the_end(runtime, by_deaf)
    assert (ended.state, ended.model_id) == ("completed", deaf)
    assert ended.summary is not None
    assert ended.summary["model"] == {"name": "small", "version": "1", "backbone": None}
    assert {event.noise_type for event in heard(runtime, by_deaf)} <= {UNCLASSIFIED}
    assert session(runtime, by_shipped).model_id == runtime.shipped_model_id
    assert {event.noise_type for event in heard(runtime, by_shipped)} - {UNCLASSIFIED}


def test_events_below_a_threshold_are_not_reported(runtime: Runtime) -> None:
    content = recordings.encode(recordings.demo())
    whole_id = add(runtime, content)
    run_to_the_end(runtime, whole_id)
    whole = heard(runtime, whole_id)
    known = [event for event in whole if event.noise_type != UNCLASSIFIED]
    least_sure = min(known, key=lambda event: event.confidence)
    name, confidence = least_sure.noise_type, least_sure.confidence
    wanted = {
        name: confidence + 1e-3,
        **{event.noise_type: 0.0 for event in known if event.noise_type != name},
    }
    fewer_id = add(runtime, content, thresholds=wanted)
    done = run_to_the_end(runtime, fewer_id)
    fewer = heard(runtime, fewer_id)
    assert done.summary is not None
    assert done.summary["events"] == len(fewer)
    assert all(event.confidence >= wanted.get(event.noise_type, 0.0) for event in fewer)
    kept = {(event.start_s, event.noise_type) for event in fewer}
    # Omitted types do not reappear as unknown ones.
    assert kept == {(event.start_s, event.noise_type) for event in whole if event is not least_sure}
    none_id = add(runtime, content, thresholds={event.noise_type: 1.0 for event in whole})
    run_to_the_end(runtime, none_id)
    assert all(event.confidence == 1.0 for event in heard(runtime, none_id))


def test_a_threshold_may_be_of_any_name_in_the_table(api: Api, runtime: Runtime) -> None:
    ours = register(runtime, networks.untrained())
    wanted = {"traffic": 0.5, "train": 0.7, "other": 0.25}
    asked = [f"{name}:{least}" for name, least in wanted.items()]
    assert post(api, model=ours, threshold=asked).json["thresholds"] == wanted
    refusal(post(api, model=ours, threshold="helicoptr:0.5"), 400, "invalid-parameter")
    # The worker accepts them, too.
    content = recordings.encode(recordings.demo()[: recordings.RATE_HZ])
    assert run_to_the_end(runtime, add(runtime, content, thresholds=wanted)).state == "completed"


def test_types_and_thresholds_that_are_not_known_are_refused_together(
    api: Api, runtime: Runtime
) -> None:
    ours = register(runtime, networks.untrained())
    refused = post(api, model=ours, types=["rain", "spech"], threshold="gong:0.5")
    refusal(refused, 400, "invalid-parameter")
    assert {each["field"] for each in refused.json["errors"]} == {"threshold", "types"}
    refusal(post(api, model=ours, types="background"), 400, "invalid-parameter")
    named = api.simulate_post(
        "/v1/batches", json={"keys": ["inbox/a"]}, params={"model": str(ours), "types": "spech"}
    )
    refusal(named, 400, "invalid-parameter")
    assert runtime.blobs.keys("sessions/") == []


def test_only_types_of_interest_are_reported(runtime: Runtime) -> None:
    content = recordings.encode(recordings.demo())
    whole_id = add(runtime, content)
    run_to_the_end(runtime, whole_id)
    whole = [_told(event) for event in heard(runtime, whole_id)]
    one = min({event[0] for event in whole} - {UNCLASSIFIED})
    group = group_of(one)
    assert group is not None
    assert {event[0] for event in whole} - {one, UNCLASSIFIED}
    for wanted in ([group], [one], [one, UNCLASSIFIED], ["jackhammer"]):
        session_id = add(runtime, content, types=wanted)
        done = run_to_the_end(runtime, session_id)
        expected = [event for event in whole if event[0] in with_below(wanted)]
        assert [_told(event) for event in heard(runtime, session_id)] == expected
        assert done.state == "completed"
        assert done.summary is not None
        assert done.summary["events"] == len(expected)
        assert set(summary_of(done).noise_types) == {event[0] for event in expected}


def _told(event: NoiseDetection) -> tuple[Any, ...]:
    """Return an event without its position among the others."""
    return (
        event.noise_type,
        event.start_s,
        event.end_s,
        event.confidence,
        event.laeq_db,
        event.candidates,
    )


@pytest.mark.parametrize("options", [{"thresholds": {"gong": 0.5}}, {"types": ["gong"]}])
def test_a_name_that_the_model_does_not_know_fails_the_session(
    runtime: Runtime, options: dict[str, Any]
) -> None:
    content = recordings.encode(recordings.demo()[: recordings.RATE_HZ])
    ended = run_to_the_end(runtime, add(runtime, content, **options))
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "unknown-noise-type"
    assert "gong" in ended.problem["detail"]


def test_each_recording_of_a_batch_has_the_batchs_options(api: Api, runtime: Runtime) -> None:
    model_id = register(runtime, networks.untrained())
    runtime.blobs.put("inbox/a.flac", recordings.HEADER)
    params = {
        "model": str(model_id),
        "threshold": "rain:0.25",
        "metadata": '{"site": 7}',
        "time_zone": "UTC",
        "types": ["nature", "siren"],
        "privacy": "discard_audio",
        "channel": "2",
    }
    named = api.simulate_post("/v1/batches", json={"keys": ["inbox/a.flac"]}, params=params)
    assert named.status_code == 202, named.text
    handle(runtime, BatchProcessFiles(batch_id=uuid.UUID(named.json["id"])))
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    sent = api.simulate_post(
        "/v1/batches",
        body=form + recordings.HEADER + b"\r\n--x--\r\n",
        params=params,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    for batch in (named, sent):
        items = api.simulate_get(f"/v1/batches/{batch.json['id']}/items").json["items"]
        shown = api.simulate_get(f"/v1/sessions/{items[0]['session_id']}").json
        assert (shown["model_id"], shown["thresholds"]) == (str(model_id), {"rain": 0.25})
        assert shown["types"] == ["nature", "siren"]
        assert (shown["privacy"], shown["channel"]) == ("discard_audio", "2")
        assert (shown["metadata"], shown["time_zone"]) == ({"site": 7}, "UTC")
    whole = api.simulate_post(
        "/v1/batches",
        json={"keys": ["inbox/a.flac"]},
        params={"recorded_at": "2026-01-01T00:00:00Z"},
    )
    assert "recorded_at" in refusal(whole, 400, "invalid-parameter")
