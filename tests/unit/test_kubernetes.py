"""The manifests of Kubernetes, as they are applied: structure, rights, settings and commands."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from db.settings import Settings, known_variables
from deploy.docs.references import PROMETHEUS_RULE, prometheus_rule
from services.cli.main import parser
from services.processes import server

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
BASE, PRODUCTION, DEV = (FOLDER / name for name in ("base", "overlays/production", "overlays/dev"))
PYPROJECT = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())
VERSION: str = PYPROJECT["project"]["version"]
Object = dict[str, Any]


def objects(*folders: Path) -> list[Object]:
    """Return the objects of folders that kustomizations name as resources."""
    return [each for folder in folders for each in _of_kustomization(folder)]


def _of_kustomization(folder: Path) -> Iterator[Object]:
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in (*kustomization.get("resources", ()), *kustomization.get("components", ())):
        path = (folder / name).resolve()
        if path.is_dir():
            yield from _of_kustomization(path)
        else:
            yield from yaml.safe_load_all(path.read_text())


def of_kind(kind: str, *folders: Path) -> dict[str, Object]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in objects(*folders) if each["kind"] == kind}


def pods(*folders: Path) -> dict[str, Object]:
    """Return the specs of the pods of Clamor, by the role."""
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["spec"]
        for kind in ("Deployment", "Job")
        for each in of_kind(kind, *folders).values()
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "clamor"
    }


def containers(pod: Object) -> list[Object]:
    """Return the containers of a pod, the first ones included."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


ROLES = ("api", "worker", "scheduler", "migrate")


def test_every_role_is_there() -> None:
    assert set(pods(BASE)) == set(ROLES)
    for overlay in (PRODUCTION, DEV):
        assert set(pods(overlay)) == set(ROLES)


def test_no_file_is_left_out_of_the_kustomizations() -> None:
    named = {
        (file.parent / name).resolve()
        for file in FOLDER.rglob("kustomization.yaml")
        for part in ("resources", "components")
        for name in yaml.safe_load(file.read_text()).get(part, ())
    }
    written = {file.resolve() for file in FOLDER.rglob("*.yaml")}
    kustomizations = {file for file in written if file.name == "kustomization.yaml"}
    assert written - kustomizations == {path for path in named if path.suffix == ".yaml"}
    # Applying the folder itself applies nothing.
    assert not list(FOLDER.glob("*.yaml")) + list(FOLDER.glob("*.json"))


def test_kubectl_builds_both_overlays() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, and Debian has no package of it")
    for overlay, tag in ((PRODUCTION, VERSION), (DEV, "dev")):
        built = subprocess.run(
            ["kubectl", "kustomize", overlay], capture_output=True, text=True, check=True
        )
        found = list(yaml.safe_load_all(built.stdout))
        names = {each["metadata"]["name"] for each in found if each["kind"] == "Job"}
        assert f"clamor-migrate-{tag}" in names
        assert len({each["metadata"].get("namespace") for each in found} - {None}) == 1


def test_no_manifest_replaces_a_real_secret() -> None:
    assert "CHANGE_ME" not in "".join(file.read_text() for file in FOLDER.rglob("*.yaml"))
    assert not of_kind("Secret", PRODUCTION)
    generating = [
        file.parent
        for file in FOLDER.rglob("kustomization.yaml")
        if "secretGenerator" in yaml.safe_load(file.read_text())
    ]
    assert generating == [DEV]
    namespaces = [
        yaml.safe_load((overlay / "kustomization.yaml").read_text())["namespace"]
        for overlay in (PRODUCTION, DEV)
    ]
    assert len(set(namespaces)) == 2


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_may_do_nothing_but_its_work(role: str) -> None:
    """The restricted profile of Kubernetes' pod security standards, and more."""
    pod = pods(BASE)[role]
    assert pod["serviceAccountName"] in of_kind("ServiceAccount", BASE)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp"}  # noqa: S108
        assert container["image"] == "clamor"


@pytest.mark.parametrize("role", ROLES)
def test_each_command_exists(role: str) -> None:
    for container in containers(pods(BASE)[role]):
        assert parser().parse_args(container["args"]).run


