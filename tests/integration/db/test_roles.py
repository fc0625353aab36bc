"""An owner that migrates, an application without DDL, and a reader, in another schema than public.

On the other tests' server, and on the embedded one, which is a later release.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dramatiq.brokers.stub import StubBroker
from psycopg import errors, sql
from sqlalchemy import func, select, table, text

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import (
    CheckHealth,
    CleanUp,
    CleanUpFailedSessions,
    CleanUpOldSessions,
    ExportSessionData,
    GenerateDailyReport,
    VacuumDatabase,
)
from actors.recovery import Recovery
from db import migrate
from db.migration.errors import MigrationError
from db.queries import request_queries, retention_queries, session_queries
from db.queries.request_queries import RequestRow
from db.settings import Settings
from db.store import Store
from services.cli.main import main
from services.http.rate_limits import RateLimiter
from tests.integration.training.models import train
from tests.support import accounts, labelled, recordings, servers
from tests.support.api import Api
from tests.support.clock import ask, findings
from tests.support.pipeline import add, handle, put_into, run_to_the_end
from tests.support.roles import WithRoles, with_roles
from tests.support.web import LOOPBACK

pytestmark = pytest.mark.integration

#: Postgres has MAINTAIN from here on.
MAINTAIN = 170_000


@pytest.fixture(scope="module", params=["found", "embedded"])
def roles(request: pytest.FixtureRequest) -> Iterator[WithRoles]:
    """Yield the roles of a database that the owner has migrated. The schema needs quotes."""
    with servers.database_of(request.param) as url, with_roles(url, schema='Clamor\'s "1"') as made:
        migrate.upgrade(made.owner_url)
        accounts.add_first(made.app_url)
        yield made


@pytest.fixture
def memory_settings(roles: WithRoles, tmp_path: Path) -> Settings:
    """Settings whose user is the application's role."""
    return Settings(
        database_url=roles.app_url,
        amqp_url="memory://",
        blob_url=(tmp_path / "blobs").as_uri(),
        key_pepper=accounts.PEPPER,
        secret_keys=accounts.SECRET_KEYS,
        backbone_url="off",
        private_networks=LOOPBACK,
    )


def version(roles: WithRoles) -> int:
    with psycopg.connect(roles.url) as connection:
        return connection.info.server_version


def count(runtime: Runtime, name: str) -> int:
    with runtime.store.reading() as tx:
        return int(tx.execute(select(func.count()).select_from(table(name))).scalar_one())


