"""Progress as a person sees it: a real recording, real workers, and a session's event stream."""

from __future__ import annotations

import time
from itertools import groupby
from pathlib import Path

import pytest

from db.settings import Settings
from db.tables.sessions import UNFINISHED_STATES
from services.client.wire.sessions import Session
from tests.support import recordings
from tests.support.cluster import Cluster

pytestmark = pytest.mark.acceptance


@pytest.mark.slow
def test_events_come_while_the_work_goes_on(rabbit_settings: Settings, tmp_path: Path) -> None:
    # Long enough that even a fast machine runs longer than measuring a speed takes.
    file = recordings.write(tmp_path / "60.flac", recordings.encode(recordings.long(60)))
    seen: list[tuple[float, Session]] = []
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        cluster.worker()
        session = client.upload(file)
        ended = client.wait(session, on_change=lambda told: seen.append((time.monotonic(), told)))
    assert ended == seen[-1][1]
    assert ended.state == "completed"
    told = [each for _, each in seen]
    states = [state for state, _ in groupby(each.state for each in told)]
    assert states[-3:] == ["detecting", "aggregating", "completed"]
    assert states == sorted(states, key=(*UNFINISHED_STATES, "completed").index)
    percents = [each.percent for each in told]
    assert percents == sorted(percents)
    # Updates do not all come at the end: each long stage has some in the middle.
    lasted_s = seen[-1][0] - seen[0][0]
    assert sum(at < seen[0][0] + lasted_s / 2 for at, _ in seen) >= 3
    assert len({each.percent for each in told if each.state == "splitting"}) >= 2
    heard = [each for each in told if each.state == "detecting"]
    assert len({each.percent for each in heard}) >= 3
    speeds = [each.speed for each in heard if each.speed is not None]
    assert speeds
    assert min(speeds) > 1
    # It is only an estimate: halfway, its error stays below the whole duration.
    middle = heard[len(heard) // 2]
    if middle.time_left_s is not None:
        assert 0 <= middle.time_left_s < 2 * lasted_s
