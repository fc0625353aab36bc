"""Periodic jobs as seen by an administrator and an operator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.execution.runtime import Runtime
from actors.messaging.messages import CheckHealth
from actors.scheduling import jobs
from db.queries import job_run_queries, session_queries
from db.settings import Settings
from services.cli import main as cli
from tests.support.api import Api
from tests.support.pipeline import handle

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_clock() -> None:
    """Override the fixture: these tests need the periodic jobs."""


@pytest.fixture
def environment(memory_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("database_url", "amqp_url", "blob_url"):
        monkeypatch.setenv(name.upper(), getattr(memory_settings, name))


def test_jobs_are_listed_run_and_looked_at(admin: Api, runtime: Runtime) -> None:
    listed = admin.simulate_get("/v1/jobs").json["items"]
    assert [each["name"] for each in listed] == [job.name for job in jobs.JOBS]
    assert {each["latest_run"] for each in listed} == {None}
    assert all(each["next_at"] > "2026" for each in listed)

    asked = admin.simulate_post("/v1/jobs/health_check/runs", json={"options": {"a": 1}})
    assert (asked.status_code, asked.json["state"]) == (202, "pending")
    assert (asked.json["source"], asked.json["options"]) == ("person", {"a": 1})
    for _ in range(2):
        handle(runtime, CheckHealth())
    runs = admin.simulate_get(asked.headers["location"]).json["items"]
    assert [run["state"] for run in runs] == ["completed", "completed"]
    assert runs[0]["id"] == asked.json["id"]
    assert runs[0]["result"]["healthy"]
    newest = admin.simulate_get(asked.headers["location"], params={"limit": 1})
    assert newest.json["items"] == runs[:1]
    [health] = [
        each
        for each in admin.simulate_get("/v1/jobs").json["items"]
        if each["name"] == "health_check"
    ]
    assert health["latest_run"] == runs[0]


def test_a_job_that_is_not_there_is_not_found(admin: Api) -> None:
    for method in ("GET", "POST"):
        got = admin.simulate_request(method, "/v1/jobs/make_coffee/runs")
        assert (got.status_code, got.json["type"]) == (404, "/problems/job-not-found")
    # An actor without a schedule is not a job either.
    assert admin.simulate_post("/v1/jobs/detect_span/runs").status_code == 404


@pytest.mark.usefixtures("environment")
def test_the_operator_sees_the_schedule(
    runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["schedule"]) == 0
    shown = capsys.readouterr().out
    assert "never" in shown
    handle(runtime, CheckHealth())
    capsys.readouterr()
    assert cli.main(["schedule", "--json"]) == 0
    listed: list[Any] = json.loads(capsys.readouterr().out)
    [health] = [each for each in listed if each["name"] == "health_check"]
    assert (health["latest_run"]["state"], health["cron"]) == ("completed", "0 * * * *")
    with runtime.store.transaction() as tx:
        run_id = job_run_queries.add_run(tx, "clean_up", session_queries.clock(tx), source="person")
        row = job_run_queries.get_run(tx, run_id) if run_id else None
        assert row is not None
        row.state, row.problem = "failed", {"code": "x", "detail": "the disk is full"}
    assert cli.main(["schedule", "--json"]) == 1
    assert "the disk is full" in capsys.readouterr().out


@pytest.mark.usefixtures("environment")
def test_a_job_or_an_option_that_is_none_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schedule", "run", "make_coffee"]) == 2
    assert "make_coffee" in capsys.readouterr().err
    assert cli.main(["schedule", "run", "health_check", "--option", "dry_run"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err
