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
from actors.science.detection.open_set import KNOWN
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_HZ
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


def known(model: Classifier, sound: Sound) -> float:
    """Return the probability that a gate gives to a sound."""
    narrow, margin = soxr.resample(sound.samples, WIDE_HZ, RATE_HZ), segment_views.MARGIN
    part = inference.in_memory(narrow)(-margin, narrow.size + margin)
    views = segment_views.views_of([part])
    shares = inference.classify_segment(model, views, first=np.zeros((1, 2), dtype=np.float32))
    return float(shares[model.classes.index(KNOWN)])


def test_a_gate_rejects_the_types_that_the_model_lacks() -> None:
    learnt = gate.examples([*sounds(0, 8)], [], classes=["siren", "mains_hum"])
    assert {*learnt.labels.tolist()} == {KNOWN, "background"}
    trained = gate.fit(learnt, without="2")
    assert trained.to_bytes() == gate.fit(learnt, without="2").to_bytes()
    assert Classifier.from_bytes(trained.to_bytes()).classes == trained.classes
    for sound in sounds(1, 3):
        assert (known(trained, sound) > 0.5) is (sound.types[0] != "wind"), sound.name
