"""``clean_up`` removes blobs only from its own database's store, and only after a delay."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import (
    CheckHealth,
    CleanUp,
    CleanUpFailedSessions,
    CleanUpOldSessions,
)
from db import ownership
from db.blobs.keys import OWNER, clip_key, recording_key, report_key, upload_key
from db.queries import orphan_queries
from db.settings import Settings
from services.api.admin import metrics
from services.cli import main as cli
from tests.support import s3, servers
from tests.support.api import client_of
from tests.support.clock import ask, findings, pass_days
from tests.support.pipeline import add

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def old_at_once(runtime: Runtime) -> None:
    """Make a blob without a row count as old at once."""
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)


def another(runtime: Runtime, url: str) -> Runtime:
    """Return a worker of another database over the same blobs."""
    settings = replace(runtime.settings, database_url=url)
    return Runtime(settings, broker.setup(settings))


@pytest.fixture
def restored(
    runtime: Runtime, postgres_url: str, database_url: str, drop_later: Any
) -> Iterator[Any]:
    """Return a factory that copies the current database and returns a worker of the copy."""
    with ExitStack() as stack:

        def restore() -> Runtime:
            # Postgres copies only a database without connections.
            runtime.store.engine.dispose()
            url = servers.new_database(postgres_url, copy_of=database_url)
            stack.callback(drop_later, url)
            made = another(runtime, url)
            stack.callback(made.close)
            return made

        yield restore


@pytest.fixture
def fresh(
    runtime: Runtime, postgres_url: str, migrated_url: str, drop_later: Any
) -> Iterator[Runtime]:
    """A worker of a new installation whose BLOB_URL points to the first one's store."""
    url = servers.new_database(postgres_url, copy_of=migrated_url)
    made = another(runtime, url)
    with made.store.transaction() as tx:
        tx.execute(text("UPDATE installation SET id = gen_random_uuid()"))
    yield made
    made.close()
    drop_later(url)


def stray(runtime: Runtime, n: int = 1) -> list[str]:
    """Add recordings without a row."""
    keys = [recording_key(uuid.uuid4()) for _ in range(n)]
    for key in keys:
        runtime.blobs.put(key, b"x")
    return keys


def stored(runtime: Runtime) -> set[str]:
    return {*runtime.blobs.keys("")} - {OWNER, *runtime.blobs.keys("models/")}


def refusal(runtime: Runtime, **options: Any) -> str:
    """Run a clean-up that must refuse; return the problem, which the health check shows too."""
    before = stored(runtime)
    run = ask(runtime, CleanUp(), **options)
    assert run.state == "failed"
    assert run.problem is not None
    assert stored(runtime) == before
    found = health(runtime)
    assert run.problem["detail"] in found["faults"]["installation"]
    assert run.problem["detail"].endswith(ownership.TAKE_OVER)
    return str(run.problem["code"])


def health(runtime: Runtime) -> dict[str, Any]:
    return findings(ask(runtime, CheckHealth()))


def cleaned(runtime: Runtime, **options: Any) -> tuple[int, int]:
    """Return how many blobs a run marked and how many it removed."""
    run = ask(runtime, CleanUp(), **options)
    assert run.state == "completed", run.problem
    result = findings(run)
    return result["marked"], result["orphans"]


# --- marks -------------------------------------------------------------------------------------


def test_an_orphan_is_marked_first_and_removed_a_week_later(runtime: Runtime) -> None:
    kept = {recording_key(add(runtime, b"x")) for _ in range(10)}
    [orphan] = stray(runtime)
    assert cleaned(runtime) == (1, 0)
    assert cleaned(runtime) == (0, 0)
    pass_days(runtime, 6.9)
    assert cleaned(runtime) == (0, 0)
    assert stored(runtime) == kept | {orphan}
    pass_days(runtime, 0.2)
    assert cleaned(runtime) == (0, 1)
    assert stored(runtime) == kept
    with runtime.store.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM orphan_blobs")).scalar_one() == 0


def test_a_blob_whose_row_is_there_again_loses_its_mark(runtime: Runtime) -> None:
    sessions = [add(runtime, b"x") for _ in range(10)]
    assert cleaned(runtime) == (0, 0)
    with runtime.store.transaction() as tx:
        [row] = tx.execute(
            text("DELETE FROM audio_sessions WHERE id = :id RETURNING *"), {"id": sessions[0]}
        ).mappings()
    assert cleaned(runtime) == (1, 0)
    pass_days(runtime, 5)
    back = {name: json.dumps(v) if isinstance(v, dict) else v for name, v in row.items()}
    names = ", ".join(back)
    insert = f"INSERT INTO audio_sessions ({names}) VALUES (:{', :'.join(back)})"  # noqa: S608
    with runtime.store.transaction() as tx:
        tx.execute(text(insert), back)
    assert cleaned(runtime) == (0, 0)
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM audio_sessions WHERE id = :id"), {"id": sessions[0]})
    # Its days are counted from here.
    assert cleaned(runtime) == (1, 0)
    pass_days(runtime, 5)
    assert cleaned(runtime) == (0, 0)
    pass_days(runtime, 3)
    assert cleaned(runtime) == (0, 1)


