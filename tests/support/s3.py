"""A real S3 server from a wheel, for the tests of the blob store."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.server import free_port

START_TIMEOUT_S = 60.0


@contextmanager
def server() -> Iterator[str]:
    """Start seaweedfs with its S3 gateway on free ports; the gateway's URL."""
    weed = Path(sys.executable).with_name("weed")
    folder = tempfile.mkdtemp(prefix="clamor-s3-")
    ports = {part: free_port() for part in ("master", "volume", "filer", "s3")}
    grpc = {part: free_port() for part in ports}
    process = subprocess.Popen(
        [
            str(weed), "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}",
            "-master.volumeSizeLimitMB=64", "-volume.max=8",
            *(f"-{part}.port={port}" for part, port in ports.items()),
            *(f"-{part}.port.grpc={port}" for part, port in grpc.items()),
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{ports['s3']}"
    try:
        _await_bucket(process, f"{url}/clamor")
        yield url
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _await_bucket(process: subprocess.Popen[bytes], bucket_url: str) -> None:
    """Make the bucket, which the gateway does as soon as its parts have found each other."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "seaweedfs ended"
        try:
            urllib.request.urlopen(urllib.request.Request(bucket_url, method="PUT"), timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("seaweedfs did not start")
