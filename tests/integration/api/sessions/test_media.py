"""A session's recording and spectrogram over HTTP: ranges, ETags, names and missing files."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from actors.execution.runtime import Runtime
from actors.recovery import Recovery
from actors.science.audio_io.spectrogram import N_BANDS
from db.blobs.keys import recording_key
from tests.support import recordings
from tests.support.api import Api
from tests.support.pipeline import add, run_to_the_end, split

pytestmark = pytest.mark.integration

DEMO = recordings.encode(recordings.demo())


def get(api: Api, session_id: object, what: str, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.simulate_get(f"/v1/sessions/{session_id}/{what}", headers=named)


def test_the_bytes_are_those_that_were_sent(api: Api, runtime: Runtime) -> None:
    session_id = add(runtime, DEMO)
    unknown = get(api, session_id, "recording")
    # Not decoded yet, so the format is only the sender's claim.
    assert unknown.headers["content-type"] == "application/octet-stream"
    run_to_the_end(runtime, session_id)
    Recovery(runtime).round()
    whole = get(api, session_id, "recording")
    assert whole.content == unknown.content == DEMO
    assert whole.headers["content-type"] == "audio/flac"
    assert whole.headers["content-length"] == str(len(DEMO))
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["cache-control"] == "private, no-cache"
    again = get(api, session_id, "recording", If_None_Match=whole.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    assert get(api, session_id, "recording", If_None_Match='"other"').content == DEMO


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=1000-", 1_000, len(DEMO)),
        ("bytes=-7", len(DEMO) - 7, len(DEMO)),
        (f"bytes=-{len(DEMO) + 9}", 0, len(DEMO)),
        (f"bytes=5-{len(DEMO) + 9}", 5, len(DEMO)),
    ],
)
def test_a_part_is_answered_alone(
    api: Api, runtime: Runtime, asked: str, start: int, stop: int
) -> None:
    part = get(api, add(runtime, DEMO), "recording", Range=asked)
    assert part.status_code == 206
    assert part.content == DEMO[start:stop]
    assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DEMO)}"
    assert part.headers["content-length"] == str(stop - start)


def test_what_is_no_part_is_refused_or_the_whole(api: Api, runtime: Runtime) -> None:
    session_id = add(runtime, DEMO)
    for behind in (f"bytes={len(DEMO)}-", f"bytes={10**17}-{10**17}", "bytes=-0"):
        refused = get(api, session_id, "recording", Range=behind)
        assert refused.status_code == 416, behind
        assert refused.json["type"] == "/problems/range-not-satisfiable"
        assert refused.headers["content-range"] == f"bytes */{len(DEMO)}"
    for strange in ("bytes=0-1,5-6", "bytes=9-3", "bytes=-", "seconds=1-2", "bytes=a-b", "x"):
        whole = get(api, session_id, "recording", Range=strange)
        assert (whole.status_code, whole.content) == (200, DEMO), strange
    tag = whole.headers["etag"]
    assert get(api, session_id, "recording", Range="bytes=1-2", If_Range=tag).status_code == 206
    changed = get(api, session_id, "recording", Range="bytes=1-2", If_Range='"before"')
    assert (changed.status_code, changed.content) == (200, DEMO)


def test_a_name_stays_within_its_quotes(api: Api) -> None:
    posted = api.simulate_post(
        "/v1/sessions",
        body=DEMO,
        headers={"Content-Type": "audio/flac"},
        params={"file_name": 'a"; filename=evil.html; x="\\.flac'},
    )
    answered = get(api, posted.json["id"], "recording")
    told = answered.headers["content-disposition"]
    assert told.startswith('attachment; filename="')
    assert told.count('"') == 2
    assert "\\" not in told


def test_a_recording_that_is_gone_is_not_found(api: Api, runtime: Runtime) -> None:
    session_id = add(runtime, DEMO)
    runtime.blobs.delete(recording_key(session_id))
    gone = get(api, session_id, "recording")
    assert (gone.status_code, gone.json["type"]) == (404, "/problems/no-recording")


def test_the_picture_is_there_once_the_recording_is_decoded_and_stays(
    api: Api, runtime: Runtime
) -> None:
    session_id = split(runtime, DEMO)
    early = get(api, session_id, "spectrogram.png")
    assert early.status_code == 200
    run_to_the_end(runtime, session_id)
    Recovery(runtime).round()
    late = get(api, session_id, "spectrogram.png")
    assert late.content == early.content
    assert late.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(late.content)) as picture:
        assert picture.height == N_BANDS
        assert picture.width == pytest.approx(
            recordings.demo().size / recordings.RATE_HZ * 16, abs=1
        )
    again = get(api, session_id, "spectrogram.png", If_None_Match=late.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")


def test_a_session_that_failed_has_no_picture_but_its_bytes(api: Api, runtime: Runtime) -> None:
    nonsense = b"this is no recording at all"
    session_id = add(runtime, nonsense)
    waiting = get(api, session_id, "spectrogram.png")
    assert (waiting.status_code, waiting.json["type"]) == (409, "/problems/not-finished")
    assert run_to_the_end(runtime, session_id).state == "failed"
    none = get(api, session_id, "spectrogram.png")
    assert (none.status_code, none.json["type"]) == (404, "/problems/no-spectrogram")
    assert get(api, session_id, "recording").content == nonsense
