"""Recordings beyond the limits, and small files that would decompress beyond them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import text

from actors.audio import limits
from actors.execution.runtime import Runtime
from actors.messaging.messages import ProcessAudioFile, SplitRecording
from db.settings import Settings
from db.tables.sessions import AudioSession
from tests.support import decompression_bombs, recordings
from tests.support.pipeline import add, handle, run_to_the_end, session

pytestmark = pytest.mark.integration

LONGEST_S = 60.0


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, max_duration_s=LONGEST_S, max_channels=2, max_rate_hz=48_000)


@pytest.fixture
def decoded_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the durations that decoding found."""
    seen: list[float] = []
    check = limits.check_duration

    def note(lasts_s: float, *, most_s: float) -> None:
        seen.append(lasts_s)
        check(lasts_s, most_s=most_s)

    monkeypatch.setattr(limits, "check_duration", note)
    return seen


def refusal(ended: AudioSession) -> tuple[str, str]:
    assert ended.state == "failed"
    assert ended.problem is not None
    return ended.problem["code"], ended.problem["detail"]


def kept(runtime: Runtime) -> list[str]:
    return sorted(key.rpartition("/")[2] for key in runtime.blobs.keys("sessions/"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: decompression_bombs.long_silence(60),
        lambda: decompression_bombs.ogg_announcing(200_000, lasts_s=30),
    ],
    ids=["flac", "ogg"],
)
def test_what_a_header_announces_is_refused_before_it_is_decoded(
    runtime: Runtime, make: Callable[[], bytes], decoded_s: list[float]
) -> None:
    content = make()
    assert len(content) < 250_000
    session_id = add(runtime, content)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    code, detail = refusal(session(runtime, session_id))
    assert code == "too-long"
    assert "60 s" in detail
    # Refused by the header alone, before splitting.
    [announced] = decoded_s
    assert announced > LONGEST_S
    with runtime.store.transaction() as tx:
        steps = tx.execute(text("SELECT step FROM processing_metrics")).scalars()
        assert list(steps) == ["process"]
    assert len(kept(runtime)) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: decompression_bombs.without_length(decompression_bombs.long_silence(60)),
        lambda: decompression_bombs.announcing(decompression_bombs.m4a(120), 1),
    ],
    ids=["flac", "m4a"],
)
def test_what_a_header_does_not_tell_is_refused_while_it_is_decoded(
    runtime: Runtime, make: Callable[[], bytes], decoded_s: list[float]
) -> None:
    content = make()
    assert len(content) < 250_000
    session_id = add(runtime, content)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    assert session(runtime, session_id).state == "splitting"
    handle(runtime, SplitRecording(session_id=session_id))
    assert refusal(session(runtime, session_id))[0] == "too-long"
    # Decoding stopped at the first block beyond the limit; a block here lasts 4.1 seconds.
    assert LONGEST_S < decoded_s[-1] < LONGEST_S + 5
    assert len(kept(runtime)) == 1


def test_what_is_as_long_as_may_be_is_taken(runtime: Runtime) -> None:
    ended = run_to_the_end(runtime, add(runtime, decompression_bombs.long_silence(1)))
    assert (ended.state, ended.duration_s) == ("completed", LONGEST_S)
    short = run_to_the_end(runtime, add(runtime, decompression_bombs.ogg_announcing(1, lasts_s=5)))
    assert (short.state, short.duration_s) == ("completed", 1.0)
    # The sample tables of an MP4 file take precedence over its headers.
    lying = run_to_the_end(
        runtime, add(runtime, decompression_bombs.announcing(decompression_bombs.m4a(5), 200_000))
    )
    assert lying.state == "completed"
    # With an edit list, which is missing here, a player drops the encoder's padding.
    assert lying.duration_s == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize(
    ("n_channels", "rate_hz", "code", "figures"),
    [
        (2, 48_000, None, ()),
        (3, 48_000, "too-many-channels", ("3", "2")),
        (1, 48_001, "rate-too-high", ("48001", "48000")),
    ],
)
def test_channels_and_rates(
    runtime: Runtime, n_channels: int, rate_hz: int, code: str | None, figures: tuple[str, ...]
) -> None:
    sound = recordings.demo()[: 4_800 * n_channels].reshape(-1, n_channels)
    content = recordings.encode(sound, rate_hz=rate_hz, container="WAV")
    ended = run_to_the_end(runtime, add(runtime, content))
    if code is None:
        assert ended.state == "completed"
        return
    found, detail = refusal(ended)
    assert found == code
    assert tuple(re.findall(r"\d+", detail))[: len(figures)] == figures


def test_tables_that_count_what_is_not_there_cost_no_worker(
    runtime: Runtime, memory: StubBroker
) -> None:
    ended = run_to_the_end(
        runtime, add(runtime, decompression_bombs.counting(decompression_bombs.m4a(3), 60_000_000))
    )
    assert refusal(ended)[0] in ("empty-recording", "undecodable")
