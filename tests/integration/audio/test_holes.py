"""Recordings with holes: what their sessions report as missing, and what not."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np
import pytest
from sqlalchemy import text

from actors.audio import pcm
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.science.detection.chunks import RATE_HZ as PCM_HZ
from actors.science.detection.tagging.backbone import BackboneNetwork
from actors.science.detection.tagging.tagger import Tagger
from db.tables.documents.sessions import Levels
from tests.integration.science.audio_io import test_audiomoth as audiomoth
from tests.support import recordings, weights
from tests.support.pipeline import (
    add,
    detections_of,
    run_to_the_end,
    session,
    split,
    summary_of,
)
from tests.support.shapes import by_ffmpeg

pytestmark = pytest.mark.integration

RATE_HZ = recordings.RATE_HZ

#: A backbone with random weights.
TAGGER = Tagger(
    BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4))),
    weights.random_head("1" * 64),
)


def test_bad_samples_are_missing_and_the_rest_is_analysed(runtime: Runtime) -> None:
    sound = recordings.demo().copy()
    whole = run_to_the_end(
        runtime, add(runtime, recordings.encode(sound, container="WAV", subtype="FLOAT"))
    )
    sound[3 * RATE_HZ : 4 * RATE_HZ] = np.nan
    sound[100] = np.inf
    done = run_to_the_end(
        runtime, add(runtime, recordings.encode(sound, container="WAV", subtype="FLOAT"))
    )
    assert whole.state == "completed"
    assert done.state == "partial"
    assert done.problem is not None
    assert done.problem["code"] == "seconds-missing"
    missing = [(part["start_s"], part["end_s"]) for part in done.problem["missing"]]
    assert missing == [(0.002, 0.003), (3.0, 4.0)]
    assert done.duration_s == whole.duration_s
    assert done.levels_answer_key is not None
    levels = msgspec.json.decode(runtime.blobs.get(done.levels_answer_key), type=Levels)
    silent = [at for at, level_db in enumerate(levels.series.laeq_db) if level_db is None]
    assert silent == [at for at, level_db in enumerate(levels.series.lafmax_db) if level_db is None]
    assert silent == [3]
    with runtime.store.transaction() as tx:
        assert detections_of(tx, done.id)


@pytest.mark.parametrize("seconds", [(8, 20), (0, 5), (12, 13)])
def test_steady_noise_has_no_events_around_a_hole(
    runtime: Runtime, seconds: tuple[int, int]
) -> None:
    start, stop = (second * RATE_HZ for second in seconds)
    noise = 0.003 * np.random.default_rng(5).normal(size=30 * RATE_HZ).astype(np.float32)
    noise[start:stop] = np.nan
    session_id = add(runtime, recordings.encode(noise, container="WAV", subtype="FLOAT"))
    done = run_to_the_end(runtime, session_id)
    assert done.state == "partial"
    with runtime.store.transaction() as tx:
        assert detections_of(tx, session_id) == []


def test_only_detection_reads_holes_filled(runtime: Runtime) -> None:
    runtime.loaded_tagger = (TAGGER, "as the test has it")
    sound = recordings.demo().copy()
    sound[3 * RATE_HZ : 6 * RATE_HZ] = np.nan
    session_id = split(runtime, recordings.encode(sound, container="WAV", subtype="FLOAT"))
    row = session(runtime, session_id)
    lease = cast(Lease, SimpleNamespace(check=lambda: None))
    stored = np.concatenate(list(pcm.blocks(runtime.blobs, row, lease)))
    hole = slice(int(3.1 * PCM_HZ), int(5.9 * PCM_HZ))
    assert not stored[hole].any()
    assert pcm.reader(runtime.blobs, row, lease)(0, stored.size)[hole].any()
    for with_filled_holes in (False, True):
        read, n_samples = pcm.wide_reader(
            runtime.blobs, row, lease, with_filled_holes=with_filled_holes
        )
        assert read(0, n_samples)[2 * hole.start : 2 * hole.stop].any() == with_filled_holes
    assert run_to_the_end(runtime, session_id).state == "partial"
    with runtime.store.transaction() as tx:
        times = [(event.start_s, event.end_s) for event in detections_of(tx, session_id)]
    assert times
    assert all(end_s <= 3.0 or start_s >= 6.0 for start_s, end_s in times)


def test_mostly_bad_samples_fail_without_a_retry(runtime: Runtime) -> None:
    sound = np.full((2 * RATE_HZ, 1), np.nan, dtype=np.float32)
    done = run_to_the_end(
        runtime, add(runtime, recordings.encode(sound, container="WAV", subtype="FLOAT"))
    )
    assert done.state == "failed"
    assert done.problem is not None
    assert done.problem["code"] == "non-finite-samples"


def test_a_late_start_is_shown_and_nothing_is_missing(runtime: Runtime) -> None:
    late = by_ffmpeg("mp4", "aac", 48_000, video_s=6.0, begins_s=2.0)
    done = run_to_the_end(runtime, add(runtime, late))
    assert (done.state, done.problem) == ("completed", None)
    assert done.duration_s == pytest.approx(5.0, abs=0.1)
    summary = summary_of(done)
    assert summary.audio_begins_s == pytest.approx(2.0, abs=0.05)
    with runtime.store.transaction() as tx:
        starts_s = [event.start_s for event in detections_of(tx, done.id)]
    assert starts_s
    assert min(starts_s) == pytest.approx(3.2, abs=0.3)
    # The level is that of the audio, whatever comes before it.
    prompt = run_to_the_end(runtime, add(runtime, by_ffmpeg("mp4", "aac", 48_000)))
    assert summary_of(prompt).audio_begins_s == 0.0
    for name in ("laeq_db", "lae_db", "l50_db", "lafmin_db"):
        level_db = getattr(summary_of(prompt), name)
        assert getattr(summary, name) == pytest.approx(level_db, abs=0.7), name


def test_lost_packets_are_missing(runtime: Runtime) -> None:
    lossy = by_ffmpeg("mp4", "aac", 48_000, without=range(10, 35))
    done = run_to_the_end(runtime, add(runtime, lossy))
    assert done.state == "partial"
    assert done.problem is not None
    [part] = done.problem["missing"]
    assert part["end_s"] - part["start_s"] == pytest.approx(25 * 1_024 / 48_000, abs=0.03)


def test_a_recording_that_is_a_single_hole_has_no_levels(runtime: Runtime) -> None:
    """AudioMoth was never triggered."""
    nothing = audiomoth.recorded(audiomoth.mark(400), header_bytes=512)
    done = run_to_the_end(
        runtime,
        add(
            runtime,
            nothing,
            recorded_at=datetime(2026, 3, 14, 12, tzinfo=UTC),
            calibration_db=94.0,
            noise_floor_db=20.0,
        ),
    )
    assert (done.state, done.quarter_mean_squares) == ("partial", [0.0])
    summary = summary_of(done)
    assert (summary.events, summary.laeq_db, summary.lcpeak_db) == (0, None, None)
    assert summary.overload is not None
    assert summary.under_range is not None
    assert (summary.overload.share, summary.under_range.under_range_s) == (0.0, 0.0)


def test_a_session_processed_before_holes_were_stored_has_none(runtime: Runtime) -> None:
    done = run_to_the_end(runtime, add(runtime, recordings.encode(recordings.demo())))
    assert done.holes == []
    with runtime.store.transaction() as tx:
        tx.execute(
            text("UPDATE audio_sessions SET holes = NULL, summary = summary - 'audio_begins_s'")
        )
    assert summary_of(done).audio_begins_s == 0.0
