"""Parameters that lists refuse, and lists that have not changed."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from sqlalchemy import update

from db.queries import batch_queries, model_queries, session_queries
from db.queries.model_queries import NewTrainingClipRow
from db.store import Store
from db.tables.batches import AudioBatch
from db.tables.sessions import AudioSession
from db.tables.training import TrainingJob, Validation
from tests.support import accounts
from tests.support.accounts import TEAM
from tests.support.api import Api

pytestmark = pytest.mark.integration

REFUSED = (
    ("/v1/sessions", "sort=size_bytes", "sort"),
    ("/v1/sessions", "state=done", "state"),
    ("/v1/sessions", "state=failed&state=done", "state"),
    ("/v1/sessions", "limit=0", "limit"),
    ("/v1/sessions", "limit=1001", "limit"),
    ("/v1/sessions", "created_from=2026-03-01", "created_from"),
    ("/v1/sessions", "created_from=2026-03-01T00:00:00", "created_from"),
    ("/v1/sessions", "min_confidence=1.5", "min_confidence"),
    ("/v1/sessions", "batch_id=7", "batch_id"),
    ("/v1/sessions", "offset=10", "offset"),
    ("/v1/sessions", "file_name=a&file_name=b", "file_name"),
    ("/v1/sessions", "file_name=%00", "file_name"),
    ("/v1/sessions", "metadata=7", "metadata"),
    ("/v1/sessions", 'metadata={"a":"%5Cu0000"}', "metadata"),
    ("/v1/sessions", 'metadata={"a":["nested"]}', "metadata"),
    ("/v1/detections", "noise_type=%00", "noise_type"),
    ("/v1/batches", "state=taken", "state"),
    ("/v1/trainings", "state=queued", "state"),
    ("/v1/validations", "created_to=now", "created_to"),
    ("/v1/models", "sort=name", "sort"),
)


def test_what_a_list_cannot_be_asked_is_named(api: Api) -> None:
    for path, query, field in REFUSED:
        refused = api.simulate_get(path, query_string=query)
        assert refused.status_code == 400, query
        assert [each["field"] for each in refused.json["errors"]] == [field]
        assert "array" not in refused.json["detail"], query


def test_what_has_not_changed_is_not_sent_again(api: Api, store: Store) -> None:
    session_id, batch_id, training_id, validation_id = (uuid.uuid4() for _ in range(4))
    clip = NewTrainingClipRow(file_name="a", label="a", source="a")
    with store.transaction() as tx:
        batch_queries.add_batch(tx, id=batch_id, user_id=TEAM, state="taken", options={})
        session_queries.add_session(
            tx,
            id=session_id,
            batch_id=batch_id,
            user_id=TEAM,
            file_name="a",
            size_bytes=1,
            recording_key="b",
        )
        model_queries.add_training(
            tx, [clip], id=training_id, user_id=TEAM, name="m", algorithm=None, seed=0
        )
        model_queries.add_validation(tx, id=validation_id, user_id=TEAM, file_key="c")
    looks: dict[str, Any] = {
        f"/v1/sessions/{session_id}": AudioSession,
        f"/v1/batches/{batch_id}": AudioBatch,
        f"/v1/trainings/{training_id}": TrainingJob,
        f"/v1/validations/{validation_id}": Validation,
    }
    for path, table in looks.items():
        first = api.simulate_get(path)
        tag = first.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f]{24}"', tag)
        assert first.headers["cache-control"] == "private, no-cache"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = api.simulate_get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        other = api.simulate_get(path, headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.json) == (200, first.json)
        head = api.simulate_head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
        assert head.headers["content-length"] == str(len(first.content))
        with store.transaction() as tx:
            problem = {"code": "lost", "detail": "changed"}
            tx.execute(update(table).values(problem=problem))
        changed = api.simulate_get(path, headers={"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag
        stranger = api.simulate_get(path, headers={"If-None-Match": "*"} | accounts.bearer("no"))
        assert stranger.status_code == 401
    nowhere = api.simulate_get(f"/v1/sessions/{uuid.uuid4()}", headers={"If-None-Match": "*"})
    assert nowhere.status_code == 404
