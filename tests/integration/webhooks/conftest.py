"""A receiver, and a webhook that is registered for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from db.settings import Settings
from tests.integration.webhooks.receivers import PATH, register
from tests.support.api import Api
from tests.support.web import LOOPBACK, Web, serving


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, private_networks=LOOPBACK)


@pytest.fixture
def web() -> Iterator[Web]:
    """A receiver that accepts everything."""
    with serving() as web:
        web.pages[PATH] = lambda request: request.answer()
        yield web


@pytest.fixture
def hook(api: Api, web: Web) -> Any:
    return register(api, web)
