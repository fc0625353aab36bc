"""Cross-validation over groups: every clip is scored by a model trained without its group."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from actors.science.detection import ensemble, features
from actors.science.detection.chunks import MIN_CHUNK, RATE_HZ
from actors.science.detection.ensemble import Estimator
from actors.science.detection.silence import QUIET_DB
from actors.science.types import BACKGROUND
from actors.training import algorithms, calibration
from actors.training.calibration import HeldOut
from actors.training.dataset import Examples, LabelledClip, Samples

#: Maximum number of folds. More are slightly more accurate and take longer.
MOST_FOLDS = 4

#: A clip is scored in windows of one second, with this hop.
WINDOW, WINDOW_HOP = RATE_HZ, RATE_HZ // 2

#: Samples whose features are computed in one batch; bounds the memory.
_BLOCK = 60 * RATE_HZ

Scores = NDArray[np.float32]
#: Receives the fraction that is done, from 0 to 1; an exception from it stops the work.
Tell = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a clip: their features, and which of them are silence."""

    features: NDArray[np.float32]
    is_silent: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Fold:
    """Estimators that were trained without one fold's groups.

    ``columns`` maps the columns of the estimators to those of all classes.
    """

    voters: Sequence[Estimator]
    columns: NDArray[np.intp]

    def scores(self, values: NDArray[np.float32], *, n_classes: int, factor: float = 1.0) -> Scores:
        """Compute class probabilities of windows, with a factor on the temperatures."""
        logits = [member.logits(values) / factor for member in self.voters]
        found = np.zeros((len(values), n_classes), dtype=np.float32)
        found[:, self.columns] = ensemble.vote(self.voters, logits)
        return found


def validate(
    clips: Sequence[LabelledClip], examples: Examples, *, algorithm: str, seed: int, tell: Tell
) -> tuple[Scores, float]:
    """Score every clip by estimators that were trained without its fold.

    Parameters
    ----------
    clips
        The clips to score.
    examples
        The training data: copies of the clips, in the same groups.

    Returns
    -------
    scores : numpy.ndarray [shape=(n_clips, n_classes), dtype=float32]
        Columns are the sorted names among the examples' labels.
    factor
        As returned by `train`.
    """
    folds = deal(clips, seed=seed)
    trained, factor = train(
        examples, folds=folds, algorithm=algorithm, seed=seed, tell=lambda part: tell(0.9 * part)
    )
    classes = np.unique(examples.labels).tolist()
    scores = np.zeros((len(clips), len(classes)), dtype=np.float32)
    for row, clip in enumerate(clips):
        tell(0.9 + 0.1 * row / len(clips))
        windows = windows_of(clip.samples)
        fold = trained[folds[clip.group]]
        found = fold.scores(windows.features, n_classes=len(classes), factor=factor)
        scores[row] = clip_scores(found, windows.is_silent, classes=classes, label=clip.label)
    return scores, factor


def deal(clips: Sequence[LabelledClip], *, seed: int, most: int = MOST_FOLDS) -> dict[str, int]:
    """Assign each group to a fold, with the classes spread evenly over the folds.

    Up to ``most`` folds, fewer if a class has fewer groups. Assignments that leave a class out of a
    fold's training data are avoided if possible.
    """
    labels = np.array([clip.label for clip in clips])
    groups = np.array([clip.group for clip in clips])
    sounds = {label for label in labels.tolist() if label != BACKGROUND}
    n_folds = min(most, *(np.unique(groups[labels == label]).size for label in sounds))
    found: dict[str, int] = {}
    for attempt in range(20):
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed + attempt)
        with warnings.catch_warnings():
            # It warns if a class has fewer clips than there are folds, which is fine for
            # background.
            warnings.simplefilter("ignore", UserWarning)
            splits = list(folds.split(labels, labels, groups))
        found = {
            str(groups[row]): fold for fold, (_, testing) in enumerate(splits) for row in testing
        }
        if all(sounds <= set(labels[training].tolist()) for training, _ in splits):
            break
    return found


def train(
    examples: Examples, *, folds: Mapping[str, int], algorithm: str, seed: int, tell: Tell
) -> tuple[dict[int, Fold], float]:
    """Train once without each fold.

    Returns
    -------
    folds
        By number.
    factor
        The factor on the temperatures that calibrates the estimators on held-out examples.
    """
    classes, columns = np.unique(examples.labels, return_inverse=True)
    number = np.array([folds[group] for group in examples.groups.tolist()])
    found: dict[int, Fold] = {}
    held_out: list[HeldOut] = []
    order = sorted(set(folds.values()))
    for done, fold in enumerate(order):
        tell(done / len(order))
        training = examples.where(number != fold)
        voters = algorithms.fit(
            algorithm, training.features, training.labels, groups=training.groups, seed=seed
        )
        known = np.unique(training.labels)
        found[fold] = Fold(voters, np.searchsorted(classes, known))
        # A window of a class that is missing from this fold's training says nothing of calibration.
        testing = (number == fold) & np.isin(columns, found[fold].columns)
        logits = [member.logits(examples.features[testing]) for member in voters]
        truth = np.searchsorted(known, examples.labels[testing])
        held_out.append(HeldOut(voters, logits, truth))
    return found, calibration.factor(held_out)


def windows_of(samples: Samples) -> Windows:
    """Cut a clip into overlapping windows of one second; a shorter clip is zero-padded to one."""
    length = max(MIN_CHUNK, min(samples.size, WINDOW))
    whole = np.pad(samples, (0, max(0, length - samples.size)))
    padded = np.pad(whole, features.MARGIN)
    starts = range(0, whole.size - length + 1, WINDOW_HOP)
    blocks: dict[int, list[int]] = defaultdict(list)
    for start in starts:
        blocks[start // _BLOCK * _BLOCK].append(start)
    rows = [
        features.extract(
            padded[first : own[-1] + length + 2 * features.MARGIN],
            [(start - first, start - first + length) for start in own],
        )
        for first, own in blocks.items()
    ]
    power = np.array([np.square(whole[at : at + length]).mean(dtype=np.float64) for at in starts])
    return Windows(np.concatenate(rows), power < 10 ** (QUIET_DB / 10))


def clip_scores(
    scores: Scores, is_silent: NDArray[np.bool_], *, classes: Sequence[str], label: str
) -> NDArray[np.float64]:
    """Compute a clip's class probabilities from those of its windows.

    The mean over the windows that are neither silent nor classified as background, or over all if
    none is left. The probability of background is 0 unless it is the clip's label: any other label
    means that there is a sound.
    """
    background = list(classes).index(BACKGROUND)
    rows = scores.astype(np.float64)
    rows[is_silent] = np.arange(len(classes)) == background
    if label == BACKGROUND:
        return np.asarray(rows.mean(axis=0))
    is_heard = rows.argmax(axis=1) != background
    mean = (rows[is_heard] if is_heard.any() else rows).mean(axis=0)
    return given_sound(mean, classes=classes)


def given_sound(shares: NDArray[np.floating], *, classes: Sequence[str]) -> NDArray[np.float64]:
    """Return class probabilities [shape=(n_classes,)] of a clip that is known to hold a sound."""
    is_sound = np.array([name != BACKGROUND for name in classes])
    rest = np.where(is_sound, shares, 0.0).astype(np.float64)
    if rest.sum() <= 0:
        rest = is_sound.astype(np.float64)
    return np.asarray(rest / rest.sum())
