"""deploy/compose.yaml: each command, setting, port, file and volume in it exists."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url

from db.settings import PEPPER_VARIABLE, from_environment, known_variables
from services.cli.main import parser
from services.processes import server

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ("migrate", "api", "worker", "scheduler")
ONCE = ("secrets", "bucket", "migrate")
#: The folder of the secrets in the containers.
SECRETS = "/run/clamor"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets, as their script makes them."""
    folder = tmp_path_factory.mktemp("secrets")
    for _ in range(2):
        subprocess.run(["sh", DEPLOY / "compose/secrets.sh", folder], check=True, timeout=30)
    return folder


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a service mounts, and where; the first is empty for an unnamed volume."""
    parts = [each.split(":") for each in service.get("volumes", ())]
    return [(each[0], each[1]) if len(each) > 1 else ("", each[0]) for each in parts]


@pytest.mark.parametrize("role", ROLES)
def test_each_command_and_each_setting_exists(role: str) -> None:
    service = SERVICES[role]
    assert parser().parse_args(service["command"]).run
    names = {name for name in service["environment"] if not name.startswith("AWS_")}
    assert names <= set(known_variables())


@pytest.mark.parametrize("role", [role for role in ROLES if role != "migrate"])
def test_a_process_accepts_the_settings_with_their_files(role: str, secrets: Path) -> None:
    environment = {
        name: value.replace(SECRETS, str(secrets))
        for name, value in SERVICES[role]["environment"].items()
    }
    settings = from_environment(environment, required=[PEPPER_VARIABLE])
    assert (
        settings.s3_secret
        == json.loads((secrets / "s3/identities.json").read_text())["identities"][0]["credentials"][
            0
        ]["secretKey"]
    )
    assert make_url(settings.database_url).password == (secrets / "postgres-password").read_text()
    broker = (secrets / "rabbitmq/user.conf").read_text()
    [password] = re.findall(r"^default_pass = (\S+)$", broker, re.MULTILINE)
    assert f":{password}@rabbitmq:" in settings.amqp_url
    # The servers are services of this file.
    assert {make_url(settings.database_url).host, "rabbitmq"} <= set(SERVICES)
    assert environment["AWS_ENDPOINT_URL"] == "http://s3:8333"


def test_secrets_are_made_once_and_differ(secrets: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in secrets.rglob("*") if file.is_file()}
    assert len({content for content in before.values() if content}) == len(before) - 1
    script = DEPLOY / "compose/secrets.sh"
    subprocess.run(["sh", script, secrets], check=True, timeout=30)
    assert {file: file.read_bytes() for file in before} == before
    subprocess.run(["sh", script, tmp_path], check=True, timeout=30)
    assert (tmp_path / "key-pepper").read_bytes() != before[secrets / "key-pepper"]


def test_no_secret_is_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|PEPPER|URL_FILE", variable):
                assert value.startswith(f"{SECRETS}/"), (name, variable)


def test_each_file_of_a_secret_is_made_and_mounted(secrets: Path) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    for path in set(re.findall(rf"{SECRETS}/([\w/.*-]+)", text)):
        assert list(secrets.glob(path)), path
    for service in SERVICES.values():
        if f"{SECRETS}/" in json.dumps(service):
            assert ("secrets", SECRETS) in mounts(service)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_checked(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["image"].count(":") >= 1
    if name in ONCE:
        assert service.get("restart", "no") in ("no", "on-failure")
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
    if name in ROLES:
        assert service["read_only"]
        assert service["init"]
        assert service["cap_drop"] == ["ALL"]
        assert ("", "/tmp") in mounts(service)  # noqa: S108


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_refers_to_exists(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        is_once = wanted["condition"] == "service_completed_successfully"
        assert (other in ONCE) == is_once
        assert is_once or "healthcheck" in SERVICES[other]
    for source, _ in mounts(SERVICES[name]):
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
        elif source:
            assert source in COMPOSE["volumes"]


def test_every_volume_is_used() -> None:
    used = {source for service in SERVICES.values() for source, _ in mounts(service)}
    assert set(COMPOSE["volumes"]) <= used


def test_ports_are_those_that_processes_listen_on() -> None:
    probe_port = SERVICES["api"]["environment"]["CLAMOR_PROBE_ADDRESS"].rpartition(":")[2]
    api_port = parser().parse_args(SERVICES["api"]["command"]).port
    assert SERVICES["api"]["ports"] == [f"127.0.0.1:{api_port}:{api_port}"]
    for role in ("api", "worker", "scheduler"):
        asked = SERVICES[role]["healthcheck"]["test"][-1]
        assert f"http://127.0.0.1:{probe_port}/health/ready" in asked
    scraped = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())["scrape_configs"]
    configs = [config for each in scraped for config in each["dns_sd_configs"]]
    assert {config["names"][0] for config in configs} == {"api", "worker", "scheduler"}
    assert {str(config["port"]) for config in configs} == {probe_port}
    # Only on this machine.
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_an_upload_of_a_minute_ends_before_the_container_does() -> None:
    grace_s = int(SERVICES["api"]["stop_grace_period"].removesuffix("s"))
    assert grace_s >= server.DRAIN_S + 10
