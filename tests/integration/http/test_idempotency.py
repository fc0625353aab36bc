"""A repeated request has no further effect and gets the original answer."""

from __future__ import annotations

import io
import json
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text
from sqlalchemy import table as sql_table
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from actors.execution.runtime import Runtime
from actors.maintenance import cleanup
from actors.messaging.messages import CleanUp
from db.blobs.keys import recording_key
from db.queries import idempotency_queries, session_queries
from db.queries.idempotency_queries import Claimed
from db.settings import Settings
from db.store import Store
from services.cli.actions.openapi import unconnected_routes
from services.http import idempotency, operations
from services.http.caller_errors import InvalidIdempotencyKey
from services.http.hashed_body import HashedBody
from services.http.request_leases import RequestLeases
from services.processes.server import free_port
from tests.support import accounts, recordings
from tests.support.api import Api
from tests.support.clock import ask
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.integration

RECORDING = recordings.HEADER + bytes(range(256)) * 200
WAV = {"Content-Type": "audio/wav"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, lease_s=0.6)


def post(api: Api, key: str | None, body: bytes = RECORDING, **more: Any) -> Any:
    headers = {"Idempotency-Key": key} if key is not None else {}
    headers |= more.pop("headers", WAV)
    return api.simulate_post(more.pop("path", "/v1/sessions"), body=body, headers=headers, **more)


def kind(result: Any) -> tuple[int, str]:
    assert result.headers["content-type"] == "application/problem+json"
    return result.status_code, result.json["type"].removeprefix("/problems/")


def count(store: Store, table: str = "audio_sessions") -> int:
    with store.transaction() as tx:
        return tx.execute(select(func.count()).select_from(sql_table(table))).scalar_one()


def is_replayed(result: Any) -> bool:
    return bool(result.headers.get("idempotent-replayed") == "true")


def test_the_same_upload_gives_the_same_session(api: Api, runtime: Runtime) -> None:
    first = post(api, '"a-1"', query_string="priority=high")
    assert (first.status_code, is_replayed(first)) == (202, False)
    # Later changes to the session do not change the stored answer.
    with runtime.store.transaction() as tx:
        session_queries.cancel_session(tx, uuid.UUID(first.json["id"]))
    # An unquoted key equals the quoted one.
    for key in ('"a-1"', "a-1"):
        again = post(api, key, query_string="priority=high")
        assert (again.status_code, is_replayed(again)) == (202, True)
        assert again.content == first.content
        assert again.headers["location"] == first.headers["location"]
        assert again.headers["content-type"] == first.headers["content-type"]
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert post(api, "a-2").json["id"] != first.json["id"]
    assert post(api, None).json["id"] != post(api, None).json["id"]
    assert count(runtime.store) == 4


def test_a_key_belongs_to_its_request_and_its_user(api: Api, runtime: Runtime) -> None:
    first = post(api, "a")
    reused = (422, "idempotency-key-reused")
    assert kind(post(api, "a", RECORDING + b"x")) == reused
    assert kind(post(api, "a", RECORDING[:-1] + b"x")) == reused
    assert kind(post(api, "a", query_string="priority=high")) == reused
    assert kind(post(api, "a", headers={"Content-Type": "audio/flac"})) == reused
    assert kind(post(api, "a", b"", path=f"/v1/sessions/{first.json['id']}/cancel")) == reused
    assert count(runtime.store) == 1
    with runtime.store.transaction() as tx:
        other = accounts.add_user(tx, uuid.uuid4(), "other@example.org")
        key = accounts.add_key(tx, other)
    theirs = post(accounts.client(api.app, key), "a")
    assert theirs.status_code == 202
    assert theirs.json["id"] != first.json["id"]
    assert not is_replayed(theirs)


