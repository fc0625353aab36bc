"""What every route does alike: a blob store that fails is a 503, and GET has HEAD and 304.

Each operation is called as in its example of the API's description.
"""

from __future__ import annotations

import dataclasses
import inspect
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import falcon.testing
import msgspec
import pytest
from sqlalchemy import update

from actors.messaging import broker
from actors.messaging.broker import Publisher
from db.blobs.blob_store import Blobs
from db.blobs.errors import StorageFull, StorageUnavailable
from db.settings import Settings
from db.store import Store
from db.tables.batches import AudioBatch
from services.app import create_app
from services.cli.actions.openapi import unconnected_routes
from services.http import operations
from services.http.deps import Deps
from services.http.operations import Operation
from services.openapi.examples import EXAMPLES, PARAMETERS, Example
from tests.support import accounts, example_rows, servers

pytestmark = pytest.mark.integration

with unconnected_routes() as _routes:
    OPERATIONS: dict[str, tuple[str, str, Operation]] = {
        f"{method} {template}": (method, template, promise)
        for template, resource in _routes.items()
        for method, promise in operations.operations(resource).items()
    }
#: The operations that use the blob store, and how each answers while it fails.
USES_BLOBS = {
    "POST /v1/sessions": 503,
    "POST /v1/uploads": 503,
    "POST /v1/models": 503,
    "POST /v1/models/{model_id:uuid}/promote": 503,
    "POST /v1/models/{model_id:uuid}/validate": 503,
    "POST /v1/validations": 503,
    "GET /v1/sessions/{session_id:uuid}/levels": 503,
    "GET /v1/sessions/{session_id:uuid}/recording": 503,
    "GET /v1/sessions/{session_id:uuid}/spectrogram.png": 503,
    "GET /v1/models/{model_id:uuid}/confusion.png": 503,
    "GET /v1/models/{model_id:uuid}/file": 503,
    "GET /v1/detections/{detection_id:uuid}/clip.flac": 503,
    "GET /v1/exports/{export_id:uuid}/file": 503,
    "GET /v1/reports/{report_id:uuid}/html": 503,
    "GET /health/ready": 503,
    # Each file of a batch has a result of its own.
    "POST /v1/batches": 202,
    # The row is what counts; its blobs are removed later.
    "POST /v1/batches/{batch_id:uuid}/cancel": 200,
}
#: It lasts until the session ends, and has a test of its own.
STREAM = "GET /v1/sessions/{session_id:uuid}/events"


class FailingBlobs(Blobs):
    """A store of which every method fails, and which counts the calls."""

    n_calls = 0
    error: type[StorageUnavailable] = StorageUnavailable

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or not inspect.ismethod(found):
            return found

        def fail(*_args: object, **_more: object) -> None:
            self.n_calls += 1
            raise StorageFull if self.error is StorageFull else self.error("at 10.0.0.1")

        return fail


@dataclasses.dataclass(frozen=True)
class Place:
    """The application over the rows of the examples, with a store that works and with one that
    fails.
    """

    api: falcon.testing.TestClient
    failing_api: falcon.testing.TestClient
    failing: FailingBlobs


