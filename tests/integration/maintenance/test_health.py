"""The health check finds faults, stores its findings and reports them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import CheckHealth
from db.blobs.blob_store import Blobs, Room
from db.blobs.errors import StorageUnavailable
from db.queries import server_queries
from db.settings import Settings
from services.api.admin import metrics
from services.cli import main as cli
from tests.support import partitions
from tests.support.api import client_of
from tests.support.clock import ask, findings
from tests.support.pipeline import add
from tests.support.planted import plant_invalid_index

pytestmark = pytest.mark.integration


def check(runtime: Runtime) -> dict[str, Any]:
    run = ask(runtime, CheckHealth())
    assert run.state == "completed", run.problem
    return findings(run)


def test_all_is_well(runtime: Runtime) -> None:
    add(runtime, b"x")
    found = check(runtime)
    assert found["healthy"], found
    assert found["faults"] == {}
    assert {name for name, each in found["checks"].items() if each["ok"]} == {
        "database",
        "broker",
        "queues",
        "blobs",
        "installation",
        "disk",
        "model",
        "backbone",
        "scheduler",
        "partitions",
    }
    assert found["checks"]["disk"]["free_bytes"] > 0
    assert found["checks"]["model"]["model_id"] == str(runtime.shipped_model_id)
    database = found["checks"]["database"]
    assert database["oldest_unfinished_s"] >= 0
    assert database["oldest_transaction_s"] >= 0
    assert 0 < database["xid_share"] < 0.5
    assert database["invalid_indexes"] == []


def full_disk(_runtime: Runtime, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Blobs, "room", lambda _self: Room(free=1024**3, total=10 * 1024**3))


def blobs_away(_runtime: Runtime, patch: pytest.MonkeyPatch) -> None:
    def away(_self: Blobs) -> None:
        raise StorageUnavailable("the folder /somewhere/secret is not there")

    patch.setattr(Blobs, "check", away)


def damaged_model(runtime: Runtime, _patch: pytest.MonkeyPatch) -> None:
    model_id = runtime.shipped_model_id
    # Cached first: the check must read the stored model, not the copy in memory.
    runtime.model(model_id)
    with runtime.store.transaction() as tx:
        key = tx.execute(text("SELECT blob_key FROM noise_models")).scalar_one()
    runtime.blobs.put(key, runtime.blobs.get(key)[:-1] + b"?")


def late_work(runtime: Runtime, _patch: pytest.MonkeyPatch) -> None:
    add(runtime, b"x")
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET due_at = now() - interval '2 hours'"))


def no_partition(runtime: Runtime, _patch: pytest.MonkeyPatch) -> None:
    with runtime.store.transaction() as tx:
        names = sorted(partitions.names(runtime.settings.database_url))
        # The last months of one table.
        for name in [name for name in names if name.startswith("api_requests")][-3:]:
            tx.execute(text(f"DROP TABLE {name}"))


def no_partitions(runtime: Runtime, _patch: pytest.MonkeyPatch) -> None:
    with runtime.store.transaction() as tx:
        for name in partitions.names(runtime.settings.database_url):
            tx.execute(text(f"DROP TABLE {name}"))


def old_partition(runtime: Runtime, _patch: pytest.MonkeyPatch) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=90 + 31 + 7 + 1)
    partitions.add_since(runtime.settings.database_url, long_ago)


def old_transaction(_runtime: Runtime, patch: pytest.MonkeyPatch) -> None:
    of_server(patch, oldest_transaction_s=7 * 3_600.0)


def used_transaction_ids(_runtime: Runtime, patch: pytest.MonkeyPatch) -> None:
    of_server(patch, xid_share=0.61)


def of_server(patch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Change the findings of a query that a test cannot wait for."""
    read = server_queries.state
    patch.setattr(server_queries, "state", lambda tx: replace(read(tx), **changed))


def invalid_index(runtime: Runtime, _patch: pytest.MonkeyPatch) -> None:
    plant_invalid_index(runtime.settings.database_url)


@pytest.mark.parametrize(
    ("break_it", "part", "told"),
    [
        (old_transaction, "database", "7 hours"),
        (used_transaction_ids, "database", "61%"),
        (invalid_index, "database", "ix_planted; run REINDEX"),
        (full_disk, "disk", "1.0 GiB"),
        (blobs_away, "blobs", "unavailable"),
        (damaged_model, "model", "hash"),
        (late_work, "queues", "audio.process"),
        (no_partition, "partitions", "api_requests has no partition from"),
        (no_partitions, "partitions", "processing_metrics has no partition from"),
        (old_partition, "partitions", "past its retention"),
    ],
)
def test_what_is_wrong_is_told(
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[Runtime, pytest.MonkeyPatch], None],
    part: str,
    told: str,
) -> None:
    break_it(runtime, monkeypatch)
    found = check(runtime)
    assert not found["healthy"]
    assert list(found["faults"]) == [part]
    assert told in found["faults"][part]
    assert "secret" not in json.dumps(found)


def test_a_scheduler_that_is_silent_is_told(rabbit_settings: Settings) -> None:
    runtime = Runtime(rabbit_settings, broker.setup(rabbit_settings))
    assert check(runtime)["healthy"]
    with runtime.store.transaction() as tx:
        tx.execute(
            text(
                "UPDATE job_runs SET slot = slot - interval '3 hours',"
                " source = CASE source WHEN 'clock' THEN 'steward' ELSE source END,"
                " created_at = created_at - interval '3 hours'"
            )
        )
        # Recovery filled the current slot, as it did the others.
        tx.execute(
            text(
                "INSERT INTO job_runs (id, job, slot, source, state)"
                " VALUES (gen_random_uuid(), 'health_check', date_trunc('hour', now()),"
                " 'steward', 'completed')"
            )
        )
    found = check(runtime)
    runtime.close()
    assert list(found["faults"]) == ["scheduler"]


@pytest.fixture
def environment(memory_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("database_url", "amqp_url", "blob_url"):
        monkeypatch.setenv(name.upper(), getattr(memory_settings, name))


@pytest.mark.usefixtures("environment")
def test_the_command_says_it_by_its_exit_code(
    runtime: Runtime, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["health"]) == 1
    assert "no health check" in capsys.readouterr().err
    check(runtime)
    capsys.readouterr()
    assert cli.main(["health"]) == 0
    assert "scheduler" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        full_disk(runtime, patch)
        check(runtime)
    capsys.readouterr()
    assert cli.main(["health", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert list(shown["faults"]) == ["disk"]
    check(runtime)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE job_runs SET finished_at = finished_at - interval '3 hours'"))
    capsys.readouterr()
    assert cli.main(["health"]) == 1
    assert "too old" in capsys.readouterr().err


def test_the_figures_are_there_for_prometheus(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "FRESH_S", 0.0)
    api = client_of(runtime)
    assert "clamor_health_ok" not in api.simulate_get("/metrics").text
    full_disk(runtime, monkeypatch)
    check(runtime)
    told = api.simulate_get("/metrics").text
    assert 'clamor_health_ok{part="disk"} 0.0' in told
    assert 'clamor_health_ok{part="database"} 1.0' in told
    assert "clamor_health_checked_timestamp_seconds" in told
