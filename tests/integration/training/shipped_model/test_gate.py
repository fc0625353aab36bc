"""The gate of the shipped model, trained on a few synthesised sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science import synth
from actors.science.detection import inference, segment_views
from actors.science.detection.chunks import RATE_HZ
from actors.science.detection.classifier import Classifier
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_HZ
from actors.science.types import BACKGROUND
from actors.training.shipped_model import gate
from actors.training.sounds import Sound

MAKERS: dict[str, Callable[..., NDArray[np.floating]]] = {
    "siren": synth.siren_sweep,
    "mains_hum": synth.mains_hum,
    "wind": synth.broadband_hiss,
}


def sounds(seed: int, count: int) -> Iterator[Sound]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        for name, make in MAKERS.items():
            samples = np.asarray(0.1 * make(rng, 2 * WIDE_HZ, WIDE_HZ), dtype=np.float32)
            yield Sound(f"{name}-{number}", (name,), str(number % 2 + 1), samples)


def likeliest(model: Classifier, sound: Sound) -> str:
    """Return the class that all estimators of a gate together give to a sound."""
    narrow, margin = soxr.resample(sound.samples, WIDE_HZ, RATE_HZ), segment_views.MARGIN
    part = inference.in_memory(narrow)(-margin, narrow.size + margin)
    views = segment_views.views_of([part])
    shares = inference.classify_segment(model, views, first=np.zeros((1, 2), dtype=np.float32))
    return model.classes[int(shares.argmax())]


def test_a_gate_learns_the_classes_of_the_model_and_the_types_that_it_lacks() -> None:
    bed = 0.1 * synth.background_bed(np.random.default_rng(2), 4 * WIDE_HZ, WIDE_HZ)
    beds = [Sound(f"bed-{group}", (), group, bed.astype(np.float32)) for group in "12"]
    learnt = gate.examples([*sounds(0, 8)], beds, classes=["siren", "mains_hum"])
    assert {*learnt.labels.tolist()} == {*MAKERS, BACKGROUND}
    assert {*learnt.groups.tolist()} == {"1", "2"}
    trained = gate.fit(learnt, without="2")
    assert trained.to_bytes() == gate.fit(learnt, without="2").to_bytes()
    assert trained.classes == tuple(sorted([*MAKERS, BACKGROUND]))
    assert trained.input_kinds == {"features", "textures"}
    assert sum(member.weight for member in trained.members) == len(gate.ESTIMATORS)
    for sound in sounds(1, 3):
        assert likeliest(trained, sound) == sound.types[0], sound.name


def test_a_long_recording_is_learnt_from_both_ends() -> None:
    rng = np.random.default_rng(3)
    samples = (0.1 * rng.standard_normal(8 * WIDE_HZ)).astype(np.float32)
    short = Sound("short", ("wind",), "1", samples[: 5 * WIDE_HZ], origin="everyday")
    long = Sound("long", ("wind",), "1", samples, origin="everyday")
    one, both = (gate.examples([each], [], classes=["siren"]) for each in (short, long))
    assert len(both.labels) > 1.5 * len(one.labels)
