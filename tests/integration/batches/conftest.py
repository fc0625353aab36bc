"""What all tests of batches use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db.settings import Settings
from tests.integration.batches.calls import PAGE
from tests.support import recordings


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, max_batch_items=2 * PAGE + 20, max_upload_bytes=1_000_000)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return recordings.encode(recordings.demo()[: 3 * recordings.RATE_HZ])