@pytest.mark.parametrize("role", [role for role in ROLES if role != "migrate"])
def test_a_rollout_waits_for_the_migration_and_for_readiness(role: str) -> None:
    pod = pods(BASE)[role]
    assert [each["args"] for each in pod["initContainers"]] == [["migrate", "--wait"]]
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in (
        ("readinessProbe", "ready"),
        ("livenessProbe", "live"),
        ("startupProbe", "live"),
    ):
        asked = container[probe]["httpGet"]
        assert asked["path"] == f"/health/{path}"
        assert asked["port"] in ports


def test_each_release_has_its_own_migration() -> None:
    """The template of a Job cannot change, so a second release would be refused."""
    [name] = of_kind("Job", BASE)
    component = FOLDER / "components" / "job-name"
    [replacement] = yaml.safe_load((component / "kustomization.yaml").read_text())["replacements"]
    assert replacement["source"]["name"] == replacement["targets"][0]["select"]["name"] == name
    assert name.split("-")[replacement["targets"][0]["options"]["index"]] == "TAG"
    for overlay in (PRODUCTION, DEV):
        named = yaml.safe_load((overlay / "kustomization.yaml").read_text())["components"]
        # After the image is set.
        assert named[-2:] == ["image", "../../components/job-name"]
        [image] = yaml.safe_load((overlay / "image/kustomization.yaml").read_text())["images"]
        assert image["newTag"] == ("dev" if overlay == DEV else VERSION)


def test_an_upload_of_a_minute_ends_before_the_pod_does() -> None:
    pod = pods(BASE)["api"]
    [container] = pod["containers"]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert server.DRAIN_S >= 60
    assert pod["terminationGracePeriodSeconds"] >= pause_s + server.DRAIN_S + 10


def test_settings_exist_and_their_ports_are_open() -> None:
    config = of_kind("ConfigMap", BASE)["clamor"]["data"]
    example = (FOLDER / "secret.env.example").read_text()
    secrets = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    known = set(known_variables())
    ours = {name for name in {*config, *secrets} if not name.startswith("AWS_")}
    assert ours <= known
    probe_port = int(config["CLAMOR_PROBE_ADDRESS"].rpartition(":")[2])
    for role in ("api", "worker", "scheduler"):
        [container] = pods(BASE)[role]["containers"]
        assert {"name": "probes", "containerPort": probe_port} in container["ports"]
    open_ports = {
        port["port"]
        for policy in of_kind("NetworkPolicy", BASE).values()
        for rule in policy["spec"].get("ingress", ())
        for port in rule["ports"]
    }
    assert open_ports == {8000, probe_port}


def test_the_ingress_lets_uploads_and_streams_through() -> None:
    [ingress] = of_kind("Ingress", PRODUCTION).values()
    options = {
        name.removeprefix("nginx.ingress.kubernetes.io/"): value
        for name, value in ingress["metadata"]["annotations"].items()
    }
    gibibytes = int(options["proxy-body-size"].removesuffix("g"))
    assert gibibytes * 1024**3 >= Settings.max_upload_bytes
    assert options["proxy-request-buffering"] == options["proxy-buffering"] == "off"
    assert int(options["proxy-read-timeout"]) >= 300
    [rule] = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    service = of_kind("Service", BASE)[backend["name"]]
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


@pytest.mark.parametrize(
    ("kind", "folder"),
    [("PodDisruptionBudget", BASE), ("PodMonitor", PRODUCTION), ("NetworkPolicy", BASE)],
)
def test_selectors_match_pods(kind: str, folder: Path) -> None:
    found = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in of_kind("Deployment", BASE).values()
    ]
    for each in of_kind(kind, folder).values():
        spec = each["spec"]
        wanted = spec.get("selector", spec.get("podSelector"))["matchLabels"]
        assert any(wanted.items() <= labels.items() for labels in found), each["metadata"]["name"]


def test_scaling_and_monitoring_refer_to_what_exists() -> None:
    [scaled] = of_kind("ScaledObject", PRODUCTION).values()
    assert scaled["spec"]["scaleTargetRef"]["name"] in of_kind("Deployment", BASE)
    [trigger] = scaled["spec"]["triggers"]
    assert "clamor_work_due" in trigger["metadata"]["query"]
    main = [pod["containers"][0] for pod in pods(BASE).values()]
    ports = {port["name"] for container in main for port in container.get("ports", ())}
    for monitor in of_kind("PodMonitor", PRODUCTION).values():
        assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= ports


def test_the_rules_of_the_operator_are_those_of_prometheus() -> None:
    assert PROMETHEUS_RULE.read_text() == prometheus_rule(), "run `make references`"
