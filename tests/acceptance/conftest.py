"""A standalone service for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.processes import homes
from tests.support.folders import passable_folder
from tests.support.standalone import Up, up


@pytest.fixture(scope="module")
def service() -> Iterator[Up]:
    """A running standalone service."""
    with passable_folder() as folder, up(folder / "home") as started:
        started.listen()
        assert homes.find(started.home) is not None
        yield started
