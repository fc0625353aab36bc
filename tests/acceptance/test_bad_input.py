"""Bad recordings: a clear error for each, and a worker that survives them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from db.settings import Settings
from services.client import ApiError
from tests.support import recordings
from tests.support.cluster import Cluster
from tests.support.shapes import pictures

pytestmark = pytest.mark.acceptance

SECOND = 44_100
NOISE = np.random.default_rng(5).normal(0, 0.1, 10 * SECOND).astype(np.float32)


def wav_that_promises_too_much() -> bytes:
    content = recordings.encode(NOISE, container="WAV")
    return content[: len(content) // 2]


def nan_in_the_middle() -> bytes:
    samples = NOISE.copy()
    samples[3 * SECOND : 6 * SECOND] = np.nan
    return recordings.encode(samples, container="WAV", subtype="FLOAT")


def only_nan() -> bytes:
    return recordings.encode(NOISE * np.float32(np.nan), container="WAV", subtype="FLOAT")


def truncated_flac() -> bytes:
    content = recordings.encode(NOISE)
    return content[: len(content) * 6 // 10]


def six_channels() -> bytes:
    samples = np.random.default_rng(6).normal(0, 0.1, (96_000, 6)).astype(np.float32)
    return recordings.encode(samples, rate_hz=96_000, container="WAV", subtype="PCM_24")


def eight_bits() -> bytes:
    return recordings.encode(NOISE[:16_000], rate_hz=8_000, container="WAV", subtype="PCM_U8")


#: Content, final state, and the problem's code.
CASES = {
    "truncated.flac": (truncated_flac(), "partial", "seconds-missing"),
    "promises.wav": (wav_that_promises_too_much(), "partial", "seconds-missing"),
    "zero.wav": (recordings.encode(NOISE[:0], container="WAV"), "failed", "empty-recording"),
    "nan.wav": (nan_in_the_middle(), "partial", "seconds-missing"),
    "nans.wav": (only_nan(), "failed", "non-finite-samples"),
    "pictures.mp4": (pictures("mp4", seconds=1.0), "failed", "undecodable"),
    "header-only.flac": (recordings.encode(NOISE)[:60], "failed", "undecodable"),
    "8bit.wav": (eight_bits(), "completed", None),
    "6ch.wav": (six_channels(), "completed", None),
    "silence.wav": (recordings.encode(NOISE * 0, container="WAV"), "completed", None),
    "short.wav": (recordings.encode(NOISE[:100], container="WAV"), "completed", None),
}


def test_each_gets_a_clear_answer_and_no_worker_is_lost(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        worker = cluster.worker()
        with pytest.raises(ApiError, match="no recording"):
            client.upload(recordings.write(tmp_path / "empty.wav", b""))
        text = recordings.write(tmp_path / "text.wav", b"this is not a recording\n" * 50)
        with pytest.raises(ApiError, match="Unknown audio format"):
            client.upload(text)
        for name, (content, state, code) in CASES.items():
            session = client.wait(client.upload(recordings.write(tmp_path / name, content)))
            assert session.state == state, (name, session)
            if code is None:
                assert session.problem is None
            else:
                assert session.problem is not None
                assert session.problem.code == code, (name, session.problem)
                assert session.problem.detail
                assert str(tmp_path) not in session.problem.detail
            if state == "partial":
                assert session.problem is not None
                [part] = session.problem.missing
                assert 2 < part.end_s - part.start_s < 8
            if name == "silence.wav":
                assert client.detections(session.id) == []
                assert session.summary is not None
                assert session.summary.laeq_db is None
        assert worker.popen.poll() is None
        assert "Traceback" not in worker.log.read_text()

        bad = recordings.write(tmp_path / "bad.flac", CASES["header-only.flac"][0])
        good = recordings.write(tmp_path / "good.flac", recordings.encode(recordings.demo()))
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "services.cli",
                "process",
                bad,
                good,
                tmp_path / "none.wav",
                "--api",
                client.url,
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ended.returncode == 1
    complaints = [line for line in ended.stderr.splitlines() if line.startswith("clamor: ")]
    assert len(complaints) == 2
    assert "bad.flac: " in complaints[0]
    assert "none.wav: No such file" in complaints[1]
    assert "events in 3" in ended.stdout
