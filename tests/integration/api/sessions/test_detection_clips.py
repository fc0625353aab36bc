"""The audio of one detection: who gets it, when, and for how long."""

from __future__ import annotations

import io
import uuid
from typing import Any

import numpy as np
import pytest
import soundfile
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import text, update

from actors.execution.runtime import Runtime
from actors.messaging.messages import CleanUp, CleanUpOldSessions, ExportSessionData
from actors.recovery import Recovery, take_stalled
from db.tables.exports import CLIP, Export
from db.tables.sessions import AudioSession
from tests.integration.analytics.exported import add, get, left
from tests.support import recordings
from tests.support.api import Api
from tests.support.clock import ask
from tests.support.pipeline import age_ends, handle

pytestmark = pytest.mark.integration

RATE_HZ = recordings.RATE_HZ
SAMPLES = recordings.demo()[: 5 * RATE_HZ]
SOUND = recordings.encode(SAMPLES)


def path_of(api: Api, session_id: uuid.UUID) -> str:
    [found] = api.simulate_get(f"/v1/sessions/{session_id}/detections").json["items"]
    return f"/v1/detections/{found['id']}/clip.flac"


def refusal(answered: Any) -> tuple[int, str]:
    return answered.status_code, answered.json["type"].removeprefix("/problems/")


def cut(runtime: Runtime, path: str) -> None:
    """Handle the message of a clip twice."""
    for _ in range(2):
        handle(runtime, ExportSessionData(export_id=uuid.UUID(path.split("/")[3])))


def n_messages(memory: StubBroker) -> int:
    return sum(queue.qsize() for name, queue in memory.queues.items() if "analytics.export" in name)


def test_a_clip_is_cut_once_it_is_requested(api: Api, runtime: Runtime, memory: StubBroker) -> None:
    path = path_of(api, add(runtime, 1.0, content=SOUND))
    early = api.simulate_get(path)
    assert refusal(early) == (409, "clip-not-ready")
    assert early.headers["retry-after"] == "1"
    runtime.publisher.close()
    assert n_messages(memory) == 1
    # Polling requests it only once.
    assert refusal(api.simulate_get(path)) == (409, "clip-not-ready")
    assert n_messages(memory) == 1
    with runtime.store.transaction() as tx:
        # A lost message is repeated.
        stalled = take_stalled(tx, unnudged_s=0, limit=10)
    assert ExportSessionData(export_id=uuid.UUID(path.split("/")[3])) in stalled
    cut(runtime, path)
    clip = api.simulate_get(path)
    assert (clip.status_code, clip.headers["content-type"]) == (200, "audio/flac")
    assert clip.headers["cache-control"] == "private, no-cache"
    heard, rate_hz = soundfile.read(io.BytesIO(clip.content), dtype="float32")
    assert rate_hz == RATE_HZ
    np.testing.assert_allclose(heard, SAMPLES[RATE_HZ // 2 : 2 * RATE_HZ], atol=1e-4)
    head = api.simulate_head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(clip.content))
    again = api.simulate_get(path, headers={"If-None-Match": clip.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_clip_is_no_export_of_the_caller(api: Api, admin: Api, runtime: Runtime) -> None:
    path = path_of(api, add(runtime, 1.0, content=SOUND))
    api.simulate_get(path)
    cut(runtime, path)
    for client in (api, admin):
        assert client.simulate_get("/v1/exports").json["items"] == []
        own = f"/v1/exports/{path.split('/')[3]}"
        for method, each in (("GET", own), ("GET", f"{own}/file"), ("DELETE", own)):
            refused = client.simulate_request(method, each)
            assert refusal(refused) == (404, "export-not-found")
    assert api.simulate_get(path).status_code == 200
    named = api.simulate_post("/v1/exports", json={"format": CLIP})
    assert refusal(named) == (400, "invalid-body")


def test_a_clip_that_expired_or_is_lost_is_cut_again(api: Api, runtime: Runtime) -> None:
    path = path_of(api, add(runtime, 1.0, content=SOUND))
    api.simulate_get(path)
    cut(runtime, path)
    row = get(runtime, path.split("/")[3])
    assert row is not None
    assert row.blob_key is not None
    runtime.blobs.delete(row.blob_key)
    assert refusal(api.simulate_get(path)) == (409, "clip-not-ready")
    cut(runtime, path)
    assert api.simulate_get(path).status_code == 200
    with runtime.store.transaction() as tx:
        tx.execute(update(Export).values(expires_at=text("now()")))
    assert refusal(api.simulate_get(path)) == (409, "clip-not-ready")
    cut(runtime, path)
    assert api.simulate_get(path).status_code == 200
    with runtime.store.transaction() as tx:
        tx.execute(update(Export).values(expires_at=text("now()")))
    ask(runtime, CleanUp())
    assert left(runtime) == []


def test_a_clip_goes_with_its_session(api: Api, runtime: Runtime) -> None:
    session_id = add(runtime, 1.0, content=SOUND)
    path = path_of(api, session_id)
    api.simulate_get(path)
    cut(runtime, path)
    assert left(runtime) == [path.split("/")[3]]
    with runtime.store.transaction() as tx:
        age_ends(tx, days=40)
    ask(runtime, CleanUpOldSessions())
    Recovery(runtime).round()
    assert left(runtime) == []
    assert refusal(api.simulate_get(path)) == (404, "detection-not-found")


@pytest.mark.parametrize("content", [b"no recording at all", None])
def test_a_recording_that_cannot_be_cut_has_no_clip(
    api: Api, runtime: Runtime, content: bytes | None
) -> None:
    session_id = add(runtime, 1.0, content=content or SOUND)
    if content is None:
        runtime.blobs.delete(*runtime.blobs.keys(f"sessions/{session_id}/"))
    path = path_of(api, session_id)
    api.simulate_get(path)
    cut(runtime, path)
    assert refusal(api.simulate_get(path)) == (404, "no-clip")
    assert left(runtime) == []


def test_privacy_decides_what_is_cut(api: Api, runtime: Runtime) -> None:
    session_id = add(runtime, 1.0, content=SOUND, privacy="discard_audio")
    path = path_of(api, session_id)
    assert refusal(api.simulate_get(path)) == (404, "no-recording")
    silent = np.zeros(5 * RATE_HZ, np.float32)
    runtime.blobs.put(f"sessions/{session_id}/muted", recordings.encode(silent))
    with runtime.store.transaction() as tx:
        tx.execute(
            update(AudioSession).values(privacy="mute", muted_key=f"sessions/{session_id}/muted")
        )
    api.simulate_get(path)
    cut(runtime, path)
    heard, _ = soundfile.read(io.BytesIO(api.simulate_get(path).content))
    assert len(heard)
    assert not heard.any()