def test_the_tables_are_in_the_schema_and_as_the_models_say(roles: WithRoles) -> None:
    with psycopg.connect(roles.url) as connection:
        found = connection.execute(
            "SELECT DISTINCT schemaname, tableowner FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    assert found == [('Clamor\'s "1"', roles.names.owner)]
    assert migrate.drift(roles.owner_url) == []
    migrate.wait_until_migrated(roles.app_url)


def test_the_application_does_all_the_work(runtime: Runtime, api: Api, admin: Api) -> None:
    made = api.simulate_post(
        "/v1/webhooks", json={"url": "http://127.0.0.1:8099/hook", "all_sessions": True}
    )
    assert made.status_code == 201, made.text
    headers = {"Content-Type": "audio/flac", "Idempotency-Key": uuid.uuid4().hex}
    posted = api.simulate_post(
        "/v1/sessions", body=recordings.encode(recordings.demo()), headers=headers
    )
    assert posted.status_code == 202, posted.text
    done = run_to_the_end(runtime, uuid.UUID(posted.json["id"]))
    assert done.state == "completed", done.problem
    assert count(runtime, "noise_detections") > 0
    # The trigger's function finds its tables by the search path.
    assert count(runtime, "webhook_deliveries") == 1
    Recovery(runtime).round()

    day = datetime.now(UTC).date().isoformat()
    report = api.simulate_post("/v1/reports", json={"day": day, "time_zone": "UTC"})
    handle(runtime, GenerateDailyReport(report_id=uuid.UUID(report.json["id"])))
    shown = api.simulate_get(f"/v1/reports/{report.json['id']}").json
    assert shown["report"]["detections"]["by_type"]
    export = api.simulate_post("/v1/exports", json={"format": "csv"})
    handle(runtime, ExportSessionData(export_id=uuid.UUID(export.json["id"])))
    assert api.simulate_get(f"/v1/exports/{export.json['id']}").json["state"] == "completed"
    assert train(admin, runtime, *labelled.clips(), name="hums")["state"] == "completed"


def test_a_session_is_ended_under_another_search_path(roles: WithRoles) -> None:
    """As an administrator does, whose search path has no schema of Clamor."""
    ids = {"user": uuid.uuid4(), "webhook": uuid.uuid4(), "session": uuid.uuid4()}
    with psycopg.connect(roles.app_url) as app:
        app.execute("INSERT INTO users VALUES (%(user)s, 'path@example.org', 'path')", ids)
        app.execute(
            "INSERT INTO webhooks (id, user_id, url, all_sessions, secret, state)"
            " VALUES (%(webhook)s, %(user)s, 'https://example.org', true, 'secret', 'active')",
            ids,
        )
        app.execute(
            "INSERT INTO audio_sessions (id, user_id, file_name, recording_key, state)"
            " VALUES (%(session)s, %(user)s, 'a.wav', 'a', 'queued')",
            ids,
        )
    cancel = sql.SQL("UPDATE {} SET state = 'cancelled' WHERE id = %(session)s").format(
        sql.Identifier(roles.names.schema, "audio_sessions")
    )
    with psycopg.connect(roles.app_url) as app:
        app.execute("SET search_path = pg_temp")
        app.execute("CREATE TEMP TABLE webhook_deliveries (id uuid)")
        app.execute(cancel, ids)
    with psycopg.connect(roles.app_url) as app:
        [(kind,)] = app.execute(
            "SELECT type FROM webhook_deliveries WHERE session_id = %(session)s", ids
        ).fetchall()
        assert kind == "session.cancelled"
        app.execute("DELETE FROM audio_sessions WHERE id = %(session)s", ids)
        app.execute("DELETE FROM users WHERE id = %(user)s", ids)


def test_the_application_does_the_chores(runtime: Runtime) -> None:
    old = add(runtime, b"x")
    with runtime.store.transaction() as tx:
        ago = session_queries.clock(tx) - timedelta(days=99)
        put_into(tx, old, "completed", created_at=ago, finished_at=ago)
    assert ask(runtime, CleanUp(), force=True).state == "completed"
    for nudge in (CleanUpOldSessions(), CleanUpFailedSessions(), CheckHealth()):
        run = ask(runtime, nudge)
        assert run.state == "completed", run.problem
    checks = findings(run)["checks"]
    assert {name for name, check in checks.items() if not check["ok"]} <= {"disk", "scheduler"}
    with runtime.store.reading() as tx:
        found = tx.execute(text("SELECT count(*) FROM audio_sessions WHERE id = :id"), {"id": old})
        assert found.scalar_one() == 0
    row = dict.fromkeys(RequestRow._fields) | {
        "request_id": "r",
        "method": "GET",
        "route": "/",
        "status": 200,
        "duration_s": 0.1,
        "bytes_in": 0,
        "bytes_out": 0,
        "received_at": datetime.now(UTC),
    }
    with runtime.store.transaction() as tx:
        # The row's ID comes from a sequence.
        request_queries.add_requests(tx, [RequestRow(**row)])  # type: ignore[arg-type]
    limiter = RateLimiter(runtime.store, per_s=1.0, burst_s=1.0)
    limiter.settle()


def test_the_application_vacuums_where_postgres_can_allow_it(
    runtime: Runtime, roles: WithRoles
) -> None:
    with runtime.store.reading() as tx:
        tables = set(retention_queries.tables(tx))
    assert {"audio_sessions", "alembic_version"} <= tables
    run = ask(runtime, VacuumDatabase())
    if version(roles) >= MAINTAIN:
        assert run.state == "completed", run.problem
        assert set(findings(run)["tables"]) == tables
    else:
        assert run.problem is not None
        assert run.problem["code"] == "vacuum-skipped"
        assert all(table in run.problem["detail"] for table in tables)


def test_the_owner_vacuums(memory_settings: Settings, roles: WithRoles) -> None:
    settings = replace(memory_settings, database_url=roles.owner_url)
    runtime = Runtime(settings, broker.setup(settings))
    try:
        run = ask(runtime, VacuumDatabase())
    finally:
        runtime.close()
    assert run.state == "completed", run.problem
    assert "audio_sessions" in findings(run)["tables"]


DDL = [
    "CREATE TABLE mine (x int)",
    "CREATE TABLE public.mine (x int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE INDEX ON users (name)",
    "ALTER TABLE users ADD COLUMN x int",
    "DROP TABLE users",
    "DROP TRIGGER queue_webhook_deliveries ON audio_sessions",
    "TRUNCATE users CASCADE",
    "CREATE ROLE mine",
]


@pytest.mark.parametrize("statement", DDL)
def test_the_application_changes_no_definition(roles: WithRoles, statement: str) -> None:
    with (
        psycopg.connect(roles.app_url, autocommit=True) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


REVISION_CHANGES = [
    "UPDATE alembic_version SET version_num = 'x'",
    "INSERT INTO alembic_version VALUES ('x')",
    "DELETE FROM alembic_version",
]


@pytest.mark.parametrize("statement", REVISION_CHANGES)
@pytest.mark.parametrize("is_granted_again", [False, True])
def test_the_application_reads_the_revision_and_does_not_change_it(
    roles: WithRoles, statement: str, is_granted_again: bool
) -> None:
    if is_granted_again:
        roles.grant()
    with psycopg.connect(roles.app_url, autocommit=True) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        assert found == [(migrate.head(),)]
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO turns SELECT * FROM turns", "UPDATE users SET name = name", "DELETE FROM users"],
)
def test_the_reader_reads_and_does_not_write(roles: WithRoles, statement: str) -> None:
    with psycopg.connect(roles.reader_url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_stat_user_tables ORDER BY relname"
        ).fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            connection.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(table)))
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute(statement.encode())
        connection.execute("SET default_transaction_read_only = off")
        for refused in (statement, *DDL):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(refused.encode())


