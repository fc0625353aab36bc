"""The application over a worker's store, blobs and broker, and clients of it.

Fixtures ``app``, ``api``, ``admin`` and ``anyone`` are made of these for most tests. A file that
needs other settings overrides the fixture ``memory_settings``; a test that needs an application
with other settings or dependencies than its worker's calls `app_of` or `client_of`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import falcon
import falcon.testing

from actors.execution.runtime import Runtime
from services.app import create_app
from services.http.deps import Deps
from tests.support import accounts

App = falcon.App[falcon.Request, falcon.Response]
Api = falcon.testing.TestClient


def deps_of(runtime: Runtime, **changed: Any) -> Deps:
    """Return a worker's dependencies as an application's; ``changed`` are other fields."""
    given = Deps(
        settings=runtime.settings,
        store=runtime.store,
        blobs=runtime.blobs,
        publisher=runtime.publisher,
    )
    return replace(given, **changed)


def app_of(runtime: Runtime, **changed: Any) -> App:
    """Build an application over a worker's dependencies, or those of ``changed``."""
    return create_app(deps_of(runtime, **changed))


def client_of(runtime: Runtime, key: str = accounts.KEY, **changed: Any) -> Api:
    """Return a client of `app_of` that sends a key with every request."""
    return accounts.client(app_of(runtime, **changed), key)
