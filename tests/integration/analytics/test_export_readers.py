"""Third-party tools read what an export format writes.

crowsetta and sed_eval are imported where they are used: that takes seconds, and every test process
collects this file.
"""

from __future__ import annotations

from pathlib import Path

from actors.analytics.formats.audacity import Audacity
from actors.analytics.formats.dcase import Dcase
from actors.analytics.formats.raven import Raven
from tests.support.exported import DOG, RAIN, one, written


def test_audacity_is_read_by_crowsetta(tmp_path: Path) -> None:
    import crowsetta

    path = tmp_path / "labels.txt"
    path.write_bytes(written(Audacity, one(DOG, RAIN)))
    read = crowsetta.formats.seq.AudSeq.from_file(path)
    assert list(read.start_times) == [1.5, 3.0]
    assert list(read.end_times) == [2.25, 60.0]
    assert list(read.labels) == ["dog_bark", "rain"]


def test_raven_is_read_by_crowsetta(tmp_path: Path) -> None:
    import crowsetta

    path = tmp_path / "street.selections.txt"
    path.write_bytes(written(Raven, one(DOG, RAIN)))
    boxes = crowsetta.formats.bbox.Raven.from_file(path).to_bbox()
    assert [(box.onset, box.offset, box.label) for box in boxes] == [
        (1.5, 2.25, "dog_bark"),
        (3.0, 60.0, "rain"),
    ]
    assert {(box.low_freq, box.high_freq) for box in boxes} == {(0.0, 24_000.0)}


def test_dcase_is_read_by_sed_eval_and_can_be_scored(tmp_path: Path) -> None:
    import sed_eval

    path = tmp_path / "events.txt"
    rows = [*one(DOG, RAIN), *one(DOG), *one(file_name="quiet.wav")]
    path.write_bytes(written(Dcase, rows))
    read = sed_eval.io.load_event_list(filename=str(path))
    assert [
        (each.get("filename"), each.get("onset"), each.get("offset"), each.get("event_label"))
        for each in read
    ] == [
        ("street.wav", 1.5, 2.25, "dog_bark"),
        ("street.wav", 3.0, 60.0, "rain"),
        # The second recording of the same name gets a distinct name.
        ("street-2.wav", 1.5, 2.25, "dog_bark"),
        ("quiet.wav", None, None, None),
    ]
    assert read.unique_files == ["quiet.wav", "street-2.wav", "street.wav"]
    metrics = sed_eval.sound_event.EventBasedMetrics(event_label_list=["dog_bark", "rain"])
    of_one = read.filter(filename="street.wav")
    metrics.evaluate(reference_event_list=of_one, estimated_event_list=of_one)
    assert metrics.results_overall_metrics()["f_measure"]["f_measure"] == 1.0