def test_a_blob_that_was_written_again_loses_its_mark(runtime: Runtime) -> None:
    for _ in range(10):
        add(runtime, b"x")
    [orphan] = stray(runtime)
    assert cleaned(runtime) == (1, 0)
    pass_days(runtime, 8)
    runtime.blobs.put(orphan, b"another")
    runtime.settings = replace(runtime.settings, orphan_s=3_600.0)
    assert cleaned(runtime) == (0, 0)
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)
    assert cleaned(runtime) == (1, 0)


def test_a_run_that_died_in_the_middle_has_marked_nothing(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run counts the blobs that it found as new."""
    for _ in range(30):
        add(runtime, b"x")
    assert cleaned(runtime) == (0, 0)
    stray(runtime, 40)

    def die(_age_s: float, prefix: str) -> Any:
        if prefix == "trainings/":
            raise OSError("the store is away")
        return keys_older_than(_age_s, prefix)

    keys_older_than = runtime.blobs.keys_older_than
    with monkeypatch.context() as patch:
        patch.setattr(runtime.blobs, "keys_older_than", die)
        assert ask(runtime, CleanUp()).state == "pending"
    with runtime.store.transaction() as tx:
        found, marked = tx.execute(
            text("SELECT count(*), count(marked_at) FROM orphan_blobs")
        ).one()
        tx.execute(text("UPDATE job_runs SET state = 'failed' WHERE state = 'pending'"))
    assert (found, marked) == (40, 0)
    assert refusal(runtime) == "too-many-orphans"


# --- the share ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_orphans", "refused"), [(20, False), (21, True)])
def test_more_than_20_files_and_a_tenth_are_refused(
    runtime: Runtime, n_orphans: int, refused: bool
) -> None:
    for _ in range(100):
        add(runtime, b"x")
    assert cleaned(runtime) == (0, 0)
    stray(runtime, n_orphans)
    if refused:
        assert refusal(runtime) == "too-many-orphans"
    else:
        assert cleaned(runtime) == (n_orphans, 0)


def test_many_files_that_are_less_than_a_tenth_are_marked(runtime: Runtime) -> None:
    for _ in range(250):
        add(runtime, b"x")
    assert cleaned(runtime) == (0, 0)
    stray(runtime, 25)
    assert cleaned(runtime) == (25, 0)
    # Marked blobs are not new: a second such night is judged by itself.
    stray(runtime, 25)
    assert cleaned(runtime) == (25, 0)


def test_with_force_they_are_marked_and_still_kept_for_a_week(runtime: Runtime) -> None:
    add(runtime, b"x")
    assert cleaned(runtime) == (0, 0)
    orphans = stray(runtime, 102)
    assert refusal(runtime) == "too-many-orphans"
    assert cleaned(runtime, force=True) == (102, 0)
    assert health(runtime)["healthy"]
    assert cleaned(runtime) == (0, 0)
    pass_days(runtime, 8)
    assert cleaned(runtime) == (0, 102)
    assert not stored(runtime) & {*orphans}


def test_leftovers_that_are_usual_do_not_count(runtime: Runtime) -> None:
    """Unclaimed uploads, and pages of regenerated reports."""
    assert cleaned(runtime) == (0, 0)
    for _ in range(30):
        runtime.blobs.put(upload_key(uuid.uuid4(), uuid.uuid4()), b"x")
        runtime.blobs.put(report_key(uuid.uuid4(), uuid.uuid4()), b"x")
    assert cleaned(runtime) == (60, 0)
    for _ in range(30):
        runtime.blobs.put(clip_key(uuid.uuid4()), b"x")
    assert refusal(runtime) == "too-many-orphans"


# --- ownership of the store --------------------------------------------------------------------


def test_the_first_look_at_an_empty_store_makes_it_ours(runtime: Runtime, fresh: Runtime) -> None:
    assert health(runtime)["healthy"]
    with runtime.store.transaction() as tx:
        installation = tx.execute(text("SELECT id FROM installation")).scalar_one()
    assert json.loads(runtime.blobs.get(OWNER))["installation_id"] == str(installation)
    # An empty store that is claimed still belongs to its first claimant.
    assert refusal(fresh) == "blob-store-not-ours"


def test_a_store_of_a_release_before_is_adopted_by_its_database_alone(
    runtime: Runtime, fresh: Runtime
) -> None:
    for _ in range(30):
        add(runtime, b"x")
    [orphan] = stray(runtime)
    # A recording posted to the new installation proves nothing.
    add(fresh, b"x")
    assert refusal(fresh) == "blob-store-not-ours"
    assert OWNER not in runtime.blobs.keys("")
    assert cleaned(runtime) == (2, 0)
    assert orphan in stored(runtime)
    assert refusal(fresh) == "blob-store-not-ours"


def test_young_files_without_a_row_decide_nothing(runtime: Runtime) -> None:
    """Their rows may be committed in a moment."""
    runtime.settings = replace(runtime.settings, orphan_s=3_600.0)
    [key] = stray(runtime)
    found = health(runtime)
    assert found["healthy"]
    assert found["checks"]["installation"] == {"ok": True, "owns_blobs": False}
    assert OWNER not in runtime.blobs.keys("")
    run = ask(runtime, CleanUp())
    assert run.state == "completed"
    assert "orphans" not in (run.result or {})
    runtime.blobs.delete(key)
    add(runtime, b"x")
    assert health(runtime)["checks"]["installation"] == {"ok": True, "owns_blobs": True}


def test_a_restored_dump_removes_nothing_of_the_living(runtime: Runtime, restored: Any) -> None:
    """Regression: the next clean-up removed recordings posted since the dump."""
    for _ in range(5):
        add(runtime, b"x")
    assert health(runtime)["healthy"]
    copy = restored()
    since = {recording_key(add(runtime, b"x")) for _ in range(3)}
    for _ in range(2):
        assert refusal(copy) == "blob-store-not-ours"
        for nudge in (CleanUpOldSessions(), CleanUpFailedSessions()):
            run = ask(copy, nudge)
            assert run.state == "failed"
            assert run.problem is not None
            assert "restored" in run.problem["detail"]
    assert since < stored(runtime)
    assert health(runtime)["healthy"]
    assert cleaned(runtime) == (0, 0)


def test_an_operator_gives_the_store_to_the_restored_database(
    runtime: Runtime, restored: Any
) -> None:
    for _ in range(5):
        add(runtime, b"x")
    [orphan] = stray(runtime)
    assert cleaned(runtime, force=True) == (1, 0)
    pass_days(runtime, 30)
    copy = restored()
    add(runtime, b"x")
    assert refusal(copy) == "blob-store-not-ours"
    # The dump's marks do not count: every blob without a row has its week from here.
    assert cleaned(copy, force=True) == (2, 0)
    assert orphan in stored(copy)
    assert health(copy)["healthy"]
    # The previous installation may still be running.
    assert refusal(runtime) == "blob-store-not-ours"


def test_a_damaged_owner_is_a_refusal(runtime: Runtime) -> None:
    runtime.blobs.put(OWNER, b"{")
    assert refusal(runtime) == "blob-store-not-ours"
    assert cleaned(runtime, force=True) == (0, 0)
    assert health(runtime)["healthy"]


def test_options_that_are_none_are_refused(runtime: Runtime) -> None:
    run = ask(runtime, CleanUp(), forec=True)
    assert run.state == "failed"
    assert run.problem is not None
    assert run.problem["code"] == "bad-options"


def test_any_role_may_ask_which_database_it_is(postgres_url: str, database_url: str) -> None:
    """An installation's role is not a superuser."""
    role = f"plain_{uuid.uuid4().hex[:8]}"
    engine = sqlalchemy.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {role}"))
        connection.execute(text(f"SET LOCAL ROLE {role}"))
        assert connection.execute(orphan_queries.DATABASE).scalar_one()
        connection.rollback()
    engine.dispose()


def test_the_command_and_the_metrics_say_it_too(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "FRESH_S", 0.0)
    api = client_of(runtime)
    for name in ("database_url", "amqp_url", "blob_url"):
        monkeypatch.setenv(name.upper(), getattr(runtime.settings, name))
    stray(runtime, 21)
    refusal(runtime)
    assert cli.main(["health"]) == 1
    assert "21 of 21" in " ".join(capsys.readouterr().out.split())
    assert 'clamor_health_ok{part="installation"} 0.0' in api.simulate_get("/metrics").text
    assert cleaned(runtime, force=True) == (21, 0)
    assert health(runtime)["healthy"]
    assert 'clamor_health_ok{part="installation"} 1.0' in api.simulate_get("/metrics").text


def test_a_bucket_is_kept_by_the_same_rules(
    memory_settings: Settings, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, restored: Any
) -> None:
    with s3.private_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        # The store reports times in whole seconds.
        settings = replace(
            memory_settings, blob_url=f"s3://{s3.BUCKET}/{uuid.uuid4()}", orphan_s=-2.0
        )
        in_bucket = Runtime(settings, broker.setup(settings))
        runtime.blobs, runtime.settings = in_bucket.blobs, settings
        in_bucket.close()
        sessions = {recording_key(add(runtime, b"x")) for _ in range(5)}
        assert cleaned(runtime) == (0, 0)
        copy = restored()
        assert refusal(copy) == "blob-store-not-ours"
        [orphan] = stray(runtime)
        assert cleaned(runtime) == (1, 0)
        assert orphan in stored(runtime)
        pass_days(runtime, 8)
        assert cleaned(runtime) == (0, 1)
        assert stored(runtime) == sessions
