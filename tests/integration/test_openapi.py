"""The description of the API, as it is served."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import falcon.testing
import pytest

from actors import broker
from actors.broker import Publisher
from db.blobs import Blobs
from db.session import Store
from db.settings import Settings
from services.app import Collaborators, create_app

pytestmark = pytest.mark.integration


@pytest.fixture
def anyone(memory_settings: Settings, store: Store) -> Iterator[falcon.testing.TestClient]:
    """A client without a key."""
    publisher = Publisher(broker.setup(memory_settings), prefix=memory_settings.queue_prefix)
    app = create_app(
        Collaborators(
            settings=memory_settings,
            store=store,
            blobs=Blobs(memory_settings.blob_url),
            publisher=publisher,
        )
    )
    yield falcon.testing.TestClient(app)
    publisher.close()


def test_anyone_may_read_it_and_it_is_sent_once(anyone: falcon.testing.TestClient) -> None:
    first = anyone.simulate_get("/openapi.json")
    assert first.status_code == 200
    assert first.headers["content-type"] == "application/json"
    assert first.json["openapi"] == "3.1.0"
    assert "/openapi.json" in first.json["paths"]
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = anyone.simulate_get("/openapi.json", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    other = anyone.simulate_get("/openapi.json", headers={"If-None-Match": '"other"'})
    assert other.content == first.content


def test_the_command_prints_what_is_served(anyone: falcon.testing.TestClient) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "services.cli", "openapi"], capture_output=True, check=True
    )
    assert json.loads(printed.stdout) == anyone.simulate_get("/openapi.json").json
