"""The comparison's figures, checked by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from actors.science import synth
from actors.science.detection.chunks import RATE_HZ
from actors.training.shipped_model import compare
from actors.training.shipped_model.compare import Answers


def test_calibration_error_is_the_gap_by_bins() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    answers = Answers(np.array([True, False, True, True]), confidence)
    # Two bins of two: 0.95 against 0.5, and 0.55 against 1.
    assert answers.calibration_error == pytest.approx(0.5 * 0.45 + 0.5 * 0.45)
    assert answers.accuracy == 0.75
    assert Answers(np.array([True]), np.array([1.0])).calibration_error == 0.0


def test_the_table_has_a_row_for_each_algorithm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.training.feature_augmentation.MOST_COPIES", 2)
    monkeypatch.setattr("actors.training.feature_augmentation.FEWEST_BEDS", 10)
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    rows: list[tuple[str, str, int]] = []
    for label in ("siren_sweep", "broadband_hiss"):
        for number in range(4):
            file = f"{label}-{number}.wav"
            samples = 0.1 * synth.SOUNDS[label](rng, RATE_HZ, RATE_HZ)
            soundfile.write(tmp_path / "clips" / file, samples, RATE_HZ)
            rows.append((file, label, 1 + number % 2))
    with (tmp_path / "labels.csv").open("w", newline="") as file_:
        csv.writer(file_).writerows([("file", "label", "fold"), *rows])
    assert compare.main(["--data", str(tmp_path), "--algorithms", "lda,logistic_regression"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 clips")
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| lda", "| logistic_regression"]
    assert "| 100.0% |" in lines[4]


def test_an_unknown_algorithm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        compare.main(["--data", str(tmp_path), "--algorithms", "magic"])
