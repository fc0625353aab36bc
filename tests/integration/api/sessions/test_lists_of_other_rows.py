"""Lists of batches, models, trainings and validations."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from db.queries import batch_queries, model_queries
from db.store import Store
from db.tables.batches import AudioBatch, AudioBatchItem
from db.tables.models import NoiseModel
from db.tables.training import TrainingJob, Validation
from tests.integration.api.sessions.listed import (
    BEGIN,
    STRANGER,
    Row,
    add_sessions,
    add_stranger,
    ids,
    one_session,
    sorted_by,
    walk,
)
from tests.support.accounts import TEAM
from tests.support.api import Api

pytestmark = pytest.mark.integration


def test_batches_and_their_items(api: Api, store: Store) -> None:
    add_stranger(store)
    rng = random.Random(3)
    states = ("receiving", "expanding", "taken", "failed", "cancelled")
    batches = [
        {
            "id": uuid.uuid4(),
            "user_id": TEAM,
            "state": rng.choice(states),
            "options": {},
            "items_total": 2,
            "created_at": BEGIN + timedelta(seconds=rng.randrange(5)),
        }
        for _ in range(20)
    ]
    items = [
        {"batch_id": batches[0]["id"], "item_index": n, "file_name": f"{n}.wav", "source_key": None}
        for n in range(30)
    ]
    session = one_session(rng, 1, batch_id=batches[0]["id"], state="detecting")
    with store.transaction() as tx:
        tx.execute(insert(AudioBatch), batches)
        tx.execute(insert(AudioBatch), [batches[1] | {"id": uuid.uuid4(), "user_id": STRANGER}])
        add_sessions(tx, [session])
        tx.execute(insert(AudioBatchItem), items)
        for batch in batches[1:10]:
            taken = AudioBatch(priority=1, **batch)
            batch_queries.take_item(tx, taken, 0, file_name="a", size_bytes=1, key="b")
    # The state is the one that the batch itself shows.
    shown = {
        str(batch["id"]): api.simulate_get(f"/v1/batches/{batch['id']}").json for batch in batches
    }
    for sort in ("created_at", "-created_at"):
        expected = ids(sorted_by(batches, sort, "id"))
        walked = walk(api, "/v1/batches", sort=sort)
        assert ids(walked) == expected
        assert {each["id"]: each["state"] for each in walked} == {
            batch_id: batch["state"] for batch_id, batch in shown.items()
        }
        for state in ("processing", "finished", "cancelled"):
            wanted = [each for each in expected if shown[each]["state"] == state]
            assert ids(walk(api, "/v1/batches", sort=sort, state=state)) == wanted
    path = f"/v1/batches/{batches[0]['id']}/items"
    walked = walk(api, path)
    assert [each["index"] for each in walked] == list(range(30))
    state = walked[0]["state"]
    assert walk(api, path, state=[state, "refused"]) == walked
    assert walk(api, path, state="refused") == []


def test_models_trainings_and_validations(api: Api, store: Store) -> None:
    add_stranger(store)
    rng = random.Random(4)

    def some(n_rows: int, **values: Any) -> list[Row]:
        return [
            {"id": uuid.uuid4(), "user_id": TEAM, "created_at": BEGIN + timedelta(days=k % 4)}
            | {name: value(k) if callable(value) else value for name, value in values.items()}
            for k in range(n_rows)
        ]

    models = some(
        15,
        name="m",
        version=str,
        sha256=lambda k: f"{k:064}",
        blob_key="models/x",
        header={"classes": ["a"]},
    )
    jobs: dict[str, Any] = {"state": lambda _: rng.choice(("pending", "completed", "failed"))}
    trainings = some(15, name="m", version=lambda k: k + 1, seed=0, **jobs)
    validations = some(15, model_id=models[0]["id"], **jobs)
    with store.transaction() as tx:
        tx.execute(insert(NoiseModel), models)
        tx.execute(insert(TrainingJob), trainings)
        tx.execute(insert(Validation), validations)
        other = {"id": uuid.uuid4(), "user_id": STRANGER}
        tx.execute(insert(NoiseModel), [models[0] | other | {"sha256": "1" * 64, "version": "x"}])
        tx.execute(insert(TrainingJob), [trainings[0] | other | {"version": 99}])
        tx.execute(insert(Validation), [validations[0] | other])
    for name, made in (("models", models), ("trainings", trainings), ("validations", validations)):
        for sort in ("created_at", "-created_at"):
            expected = sorted_by(made, sort, "id")
            assert ids(walk(api, f"/v1/{name}", sort=sort)) == ids(expected)
            if name != "models":
                failed = [each for each in expected if each["state"] == "failed"]
                assert ids(walk(api, f"/v1/{name}", sort=sort, state="failed")) == ids(failed)
    with store.reading() as tx:
        assert model_queries.model_in_use(tx) is None
