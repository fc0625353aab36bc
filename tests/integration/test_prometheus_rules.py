"""The rules of Prometheus: their tests pass, and each alert has a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import programs, servers

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in the folder of the rules; skip without it, or fail in CI."""
    program = shutil.which("promtool")
    if program is None:
        servers.unavailable(programs.remedy("prometheus"))
    return subprocess.run(
        [program, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")]
)
def test_promtool_accepts_the_rules(arguments: tuple[str, ...]) -> None:
    ended = promtool(*arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_promtool_accepts_the_configuration_of_compose(tmp_path: Path) -> None:
    config = (ROOT / "deploy/compose/prometheus.yml").read_text()
    assert "/etc/prometheus/rules/rules.yaml" in config
    file = tmp_path / "prometheus.yml"
    file.write_text(config.replace("/etc/prometheus/rules", str(FOLDER)))
    ended = promtool("check", "config", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_rule_that_never_fires_fails_its_test(tmp_path: Path) -> None:
    """The tests of the rules can fail: without a rule, they do."""
    rules = (FOLDER / "rules.yaml").read_text()
    (tmp_path / "rules.yaml").write_text(
        rules.replace('absent(clamor_build_info{role="api"})', "vector(1) > 2")
    )
    shutil.copy(FOLDER / "rules_test.yaml", tmp_path)
    assert promtool("test", "rules", str(tmp_path / "rules_test.yaml")).returncode == 1


def test_every_alert_has_a_section_of_the_runbooks() -> None:
    sections = set(
        re.findall(r"^## (Clamor\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.M)
    )
    assert {rule["alert"] for rule in ALERTS} == sections
    for rule in ALERTS:
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


def test_dashboards_and_alerts_ask_only_for_series_that_a_rule_records() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    files = [FOLDER / "rules.yaml", *(ROOT / "deploy" / "grafana").iterdir()]
    asked = {
        name
        for file in files
        for name in re.findall(r"clamor:[a-z_]+:[a-z0-9_]+", file.read_text())
    }
    assert asked == recorded
