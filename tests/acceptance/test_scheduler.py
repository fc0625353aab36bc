"""The real scheduler starts with few imports, has every job, and stops on request."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import psutil
import pytest

from actors.scheduling.jobs import JOBS
from db.settings import Settings
from tests.support.cluster import Cluster, Process, eventually

pytestmark = pytest.mark.acceptance


def told_of(scheduler: Process, actor: str) -> bool:
    return actor in scheduler.log.read_text()


def test_it_schedules_every_job_and_loads_no_science(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    with Cluster(rabbit_settings, tmp_path) as cluster:
        scheduler = cluster.start("scheduler")
        for job in JOBS:
            known = partial(told_of, scheduler, job.nudge.actor)
            eventually(known, timeout_s=20, what=f"{job.nudge.actor} in {scheduler.log}")
        libraries = {
            Path(mapped.path).name for mapped in psutil.Process(scheduler.popen.pid).memory_maps()
        }
        assert not any("torch" in name for name in libraries)
        scheduler.popen.terminate()
        scheduler.popen.wait(20)
