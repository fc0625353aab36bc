"""Gaps by the times of frames: jumps are gaps; jitter, drift and restarts are not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from actors.science.audio_io.timeline import Timeline

FRAME_S = 0.02


def gaps(
    times_s: Iterable[float | None], *, container: str = "matroska", begin_s: float | None = 0.0
) -> list[float]:
    """Return the gaps before frames of `FRAME_S`, which are filled as they are found."""
    timeline, audio_s, found = Timeline(container, begin_s=begin_s), 0.0, []
    for time_s in times_s:
        gap_s = timeline.gap_s(time_s, lasts_s=FRAME_S, audio_s=audio_s)
        audio_s += gap_s + FRAME_S
        if gap_s:
            found.append(gap_s)
    return found


def steady(n: int, *, begin_s: float = 0.0, frame_s: float = FRAME_S) -> list[float]:
    return [begin_s + index * frame_s for index in range(n)]


def test_a_late_start_and_a_jump_are_gaps() -> None:
    assert gaps(steady(100, begin_s=1.5)) == [1.5]
    assert gaps(steady(100, begin_s=61.5), begin_s=60.0) == [1.5]
    jumps = gaps([*steady(50), *steady(50, begin_s=3.0)])
    assert jumps == pytest.approx([2.0])


def test_jitter_rounding_and_drift_are_no_gaps() -> None:
    rng = np.random.default_rng(0)
    times_s = np.array(steady(5_000))
    assert gaps(times_s + rng.uniform(-0.045, 0.045, times_s.size)) == []
    assert gaps(times_s.round(3)) == []
    # Ten seconds an hour.
    assert gaps(times_s * (1 + 10 / 3_600)) == []
    assert gaps(times_s * (1 - 10 / 3_600)) == []
    assert gaps([0.05, *times_s[1:]]) == []


def test_frames_that_are_lost_one_by_one_add_up() -> None:
    kept = [time_s for index, time_s in enumerate(steady(1_000)) if index % 50 != 25]
    assert sum(gaps(kept)) == pytest.approx(20 * FRAME_S, abs=0.1)


@pytest.mark.parametrize(("container", "n_gaps"), [("ts", 0), ("matroska", 1)])
def test_the_times_of_a_broadcast_may_restart(container: str, n_gaps: int) -> None:
    times_s = [*steady(50, begin_s=1_000.0), *steady(50, begin_s=9_000.0)]
    assert len(gaps(times_s, container=container, begin_s=1_000.0)) == n_gaps
    backwards = [*steady(50, begin_s=1_000.0), *steady(50), *steady(50, begin_s=3.0)]
    assert gaps(backwards, container=container, begin_s=1_000.0) == pytest.approx([2.0])


def test_without_times_there_are_no_gaps() -> None:
    assert gaps(steady(50, begin_s=5.0), container="mp3") == []
    assert gaps(steady(50, begin_s=5.0), begin_s=None) == []
    assert gaps([None] * 50) == []
    assert gaps([0.0, None, None, 3 * FRAME_S]) == []


def test_every_lost_packet_of_flac_is_a_gap() -> None:
    times_s = [time_s for index, time_s in enumerate(steady(100)) if index not in (0, 50)]
    assert gaps(times_s, container="flac", begin_s=FRAME_S) == pytest.approx([FRAME_S, FRAME_S])
    assert gaps(steady(100, begin_s=60.0), container="flac", begin_s=60.0) == []
