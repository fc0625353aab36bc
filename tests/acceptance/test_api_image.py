"""The small image: API, scheduler and migration run from the packages of its group alone."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from db.settings import Settings
from deploy import image_lock
from services.processes.server import free_port
from tests.support import accounts, recordings, servers
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
#: What those roles must not bring.
HEAVY = {"torch", "numpy", "scipy", "scikit-learn", "matplotlib", "pyarrow", "pytest"}


def packages() -> set[str]:
    lock = image_lock.image_lock(PYPROJECT, (ROOT / "requirements.lock").read_text(), "api")
    return set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the locked packages of the group, and the product, and nothing else."""
    folder = tmp_path_factory.mktemp("api-image")
    venv.create(folder, with_pip=False)
    [there] = folder.glob("lib/python*/site-packages")
    for name in packages():
        files = metadata.files(name)
        assert files, f"{name} is not installed"
        for top in {each.parts[0] for each in files} - {"..", "__pycache__"}:
            here = Path(str(metadata.distribution(name).locate_file(top)))
            if here.exists() and not (there / top).exists():
                (there / top).symlink_to(here)
    # The product, by its folders and its version.
    metadata_folder = Path(str(metadata.distribution("clamor").locate_file("")))
    for info in metadata_folder.glob("clamor-*.dist-info"):
        (there / info.name).symlink_to(info)
    for each in ("services", "actors", "db"):
        (there / each).symlink_to(ROOT / each)
    return folder / "bin/python"


def test_the_group_repeats_dependencies_of_the_project() -> None:
    project = tomllib.loads(PYPROJECT)
    assert set(project["dependency-groups"]["api"]) < set(project["project"]["dependencies"])
    assert packages() & HEAVY == set()


def test_every_role_of_the_small_image_runs(
    rabbit_settings: Settings, postgres_url: str, python: Path, tmp_path: Path
) -> None:
    with servers.database(postgres_url) as url:
        cluster = Cluster(replace(rabbit_settings, database_url=url), tmp_path)
        # From a folder that has no code.
        env = {**os.environ, **cluster.env}

        @contextmanager
        def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
            log = tmp_path / f"{command[0]}.log"
            with log.open("wb") as file:
                popen = subprocess.Popen(
                    [python, "-m", "services.cli", *command],
                    env=env,
                    cwd=tmp_path,
                    stdout=file,
                    stderr=file,
                )
            try:
                yield popen
            finally:
                popen.terminate()
                assert popen.wait(60) == 0, log.read_text()

        for command in (["migrate"], ["migrate", "--status"]):
            subprocess.run(
                [python, "-m", "services.cli", *command], env=env, cwd=tmp_path, check=True
            )
        accounts.add_first(url)
        port = free_port()
        with running("serve", "--port", str(port)) as server, running("scheduler"):
            api = httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {accounts.ADMIN_KEY}"},
                timeout=30,
            )

            def is_ready() -> bool:
                assert server.poll() is None, (tmp_path / "serve.log").read_text()
                try:
                    return api.get("/health/ready").status_code == 200
                except httpx.TransportError:
                    return False

            eventually(is_ready, timeout_s=120, what="an API that is ready")
            sent = api.post(
                "/v1/sessions",
                content=recordings.encode(recordings.demo()),
                headers={"Content-Type": "audio/flac"},
            )
            assert sent.status_code == 202, sent.text
            eventually(
                lambda: "Starting Periodiq" in (tmp_path / "scheduler.log").read_text(),
                what="a scheduler",
            )
