"""Settings are read once, rejected with clear errors, and never echoed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from db.connection_options import ConnectionOptions
from db.settings import (
    ROOT_HOME,
    Settings,
    SettingsError,
    backbone_url,
    connection_options,
    from_environment,
    home_folder,
    known_variables,
    migration_url,
)

GIVEN = {
    "DATABASE_URL": "postgresql://clamor:secret@db/clamor",
    "AMQP_URL": "memory://",
    "BLOB_URL": "file:///srv/blobs",
}


def test_defaults() -> None:
    settings = from_environment(GIVEN)
    assert settings.in_memory_broker
    assert settings.lease_s > settings.recovery_s


@pytest.mark.parametrize("variable", sorted(GIVEN))
def test_a_missing_one_is_named(variable: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable} is not set"):
        from_environment(GIVEN | {variable: " "})


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan"])
def test_a_wrong_one_is_named_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^CLAMOR_LEASE_S cannot be read: ") as caught:
        from_environment(GIVEN | {"CLAMOR_LEASE_S": text})
    assert text not in str(caught.value)


@pytest.mark.parametrize("rows", ["RUNS", "BATCHES", "REPORTS", "TRAININGS", "VALIDATIONS"])
def test_zero_days_keep_rows_and_fewer_are_refused(rows: str) -> None:
    variable = f"CLAMOR_KEEP_{rows}_DAYS"
    days = getattr(from_environment(GIVEN | {variable: "0"}), f"keep_{rows.lower()}_days")
    assert days == 0
    with pytest.raises(SettingsError, match=rf"^{variable} cannot be read: must be a number"):
        from_environment(GIVEN | {variable: "-1"})


@pytest.mark.parametrize("variable", ["CLAMOR_KEEP_REQUESTS_DAYS", "CLAMOR_KEEP_RUNS_DAYS"])
@pytest.mark.parametrize("text", ["36501", "1e300", "inf", "nan"])
def test_an_age_beyond_all_dates_is_refused(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable} cannot be read: must be a number"):
        from_environment(GIVEN | {variable: text})


@pytest.mark.parametrize("url", ["/srv/blobs", "file://srv/blobs", "file://", "file:///", "bucket"])
def test_a_folder_without_its_scheme_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^BLOB_URL cannot be read: it must be file:///"):
        from_environment(GIVEN | {"BLOB_URL": url})


def test_the_url_of_migrations_needs_no_other_setting() -> None:
    owner = "postgresql://owner:secret@db/clamor"
    assert migration_url({"DATABASE_URL": " postgresql://db/clamor "}) == "postgresql://db/clamor"
    both = {"DATABASE_URL": "postgresql://db/clamor", "CLAMOR_MIGRATION_URL": owner}
    assert migration_url(both) == owner
    with pytest.raises(SettingsError, match=r"^DATABASE_URL is not set"):
        migration_url({})
    assert "secret" not in repr(from_environment(GIVEN | {"CLAMOR_MIGRATION_URL": owner}))


@pytest.mark.parametrize(
    "text",
    [
        "hidden",
        "hidden@db/x",
        "mysql://u:hidden@db/x",
        "postgresql://u:hidden@db:port/x",
        "postgresql://u:a@hidden@db/x",
    ],
)
@pytest.mark.parametrize("variable", ["DATABASE_URL", "CLAMOR_MIGRATION_URL"])
def test_a_url_of_no_database_is_refused_and_not_repeated(variable: str, text: str) -> None:
    for read in (from_environment, migration_url):
        with pytest.raises(SettingsError, match=rf"^{variable} cannot be read: ") as caught:
            read(GIVEN | {variable: text})
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("password", ["", ":a%40b", ":a#b", ":a/b?c:d"])
def test_a_url_of_a_database_may_have_any_other_password(password: str) -> None:
    url = f"postgresql://u{password}@db:6432/x?sslmode=require"
    assert from_environment(GIVEN | {"DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AMQP_URL", "hidden"),
        ("AMQP_URL", "http://u:hidden@mq/"),
        ("AMQP_URL", "amqp://u:hidden@mq:port/"),
        ("AMQP_URL", "amqp://u:hidden@mq/?heartbeat=x"),
        ("AMQP_URL", "amqps://u:hidden@mq/?ssl_options={"),
        ("AMQP_URL", "amqps://u:hidden@mq/?ssl_options=[]"),
        ("AMQP_URL", "memory"),
        ("BLOB_URL", "/srv/hidden"),
        ("BLOB_URL", "file://hidden/srv"),
        ("BLOB_URL", "s3://"),
        ("BLOB_URL", "s3://u:hidden@bucket"),
        ("BLOB_URL", "s4://hidden"),
        ("CLAMOR_KEY_PEPPER", "hidden"),
        ("CLAMOR_KEY_PEPPER", "CHANGE_ME"),
        ("CLAMOR_LOG_LEVEL", "hidden"),
        ("CLAMOR_RABBITMQ_API_URL", "hidden:15672"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "hidden:4318"),
    ],
)
def test_another_value_is_refused_in_one_line_and_not_repeated(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable} cannot be read: it must ") as caught:
        from_environment(GIVEN | {variable: text})
    assert "hidden" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_certificate_that_is_missing_is_the_fault_of_the_url() -> None:
    url = "amqps://u:hidden@mq/?ssl_options={'ca_certs':'/nowhere'}"
    with pytest.raises(SettingsError, match=r"^AMQP_URL cannot be read: its ssl_options must name"):
        from_environment(GIVEN | {"AMQP_URL": url})


@pytest.mark.parametrize("url", ["amqps://u:a%40b@mq:5671/%2Fvhost?heartbeat=30", "amqp://mq"])
def test_any_url_of_a_broker_may_be_given(url: str) -> None:
    assert from_environment(GIVEN | {"AMQP_URL": url}).amqp_url == url


def test_every_fault_has_a_line() -> None:
    given = {
        "BLOB_URL": "file:///srv/blobs",
        "CLAMOR_LEASES": "3",
        "CLAMOR_XYZ": "",
        "CLAMOR_LEASE_S": "soon",
    }
    with pytest.raises(SettingsError) as caught:
        from_environment(given, required=["CLAMOR_KEY_PEPPER"])
    assert str(caught.value).splitlines() == [
        "CLAMOR_LEASES is not a setting (did you mean CLAMOR_LEASE_S?); see docs/settings.md",
        "CLAMOR_XYZ is not a setting; see docs/settings.md",
        "DATABASE_URL is not set; see docs/settings.md",
        "AMQP_URL is not set; see docs/settings.md",
        "CLAMOR_KEY_PEPPER is not set; see docs/settings.md",
        "CLAMOR_LEASE_S cannot be read: it must be a number",
    ]


@pytest.mark.parametrize(
    "variable", [name for name in known_variables() if name.startswith("CLAMOR_")]
)
def test_a_variable_with_a_letter_missing_is_refused_with_its_right_name(variable: str) -> None:
    near = f"{variable[:-2]}{variable[-1]}"
    with pytest.raises(SettingsError, match=rf"^{near} is not a setting \(did you mean CLAMOR_"):
        from_environment(GIVEN | {near: "1"})


def test_variables_that_kubernetes_adds_for_a_service_are_no_faults() -> None:
    added = {
        "CLAMOR_SERVICE_HOST": "10.0.0.1",
        "CLAMOR_SERVICE_PORT": "80",
        "CLAMOR_SERVICE_PORT_HTTP": "80",
        "CLAMOR_PORT": "tcp://10.0.0.1:80",
        "CLAMOR_PORT_80_TCP": "tcp://10.0.0.1:80",
        "CLAMOR_PORT_80_TCP_ADDR": "10.0.0.1",
        "CLAMOR_API_PORT": "tcp://10.0.0.2:80",
    }
    assert from_environment(GIVEN | added) == from_environment(GIVEN)


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("postgresql://db/clamor\n")
    others = {name: text for name, text in GIVEN.items() if name != "DATABASE_URL"}
    by_file = {"DATABASE_URL_FILE": str(file)}
    assert from_environment(others | by_file).database_url == "postgresql://db/clamor"
    assert migration_url(by_file) == "postgresql://db/clamor"
    with pytest.raises(SettingsError, match=r"^DATABASE_URL cannot be read: it must be set alone"):
        from_environment(GIVEN | by_file)
    file.write_text("mysql://u:hidden@db/x")
    with pytest.raises(SettingsError, match=r"^DATABASE_URL cannot be read: ") as caught:
        from_environment(others | by_file)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff", b"x" * 100_000])
def test_a_file_without_a_secret_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "pepper"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        SettingsError, match=rf"^CLAMOR_KEY_PEPPER .* its file {file} must "
    ) as told:
        from_environment(GIVEN | {"CLAMOR_KEY_PEPPER_FILE": str(file)})
    assert len(str(told.value).splitlines()) == 1


def test_only_a_secret_may_be_in_a_file() -> None:
    with pytest.raises(SettingsError, match=r"^CLAMOR_LEASE_S_FILE is not a setting"):
        from_environment(GIVEN | {"CLAMOR_LEASE_S_FILE": "/lease"})


@pytest.mark.parametrize("text", ["session", "Transaction", "secret", "on"])
def test_another_pooler_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"must be none or transaction$") as caught:
        from_environment(GIVEN | {"CLAMOR_DATABASE_POOLER": text})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "86401"])
def test_a_timeout_is_above_zero_and_at_most_a_day(text: str) -> None:
    for variable in ("CLAMOR_STATEMENT_TIMEOUT_S", "CLAMOR_POOL_TIMEOUT_S"):
        with pytest.raises(SettingsError, match=rf"^{variable} cannot be read: must be"):
            from_environment(GIVEN | {variable: text})


def test_the_options_of_connections() -> None:
    assert from_environment(GIVEN).connection_options("x") == ConnectionOptions(
        application_name="x"
    )
    changed = {"CLAMOR_DATABASE_POOLER": "transaction", "CLAMOR_LOCK_TIMEOUT_S": "0.0001"}
    options = from_environment(GIVEN | changed).connection_options("clamor-api")
    assert options.in_transaction_mode
    # Not 0, which would disable it.
    assert options.session_parameters()["lock_timeout"] == "1"
    # SQL is printed without an installation, by the same settings.
    assert connection_options(changed).timeouts() == options.timeouts()
    assert connection_options({}) == ConnectionOptions()


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(from_environment(GIVEN | {"AWS_SECRET_ACCESS_KEY": "secret"}))
    assert isinstance(from_environment(GIVEN), Settings)


def test_private_networks_are_a_list() -> None:
    variable = "CLAMOR_ALLOW_PRIVATE_ADDRESSES"
    assert from_environment(GIVEN).private_networks == ()
    given = from_environment(GIVEN | {variable: "10.1.0.0/16, fd00::/8,"}).private_networks
    assert [str(network) for network in given] == ["10.1.0.0/16", "fd00::/8"]
    with pytest.raises(SettingsError, match=rf"^{variable} cannot be read: it must be networks"):
        from_environment(GIVEN | {variable: "10.1.2.3/16"})


def test_the_folder_of_the_standalone_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert home_folder({"CLAMOR_HOME": " /srv/clamor "}) == Path("/srv/clamor")
    assert home_folder({"CLAMOR_HOME": "~/clamor"}) == Path.home() / "clamor"
    for user, expected in ((0, ROOT_HOME), (1000, Path.home() / ".local" / "share" / "clamor")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        monkeypatch.setattr("sys.platform", "linux")
        assert home_folder({}) == expected
        assert Path(tempfile.gettempdir()) not in home_folder({}).parents


@pytest.mark.parametrize(
    "text",
    [
        "",
        "off",
        "https://mirror.example/x.pt",
        "http://10.0.0.1:8080/x.pt?token=x",
        "/srv/weights",
        "weights/x.pt",
        f"x.pt#sha256={'0aF' * 21}1",
    ],
)
def test_a_backbone_is_an_address_a_file_or_a_folder(text: str) -> None:
    given = {"CLAMOR_BACKBONE_URL": f" {text} "}
    assert from_environment(GIVEN | given).backbone_url == text
    # This works without an installation, too.
    assert backbone_url(given) == text


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/x.pt",
        "file:///x.pt",
        "http://",
        "https://[x",
        "https://x:y/",
        "#sha256=0",
        "x.pt#sha256=",
        "x.pt#sha256=secret",
        f"x.pt#sha256={'0' * 65}",
    ],
)
def test_another_backbone_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^CLAMOR_BACKBONE_URL cannot be read: .*must") as told:
        backbone_url({"CLAMOR_BACKBONE_URL": text})
    assert "secret" not in str(told.value)


def test_allowed_origins_are_a_list() -> None:
    variable = "CLAMOR_ALLOW_ORIGINS"
    given = from_environment(GIVEN | {variable: "https://a.example, http://localhost:3000"})
    assert given.allowed_origins == ("https://a.example", "http://localhost:3000")
    for wrong in ("*", "null", "a.example", "https://a.example/", "https://a.example,"):
        with pytest.raises(SettingsError, match=rf"^{variable} cannot be read: must be origins"):
            from_environment(GIVEN | {variable: wrong})
