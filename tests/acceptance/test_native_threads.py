"""Numeric libraries start no threads by themselves, even in a minimal environment.

Nor does a listening worker import the libraries of rare work.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from db.settings import Settings
from tests.support import recordings
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

#: What a worker imports only with the first training, validation, export, report or long recording.
RARE = {"actors.training", "matplotlib", "pandas", "pyarrow", "sklearn"}

#: Records the thread pools and modules of a process that has loaded numpy, at SIGUSR2 and at exit.
WITNESS = """
import atexit, json, os, signal, sys
def write(*_):
    if "numpy" in sys.modules:
        import threadpoolctl
        name = os.path.join(os.environ["FOUND"], str(os.getpid()))
        with open(name, "w") as file:
            found = {"pools": threadpoolctl.threadpool_info(), "modules": list(sys.modules)}
            json.dump(found, file)
        os.rename(name, name + ".json")
signal.signal(signal.SIGUSR2, write)
atexit.register(write)
"""


@pytest.fixture
def bare(tmp_path: Path) -> list[str]:
    """A command prefix for an environment that contains only paths."""
    (tmp_path / "sitecustomize.py").write_text(WITNESS)
    (tmp_path / "found").mkdir()
    return [
        "env",
        "-i",
        f"PATH={os.environ['PATH']}",
        f"HOME={tmp_path}",
        f"PYTHONPATH={tmp_path}:{os.getcwd()}",
        f"FOUND={tmp_path / 'found'}",
    ]


def found(folder: Path) -> list[dict[str, Any]]:
    """Return what was recorded of each process."""
    return [json.loads(file.read_text()) for file in (folder / "found").glob("*.json")]


def threads(process: dict[str, Any], kind: str) -> set[int]:
    """Return the numbers of threads in the pools of a kind."""
    return {pool["num_threads"] for pool in process["pools"] if pool["user_api"] == kind}


def test_in_the_processes_of_a_worker(
    rabbit_settings: Settings, tmp_path: Path, bare: list[str]
) -> None:
    with Cluster(rabbit_settings, tmp_path) as cluster:
        settings = [f"{name}={value}" for name, value in cluster.env.items()]
        worker = cluster.worker(processes=2, under=[*bare, *settings])
        for child in psutil.Process(worker.popen.pid).children():
            child.send_signal(signal.SIGUSR2)
        eventually(lambda: len(found(tmp_path)) == 2, what="both processes")
    for process in found(tmp_path):
        assert threads(process, "blas") == threads(process, "openmp") == {1}
        assert not RARE.intersection(process["modules"])


def test_in_a_command_and_in_the_service_that_it_starts(tmp_path: Path, bare: list[str]) -> None:
    samples = recordings.demo()[: 3 * recordings.RATE_HZ]
    file = recordings.write(tmp_path / "a.flac", recordings.encode(samples))
    command = [
        *bare,
        sys.executable,
        "-m",
        "services.cli",
        "demo",
        str(file),
        "--home",
        str(tmp_path / "home"),
        "--out",
        str(tmp_path / "out"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    # The command plots, and the server process analyses.
    assert len(found(tmp_path)) == 2
    for process in found(tmp_path):
        assert threads(process, "blas") == {1}
        assert threads(process, "openmp") <= {1}


@pytest.mark.parametrize(
    ("given", "openmp"), [([], {1}), (["OMP_NUM_THREADS=3"], {1, 3})], ids=["bare", "chosen"]
)
def test_in_the_making_of_the_model_unless_the_operator_says_otherwise(
    given: list[str], openmp: set[int], tmp_path: Path, bare: list[str]
) -> None:
    command = [
        *bare,
        *given,
        sys.executable,
        "-m",
        "actors.training.shipped_model.build",
        "--data",
        str(tmp_path),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "labels.csv" in ran.stderr
    [process] = found(tmp_path)
    assert threads(process, "blas") == {1}
    # torch has its own setting, which limits it to one thread.
    assert threads(process, "openmp") == openmp
