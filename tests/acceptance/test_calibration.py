"""The command line sends a calibrator's recording first, and then shows levels in dB SPL."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.processes import first_key, own_service
from tests.support import recordings

pytestmark = pytest.mark.acceptance


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "process", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_calibrator_is_sent_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_s = np.arange(5 * recordings.RATE_HZ) / recordings.RATE_HZ
    sine = (0.1 * np.sin(2 * np.pi * 1000 * at_s)).astype(np.float32)
    tone = recordings.write(tmp_path / "tone.wav", recordings.encode(sine, container="WAV"))
    file = recordings.write(tmp_path / "demo.flac", recordings.encode(recordings.demo()))
    with own_service.running(home=tmp_path / "home", log=tmp_path / "up.log") as client:
        url = client.url
        monkeypatch.setenv("CLAMOR_API_KEY", first_key.key_of(tmp_path / "home"))
        plain = json.loads(process(file, "--json", "--api", url).stdout)
        by_tone = process(
            file, "--calibration-tone", tone, "--tone-db", "94", "--api", url, "--json"
        )
        assert by_tone.returncode == 0, by_tone.stderr
        [entry] = json.loads(by_tone.stdout)
        by_number = process(file, "--calibration-db", "94", "--api", url)
        refused = process(file, "--calibration-tone", file, "--tone-db", "94", "--api", url)
        half = process(file, "--calibration-tone", tone, "--api", url)
    offset_db = 94 + 20 * np.log10(np.sqrt(2) / 0.1)
    assert entry["session"]["calibration_db"] == pytest.approx(offset_db, abs=0.01)
    summaries = [each["session"]["summary"] for each in (plain[0], entry)]
    assert summaries[1]["laeq_db"] - summaries[0]["laeq_db"] == pytest.approx(offset_db, abs=0.03)
    assert summaries[1]["level_reference"] == "dB SPL"
    assert "dB SPL" in by_number.stdout
    assert "dBFS" not in by_number.stdout
    assert refused.returncode == 2
    assert "calibrator's tone" in refused.stderr
    assert half.returncode == 2
    assert "--tone-db" in half.stderr
