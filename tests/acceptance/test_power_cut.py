"""The power is cut at every moment of an upload: each recording with a row is whole on disk."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from sqlalchemy import text

from db.blobs.keys import recording_key
from db.settings import Settings
from db.store import Store
from services.processes.server import free_port
from tests.support import accounts, power_cut, recordings
from tests.support.cluster import Cluster

pytestmark = pytest.mark.acceptance

N_UPLOADS, AT_ONCE = 24, 6
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n%b\r\n--x--\r\n'
)


def require_strace(folder: Path) -> None:
    """Skip the test where calls cannot be recorded."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    command = [*power_cut.command(folder / "probe"), "true"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")


def test_every_recording_with_a_row_survives_a_power_failure_at_any_moment(
    memory_settings: Settings, store: Store, tmp_path: Path
) -> None:
    require_strace(tmp_path)
    log, port = tmp_path / "calls", free_port()
    root = tmp_path / "blobs"
    noise = np.random.default_rng(1).normal(0, 0.1, 3 * 16_000).astype(np.float32)
    contents = [recordings.encode(noise[: 16_000 + 997 * n]) for n in range(N_UPLOADS)]
    settings = replace(memory_settings, rate_limit_per_s=0)
    with Cluster(settings, tmp_path) as cluster:
        server = cluster.serve(port, under=power_cut.command(log))

        def post(number: int) -> str:
            content = contents[number]
            # Every third in a form.
            in_form = number % 3 == 0
            kind = "multipart/form-data; boundary=x" if in_form else "audio/flac"
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/sessions",
                content=FORM % content if in_form else content,
                headers={"Content-Type": kind, **accounts.bearer(accounts.KEY)},
                timeout=60,
            )
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        with ThreadPoolExecutor(AT_ONCE) as callers:
            answered = list(callers.map(post, range(N_UPLOADS)))
        # The tracer ends with the process that it traces.
        [traced] = psutil.Process(server.popen.pid).children()
        traced.kill()
        server.popen.wait(60)
    with store.reading() as tx:
        rows = tx.execute(text("SELECT id FROM audio_sessions")).scalars()
        assert {str(each) for each in rows} == set(answered)

    posted = {
        str(root / recording_key(uuid.UUID(session_id))): content
        for session_id, content in zip(answered, contents, strict=True)
    }
    assert {path: Path(path).read_bytes() for path in posted} == posted
    sizes = {path: len(content) for path, content in posted.items()}
    with log.open(errors="replace") as lines:
        made = list(power_cut.calls(lines))
    committed, gone = power_cut.lost(made, root=root, sizes=sizes)
    assert committed == set(posted)
    assert gone == set()

    # The same record without the flushes of files, or of folders, loses recordings.
    for are_files in (True, False):
        kept = [each for each in made if each.name != "fsync" or ("#" in each.file) != are_files]
        assert len(kept) < len(made)
        assert power_cut.lost(kept, root=root, sizes=sizes)[1]
