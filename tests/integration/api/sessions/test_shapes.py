"""Recordings of several shapes through the API: posted, worked on, and answered."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from actors.execution.runtime import Runtime
from tests.support.api import Api
from tests.support.corpus import SHAPES
from tests.support.pipeline import run_to_the_end, summary_of
from tests.support.shapes import Shape

pytestmark = pytest.mark.integration

NAMES = (
    "CAF-PCM_16-44100",
    "wv-wavpack-44100",
    "mpegts-aac-48000",
    "asf-wmav2-44100",
    "mp3-cut-in-frame",
    "wav-ffffffff-and-chunks",
    "WAV-PCM_16-500000",
    "mov-pcm_s16le-video-2",
)


def shape_of(name: str) -> Shape:
    [shape] = [each for each in SHAPES if each.name == name]
    return shape


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_is_analysed(api: Api, runtime: Runtime, name: str) -> None:
    shape = shape_of(name)
    posted = api.simulate_post("/v1/sessions", body=shape.make())
    assert posted.status_code == 202, posted.text
    done = run_to_the_end(runtime, uuid.UUID(posted.json["id"]))
    assert (done.state, done.container) == ("completed", shape.container)
    assert done.duration_s == pytest.approx(shape.lasts_s, abs=0.2)
    assert summary_of(done).audio_begins_s == pytest.approx(shape.begins_s, abs=0.1)


def test_what_only_begins_like_a_recording_fails_at_once(api: Api, runtime: Runtime) -> None:
    """Damage is never an error that is tried again."""
    rng = np.random.default_rng(0)
    for name in NAMES[:6]:
        content = shape_of(name).make()[:200] + rng.bytes(5_000)
        posted = api.simulate_post("/v1/sessions", body=content)
        if posted.status_code == 415:
            continue
        done = run_to_the_end(runtime, uuid.UUID(posted.json["id"]))
        assert done.state in ("failed", "completed", "partial"), name
        if done.state == "failed":
            assert done.problem is not None
            assert done.problem["code"] in ("undecodable", "empty-recording", "unknown-format")
