"""A stopping server finishes the requests in progress and loses none."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from db.blobs.blob_store import Blobs
from db.blobs.keys import recording_key
from db.settings import Settings
from services.processes.server import free_port
from tests.support import recordings
from tests.support.accounts import KEY
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance


def test_an_upload_that_is_under_way_is_answered(rabbit_settings: Settings, tmp_path: Path) -> None:
    # Half of it is more than the first piece, which the API examines before it stores anything.
    content = recordings.encode(recordings.long(3), container="WAV")
    half = len(content) // 2
    with Cluster(rabbit_settings, tmp_path) as cluster:
        port = free_port()
        server = cluster.serve(port)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            head = (
                "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
                f"Authorization: Bearer {KEY}\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            connection.sendall(head.encode() + content[:half])
            folder = tmp_path / "blobs"
            eventually(lambda: list(folder.rglob("*recording*")), what="the first half")
            server.popen.terminate()

            def refuses() -> bool:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                except OSError:
                    return True
                return False

            eventually(refuses, what="a server that takes no new connection")
            connection.sendall(content[half:])
            answer = connection.makefile("rb")
            status = answer.readline()
            while line := answer.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            session = json.loads(answer.read(length))
        assert b" 202 " in status
        assert server.popen.wait(timeout=60) == 0
    assert session["size_bytes"] == len(content)
    stored = Blobs(rabbit_settings.blob_url).get(recording_key(session["id"]))
    assert stored == content
