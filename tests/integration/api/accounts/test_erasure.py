"""An erased user leaves no row and no blob."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.recovery import Recovery
from db.blobs.keys import clip_key, recording_key, training_prefix, upload_key
from db.ids import new_id
from db.queries import model_queries, session_queries
from db.store import Store
from db.tables.base import Base
from db.tables.models import Promotion
from db.tables.requests import APIRequest, RequestMinute
from db.tables.retention import KeptClip
from db.tables.training import TrainingClip
from services.api.accounts import erasure
from services.cli import main as cli
from tests.support import accounts, every_table
from tests.support.api import Api
from tests.support.example_rows import JOB, MODEL, SESSION, USER

pytestmark = pytest.mark.integration

EMAIL = "noise@example.org"
OTHER_JOB, SEVERAL = uuid.uuid4(), 120


def tables_with(store: Store, *words: object) -> set[str]:
    """Return the tables with a row that contains one of some words."""
    asked = {"words": [f"%{word}%" for word in words]}
    with store.transaction() as tx:
        return {
            name
            for name in Base.metadata.tables
            if tx.execute(
                text(f"SELECT 1 FROM {name} t WHERE t::text LIKE ANY (:words) LIMIT 1"),  # noqa: S608
                asked,
            ).first()
        }


@pytest.fixture
def everything(runtime: Runtime) -> list[uuid.UUID]:
    """A row of a user in every table, and rows of others about their sessions."""
    store, blobs = runtime.store, runtime.blobs
    every_table.fill(store, blobs)
    ids = [SESSION, *(new_id() for _ in range(SEVERAL))]
    clip_id = new_id()
    for key in (
        *map(recording_key, ids),
        clip_key(clip_id),
        f"{training_prefix(JOB)}0",
        upload_key(new_id(), USER),
        upload_key(new_id(), accounts.TEAM),
    ):
        blobs.put(key, b"sound")
    with store.transaction() as tx:
        for session_id in ids[1:]:
            session_queries.add_session(
                tx,
                id=session_id,
                user_id=USER,
                file_name="a secret.wav",
                recording_key=recording_key(session_id),
            )
        now = session_queries.clock(tx)
        clip = {"noise_type": "rain", "confidence": 0.5, "start_s": 0.0, "end_s": 1.0}
        tx.add(
            KeptClip(
                id=clip_id,
                user_id=USER,
                session_id=new_id(),
                file_name="a secret.wav",
                sent_at=now,
                blob_key=clip_key(clip_id),
                **clip,
            )
        )
        tx.add(
            APIRequest(
                request_id="b",
                method="GET",
                route="/v1/sessions",
                status=200,
                duration_s=0.1,
                bytes_in=0,
                bytes_out=2,
                user_id=USER,
                session_id=SESSION,
            )
        )
        tx.add(
            RequestMinute(
                minute=now, key_id="b", user_id=USER, requests=1, errors=0, bytes_in=0, bytes_out=2
            )
        )
        tx.execute(text("UPDATE turns SET lane = :user"), {"user": USER})
        # Others have learned from the user's recordings.
        row = {"file_name": "a secret.wav", "label": "rain", "source": "a"}
        model_queries.add_training(
            tx,
            [{**row, "session_id": SESSION}],  # type: ignore[typeddict-item]
            id=OTHER_JOB,
            user_id=accounts.TEAM,
            name="others",
            seed=0,
        )
        other = model_queries.register_model(
            tx, name="others", version="1", sha256="f" * 64, header={}, blob_key="models/other"
        )
        tx.execute(
            text("UPDATE training_jobs SET model_id = :model, state = 'completed' WHERE id = :id"),
            {"model": other, "id": OTHER_JOB},
        )
        tx.execute(
            text("UPDATE training_clips SET outcome = 'used' WHERE job_id = :id"),
            {"id": OTHER_JOB},
        )
        labelled = {"kind": "clips", "recordings": [{"file": "a", "session_id": str(SESSION)}]}
        model_queries.add_validation(
            tx,
            id=new_id(),
            user_id=accounts.TEAM,
            model_id=other,
            labelled=labelled,  # type: ignore[arg-type]
            set_sha256="0",
        )
    return ids


def test_no_row_and_no_blob_of_an_erased_user_remains(
    runtime: Runtime, admin: Api, everything: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several calls, each of one page.
    monkeypatch.setattr(erasure, "LASTS_S", 0.0)
    receipts: list[Any] = []
    while not receipts or not receipts[-1]["done"]:
        answered = admin.simulate_delete(f"/v1/users/{USER}")
        assert answered.status_code == 200, answered.text
        receipts.append(answered.json)
    assert len(receipts) > 3
    assert admin.simulate_delete(f"/v1/users/{USER}").status_code == 404
    # Each round removes the blobs of 200 rows.
    for _ in range(3):
        Recovery(runtime).round()
    assert tables_with(runtime.store, USER, EMAIL, "secret", *everything) <= {"removed_blobs"}
    rows = {
        name: sum(each["rows"].get(name, 0) for each in receipts) for name in receipts[0]["rows"]
    }
    assert rows["audio_sessions"] == len(everything)
    everywhere = set().union(*(each["rows"] for each in receipts))
    assert {"users", "api_keys", "kept_clips", "api_requests", "turns", "validations"} <= everywhere
    left = runtime.blobs.keys("")
    assert not [key for key in left if str(USER) in key or key.startswith(("clips/", "sessions/"))]
    assert [key for key in left if key.startswith("uploads/")]
    with runtime.store.transaction() as tx:
        learned = tx.scalars(text("SELECT id FROM noise_models WHERE name = 'others'")).one()
        clip = tx.get_one(TrainingClip, (OTHER_JOB, 0))
    named = {model for each in receipts for model in each["trained_models"]}
    assert str(learned) in named
    assert (clip.session_id, clip.file_name, clip.label) == (None, "erased", "rain")
    # The model of the user is the one in use.
    assert receipts[-1]["models_in_use"] == [str(MODEL)]


def test_models_that_are_not_in_use_leave_with_their_user(
    runtime: Runtime, admin: Api, everything: list[uuid.UUID]
) -> None:
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM promotions"))
        other = tx.scalars(text("SELECT id FROM noise_models WHERE name = 'others'")).one()
        tx.add(Promotion(model_id=other, forced=False, comparison={}))
    receipts = [admin.simulate_delete(f"/v1/users/{USER}").json for _ in range(1)]
    while not receipts[-1]["done"]:
        receipts.append(admin.simulate_delete(f"/v1/users/{USER}").json)
    assert receipts[-1]["models_in_use"] == []
    assert admin.simulate_get(f"/v1/models/{MODEL}").status_code == 404


def test_a_user_with_a_session_under_legal_hold_stays(
    runtime: Runtime, admin: Api, everything: list[uuid.UUID]
) -> None:
    admin.simulate_put(f"/v1/sessions/{SESSION}/hold")
    refused = admin.simulate_delete(f"/v1/users/{USER}")
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/under-legal-hold")
    assert admin.simulate_get(f"/v1/users/{USER}").json["disabled_at"] is None


def test_an_administrator_is_not_erased_with_their_own_key(admin: Api) -> None:
    refused = admin.simulate_delete(f"/v1/users/{accounts.ADMIN}")
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/own-user")


def test_the_command_counts_first(
    runtime: Runtime,
    everything: list[uuid.UUID],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("database_url", "blob_url", "amqp_url"):
        monkeypatch.setenv(name.upper(), getattr(runtime.settings, name))
    monkeypatch.setenv("CLAMOR_KEY_PEPPER", accounts.PEPPER)
    assert cli.main(["user", "erase", EMAIL]) == 0
    assert f"{len(everything)} sessions" in capsys.readouterr().err
    assert cli.main(["user", "erase", EMAIL, "--yes"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert (receipt["done"], receipt["rows"]["audio_sessions"]) == (True, len(everything))
    assert tables_with(runtime.store, USER, EMAIL) <= {"removed_blobs"}
