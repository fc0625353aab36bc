"""A real S3 server from a wheel, for the tests of the blob store."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from services.processes.server import free_ports

START_TIMEOUT_S = 120.0
#: A free port may be taken before the server listens on it; then other ports are tried.
START_TRIES = 3
BUCKET = "clamor"
KEY_ID, SECRET = "anyone", "anything"
#: This key has every right; anonymous access has none.
IDENTITIES = {
    "identities": [
        {
            "name": "clamor",
            "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
    ]
}


class Ended(Exception):
    """The server exited during its start, most likely because one of its ports was taken."""


class PrivateS3:
    """seaweedfs with its S3 gateway; URL and blobs survive restarts."""

    def __init__(self, folder: Path) -> None:
        parts = ("master", "volume", "filer", "s3")
        flags = [f"{part}.{kind}" for part in parts for kind in ("port", "port.grpc")]
        ports = dict(zip(flags, free_ports(len(flags)), strict=True))
        identities = folder / "identities.json"
        identities.write_text(json.dumps(IDENTITIES))
        self._command = [
            str(Path(sys.executable).with_name("weed")),
            "server",
            "-s3",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={folder}",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=8",
            f"-s3.config={identities}",
            # These two listen on fixed ports, which two servers cannot share.
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *(f"-{flag}={port}" for flag, port in ports.items()),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of the object store's library."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it, or restart it after :meth:`kill`, and wait until its bucket exists."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._has_bucket():
            if self._process.poll() is not None:
                raise Ended("seaweedfs ended")
            assert time.monotonic() < deadline, "seaweedfs did not start"
            time.sleep(0.2)

    def freeze(self) -> None:
        """Make it hang: connections are accepted, but not answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after :meth:`freeze`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it immediately."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(START_TIMEOUT_S)

    def _signal(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def _has_bucket(self) -> bool:
        """Create the bucket, which succeeds as soon as the gateway's parts have connected."""
        store = S3Store(
            BUCKET,
            endpoint=self.url,
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        url = obstore.sign(store, "PUT", "", timedelta(minutes=1))
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=15)
        except urllib.error.HTTPError as answer:
            # It already exists: another PUT of it is refused.
            return answer.code == 409
        except OSError:
            return False
        return True


@contextmanager
def private_s3() -> Iterator[PrivateS3]:
    """Run an S3 server for this test alone, which it may freeze, kill and restart."""
    folder = Path(tempfile.mkdtemp(prefix="clamor-s3-"))
    server = PrivateS3(folder)
    try:
        for tries_left in reversed(range(START_TRIES)):
            try:
                server.start()
                break
            except Ended:
                if not tries_left:
                    raise
                server = PrivateS3(folder)
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server() -> Iterator[str]:
    """Start seaweedfs with its S3 gateway on free ports; return the gateway's URL."""
    with private_s3() as started:
        yield started.url