@pytest.fixture(scope="module")
def place(
    postgres_url: str,
    migrated_url: str,
    drop_later: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    settings = Settings(
        database_url=servers.new_database(postgres_url, copy_of=migrated_url),
        amqp_url="memory://",
        blob_url=(tmp_path_factory.mktemp("one-way") / "blobs").as_uri(),
        key_pepper=accounts.PEPPER,
        secret_keys=accounts.SECRET_KEYS,
        backbone_url="off",
        rate_limit_per_s=0,
    )
    store, blobs = Store(settings.database_url, pool_size=5), Blobs(settings.blob_url)
    publisher = Publisher(broker.setup(settings), prefix=settings.queue_prefix)
    example_rows.add(store, blobs)
    with store.transaction() as tx:
        # So that it can be cancelled.
        tx.execute(update(AudioBatch).values(state="expanding"))
    deps = Deps(settings=settings, store=store, blobs=blobs, publisher=publisher)
    failing = FailingBlobs(settings.blob_url)
    yield Place(
        api=accounts.client(create_app(deps), accounts.ADMIN_KEY),
        failing_api=accounts.client(
            create_app(dataclasses.replace(deps, blobs=failing)), accounts.ADMIN_KEY
        ),
        failing=failing,
    )
    publisher.close()
    store.close()
    drop_later(settings.database_url)


def path_of(template: str) -> str:
    # The name in the examples is that of a problem.
    path = template.replace(":uuid", "").replace("/page/{name}", "/page/start.js")
    for name, value in PARAMETERS.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def address_of(name: str) -> str:
    """Return the path of an operation, with the parameters of its example that are required."""
    _, template, promise = OPERATIONS[name]
    fields = msgspec.structs.fields(promise.query) if promise.query is not None else ()
    needed = [field.encode_name for field in fields if field.required]
    query = urlencode({each: EXAMPLES[name].query[each] for each in needed})
    return f"{path_of(template)}?{query}" if query else path_of(template)


def request_of(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of an example as a request, with a content for each of its files."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, given in form.items():
        for value in [given] if isinstance(given, str) else given:
            is_file = value.startswith("@") and name != "manifest"
            content = example_rows.RECORDING if is_file else value.encode()
            if name == "manifest":
                content = b"file,label\n" + b"".join(
                    f"{clip.removeprefix('@')},dog_bark\n".encode() for clip in form["clip"]
                )
            head = f'name="{name}"' + (f'; filename="{value[1:]}"' if is_file else "")
            body += f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
            body += content + b"\r\n"
    return {
        "body": body + f"--{boundary}--\r\n".encode(),
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    }


def call(api: falcon.testing.TestClient, name: str, **more: Any) -> Any:
    """Call an operation as in its example; a form is sent where one is taken."""
    method, _, _ = OPERATIONS[name]
    example = EXAMPLES[name] if name in EXAMPLES else Example()
    request: dict[str, Any] = {}
    if example.form:
        request = request_of(example.form)
    elif example.request is not None:
        request["json"] = example.request
    return api.simulate_request(method, address_of(name), **(request | more))


@pytest.mark.parametrize(
    "name", [name for name in OPERATIONS if name.startswith("GET ") and name != STREAM]
)
def test_every_get_has_a_head_and_every_etag_a_304(place: Place, name: str) -> None:
    promise, address = OPERATIONS[name][2], address_of(name)
    whole = call(place.api, name)
    assert whole.status_code == promise.status, whole.text
    head = place.api.simulate_head(address)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert ("etag" in whole.headers) == (304 in promise.also)
    assert head.headers.get("etag") == whole.headers.get("etag")
    if "etag" in whole.headers:
        known = {"If-None-Match": whole.headers["etag"]}
        again = place.api.simulate_get(address, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == whole.headers["etag"]


def test_a_head_of_a_stream_leaves_its_place_free(place: Place) -> None:
    path = path_of(STREAM.removeprefix("GET "))
    for _ in range(2 * Settings.event_streams):
        head = place.api.simulate_head(path)
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")


def test_a_head_ignores_a_range(place: Place) -> None:
    path = path_of("/v1/sessions/{session_id:uuid}/recording")
    head = place.api.simulate_head(path, headers={"Range": "bytes=0-3"})
    assert (head.status_code, head.headers["content-length"]) == (
        200,
        str(len(example_rows.RECORDING)),
    )


# Below: operations that change the rows of the examples.


@pytest.mark.parametrize("error", [StorageUnavailable, StorageFull])
# What removes a row comes last.
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {STREAM}, reverse=True))
def test_a_blob_store_that_fails_is_a_reason_to_try_again(
    place: Place, name: str, error: type[StorageUnavailable]
) -> None:
    place.failing.error = error
    before = place.failing.n_calls
    answered = call(place.failing_api, name)
    uses_blobs = place.failing.n_calls > before
    if name in USES_BLOBS and (error is StorageUnavailable or USES_BLOBS[name] == 503):
        assert uses_blobs, answered.text
        assert answered.status_code == USES_BLOBS[name], answered.text
    else:
        assert not uses_blobs or name in USES_BLOBS
        assert answered.status_code < 500, answered.text
    assert "10.0.0.1" not in answered.text
    if answered.status_code == 503 and name != "GET /health/ready":
        assert answered.json["type"] == "/problems/store-unavailable"
        assert answered.headers["retry-after"]
        assert ("full" in answered.json["detail"]) == (error is StorageFull)


def test_a_refused_form_is_told_why_though_its_files_cannot_be_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise StorageUnavailable("at 10.0.0.1")

    monkeypatch.setattr(Blobs, "delete", fail)
    form = request_of({"clip": ["@a.wav"], "other": "x"})
    refused = place.api.simulate_post("/v1/models", **form)
    assert (refused.status_code, refused.json["type"]) == (400, "/problems/invalid-form")
