"""When a recording began: found in its file, unless the caller said so."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from actors.execution.runtime import Runtime
from actors.messaging.messages import ProcessAudioFile
from tests.support.api import Api
from tests.support.pipeline import add, handle, put_into, run_to_the_end, session
from tests.support.recorder_files import AUDIO, bext, guano, info, wav

pytestmark = pytest.mark.integration

COMMENT = "Recorded at 06:44:04 02/07/2024 (UTC+2) by AudioMoth 24F3190361DA3578 at medium gain"
NAME = "20240702_064404.WAV"
AUDIOMOTH = wav(info(COMMENT), AUDIO, guano("2024-07-02T06:44:04+02:00"))
PLAIN = wav()
AT = "2024-07-02T04:44:04Z"


def post(api: Api, content: bytes, **options: Any) -> uuid.UUID:
    posted = api.simulate_post("/v1/sessions", body=content, params=options)
    assert posted.status_code == 202, posted.text
    return uuid.UUID(posted.json["id"])


def shown(api: Api, session_id: uuid.UUID) -> tuple[str | None, Any]:
    """Return what the API answers about the time of a recording."""
    found = api.simulate_get(f"/v1/sessions/{session_id}").json
    return found["recorded_at"], found["recorded_at_source"]


@pytest.mark.parametrize(
    ("content", "options", "at", "source"),
    [
        (AUDIOMOTH, {"file_name": NAME}, AT, {"from": "guano", "zone": "file"}),
        (wav(info(COMMENT)), {}, AT, {"from": "comment", "zone": "file"}),
        (
            wav(bext("2024-07-02", "06:44:04")),
            {"time_zone": "Europe/Berlin"},
            AT,
            {"from": "bext", "zone": "time_zone"},
        ),
        (
            PLAIN,
            {"file_name": NAME, "time_zone": "Europe/Berlin"},
            AT,
            {"from": "file_name", "zone": "time_zone"},
        ),
        (
            PLAIN,
            {"file_name": NAME},
            "2024-07-02T06:44:04Z",
            {"from": "file_name", "zone": "assumed_utc"},
        ),
        (
            AUDIOMOTH,
            {"file_name": NAME, "recorded_at": "2025-01-01T00:00:00Z"},
            "2025-01-01T00:00:00Z",
            {"from": "caller", "zone": "given"},
        ),
        (PLAIN, {"file_name": "street.wav"}, None, None),
        # A clock that was not set, and one far ahead.
        (PLAIN, {"file_name": "19700101_000554.WAV"}, None, None),
        (PLAIN, {"file_name": "21000101_000554.WAV"}, None, None),
    ],
)
def test_the_file_states_it(
    api: Api, runtime: Runtime, content: bytes, options: Any, at: str | None, source: Any
) -> None:
    session_id = post(api, content, **options)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    assert shown(api, session_id) == (at, source)
    done = run_to_the_end(runtime, session_id)
    assert done.state == "completed"
    # The levels of the quarters of an hour, of which daily reports are made.
    assert (done.quarter_mean_squares is None) == (at is None)


def test_lists_filter_and_sort_by_times_that_were_found(api: Api, runtime: Runtime) -> None:
    for name in ("20240702_064404.WAV", "20240703_064404.WAV", "street.wav"):
        handle(runtime, ProcessAudioFile(session_id=post(api, PLAIN, file_name=name)))
    query = {"recorded_from": "2024-07-02T00:00:00Z", "recorded_to": "2024-07-03T00:00:00Z"}
    found = api.simulate_get("/v1/sessions", params=query).json["items"]
    assert [each["file_name"] for each in found] == ["20240702_064404.WAV"]
    assert found[0]["recorded_at_source"] == {"from": "file_name", "zone": "assumed_utc"}
    by_time = api.simulate_get("/v1/sessions", params={"sort": "-recorded_at"}).json["items"]
    assert [each["file_name"] for each in by_time][:2] == [
        "20240703_064404.WAV",
        "20240702_064404.WAV",
    ]


@pytest.mark.parametrize("given", [None, datetime(2025, 1, 1, tzinfo=UTC)])
def test_another_attempt_finds_the_same_and_keeps_what_the_caller_gave(
    api: Api, runtime: Runtime, given: datetime | None
) -> None:
    session_id = add(runtime, AUDIOMOTH, recorded_at=given)
    # The row is as one of a session processed before sources were stored.
    source = {"from": "caller", "zone": "given"}
    assert shown(api, session_id)[1] == (None if given is None else source)
    answers = []
    for _ in range(2):
        handle(runtime, ProcessAudioFile(session_id=session_id))
        answers.append(shown(api, session_id))
        with runtime.store.transaction() as tx:
            put_into(tx, session_id, "queued")
    if given is None:
        assert answers == [(AT, {"from": "guano", "zone": "file"})] * 2
    else:
        assert answers == [("2025-01-01T00:00:00Z", source)] * 2
    assert session(runtime, session_id).state == "queued"
