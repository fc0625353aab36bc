"""Train the gate of the shipped model: which sounds are of any of its classes.

    python -m actors.training.shipped_model.gate --data FOLDER --gate FILE

``FOLDER`` is that of `data_folder`. Everyday noise of other types than the model's classes is what
the gate learns to reject.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science.detection import classifier, inference, segment_views
from actors.science.detection.chunks import RATE_HZ
from actors.science.detection.classifier import Classifier
from actors.science.detection.features import FEATURE_VERSION
from actors.science.detection.open_set import KNOWN
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_HZ
from actors.science.types import BACKGROUND
from actors.training import algorithms, sounds
from actors.training.shipped_model import base_type_examples, data_folder
from actors.training.sounds import Sound

SEED, VERSION = 20_243, "1.0.0"

#: Copies of each sound, besides the sound itself, and the most chunks of each.
COPIES, CHUNKS = 2, 3

#: Support vectors over features reject foreign sounds best (docs/model.md).
ALGORITHM = "svm"


@dataclass(frozen=True, eq=False)
class GateExamples:
    """Features of chunks [shape=(n, N_FEATURES)], with the class and the group of each."""

    features: NDArray[np.float32]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]


def examples(
    given: Sequence[Sound], beds: Sequence[Sound], *, classes: Sequence[str]
) -> GateExamples:
    """Compute the features of sounds and of copies of them over backgrounds."""
    rng = np.random.default_rng(SEED)
    rows = [
        (chunk, KNOWN if each.right & {*classes} else BACKGROUND, each.group)
        for each in given
        if each.types
        for version in _versions(each, beds, rng)
        for chunk in _chunks(version)
    ]
    features, labels, groups = zip(*rows, strict=True)
    return GateExamples(np.stack(features), np.array(labels), np.array(groups))


def fit(given: GateExamples, *, without: str = "") -> Classifier:
    """Train the gate without the sounds of a group."""
    kept = given.groups != without
    members = algorithms.fit(
        ALGORITHM,
        given.features[kept],
        given.labels[kept],
        groups=given.groups[kept],
        seed=SEED,
    )
    header = {
        "name": "clamor-gate",
        "version": VERSION,
        "algorithm": ALGORITHM,
        "feature_version": FEATURE_VERSION,
        "classes": sorted({*given.labels.tolist()}),
        "credits": "CREDITS-types.md",
    }
    return Classifier.make(header, members=members)


def held_out(given: Sequence[Sound], beds: Sequence[Sound]) -> dict[str, Classifier]:
    """Train a gate without each group of sounds."""
    learnt = examples(given, beds, classes=classifier.packaged(classifier.MODEL_FILE).classes)
    return {group: fit(learnt, without=group) for group in np.unique(learnt.groups).tolist()}


def _versions(sound: Sound, beds: Sequence[Sound], rng: np.random.Generator) -> Iterator[Sound]:
    yield replace(sound, samples=sounds.cut(sound.samples, rng))
    for _ in range(COPIES):
        yield sounds.copy(sound, beds, rng)


def _chunks(sound: Sound) -> Iterator[NDArray[np.float32]]:
    narrow = soxr.resample(sound.samples, WIDE_HZ, RATE_HZ)
    read, margin = inference.in_memory(narrow), segment_views.MARGIN
    ranges = segment_views.chunks_of(0, narrow.size, n_samples=narrow.size)
    for start, stop in ranges[:CHUNKS]:
        yield segment_views.chunk_features(read(start - margin, stop + margin))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="gate", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--gate", type=Path, required=True, help="write the gate to this file")
    options = parser.parse_args(arguments)
    given = [*data_folder.sounds(options.data)]
    given += base_type_examples.synthesised(np.random.default_rng(SEED))
    learnt = examples(
        given,
        data_folder.backgrounds(options.data),
        classes=classifier.packaged(classifier.MODEL_FILE).classes,
    )
    found = fit(learnt).to_bytes()
    options.gate.write_bytes(found)
    print(f"wrote {options.gate}: {len(found)} bytes, from {len(learnt.labels)} chunks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
