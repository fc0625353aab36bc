"""A trained model."""

from __future__ import annotations

from typing import Any

import pytest

from actors.execution.runtime import Runtime
from tests.integration.training.models import train
from tests.support import labelled
from tests.support.api import Api


@pytest.fixture
def trained(admin: Api, runtime: Runtime) -> Any:
    return train(admin, runtime, *labelled.clips(), name="hums")
