"""The document on accuracy, generated from a few short sounds and random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from actors.science import synth
from actors.science.detection.classifier import shipped
from actors.science.detection.tagging.backbone import RATE_HZ, BackboneNetwork
from actors.training.shipped_model import accuracy_report, answers, build, codecs
from actors.training.shipped_model.answers import OUTCOMES, Judges
from actors.training.sounds import Sound
from tests.support import weights

GROUPS = "1", "2"


def sounds() -> list[Sound]:
    rng = np.random.default_rng(0)
    makers = [("siren", synth.siren_sweep), ("mains_hum", synth.mains_hum)] * 2
    return [
        Sound(
            f"{number}.ogg",
            (name,),
            GROUPS[number % 2],
            (0.1 * make(rng, 2 * RATE_HZ, RATE_HZ)).astype(np.float32),
            origin="everyday",
        )
        for number, (name, make) in enumerate(makers)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one background, whose author is in fold 1."""
    (tmp_path / "esc10").mkdir()
    labels = "file,label,fold,author\na.ogg,rain,1,gezortenplotz\n"
    (tmp_path / "esc10" / "labels.csv").write_text(labels, encoding="utf-8")
    (tmp_path / "backgrounds").mkdir()
    bed = 0.01 * synth.background_bed(np.random.default_rng(1), 5 * RATE_HZ, RATE_HZ)
    soundfile.write(tmp_path / "backgrounds" / "city.ogg", bed, RATE_HZ)
    return tmp_path


def judges() -> Judges:
    backbone = BackboneNetwork.from_bytes(weights.file_of(weights.random_state(width=0.4)))
    return Judges(backbone, {group: weights.random_head() for group in GROUPS})


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of all tables below a heading of the document."""
    part = text.partition(f"## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_document_has_every_table_with_the_backbone_and_without_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "STEADY_S", 1)
    by = {accuracy_report.WITHOUT: None, accuracy_report.WITH: judges()}
    gate = shipped().gate
    assert gate is not None
    text = accuracy_report.write(data, sounds(), by, dict.fromkeys(GROUPS, gate), None)
    noise = rows_of(text, "Everyday noise: 4 recordings")
    conditions = [(name, what) for name in by for what in ("clean", *codecs.MEASURED)]
    outcomes = noise[1 : 1 + len(conditions)]
    assert [(row[0], row[1]) for row in outcomes] == conditions
    for row in outcomes:
        shares = [float(cell.rstrip("%")) for cell in row[2 : 2 + len(OUTCOMES)]]
        assert sum(shares) == pytest.approx(100.0)
    by_type = {row[0]: row[1:] for row in noise[2 + len(conditions) :]}
    assert set(by_type) == {"mains_hum", "siren"}
    for counts in by_type.values():
        numbers = [int(cell or 0) for cell in counts]
        assert numbers[0] == 2
        assert sum(numbers[1:5]) == sum(numbers[5:9]) == 2
    alarms = rows_of(text, "False alarms in 1 recordings of real background")
    assert [row[0] for row in alarms[1:]] == list(by)
    steady = rows_of(text, "False alarms in steady noise, by codec")
    assert [(row[0], row[1]) for row in steady[1:]] == conditions
    assert "were not measured" in text


def test_the_models_of_the_folds_are_as_sure_as_the_one_that_ships(tmp_path: Path) -> None:
    """`build --keep` writes them without a temperature."""
    model = shipped()
    bare = {name: each for name, each in model.header.items() if name != "vote_temperature"}
    kept = type(model).make(bare, members=model.members)
    (tmp_path / "without-1.clamor").write_bytes(kept.to_bytes())
    [found] = build.kept_models(tmp_path, ["1"]).values()
    assert found.vote_temperature == 1.0
    assert build.at_temperature(found, 0.7).vote_temperature == 0.7
    with pytest.raises(OSError, match="without-2"):
        build.kept_models(tmp_path, ["2"])
