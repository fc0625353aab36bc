"""The API held against its own description, by requests that schemathesis makes of it.

The requests are the same in each run: they are derived from the description and a seed, and from
nothing that was answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import falcon
import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from actors.messaging import broker
from actors.messaging.broker import Publisher
from db.blobs import Blobs
from db.settings import Settings
from db.store import Store
from services.app import Deps, create_app
from services.cli.openapi_command import unconnected_routes
from services.openapi import document as openapi
from tests.support import accounts, example_rows, servers

pytestmark = pytest.mark.integration

#: Random requests of an operation, beside those that try each bound of its parameters.
RANDOM = 5

#: Where a body or a parameter may be refused although the description allows it, and why.
REFUSALS = {
    "GET /v1/usage": "a period is not longer than a month, and does not end before it begins",
    "PATCH /v1/webhooks/{webhook_id}": "a receiver is at an address that is public",
    "POST /v1/batches": "keys lie in the inbox, and a key and a prefix exclude each other",
    "POST /v1/models": "a manifest is CSV with a header",
    "POST /v1/models/{model_id}/validate": "a manifest is CSV with a header",
    "POST /v1/validations": "a manifest is CSV with a header",
    "POST /v1/sessions": "an address and an upload exclude each other",
    "POST /v1/webhooks": "a receiver is at an address that is public",
}
#: The same of parameters, wherever they are.
REFUSED_PARAMETERS = {
    "cursor": "it is of an earlier answer",
    "metadata": "it is JSON in a text",
}
CONFIG = {
    "seed": 1,
    "generation": {
        "deterministic": True,
        # No text may have the character, which no schema says.
        "allow-x00": False,
        "max-examples": RANDOM,
        "database": "none",
        "no-shrink": True,
    },
    "checks": {
        # 422 is a key of an earlier request; they are the same for several operations.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "422", "429"]
        }
    },
    "phases": {
        "fuzzing": {
            "extra-data-sources": {"responses": False},
            "error-feedback": {"enabled": False},
        },
        "stateful": {"enabled": False},
    },
    "operations": [
        {
            "include-name": "GET /health/ready",
            # A store that takes too long, on a machine that is busy, makes it unready.
            "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]}},
        },
    ],
}


class Late:
    """Stands for an application that is made only when the tests run."""

    def __init__(self) -> None:
        self.app: falcon.App[Any, Any] | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer as the application does."""
        assert self.app is not None
        return self.app(environ, start_response)


def described(app: Late) -> Any:
    """The description of the API, for tests that are made of it."""
    with unconnected_routes() as routes:
        document = openapi.document(routes)
    config = schemathesis.Config.from_dict(CONFIG)
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = app
    return schema


schemathesis.openapi.media_type("audio/*", strategies.binary(min_size=1))
LATE = Late()
API = described(LATE)


def whole(value: Any) -> Any:
    """Whole numbers as integers: JSON Schema takes 3.0 for one, and Clamor does not."""
    if isinstance(value, dict):
        return {name: whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@API.hook  # type: ignore[untyped-decorator]
def map_body(_context: Any, body: Any) -> Any:
    return whole(body)


@pytest.fixture(scope="module", autouse=True)
def served(
    postgres_url: str,
    migrated_url: str,
    drop_later: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """The application; all that the examples speak of is there."""
    settings = Settings(
        database_url=servers.new_database(postgres_url, copy_of=migrated_url),
        amqp_url="memory://",
        blob_url=(tmp_path_factory.mktemp("described") / "blobs").as_uri(),
        key_pepper=accounts.PEPPER,
        rate_limit_per_s=0,
    )
    store, blobs = Store(settings.database_url, pool_size=5), Blobs(settings.blob_url)
    publisher = Publisher(broker.setup(settings), prefix=settings.queue_prefix)
    example_rows.add(store, blobs)
    LATE.app = create_app(Deps(settings=settings, store=store, blobs=blobs, publisher=publisher))
    yield
    publisher.close()
    store.close()
    drop_later(settings.database_url)


@API.parametrize()  # type: ignore[untyped-decorator]
@hypothesis.settings(
    derandomize=True,
    database=None,
    # Nothing hangs on how fast the machine is.
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_the_api_is_what_it_says(case: schemathesis.Case[Any]) -> None:
    excluded: list[Any] = []
    if case.media_type == falcon.MEDIA_MULTIPART:
        # Whatever stands in a form is a file like any other on its way.
        excluded.append(negative_data_rejection)
    if case.operation.label in REFUSALS or REFUSED_PARAMETERS.keys() & case.query.keys():
        excluded.append(positive_data_acceptance)
    case.call_and_validate(headers=accounts.bearer(accounts.ADMIN_KEY), excluded_checks=excluded)