def test_a_table_of_a_later_migration_needs_no_grant(roles: WithRoles) -> None:
    with psycopg.connect(roles.owner_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE later (id serial, x int)")
        try:
            with psycopg.connect(roles.app_url) as app:
                app.execute("INSERT INTO later (x) VALUES (1)")
                app.execute("UPDATE later SET x = 2")
                app.commit()
                with pytest.raises(errors.InsufficientPrivilege):
                    app.execute("TRUNCATE later")
            with psycopg.connect(roles.reader_url) as reader:
                assert reader.execute("SELECT id, x FROM later").fetchone() == (1, 2)
        finally:
            owner.execute("DROP TABLE later")


def privileges(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return [
            connection.execute(query.encode()).fetchall()
            for query in (
                "SELECT oid, relowner, relacl FROM pg_class ORDER BY oid",
                "SELECT oid, nspacl FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY oid",
                "SELECT oid, proowner, proacl FROM pg_proc ORDER BY oid",
                "SELECT oid, defaclacl FROM pg_default_acl ORDER BY oid",
                "SELECT rolname, setconfig FROM pg_db_role_setting"
                " JOIN pg_roles ON pg_roles.oid = setrole ORDER BY rolname",
            )
        ]


def test_granting_again_changes_nothing(roles: WithRoles) -> None:
    before = privileges(roles.url)
    roles.grant()
    assert privileges(roles.url) == before


def test_the_owner_takes_over_an_earlier_installation(postgres_url: str) -> None:
    with servers.database(postgres_url) as url:
        migrate.upgrade(url)
        accounts.add_first(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE of_somebody_else (x int)")
        with with_roles(url) as roles, psycopg.connect(roles.owner_url) as owner:
            found = owner.execute(
                "SELECT DISTINCT tableowner = current_user FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'of_somebody_else'"
            ).fetchall()
            assert found == [(True,)]
            owner.execute("ALTER TABLE users ADD COLUMN x int")
            owner.execute("ALTER FUNCTION queue_webhook_deliveries() COST 200")
            owner.rollback()
            store = Store(roles.app_url, pool_size=1)
            with store.transaction() as tx:
                accounts.add_user(tx, uuid.uuid4(), "new@example.org")
            store.close()
            with pytest.raises(errors.InsufficientPrivilege):
                owner.execute("ALTER TABLE of_somebody_else ADD COLUMN y int")


def test_a_role_that_may_not_grant_changes_nothing(roles: WithRoles) -> None:
    before = privileges(roles.url)
    other = WithRoles(roles.app_url, roles.names)
    with pytest.raises(MigrationError, match="a superuser in CLAMOR_MIGRATION_URL"):
        other.grant()
    assert privileges(roles.url) == before


def test_a_schema_of_the_url_is_as_good(
    postgres_url: str, memory_settings: Settings, memory: StubBroker
) -> None:
    with servers.database(postgres_url) as database:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA elsewhere")
        url = f"{database}?options=-csearch_path%3Delsewhere"
        migrate.upgrade(url)
        assert migrate.drift(url) == []
        accounts.add_first(url)
        runtime = Runtime(replace(memory_settings, database_url=url), memory)
        try:
            done = run_to_the_end(runtime, add(runtime, recordings.encode(recordings.demo())))
            assert done.state == "completed", done.problem
            run = ask(runtime, VacuumDatabase())
            assert run.state == "completed", run.problem
            assert "audio_sessions" in findings(run)["tables"]
        finally:
            runtime.close()
        with psycopg.connect(database) as connection:
            found = connection.execute("SELECT DISTINCT schemaname FROM pg_stat_user_tables")
            assert found.fetchall() == [("elsewhere",)]


def test_the_command_prints_the_sql_and_runs_it(
    roles: WithRoles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = roles.names
    command = ["migrate", "--grant", "--owner-role", names.owner, "--app-role", names.app]
    command += ["--read-role", names.reader, "--schema", names.schema]
    monkeypatch.setenv("CLAMOR_STATEMENT_TIMEOUT_S", "12")
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f'ALTER ROLE "{names.app}" SET "statement_timeout" = \'12000\';' in printed
    before = privileges(roles.url)
    try:
        with psycopg.connect(roles.url, autocommit=True) as connection:
            connection.execute(printed.encode())
        with psycopg.connect(roles.app_url) as connection:
            assert connection.execute("SHOW statement_timeout").fetchone() == ("12s",)
        monkeypatch.delenv("CLAMOR_STATEMENT_TIMEOUT_S")
        monkeypatch.setenv("DATABASE_URL", roles.url)
        monkeypatch.setenv("AMQP_URL", "memory://")
        monkeypatch.setenv("BLOB_URL", "file:///unused")
        assert main([*command, "--apply"]) == 0
    finally:
        roles.grant()
    assert privileges(roles.url) == before
    monkeypatch.setenv("CLAMOR_DATABASE_POOLER", "transaction")
    for refused in (["migrate"], [*command, "--apply"]):
        assert main(refused) == 2
        assert "migrations need the URL of Postgres itself" in capsys.readouterr().err
