"""A recording that is small to send and long to decode does not hold a worker against others."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from db.settings import Settings
from services.client import Client
from tests.support import accounts, recordings, wide
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

#: Minutes of a worker's time, on a busy machine: longer than the test.
WIDE_S = 300
#: The wait for two pieces, and the clip itself. Without pieces it is the time of the recording.
MOST_S = 15.0
CLIPS = 3


def test_a_clip_of_another_waits_for_a_piece_of_a_wide_recording(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    long, clip = tmp_path / "wide.flac", tmp_path / "clip.flac"
    long.write_bytes(wide.silence(WIDE_S))
    clip.write_bytes(recordings.encode(recordings.demo()[: 3 * recordings.RATE_HZ]))
    with (
        Cluster(rabbit_settings, tmp_path) as cluster,
        cluster.api() as other,
        closing(Client(other.url, key=accounts.KEY)) as hostile,
    ):
        cluster.worker()
        # The first clip of a worker loads its libraries.
        assert other.wait(other.upload(clip)).state == "completed"
        wide_ids = [hostile.upload(long).id for _ in range(2)]
        eventually(
            lambda: any(hostile.session(each).state == "splitting" for each in wide_ids),
            what="a wide recording that is decoded",
        )
        for _ in range(CLIPS):
            began = time.monotonic()
            assert other.wait(other.upload(clip)).state == "completed"
            assert time.monotonic() - began < MOST_S
        # They are being decoded still, and nothing of them was given up.
        assert {hostile.session(each).state for each in wide_ids} == {"splitting"}
        for each in wide_ids:
            hostile.cancel(each)
