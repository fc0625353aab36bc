"""A worker that ships a model stores its file, whether or not its row exists already."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.science.detection import classifier
from actors.science.errors import ModelError
from db.blobs.keys import shipped_key
from db.queries import model_queries

pytestmark = pytest.mark.integration


def test_a_worker_stores_the_file_of_a_model_without_one(runtime: Runtime) -> None:
    """Only the file of its release: a model of another release waits for a worker of that one."""
    with runtime.store.transaction() as tx:
        shipped_id, other_id = (
            model_queries.register_model(
                tx, name="m", version="1", sha256=sha256, header={}, blob_key=shipped_key(sha256)
            )
            for sha256 in (classifier.shipped().sha256, "aa")
        )
    assert runtime.shipped_model_id == shipped_id
    assert runtime.read_model(shipped_id).sha256 == classifier.shipped().sha256
    with pytest.raises(ModelError):
        runtime.read_model(other_id)


def test_every_model_has_a_file(runtime: Runtime) -> None:
    assert runtime.shipped_model_id
    with pytest.raises(Exception, match="blob_key"), runtime.store.transaction() as tx:
        tx.execute(text("UPDATE noise_models SET blob_key = NULL"))
