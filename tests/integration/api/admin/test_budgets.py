"""The limits of a user: what is reserved at the post, and what may be unfinished or stored."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from actors.execution.runtime import Runtime
from actors.recovery import Recovery
from services.http import quotas
from tests.support import accounts, decompression_bombs, recordings
from tests.support.api import Api, client_of
from tests.support.pipeline import run_to_the_end, session, split

pytestmark = pytest.mark.integration

SECONDS = 6
CONTENT = recordings.encode(np.zeros(SECONDS * 16_000, np.float32), rate_hz=16_000)
WAV = {"Content-Type": "audio/wav"}
N_POSTS = 50
N_AT_ONCE = 8


def usage(api: Api) -> Any:
    return api.simulate_get("/v1/usage").json


def used_of(api: Api, name: str) -> tuple[int, int | None]:
    [found] = [each for each in usage(api)["limits"] if each["name"] == name]
    return found["used"], found["most"]


def post(api: Api) -> Any:
    return api.simulate_post("/v1/sessions", body=CONTENT, headers=WAV)


def limited(runtime: Runtime, **changed: Any) -> Api:
    return client_of(runtime, settings=replace(runtime.settings, **changed))


def test_fifty_posts_at_once_exceed_the_quota_by_one_recording_at_most(
    runtime: Runtime,
) -> None:
    limit_s = 3.5 * SECONDS
    # Two processes, which know nothing of each other.
    apis = [limited(runtime, max_audio_s_per_month=limit_s, user_share=1.0) for _ in range(2)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, apis * (N_POSTS // 2)))
    taken = [each.json["id"] for each in answers if each.status_code == 202]
    refused = [each.json for each in answers if each.status_code != 202]
    assert len(taken) == 4
    assert {each["type"] for each in refused} == {"/problems/quota-exceeded"}
    assert {(each["used_s"], each["reserved_s"]) for each in refused} <= {
        (0, n * SECONDS) for n in range(5)
    }
    assert usage(apis[0])["reserved_s"] == 4 * SECONDS
    # One ends without being counted, and so gives back what was reserved for it.
    assert apis[0].simulate_post(f"/v1/sessions/{taken[0]}/cancel").status_code == 200
    for session_id in taken[1:]:
        run_to_the_end(runtime, session_id)
    told = usage(apis[0])
    assert (told["used_s"], told["reserved_s"]) == (3 * SECONDS, 0)
    assert post(apis[1]).status_code == 202


def test_a_form_of_many_files_reserves_each(runtime: Runtime) -> None:
    api = limited(runtime, max_audio_s_per_month=1.5 * SECONDS)
    part = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
        + CONTENT
        + b"\r\n"
    )
    batch = api.simulate_post(
        "/v1/batches",
        body=part * 5 + b"--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    ).json
    assert batch["files"] == {"queued": 2, "refused": 3}
    items = api.simulate_get(f"/v1/batches/{batch['id']}/items").json["items"]
    assert "seconds of audio" in items[-1]["reason"]


def test_samples_are_what_counts(runtime: Runtime) -> None:
    api = client_of(runtime)
    # Eight channels at 96 kHz have eight times as many samples as usual.
    silent = np.zeros((2 * 96_000, 8), np.float32)
    content = recordings.encode(silent, rate_hz=96_000)
    made = api.simulate_post("/v1/sessions", body=content, headers=WAV).json
    assert usage(api)["reserved_s"] == 16
    run_to_the_end(runtime, made["id"])
    told = usage(api)
    assert (told["used_s"], told["reserved_s"]) == (16, 0)


#: A minute of silence, whose header lacks its length: a second by its size.
UNDECLARED = decompression_bombs.without_length(decompression_bombs.long_silence(1))


def test_recordings_that_promise_too_little_exceed_the_quota_by_one_at_most(
    runtime: Runtime,
) -> None:
    runtime.settings = replace(runtime.settings, max_audio_s_per_month=30.0)
    api = limited(runtime, max_audio_s_per_month=30.0)
    posted = [api.simulate_post("/v1/sessions", body=UNDECLARED, headers=WAV) for _ in range(5)]
    assert [each.status_code for each in posted] == [202] * 5
    assert usage(api)["reserved_s"] < 30
    ended = [run_to_the_end(runtime, each.json["id"]) for each in posted]
    assert [each.state for each in ended] == ["completed"] + ["failed"] * 4
    assert {each.problem["code"] for each in ended[1:] if each.problem} == {"quota-exceeded"}
    # Of the refused ones, what was decoded until then counts, and nothing stays reserved.
    told = usage(api)
    assert 60 < told["used_s"] < 90
    assert told["reserved_s"] == 0
    assert post(api).status_code == 403


def test_a_recording_that_promises_too_little_reserves_the_rest(runtime: Runtime) -> None:
    runtime.settings = replace(runtime.settings, max_audio_s_per_month=300.0)
    api = limited(runtime, max_audio_s_per_month=300.0)
    ids = [
        api.simulate_post("/v1/sessions", body=UNDECLARED, headers=WAV).json["id"] for _ in range(2)
    ]
    assert [run_to_the_end(runtime, each).state for each in ids] == ["completed"] * 2
    assert (usage(api)["used_s"], usage(api)["reserved_s"]) == (120, 0)


def test_unfinished_sessions_have_a_limit(runtime: Runtime) -> None:
    api = limited(runtime, max_unfinished_sessions=3)
    assert [post(api).status_code for _ in range(4)] == [202, 202, 202, 429]
    refused = post(api)
    assert refused.json["type"] == "/problems/too-many-unfinished"
    assert [refused.json[name] for name in ("limit", "used", "most")] == [
        "unfinished_sessions",
        3,
        3,
    ]
    assert int(refused.headers["retry-after"]) > 0
    assert used_of(api, "unfinished_sessions") == (3, 3)
    # Another process counts them itself.
    assert post(limited(runtime, max_unfinished_sessions=3)).status_code == 429
    named = api.simulate_post("/v1/batches", json={"keys": ["inbox/a"]})
    assert named.status_code == 429
    # Other users do not suffer.
    admin = accounts.bearer(accounts.ADMIN_KEY)
    other = api.simulate_post("/v1/sessions", body=CONTENT, headers=WAV | admin)
    assert other.status_code == 202
    [session_id, *_] = [each["id"] for each in api.simulate_get("/v1/sessions").json["items"]]
    api.simulate_post(f"/v1/sessions/{session_id}/cancel")
    assert post(limited(runtime, max_unfinished_sessions=3)).status_code == 202


def test_stored_bytes_have_a_limit(runtime: Runtime) -> None:
    api = limited(runtime, max_stored_bytes=2 * len(CONTENT))
    assert [post(api).status_code for _ in range(3)] == [202, 202, 403]
    refused = post(api).json
    assert refused["type"] == "/problems/storage-quota-exceeded"
    assert (refused["limit"], refused["used"], refused["most"]) == (
        "stored_bytes",
        2 * len(CONTENT),
        2 * len(CONTENT),
    )
    assert used_of(api, "stored_bytes") == (2 * len(CONTENT), 2 * len(CONTENT))


@pytest.mark.parametrize(
    ("name", "most", "refused"),
    [
        ("max_stored_bytes", 2 * len(CONTENT), "storage-quota-exceeded"),
        ("max_unfinished_sessions", 2, "too-many-unfinished"),
    ],
)
def test_what_arrives_at_once_is_counted_when_it_has_arrived(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, name: str, most: int, refused: str
) -> None:
    api = limited(runtime, **{name: most, "user_share": 1.0})
    # Each is let in before the first has arrived.
    arriving = Barrier(N_AT_ONCE)
    put = runtime.blobs.put

    def put_together(*given: Any) -> None:
        arriving.wait(timeout=30)
        put(*given)

    monkeypatch.setattr(runtime.blobs, "put", put_together)
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        answers = list(pool.map(lambda _: post(api), range(N_AT_ONCE)))
    assert sorted(each.status_code for each in answers)[:2] == [202, 202]
    others = [each.json["type"] for each in answers if each.status_code != 202]
    assert others == [f"/problems/{refused}"] * (N_AT_ONCE - 2)
    # Nothing of the refused ones is left.
    assert len([*runtime.blobs.keys("sessions/")]) == 2


def test_stored_bytes_include_decoded_audio_while_it_is_stored(runtime: Runtime) -> None:
    """Ten minutes of silence are small as posted and as stored, and bounded while they are."""
    content = recordings.encode(np.zeros(600 * recordings.RATE_HZ, np.float32))
    session_id = split(runtime, content)
    decoded = runtime.blobs.size(session(runtime, session_id).pcm_key or "")
    assert decoded < 600 * 16_000 * 2 / 1_000
    stored = len(content) + 600 * 16_000 * 2
    # Each process reads the bytes once a minute.
    assert used_of(client_of(runtime), "stored_bytes") == (stored, None)
    full = limited(runtime, max_stored_bytes=stored)
    assert post(full).json["type"] == "/problems/storage-quota-exceeded"
    run_to_the_end(runtime, session_id)
    Recovery(runtime).round()
    assert used_of(client_of(runtime), "stored_bytes") == (len(content), None)


MANIFEST = b"file,label\na.wav,x\n"


def start_training(api: Api) -> Any:
    body = b'--x\r\nContent-Disposition: form-data; name="manifest"\r\n\r\n' + MANIFEST
    return api.simulate_post(
        "/v1/models",
        body=body + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )


def start_export(api: Api) -> Any:
    return api.simulate_post("/v1/exports", json={"format": "csv"})


@pytest.mark.parametrize(
    ("start", "name"),
    [(start_export, quotas.EXPORTS), (start_training, quotas.TRAININGS)],
)
def test_queued_jobs_have_a_limit(runtime: Runtime, start: Callable[[Api], Any], name: str) -> None:
    api = limited(runtime, **{f"max_{name}": 2, "user_share": 1.0})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: start(api), range(20)))
    assert sorted(each.status_code for each in answers) == [202] * 2 + [429] * 18
    refused = next(each for each in answers if each.status_code == 429).json
    assert refused["type"] == "/problems/too-many-unfinished"
    assert (refused["limit"], refused["used"], refused["most"]) == (name, 2, 2)
    assert used_of(api, name) == (2, 2)
