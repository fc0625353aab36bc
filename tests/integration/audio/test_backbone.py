"""How a worker and the API treat the backbone's weights: used, missing or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dramatiq.brokers.stub import StubBroker

from actors.execution.runtime import Runtime
from actors.messaging.messages import CheckHealth
from actors.outbound import backbones
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import RATE_HZ
from db.settings import Settings
from tests.support import weights
from tests.support.api import client_of
from tests.support.clock import ask, findings

pytestmark = pytest.mark.integration

DATA = weights.file_of(weights.random_state(width=0.4))
SHA256 = hashlib.sha256(DATA).hexdigest()
SETTING = f"/srv/mn04_test.pt#sha256={SHA256}"

Start = Callable[[str], Runtime]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAMOR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tagger, "shipped_head", lambda: weights.random_head(SHA256))


@pytest.fixture
def start(memory_settings: Settings, memory: StubBroker) -> Iterator[Start]:
    """Start a worker with a given ``CLAMOR_BACKBONE_URL``."""
    started: list[Runtime] = []

    def start(setting: str) -> Runtime:
        started.append(Runtime(replace(memory_settings, backbone_url=setting), memory))
        return started[-1]

    yield start
    for each in started:
        each.close()


def keep(data: bytes, sha256: str = SHA256) -> None:
    folder = backbones.data_folder()
    folder.mkdir(parents=True)
    (folder / f"{sha256}.pt").write_bytes(data)


def listed(runtime: Runtime) -> Any:
    """Return the backbone as listed by ``GET /v1/models``."""
    return client_of(runtime).simulate_get("/v1/models").json["backbone"]


def in_health(runtime: Runtime) -> str:
    backbone = findings(ask(runtime, CheckHealth()))["checks"]["backbone"]
    # A missing backbone is not a fault.
    assert backbone["ok"]
    return str(backbone["state"])


def test_weights_that_fit_are_used(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    keep(DATA)
    runtime = start(SETTING)
    found = runtime.tagger
    assert found is not None
    assert runtime.tagger is found
    assert capsys.readouterr().out.count("mn04_test is used") == 1
    sound = np.random.default_rng(0).standard_normal(2 * RATE_HZ).astype(np.float32)
    assert found.probabilities(found.backbone.embed(sound)[None]).shape == (len(found.types),)
    assert "mn04_test is used" in in_health(runtime)
    assert listed(runtime) == {"name": "mn04_test", "sha256": SHA256, "present": True}


def test_without_weights_it_is_said_how_to_get_them(start: Start) -> None:
    runtime = start(SETTING)
    assert runtime.tagger is None
    assert "`clamor model fetch`" in in_health(runtime)
    assert listed(runtime) == {"name": "mn04_test", "sha256": SHA256, "present": False}


def test_off_is_none(start: Start) -> None:
    keep(DATA)
    runtime = start("off")
    assert runtime.tagger is None
    assert "CLAMOR_BACKBONE_URL" in in_health(runtime)
    assert listed(runtime) is None


def test_the_published_ones_are_asked_for_by_default(start: Start) -> None:
    assert listed(start(""))["name"] == "mn04_as"


@pytest.mark.parametrize("damaged", [DATA[:-1], DATA[:-1] + b"?", b""])
def test_a_damaged_file_is_not_used(
    start: Start, damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(damaged)
    runtime = start(SETTING)
    assert runtime.tagger is None
    assert "backbone_file_refused" in capsys.readouterr().out
    assert "`clamor model fetch`" in in_health(runtime)


def test_another_backbone_than_the_head_was_trained_on_is_not_used(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagger, "shipped_head", lambda: weights.random_head("0" * 64))
    keep(DATA)
    runtime = start(SETTING)
    assert runtime.tagger is None
    assert "another backbone" in in_health(runtime)


def test_what_fits_its_hash_and_is_no_network_is_not_used(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = weights.file_of({"features.0.0.weight": weights.random_state(width=0.4)})
    sha256 = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(tagger, "shipped_head", lambda: weights.random_head(sha256))
    keep(data, sha256)
    runtime = start(f"/srv/x.pt#sha256={sha256}")
    assert runtime.tagger is None
    assert "x is not used: " in in_health(runtime)
