"""Compare the algorithms on labelled recordings, by cross-validation over their folds.

    python -m actors.training.shipped_model.compare --data PATH/TO/esc10 [--algorithms a,b]

Prints a table in Markdown. The folder holds ``labels.csv`` and ``clips/``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.classifier import Classifier
from actors.science.detection.features import FEATURE_VERSION
from actors.science.types import BACKGROUND
from actors.training import algorithms, cross_validation, dataset, feature_augmentation
from actors.training.cross_validation import Fold, Windows
from actors.training.dataset import Examples, LabelledClip
from actors.training.shipped_model import data_folder

SEED = 0

#: Bins of the expected calibration error, by confidence.
_BINS = 10

_HEAD = (
    "| algorithm | clips | clips, 10 dB | windows | windows, 10 dB | ECE, windows | ECE, clips "
    "| size | one window | training |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, eq=False)
class ConditionWindows:
    """The windows of each clip, clean or with noise."""

    clips: Sequence[LabelledClip]
    windows: Sequence[Windows]


@dataclass(frozen=True, eq=False)
class Answers:
    """Correctness and confidence of the most probable class, of clips or of windows."""

    is_right: NDArray[np.bool_]
    confidence: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Fraction of correct answers."""
        return float(self.is_right.mean())

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: confidence less accuracy, over bins of equal width [1]_.

        .. [1] Guo et al., On calibration of modern neural networks, ICML 2017.
        """
        bins = np.minimum((self.confidence * _BINS).astype(int), _BINS - 1)
        gaps = np.bincount(bins, weights=self.confidence - self.is_right, minlength=_BINS)
        return float(np.abs(gaps).sum() / bins.size)


def compare(
    clips: Sequence[LabelledClip],
    examples: Examples,
    *,
    heard: Sequence[ConditionWindows],
    algorithm: str,
) -> str:
    """Return a table row for an algorithm, trained once without each of the clips' groups."""
    classes = np.unique(examples.labels).tolist()
    folds = {group: number for number, group in enumerate(sorted({c.group for c in clips}))}
    start = time.perf_counter()
    trained, factor = cross_validation.train(
        examples, folds=folds, algorithm=algorithm, seed=SEED, tell=lambda _part: None
    )
    training_s = (time.perf_counter() - start) / len(folds)
    by_fold = [
        answers(each, trained, folds=folds, classes=classes, factor=factor) for each in heard
    ]
    (clean, windows), (noisy, noisy_windows) = by_fold
    n_bytes, one_ms = _cost(next(iter(trained.values())), heard[0], classes=classes)
    return (
        f"| {algorithm} | {clean.accuracy:.1%} | {noisy.accuracy:.1%} "
        f"| {windows.accuracy:.1%} | {noisy_windows.accuracy:.1%} "
        f"| {windows.calibration_error:.3f} | {clean.calibration_error:.3f} "
        f"| {n_bytes / 1e6:.2f} MB | {one_ms:.2f} ms | {training_s:.0f} s |"
    )


def answers(
    heard: ConditionWindows,
    trained: dict[int, Fold],
    *,
    folds: dict[str, int],
    classes: Sequence[str],
    factor: float,
) -> tuple[Answers, Answers]:
    """Return the answers for clips, and for their windows that are not classified as background."""
    names = np.array(classes)
    of_clips: list[tuple[bool, float]] = []
    of_windows: list[tuple[bool, float]] = []
    for clip, windows in zip(heard.clips, heard.windows, strict=True):
        fold = trained[folds[clip.group]]
        scores = fold.scores(windows.features, n_classes=len(classes), factor=factor)
        whole = cross_validation.clip_scores(
            scores, windows.is_silent, classes=classes, label=clip.label
        )
        of_clips.append((names[whole.argmax()] == clip.label, float(whole.max())))
        of_windows += [
            (names[row.argmax()] == clip.label, float(row.max()))
            for row in scores[~windows.is_silent]
            if names[row.argmax()] != BACKGROUND
        ]
    return _answers(of_clips), _answers(of_windows)


def _answers(pairs: Sequence[tuple[bool, float]]) -> Answers:
    is_right, confidence = zip(*pairs, strict=True)
    return Answers(np.array(is_right), np.array(confidence))


def _cost(fold: Fold, heard: ConditionWindows, *, classes: Sequence[str]) -> tuple[int, float]:
    """Return the bytes of the model file, and the milliseconds for one window."""
    header = {
        "name": "compared",
        "version": "0",
        "algorithm": "compared",
        "feature_version": FEATURE_VERSION,
        "classes": list(classes),
    }
    model = Classifier.make(header, members=list(fold.voters))
    row = heard.windows[0].features[:1]
    times: list[float] = []
    for _ in range(50):
        start = time.perf_counter()
        model.scores(row)
        times.append(time.perf_counter() - start)
    return len(model.to_bytes()), 1e3 * float(np.median(times))


def _with_noise(clip: LabelledClip, rng: np.random.Generator) -> LabelledClip:
    bed = dataset.bed_under(rng, clip.samples, snr_db=10.0)
    return replace(clip, samples=clip.samples + bed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="compare", description="Compare the algorithms.")
    parser.add_argument("--data", type=Path, required=True, help="folder of labels.csv and clips/")
    parser.add_argument("--algorithms", default=",".join(algorithms.ALGORITHMS), help="which")
    options = parser.parse_args(arguments)
    chosen = options.algorithms.split(",")
    if unknown := set(chosen) - set(algorithms.ALGORITHMS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    clips, _ = data_folder.load_clips(options.data, data_folder.read_labels(options.data))
    examples = feature_augmentation.make(clips, seed=SEED, tell=lambda _part: None)
    rng = np.random.default_rng(SEED)
    heard = [
        ConditionWindows(each, [cross_validation.windows_of(clip.samples) for clip in each])
        for each in (clips, [_with_noise(clip, rng) for clip in clips])
    ]
    print(f"{len(clips)} clips, {len(examples.labels)} examples\n\n{_HEAD}", flush=True)
    for algorithm in chosen:
        print(compare(clips, examples, heard=heard, algorithm=algorithm), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
