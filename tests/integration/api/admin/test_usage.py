"""Monthly audio quotas and the usage that users see."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import ProcessAudioFile, SplitRecording
from actors.science.audio_io import decode
from db.blobs.blob_store import Blobs
from db.queries import request_queries, usage_limit_queries
from db.queries.request_queries import RequestRow
from db.settings import Settings
from db.store import Store
from tests.support import accounts, partitions, recordings
from tests.support.accounts import TEAM
from tests.support.api import App, app_of
from tests.support.pipeline import add, handle, run_to_the_end, session, split

pytestmark = pytest.mark.integration

KEY_ID = accounts.KEY.split("_")[1]
RECORDING = recordings.HEADER + bytes(2_000)
WAV = {"Content-Type": "audio/wav"}
NAMES = {"keys": ["inbox/a.wav"]}


def use(store: Store, audio_s: float, *, days_ago: int = 0) -> None:
    """Record an amount of audio as used by the team."""
    with store.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO usage_months (user_id, month, audio_s, sessions) VALUES (:user_id,"
                " date_trunc('month', now() - make_interval(days => :ago), 'UTC'), :audio_s, 1)"
            ),
            {"user_id": TEAM, "audio_s": audio_s, "ago": days_ago},
        )


def used(store: Store) -> list[tuple[float, int]]:
    with store.reading() as tx:
        rows = usage_limit_queries.months_of(tx, TEAM, limit=12)
    return [(round(row.audio_s, 3), row.sessions) for row in rows]


def post(app: App, key: str = accounts.KEY) -> Any:
    return accounts.client(app, key).simulate_post("/v1/sessions", body=RECORDING, headers=WAV)


def next_month() -> str:
    begin = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (begin + timedelta(days=32)).replace(day=1).isoformat().replace("+00:00", "Z")


def test_who_has_used_up_the_month_is_told_so_before_anything_is_stored(
    app: App, store: Store, memory_settings: Settings
) -> None:
    admin = accounts.client(app, accounts.ADMIN_KEY)
    limited = admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": 100})
    assert limited.json["max_audio_s_per_month"] == 100
    use(store, 1_000, days_ago=40)
    assert post(app).status_code == 202
    use(store, 100.5)
    api = accounts.client(app)
    for refused in (post(app), api.simulate_post("/v1/batches", json=NAMES)):
        assert refused.status_code == 403
        problem = refused.json
        assert problem["type"] == "/problems/quota-exceeded"
        assert (problem["used_s"], problem["limit_s"]) == (100.5, 100)
        assert problem["renews_at"] == next_month()
    assert len(Blobs(memory_settings.blob_url).keys("sessions/")) == 1
    # Other requests and other users are unaffected.
    assert api.simulate_get("/v1/models").status_code == 200
    assert post(app, accounts.ADMIN_KEY).status_code == 202
    # What the first recording has reserved is not used yet.
    admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": 100.9})
    assert post(app).json["reserved_s"] == pytest.approx(len(RECORDING) / 4_000, abs=0.001)
    admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": 101.1})
    assert post(app).status_code == 202
    admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": None})
    assert admin.simulate_get(f"/v1/users/{TEAM}").json["max_audio_s_per_month"] is None
    assert post(app).status_code == 202


def test_what_was_taken_before_is_answered_again(app: App, store: Store) -> None:
    admin = accounts.client(app, accounts.ADMIN_KEY)
    admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": 100})

    def post_as(key: str) -> Any:
        headers = WAV | {"Idempotency-Key": f'"{key}"'}
        return accounts.client(app).simulate_post("/v1/sessions", body=RECORDING, headers=headers)

    taken = post_as("one")
    assert taken.status_code == 202
    use(store, 100)
    again = post_as("one")
    assert (again.status_code, again.json["id"]) == (202, taken.json["id"])
    assert post_as("other").status_code == 403
    # A refused request does not occupy its idempotency key.
    admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": 200})
    assert post_as("other").status_code == 202


def test_an_installation_has_a_limit_for_all(runtime: Runtime, store: Store) -> None:
    app = app_of(runtime, settings=replace(runtime.settings, max_audio_s_per_month=50.0))
    assert post(app).status_code == 202
    use(store, 50)
    assert post(app).status_code == 403
    admin = accounts.client(app, accounts.ADMIN_KEY)
    admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": 51})
    assert post(app).status_code == 202
    nobody = admin.simulate_patch(f"/v1/users/{uuid.uuid4()}", json={"max_audio_s_per_month": 1})
    assert nobody.status_code == 404
    wrong = admin.simulate_patch(f"/v1/users/{TEAM}", json={"max_audio_s_per_month": -1})
    assert wrong.json["errors"][0]["field"] == "max_audio_s_per_month"


def test_a_recording_counts_once(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    content = recordings.encode(recordings.demo())
    session_id = split(runtime, content)
    duration_s = round(session(runtime, session_id).duration_s or 0, 3)
    assert duration_s > 1
    assert used(runtime.store) == [(duration_s, 1)]
    # Repeat every message twice.
    handle(runtime, SplitRecording(session_id=session_id))
    assert run_to_the_end(runtime, session_id).state == "completed"
    assert used(runtime.store) == [(duration_s, 1)]

    # A worker presumed dead and its successor both finish.
    late = add(runtime, content)
    handle(runtime, ProcessAudioFile(session_id=late))
    open_recording, calls = decode.open_recording, []

    def overtaken(*given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            with runtime.store.transaction() as tx:
                tx.execute(text("UPDATE unfinished_sessions SET due_at = now() - interval '1 s'"))
            handle(runtime, SplitRecording(session_id=late))
            assert session(runtime, late).state == "detecting"
        return open_recording(*given, **more)

    monkeypatch.setattr(decode, "open_recording", overtaken)
    handle(runtime, SplitRecording(session_id=late))
    assert len(calls) == 2
    assert used(runtime.store) == [(round(2 * duration_s, 3), 2)]


def test_a_recording_counts_for_the_month_that_it_was_posted_in(runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))
    nobodys = add(runtime, recordings.encode(recordings.demo()))
    with runtime.store.transaction() as tx:
        tx.execute(
            text("UPDATE audio_sessions SET created_at = '2025-01-31 23:59:59Z' WHERE id = :id"),
            {"id": session_id},
        )
        tx.execute(text("UPDATE audio_sessions SET user_id = NULL WHERE id = :id"), {"id": nobodys})
    for _ in range(2):
        handle(runtime, ProcessAudioFile(session_id=session_id))
        handle(runtime, SplitRecording(session_id=session_id))
    assert session(runtime, nobodys).state == "detecting"
    with runtime.store.reading() as tx:
        (month,) = usage_limit_queries.months_of(tx, TEAM, limit=12)
    assert (f"{month.month}", month.sessions) == ("2025-01-01", 1)


REQUEST = RequestRow(
    request_id="id",
    method="GET",
    route="/",
    status=200,
    duration_s=0.1,
    bytes_in=3,
    bytes_out=5,
    key_id=KEY_ID,
    user_id=TEAM,
    session_id=None,
    received_at=datetime.now(UTC) - timedelta(hours=1),
)


def record(store: Store, **values: Any) -> None:
    with store.transaction() as tx:
        request_queries.add_requests(tx, [REQUEST._replace(**values)])


def test_usage_is_told_by_month_and_by_key(app: App, store: Store, database_url: str) -> None:
    partitions.add_since(database_url, datetime.now(UTC) - timedelta(days=2))
    use(store, 12.5)
    use(store, 30, days_ago=40)
    record(store)
    record(store, status=404)
    record(store, status=503, key_id="gone")
    record(store, user_id=accounts.ADMIN, key_id="2" * 16)
    record(store, received_at=datetime.now(UTC) - timedelta(days=2))
    told = accounts.client(app).simulate_get("/v1/usage").json
    assert told["user_id"] == str(TEAM)
    assert told["limit_s"] is None
    assert told["used_s"] == 12.5
    assert told["renews_at"] == next_month()
    assert [(month["audio_s"], month["sessions"]) for month in told["months"]] == [
        (12.5, 1),
        (30, 1),
    ]
    assert told["months"][0]["month"] == f"{datetime.now(UTC):%Y-%m}"
    assert told["keys"] == [
        {
            "key_id": KEY_ID,
            "name": "a key",
            "requests": 2,
            "errors": 1,
            "bytes_in": 6,
            "bytes_out": 10,
        },
        {"key_id": "gone", "name": None, "requests": 1, "errors": 1, "bytes_in": 3, "bytes_out": 5},
    ]
    since = (datetime.now(UTC) - timedelta(days=3)).isoformat().replace("+00:00", "Z")
    earlier = accounts.client(app).simulate_get("/v1/usage", params={"since": since}).json
    assert [key["requests"] for key in earlier["keys"]] == [3, 1]


def test_usage_is_that_of_the_request_log_without_reading_it(
    app: App, store: Store, database_url: str
) -> None:
    generator = random.Random(3)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    # In the first hour of a month some of the requests are of the one before.
    partitions.add_since(database_url, now - timedelta(days=1))
    rows = [
        REQUEST._replace(
            status=generator.choice([200, 202, 400, 503]),
            key_id=generator.choice([KEY_ID, "gone", None]),
            user_id=generator.choice([TEAM, accounts.ADMIN, None]),
            bytes_in=generator.randrange(2**33),
            received_at=now - timedelta(seconds=generator.randrange(3_600)),
        )
        for _ in range(200)
    ]
    # One key has one user.
    rows = [each._replace(key_id="other") if each.user_id != TEAM else each for each in rows]
    for start in range(0, len(rows), 7):
        with store.transaction() as tx:
            request_queries.add_requests(tx, rows[start : start + 7])
    since, until = now - timedelta(minutes=40), now - timedelta(minutes=5)
    with store.transaction() as tx:
        of_log = request_queries.usage_of_keys(tx, TEAM, since=since, until=until)
        tx.execute(text("DELETE FROM api_requests"))
    period = {name: f"{at:%Y-%m-%dT%H:%M:%SZ}" for name, at in (("since", since), ("until", until))}
    told = accounts.client(app).simulate_get("/v1/usage", params=period).json
    assert {each["key_id"]: each for each in told["keys"]} == {
        each.key_id: each._asdict()
        | {"bytes_in": int(each.bytes_in), "bytes_out": int(each.bytes_out)}
        for each in of_log
        if each.key_id is not None
    }
    assert len(told["keys"]) == 2


def test_administrators_see_anybodys_usage_and_others_their_own(app: App) -> None:
    api, admin = accounts.client(app), accounts.client(app, accounts.ADMIN_KEY)
    of_team = {"user_id": str(TEAM)}
    assert admin.simulate_get("/v1/usage").json["user_id"] == str(accounts.ADMIN)
    assert admin.simulate_get("/v1/usage", params=of_team).json["user_id"] == str(TEAM)
    assert api.simulate_get("/v1/usage", params=of_team).status_code == 200
    foreign = api.simulate_get("/v1/usage", params={"user_id": str(accounts.ADMIN)})
    missing = admin.simulate_get("/v1/usage", params={"user_id": str(uuid.uuid4())})
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json["type"] == missing.json["type"] == "/problems/user-not-found"


@pytest.mark.parametrize(
    "period",
    [
        {"since": "2026-01-01T00:00:00Z", "until": "2026-02-02T00:00:00Z"},
        {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"until": "0001-01-01T00:00:00Z"},
        {"since": "2026-01-01T00:00:00"},
        {"since": "yesterday"},
    ],
)
def test_a_period_that_is_none_or_too_long_is_refused(app: App, period: dict[str, str]) -> None:
    refused = accounts.client(app).simulate_get("/v1/usage", params=period)
    assert refused.status_code == 400
    assert refused.json["errors"][0]["field"] == "since"
