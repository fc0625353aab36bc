"""Train the gate of the shipped model, which rejects sounds of other types than its classes.

    python -m actors.training.shipped_model.gate --data FOLDER --gate FILE

``FOLDER`` is that of `data_folder`. The gate learns the classes of the model and all types of
everyday noise, each as a class.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science.detection import classifier
from actors.science.detection.chunks import RATE_HZ
from actors.science.detection.classifier import Classifier
from actors.science.detection.ensemble import Estimator
from actors.science.detection.features import FEATURE_VERSION
from actors.science.detection.segment_views import VIEWS
from actors.science.detection.tagging.backbone import RATE_HZ as WIDE_HZ
from actors.science.types import BACKGROUND
from actors.training import mixtures, partners
from actors.training.dataset import LabelledClip
from actors.training.partners import Partner
from actors.training.shipped_model import base_type_examples, data_folder, recipe
from actors.training.sounds import Sound

SEED, VERSION = 20_243, "2.0.0"

#: Mixtures of each recording, and of each synthesised sound and piece of background. The mixtures
#: of all types are made alike, so that neither noise nor level distinguishes them.
OF_RECORDING, OF_OTHERS = recipe.COPIES, 2

#: Recordings that are longer than a mixture by this many samples are used from both ends.
_BOTH_ENDS = RATE_HZ

#: The estimators. Each errs on other sounds, and each improves the gate (docs/model.md).
ESTIMATORS = (Partner("lda"), Partner("mlp"), Partner("lda", view="textures"))


@dataclass(frozen=True, eq=False)
class GateExamples:
    """Views of chunks, each [shape=(n, width)], with the class and the group of each chunk."""

    views: Mapping[str, NDArray[np.float32]]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]


def examples(
    given: Sequence[Sound], beds: Sequence[Sound], *, classes: Sequence[str]
) -> GateExamples:
    """Compute the views of mixtures of sounds, and of pieces of backgrounds.

    The class of a sound is the one of ``classes`` that it has, or else its type.
    """
    rng = np.random.default_rng(SEED)
    pieces = [piece for bed in beds for piece in base_type_examples.pieces(bed, rng)]
    rows = [
        (views, clip.label, clip.group)
        for each in (*given, *(replace(piece, origin="") for piece in pieces))
        for clip in _clips(each, classes)
        for scene in islice(recipe.copies(clip, rng), OF_RECORDING if each.origin else OF_OTHERS)
        for views in mixtures.views_of(scene, rng)
    ]
    views, labels, groups = zip(*rows, strict=True)
    return GateExamples(
        {view: np.stack([each[view] for each in views]) for view in VIEWS},
        np.array(labels),
        np.array(groups),
    )


def fit(given: GateExamples, *, without: str = "") -> Classifier:
    """Train the gate without the sounds of a group."""
    kept = given.groups != without
    labels, groups = given.labels[kept], given.groups[kept]
    views = {view: rows[kept] for view, rows in given.views.items()}
    members: list[Estimator] = []
    for estimator in ESTIMATORS:
        found = partners.fit([estimator], views, labels, groups=groups, seed=SEED)
        # The networks of one estimator share its weight.
        members += [replace(member, weight=1.0 / len(found)) for member in found]
    header = {
        "name": "clamor-gate",
        "version": VERSION,
        "algorithm": " + ".join(f"{name} ({view})" for name, view in ESTIMATORS),
        "feature_version": FEATURE_VERSION,
        "classes": sorted({*labels.tolist()}),
        "credits": "CREDITS-types.md",
    }
    return Classifier.make(header, members=members)


def held_out(given: Sequence[Sound], beds: Sequence[Sound]) -> dict[str, Classifier]:
    """Train a gate without each group of sounds."""
    learnt = examples(given, beds, classes=classifier.packaged(classifier.MODEL_FILE).classes)
    return {group: fit(learnt, without=group) for group in np.unique(learnt.groups).tolist()}


def _clips(sound: Sound, classes: Sequence[str]) -> Iterator[LabelledClip]:
    """Return the first seconds of a sound, and the last ones of a long one."""
    own = sorted(sound.right & {*classes})
    label = own[0] if own else (*sound.types, BACKGROUND)[0]
    narrow = np.asarray(soxr.resample(sound.samples, WIDE_HZ, RATE_HZ), dtype=np.float32)
    yield LabelledClip(sound.name, label, sound.group, narrow)
    if narrow.size > mixtures.N_SAMPLES + _BOTH_ENDS:
        last = narrow[-mixtures.N_SAMPLES :]
        yield LabelledClip(sound.name, label, sound.group, last)


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
