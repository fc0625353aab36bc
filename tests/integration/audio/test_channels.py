"""The option ``channel`` end to end: the channels of the answer, and what it says of them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from actors.execution.runtime import Runtime
from actors.science import synth
from actors.training import recordings as training_recordings
from actors.training.recordings import Wanted
from db.tables.documents.sessions import Levels
from db.tables.sessions import AudioSession
from tests.support import recordings
from tests.support.api import client_of
from tests.support.pipeline import add, run_to_the_end

pytestmark = pytest.mark.integration

RATE_HZ = synth.DEMO_RATE_HZ

Samples = NDArray[np.float32]


def siren() -> Samples:
    sound = synth.SOUNDS["siren_sweep"](np.random.default_rng(1), 5 * RATE_HZ, RATE_HZ)
    return (0.1 * sound).astype(np.float32)


SOUND = siren()
#: The noise of an input without a microphone.
NOISE = np.random.default_rng(2).normal(0, 1e-4, SOUND.size).astype(np.float32)


def processed(runtime: Runtime, *channels: Samples, **options: Any) -> AudioSession:
    content = recordings.encode(np.stack(channels, axis=1))
    return run_to_the_end(runtime, add(runtime, content, **options))


def levels_of(runtime: Runtime, session: AudioSession) -> Levels:
    answered = client_of(runtime).simulate_get(f"/v1/sessions/{session.id}/levels")
    return msgspec.json.decode(answered.content, type=Levels)


def summary_of(session: AudioSession) -> dict[str, Any]:
    assert session.state == "completed"
    assert session.summary is not None
    return dict(session.summary)


@pytest.mark.parametrize("good_s", [0.0, 2.0])
@pytest.mark.parametrize("options", [{}, {"channel": "2"}, {"channel": "loudest"}])
def test_a_channel_of_bad_samples_is_silent_and_changes_nothing(
    runtime: Runtime, good_s: float, options: dict[str, str]
) -> None:
    """It used to be a hole in the good channel too."""
    bad = 2 * SOUND
    bad[round(good_s * RATE_HZ) :] = np.nan
    sound = np.stack([bad, SOUND], axis=1)
    content = recordings.encode(sound, container="WAV", subtype="FLOAT")
    done = run_to_the_end(runtime, add(runtime, content, **options))
    alone = recordings.encode(SOUND[:, None], container="WAV", subtype="FLOAT")
    wanted, found = summary_of(run_to_the_end(runtime, add(runtime, alone))), summary_of(done)
    assert (found["channels"]["used"], found["channels"]["silent"]) == ([2], [1])
    assert found["laeq_db"] == wanted["laeq_db"]
    assert found["events"] == wanted["events"]
    assert levels_of(runtime, done).channels[0].laeq_db is None


@pytest.mark.parametrize("dead", [0 * SOUND, NOISE], ids=["digital silence", "noise"])
def test_a_dead_channel_is_named_and_changes_nothing(runtime: Runtime, dead: Samples) -> None:
    alone = processed(runtime, SOUND)
    both = processed(runtime, dead, SOUND)
    wanted, found = summary_of(alone), summary_of(both)
    assert wanted.pop("channels") is None
    assert found.pop("channels") == {"used": [2], "silent": [1], "identical": [], "inverted": []}
    assert found == wanted
    of_one, of_two = levels_of(runtime, alone), levels_of(runtime, both)
    assert of_two.series == of_one.series
    assert [(each.channel, each.is_used, each.state) for each in of_two.channels] == [
        (1, False, "silent"),
        (2, True, "live"),
    ]
    assert of_two.channels[1].laeq_db == of_two.overall["laeq_db"]
    assert [each.is_used for each in of_one.channels] == [True]


def test_inverted_channels_are_named_and_cancel_nothing(runtime: Runtime) -> None:
    wanted = summary_of(processed(runtime, SOUND))
    both = processed(runtime, 0.9 * SOUND, -SOUND)
    found = summary_of(both)
    assert found["channels"] == {"used": [1, 2], "silent": [], "identical": [], "inverted": [2]}
    assert levels_of(runtime, both).channels[1].other_channel == 1
    assert set(found["noise_types"]) == set(wanted["noise_types"]) == {"siren_sweep"}
    mean_db = 10 * np.log10((1 + 0.9**2) / 2)
    assert found["laeq_db"] - wanted["laeq_db"] == pytest.approx(mean_db, abs=0.02)


def test_a_channel_may_be_chosen(runtime: Runtime) -> None:
    hiss = 100 * NOISE
    wanted = {
        channel: summary_of(processed(runtime, sound))
        for channel, sound in (("1", hiss), ("2", SOUND), ("loudest", SOUND))
    }
    for channel, alone in wanted.items():
        session = processed(runtime, hiss, SOUND, channel=channel)
        found = summary_of(session)
        assert found.pop("channels")["used"] == [1 if channel == "1" else 2]
        alone.pop("channels")
        assert found == alone
        assert session.channel == channel
    # Training on the session uses the same channel.
    chosen = processed(runtime, hiss, SOUND, channel="1")
    read = training_recordings.read(
        runtime, [Wanted(session_id=each.id) for each in (chosen, processed(runtime, hiss))]
    )
    np.testing.assert_array_equal(read.samples[0], read.samples[1])


def test_a_channel_that_does_not_exist_fails_the_session(runtime: Runtime) -> None:
    session = processed(runtime, SOUND, SOUND, channel="3")
    assert session.state == "failed"
    assert session.problem is not None
    assert session.problem["code"] == "no-such-channel"
    assert "2 channels" in session.problem["detail"]


def test_a_calibrator_on_one_of_two_inputs_calibrates_that_one(runtime: Runtime) -> None:
    times_s = np.arange(6 * RATE_HZ) / RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 1_000 * times_s)).astype(np.float32)
    options = {"calibration_tone_db": 94.0}
    alone = processed(runtime, tone, **options)
    noise = np.resize(NOISE, tone.size)
    for channels in ([tone, 0 * tone], [noise, tone]):
        found = processed(runtime, *channels, **options)
        assert found.state == "completed"
        assert found.calibration_db == alone.calibration_db
        assert summary_of(found)["lzeq_db"] == pytest.approx(94, abs=0.02)
    # Two tones that differ need a choice.
    refused = processed(runtime, tone, 0.5 * tone, **options)
    assert refused.problem is not None
    assert refused.problem["code"] == "tone-channels"
    chosen = processed(runtime, tone, 0.5 * tone, channel="1", **options)
    assert chosen.calibration_db == alone.calibration_db
