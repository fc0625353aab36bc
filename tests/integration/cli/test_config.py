"""``clamor config check`` reaches each dependency, and says what it found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import sql

from db.settings import Settings
from services.cli.main import main
from tests.support import accounts, web
from tests.support.s3 import private_s3
from tests.support.tls_proxy import tls_proxy

#: A setting that is to be missing.
UNSET = ""


@pytest.fixture
def check(
    rabbit_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, dict[str, object]]]]:
    """Runs the command with changed settings; returns its code and what it found by part."""

    def run(**changed: str) -> tuple[int, dict[str, dict[str, object]]]:
        given = {
            "DATABASE_URL": rabbit_settings.database_url,
            "AMQP_URL": rabbit_settings.amqp_url,
            "BLOB_URL": rabbit_settings.blob_url,
            "CLAMOR_KEY_PEPPER": accounts.PEPPER,
            "CLAMOR_SECRET_KEYS": accounts.SECRET_KEYS[0],
            "CLAMOR_QUEUE_PREFIX": rabbit_settings.queue_prefix,
        }
        for name, value in (given | changed).items():
            monkeypatch.setenv(name, value)
        code = main(["config", "check", "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


Check = Callable[..., tuple[int, dict[str, dict[str, object]]]]


def test_it_shows_each_dependency(check: Check, rabbit_settings: Settings) -> None:
    code, found = check()
    assert code == 0
    assert all(each["ok"] for each in found.values())
    database, broker = str(found["database"]["found"]), str(found["broker"]["found"])
    assert database.startswith("Postgres ")
    assert "TLS" in database
    assert "schema b0" in database
    assert broker.startswith("RabbitMQ 3.")
    assert "no TLS" in broker
    assert "a folder" in str(found["blobs"]["found"])
    # It leaves nothing behind.
    folder = Path(rabbit_settings.blob_url.removeprefix("file://"))
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_it_shows_a_bucket_with_credentials_from_files(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with private_s3() as server:
        for name, value in server.environment.items():
            if name.startswith(("AWS_ACCESS", "AWS_SECRET")):
                file = tmp_path / name
                file.write_text(f"{value}\n")
                monkeypatch.setenv(f"{name}_FILE", str(file))
            else:
                monkeypatch.setenv(name, value)
        code, found = check(BLOB_URL="s3://clamor/x")
        assert (code, found["blobs"]["found"]) == (0, "bucket clamor, no TLS")
        (tmp_path / "AWS_SECRET_ACCESS_KEY").write_text("wrong")
        code, found = check(BLOB_URL="s3://clamor/x")
        assert (code, found["blobs"]["ok"]) == (1, False)


@pytest.mark.parametrize(
    ("variable", "part", "value"),
    [
        ("DATABASE_URL", "database", "postgresql://postgres:hidden@127.0.0.1:9/none"),
        ("AMQP_URL", "broker", "amqp://guest:hidden@127.0.0.1:9/"),
        ("CLAMOR_RABBITMQ_API_URL", "management API", "http://guest:hidden@127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "traces", "http://127.0.0.1:9"),
        ("CLAMOR_KEY_PEPPER", "pepper", UNSET),
        ("CLAMOR_SECRET_KEYS", "keys of secrets", UNSET),
    ],
)
def test_a_dependency_that_is_away_is_shown_beside_the_others(
    variable: str, part: str, value: str, check: Check
) -> None:
    code, found = check(**{variable: value})
    assert code == 1
    assert [name for name, each in found.items() if not each["ok"]] == [part]
    assert "hidden" not in json.dumps(found)


@contextmanager
def reader(url: str) -> Iterator[str]:
    """A role that may only read, in a database; yield its URL."""
    name = sql.Identifier(role := f"reader_{psycopg.conninfo.conninfo_to_dict(url)['dbname']}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        connection.execute(
            sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(name)
        )
        try:
            yield psycopg.conninfo.make_conninfo(url, user=role)
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_role_without_rights_is_named_with_its_tables(
    check: Check, rabbit_settings: Settings
) -> None:
    with reader(rabbit_settings.database_url) as conninfo:
        parts = psycopg.conninfo.conninfo_to_dict(conninfo)
        url = f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
        code, found = check(DATABASE_URL=url)
    assert (code, found["database"]["ok"]) == (1, False)
    assert "lacks SELECT, INSERT, UPDATE or DELETE on " in str(found["database"]["found"])
    assert "audio_sessions" in str(found["database"]["found"])


def test_tls_is_shown_and_a_certificate_of_another_is_refused(
    check: Check, rabbit_settings: Settings, tmp_path: Path
) -> None:
    certificate = web.certificate(tmp_path, "localhost")
    (tmp_path / "other").mkdir()
    another = web.certificate(tmp_path / "other", "localhost")
    database = psycopg.conninfo.conninfo_to_dict(rabbit_settings.database_url)
    broker = urlsplit(rabbit_settings.amqp_url)
    places = (
        (str(database["host"]), int(str(database["port"]))),
        (str(broker.hostname), broker.port or 5672),
    )
    with (
        tls_proxy(certificate, places[0], is_postgres=True) as of_database,
        tls_proxy(certificate, places[1], is_postgres=False) as of_broker,
    ):
        for authority, is_right in ((certificate, True), (another, False)):
            options = quote(repr({"ca_certs": str(authority)}))
            code, found = check(
                DATABASE_URL=f"postgresql://postgres@localhost:{of_database}/{database['dbname']}"
                f"?sslmode=verify-full&sslrootcert={authority}",
                AMQP_URL=f"amqps://guest:guest@localhost:{of_broker}/?ssl_options={options}",
            )
            assert code == (0 if is_right else 1)
            for part in ("database", "broker"):
                what = str(found[part]["found"])
                assert found[part]["ok"] is is_right, what
                assert (", TLS," in what) is is_right, what
                assert "no TLS" not in what