def form(boundary: str, content: bytes = RECORDING) -> dict[str, Any]:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return {
        "body": head.encode() + content + f"\r\n--{boundary}--\r\n".encode(),
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


def test_a_form_is_the_same_with_another_boundary(api: Api, runtime: Runtime) -> None:
    first = post(api, "a", **form("something"))
    assert first.status_code == 202
    again = post(api, "a", **form("else"))
    assert again.content == first.content
    assert kind(post(api, "a", **form("else", RECORDING[1:]))) == (422, "idempotency-key-reused")
    assert count(runtime.store) == 1


def test_the_hash_of_a_form_is_the_same_however_it_is_cut() -> None:
    rng = random.Random(3)
    content = b"".join(rng.choice([b"--xx", b"-", b"x", b"--x", b"abc"]) for _ in range(500))
    for boundary in (b"--xx", b"----", b""):
        hashes = set()
        for _ in range(50):
            hashed = HashedBody(io.BytesIO(content), boundary)
            while hashed.read(rng.randint(1, 40)):
                pass
            hashes.add(hashed.digest())
        assert len(hashes) == 1
    one, other = (
        HashedBody(io.BytesIO(form(name)["body"]), f"--{name}".encode())
        for name in ("b-1", "another-2")
    )
    one.read()
    other.read()
    assert one.digest() == other.digest()


@pytest.mark.parametrize(
    "bad", ["", '""', '"a', 'a"', '"a","b"', '"a\\x"', "a b", "a,b", "a;b=1", "ä", "x" * 256]
)
def test_what_is_no_key_is_refused(bad: str) -> None:
    with pytest.raises(InvalidIdempotencyKey):
        idempotency.key_of(bad)


def test_keys_are_read_as_strings_or_bare_words() -> None:
    assert idempotency.key_of(r'"a\"b\\c d,;"') == 'a"b\\c d,;'
    assert idempotency.key_of("8e03978e-40d5-43dd-bc93-6894a57f9324").startswith("8e03")
    assert idempotency.key_of('"' + "x" * 255 + '"') == "x" * 255


def test_a_bad_key_does_nothing(api: Api, runtime: Runtime) -> None:
    assert kind(post(api, "a b")) == (400, "invalid-idempotency-key")
    assert count(runtime.store) == 0


def test_eight_at_once_make_one_session(api: Api, runtime: Runtime) -> None:
    barrier = threading.Barrier(8)

    def send(_index: int) -> Any:
        barrier.wait()
        return post(api, "at-once")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    refused = [each for each in answers if each.status_code != 202]
    for each in refused:
        assert kind(each) == (409, "request-under-way")
        assert int(each.headers["retry-after"]) >= 1
    assert len(refused) < 8
    ids = {each.json["id"] for each in answers if each.status_code == 202}
    assert {post(api, "at-once").json["id"]} == ids
    assert count(runtime.store) == 1


def test_a_request_that_is_under_way_is_not_begun_again_however_long_it_takes(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    add = session_queries.add_session

    def slow(*args: Any, **values: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return add(*args, **values)

    monkeypatch.setattr(session_queries, "add_session", slow)
    renewed = threading.Event()
    renew = idempotency_queries.renew_requests

    def noted(*args: Any, **more: Any) -> None:
        renew(*args, **more)
        renewed.set()

    monkeypatch.setattr(idempotency_queries, "renew_requests", noted)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, api, "slow")
        try:
            assert begun.wait(60)
            for _ in range(4):
                renewed.clear()
                assert renewed.wait(60)
                assert kind(post(api, "slow")) == (409, "request-under-way")
                assert kind(post(api, "slow", query_string="priority=low"))[0] == 422
        finally:
            go_on.set()
        assert first.result().json["id"] == post(api, "slow").json["id"]
    assert count(runtime.store) == 1


def test_a_refusal_leaves_the_key_to_the_mended_request(api: Api, runtime: Runtime) -> None:
    assert kind(post(api, "a", b"")) == (400, "empty-upload")
    mended = post(api, "a", query_string="priority=low")
    assert (mended.status_code, is_replayed(mended)) == (202, False)
    assert kind(post(api, "a", b"")) == (422, "idempotency-key-reused")
    assert count(runtime.store) == 1


def test_an_error_of_the_servers_is_not_kept(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise OperationalError("INSERT", {}, Exception("away"))

    with monkeypatch.context() as patch:
        patch.setattr(session_queries, "add_session", fail)
        assert kind(post(api, "a")) == (503, "store-unavailable")
    assert kind(post(api, "a", query_string="priority=low")) == (422, "idempotency-key-reused")
    again = post(api, "a")
    assert (again.status_code, is_replayed(again)) == (202, False)
    assert count(runtime.store) == 1


#: Path, request (with an administrator's key), and the table that gains a row.
MADE: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/sessions": ({"body": RECORDING, "headers": WAV}, "audio_sessions"),
    "/v1/batches": ({"body": b'{"prefix": "inbox/"}', "headers": JSON}, "batches"),
    "/v1/users": ({"body": b'{"email": "a@b", "name": "a"}', "headers": JSON}, "users"),
    f"/v1/users/{accounts.TEAM}/keys": (
        {"body": b'{"name": "new", "scopes": ["sessions:read"]}', "headers": JSON},
        "api_keys",
    ),
    f"/v1/keys/{'1' * 16}/rotate": ({"body": b"{}", "headers": JSON}, "api_keys"),
    "/v1/jobs/clean_up/runs": ({"body": b"{}", "headers": JSON}, "job_runs"),
    "/v1/webhooks": (
        {"body": b'{"url": "https://example.org/hook"}', "headers": JSON},
        "webhooks",
    ),
    "/v1/exports": ({"body": b'{"format": "csv"}', "headers": JSON}, "exports"),
    "/v1/models": (
        {
            "body": b'--x\r\nContent-Disposition: form-data; name="manifest"\r\n\r\n'
            b"file,label\na.wav,x\nb.wav,y\r\n--x--\r\n",
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        "training_jobs",
    ),
    "/v1/validations": (
        {
            "body": b'--x\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'
            b"a model\r\n--x--\r\n",
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
        },
        "validations",
    ),
}


def test_every_post_that_makes_something_is_known_again() -> None:
    with unconnected_routes() as routes:
        made = {
            template: isinstance(resource, idempotency.Replayable)
            for template, resource in routes.items()
            for method, promise in operations.operations(resource).items()
            if method == "POST" and promise.status in (201, 202)
        }
    assert len(made) > 8
    # Replaying the same delivery twice at once does not create a second one.
    replayed = "/v1/webhooks/{webhook_id:uuid}/deliveries/{delivery_id:uuid}/replay"
    assert {template for template, is_known in made.items() if not is_known} == {replayed}


@pytest.mark.parametrize("path", MADE)
def test_what_was_made_and_not_told_is_not_made_again(
    admin: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    request, table = MADE[path]
    before = count(runtime.store, table)

    class Died(BaseException):
        """Stands for the death of a process; nothing catches it."""

    def die(*_args: object, **_more: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(idempotency_queries, "answer_request", die)
        # A dead process renews nothing.
        patch.setattr(RequestLeases, "hold", lambda *_: None)
        with pytest.raises(Died):
            post(admin, "a", path=path, **dict(request))
    assert count(runtime.store, table) == before + 1
    again = eventually(
        lambda: (
            (got := post(admin, "a", path=path, **dict(request)))
            and (got if got.json.get("type") != "/problems/request-under-way" else None)
        )
    )
    assert is_replayed(again) or kind(again) == (409, "secret-not-shown")
    made = again.headers["location"]
    assert count(runtime.store, table) == before + 1
    # From now on the answer is stored.
    third = post(admin, "a", path=path, **dict(request))
    assert third.status_code == again.status_code
    assert third.headers["location"] == made
    assert admin.simulate_get(made).status_code == 200


def test_two_attempts_that_are_both_alive_make_one_session_and_keep_its_recording(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = session_queries.add_session

    def add_twice(tx: Session, **values: Any) -> Any:
        # Another process, which was presumed dead, is slightly faster.
        with runtime.store.transaction() as other:
            add(other, **values)
        return add(tx, **values)

    with monkeypatch.context() as patch:
        patch.setattr(session_queries, "add_session", add_twice)
        assert kind(post(api, "a")) == (409, "request-under-way")
    [session_id] = _ids(runtime.store)
    assert runtime.blobs.get(recording_key(uuid.UUID(session_id))) == RECORDING
    assert post(api, "a").json["id"] == session_id
    assert len(_ids(runtime.store)) == 1


def test_a_secret_is_neither_kept_nor_told_twice(admin: Api, runtime: Runtime) -> None:
    path = f"/v1/users/{accounts.TEAM}/keys"
    request = MADE[path][0]
    first = post(admin, "a", path=path, **dict(request))
    assert first.status_code == 201
    again = post(admin, "a", path=path, **dict(request))
    assert kind(again) == (409, "secret-not-shown")
    assert is_replayed(again)
    assert again.headers["location"] == f"/v1/keys/{first.json['key']['id']}"
    with runtime.store.transaction() as tx:
        kept = tx.execute(text("SELECT idempotent_requests::text FROM idempotent_requests")).all()
    assert accounts.secret_of(first.json["secret"]) not in str(kept)
    other = json.dumps({"name": "other", "scopes": ["admin"]}).encode()
    assert kind(post(admin, "a", other, path=path, headers=JSON))[0] == 422


def test_an_action_that_makes_nothing_is_answered_again_too(
    api: Api,
) -> None:
    path = post(api, None).headers["location"] + "/cancel"
    first = post(api, "a", b"", path=path, headers={})
    again = post(api, "a", b"", path=path, headers={})
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert is_replayed(again)


def test_a_record_is_forgotten_after_a_day(api: Api, runtime: Runtime) -> None:
    first = post(api, "a")
    claim = Claimed(accounts.TEAM, "other", 1)
    with runtime.store.transaction() as tx:
        idempotency_queries.claim_request(
            tx,
            claim.user_id,
            claim.key,
            head_sha256=bytes(32),
            made_id=uuid.uuid4(),
            lease_s=600,
        )
        day_s = idempotency_queries.KEPT_S
        assert idempotency_queries.remove_old_answers(tx, older_than_s=day_s, limit=9) == 0
        age = text("UPDATE idempotent_requests SET created_at = created_at - interval '25 hours'")
        tx.execute(age)
    # Expired, although the clean-up has not run yet.
    second = post(api, "a", RECORDING + b"x")
    assert second.status_code == 202
    assert second.json["id"] != first.json["id"]
    with runtime.store.transaction() as tx:
        tx.execute(age)
        # Unfinished requests stay.
        assert idempotency_queries.remove_old_answers(tx, older_than_s=day_s, limit=9) == 1
        assert idempotency_queries.known_request(tx, *claim[:2]) is not None


def test_a_server_that_is_killed_before_it_answers_has_made_one_session(
    rabbit_settings: Settings, tmp_path: Path, store: Store
) -> None:
    settings = replace(rabbit_settings, lease_s=1.5)
    with Cluster(settings, tmp_path) as cluster:
        port = free_port()
        server = cluster.serve(port)
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers=accounts.bearer() | WAV | {"Idempotency-Key": '"killed"'},
        )

        def send() -> httpx.Response | None:
            try:
                return client.post("/v1/sessions", content=RECORDING, timeout=30)
            except httpx.TransportError:
                return None

        with ThreadPoolExecutor(1) as pool, store.engine.connect() as lock:
            # The answer also reads the spans, so it cannot be written yet.
            lock.execute(text("LOCK TABLE session_spans IN ACCESS EXCLUSIVE MODE"))
            first = pool.submit(send)
            eventually(lambda: count(store) == 1, what="the session's row")
            server.kill()
            assert first.result() is None
        [session_id] = _ids(store)
        cluster.serve(port)

        def answered() -> httpx.Response | None:
            got = send()
            return got if got is not None and got.status_code == 202 else None

        again = eventually(answered, what="an answer once the lease has ended")
        client.close()
    assert again.json()["id"] == session_id
    assert again.headers["idempotent-replayed"] == "true"
    assert _ids(store) == [session_id]


def _ids(store: Store) -> list[str]:
    with store.transaction() as tx:
        return [str(each) for each in tx.scalars(text("SELECT id FROM audio_sessions"))]


def test_the_clean_up_of_the_night_forgets_page_by_page(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "PAGE_ROWS", 2)
    with runtime.store.transaction() as tx:
        for index in range(6):
            idempotency_queries.claim_request(
                tx,
                accounts.TEAM,
                f"key-{index}",
                head_sha256=bytes(32),
                made_id=uuid.uuid4(),
                lease_s=0,
            )
        tx.execute(
            text(
                "UPDATE idempotent_requests SET created_at = now() - interval '25 hours'"
                " WHERE key <> 'key-0'"
            )
        )
    ask(runtime, CleanUp())
    assert count(runtime.store, "idempotent_requests") == 1
