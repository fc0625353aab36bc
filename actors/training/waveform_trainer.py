"""Training of models over samples on a user's labelled clips: a network, alone or in a vote.

The work is bounded by counts of mixtures, batches and folds. So training takes about as long for
ten clips as for thousands, and its result does not depend on time limits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.science.detection import cnn, inference, segment_views
from actors.science.detection.chunks import STEP
from actors.science.detection.classifier import Classifier
from actors.science.detection.ensemble import Estimator
from actors.science.detection.features import FEATURE_VERSION
from actors.science.types import BACKGROUND
from actors.training import (
    calibration,
    cross_validation,
    feature_augmentation,
    mixtures,
    network,
    partners,
)
from actors.training.calibration import ClipScores
from actors.training.cross_validation import Scores, Tell
from actors.training.dataset import LabelledClip
from actors.training.mixtures import Scene, SegmentViews
from actors.training.network import Course, Spectra
from actors.training.partners import Partner


@dataclass(frozen=True)
class NetworkAlgorithm:
    """A training algorithm: a line of help, and the partners in the network's vote."""

    help: str
    partners: tuple[Partner, ...] = ()


#: The algorithms by name. The shipped model uses the second one.
ALGORITHMS: Mapping[str, NetworkAlgorithm] = {
    "cnn": NetworkAlgorithm(
        "a convolutional network that scores every tenth of a second; the slowest"
    ),
    "cnn_vote": NetworkAlgorithm(
        "that network, with lda and svm in its vote, which also look at textures; the slowest",
        tuple(partners.PARTNERS.values()),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The amount of training data, and the length of the training.

    Attributes
    ----------
    course
        Size and training of every network.
    n_scenes
        Mixtures of clips, about as many for each class. More take longer to make, and more memory.
    most_copies
        Maximum number of mixtures of one clip, or of five seconds of a longer one.
    n_beds
        Mixtures of background alone.
    n_folds
        Maximum number of folds, each of which trains another network.
    """

    course: Course
    n_scenes: int = 1_500
    most_copies: int = 10
    n_beds: int = 250
    n_folds: int = 3


#: Takes half of the time limit of a step, on an idle core without AVX-512. (With 540 mixtures per
#: epoch and 35 epochs, it exceeded the limit on a busy core.)
EFFORT = Effort(course=Course(n_real=360, epochs=25))

#: Share of mixtures with the unchanged clip.
PLAIN_SHARE = 0.12

#: The clip row of a bed.
_NO_CLIP = -1

#: Share of a fold's time for classifying its clips.
_NAMING = 0.05


@dataclass(frozen=True, eq=False)
class TrainingMixtures:
    """Mixtures, and inputs of segment classification for their sounds.

    Attributes
    ----------
    log_mel, steps
        The mixtures, as in `Spectra` and `Scene`.
    labels, clips
        The class of each mixture, and the row of its clip; beds of background have no clip, and are
        never held out.
    views
        Inputs of segment classification: for each of `segment_views.VIEWS` an array with a row per
        chunk. Empty for algorithms without partners.
    scenes : numpy.ndarray [shape=(n_rows,)]
        The mixture of each of these rows.
    """

    log_mel: Tensor
    steps: NDArray[np.int8]
    labels: NDArray[np.str_]
    clips: NDArray[np.intp]
    views: Mapping[str, NDArray[np.float32]]
    scenes: NDArray[np.intp]

    @property
    def classes(self) -> list[str]:
        """Classes that are audible in some mixture, and background."""
        is_heard = (self.steps == mixtures.SOUND).any(axis=1)
        return sorted({BACKGROUND, *self.labels[is_heard].tolist()})

    @property
    def spectra(self) -> Spectra:
        """The mixtures as inputs of the network; the columns are `classes`."""
        targets = network.targets(self.steps, labels=self.labels.tolist(), classes=self.classes)
        return Spectra(self.log_mel, targets, torch.from_numpy(self.clips != _NO_CLIP))

    def without(self, held_out: NDArray[np.bool_]) -> TrainingMixtures:
        """Return the material without the clips of a mask."""
        kept = (self.clips == _NO_CLIP) | ~held_out[self.clips]
        seen = kept[self.scenes]
        return TrainingMixtures(
            self.log_mel[torch.from_numpy(kept)],
            self.steps[kept],
            self.labels[kept],
            self.clips[kept],
            {view: rows[seen] for view, rows in self.views.items()},
            (np.cumsum(kept) - 1)[self.scenes[seen]],
        )


def make(
    clips: Sequence[LabelledClip], *, algorithm: str, seed: int, effort: Effort, tell: Tell
) -> TrainingMixtures:
    """Make mixtures of the clips and of beds, and their inputs of segment classification.

    ``tell`` receives the fraction that is done before each mixture; an exception from it stops the
    work.
    """
    rng, view_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    taken = list(_taken(clips, rng, effort))
    log_mel: list[Tensor] = []
    steps: list[NDArray[np.int8]] = []
    labels: list[str] = []
    seen: list[list[SegmentViews]] = []
    # One at a time: the samples of all mixtures together would take ten times the memory.
    for scene in _scenes([piece for _, piece in taken], rng, n_beds=effort.n_beds):
        tell(len(labels) / (len(taken) + effort.n_beds))
        log_mel.append(cnn.log_mel(scene.samples).half())
        steps.append(scene.steps)
        labels.append(scene.label)
        seen.append(mixtures.views_of(scene, view_rng) if ALGORITHMS[algorithm].partners else [])
    return TrainingMixtures(
        torch.stack(log_mel),
        np.stack(steps),
        np.array(labels),
        np.array([row for row, _ in taken] + [_NO_CLIP] * effort.n_beds),
        {
            view: np.array([views[view] for each in seen for views in each])
            for view in segment_views.VIEWS
        },
        np.repeat(np.arange(len(seen)), [len(each) for each in seen]),
    )


def validate(
    clips: Sequence[LabelledClip],
    given: TrainingMixtures,
    *,
    algorithm: str,
    seed: int,
    effort: Effort,
    tell: Tell,
) -> tuple[Scores, float]:
    """Classify every clip, as the product does, by a model that was trained without its fold.

    Returns
    -------
    scores : numpy.ndarray [shape=(n_clips, n_classes), dtype=float32]
        Columns are the classes of the material.
    temperature
        The temperature of the vote that maximises the likelihood of held-out clips.
    """
    by_group = cross_validation.deal(clips, seed=seed, most=effort.n_folds)
    folds = np.array([by_group[clip.group] for clip in clips])
    truth = np.array([clip.label for clip in clips])
    classes = given.classes
    raw = np.zeros((len(clips), len(classes)))
    # A clip of a class that is missing from its fold's training says nothing of calibration.
    says = np.array([clip.samples.any() for clip in clips], dtype=bool)
    every = np.unique(folds).tolist()
    for done, fold in enumerate(every):
        tell_fold = _part(tell, done / len(every), (done + 1) / len(every))
        own = folds == fold
        training = given.without(own)
        voters = fit(
            training,
            algorithm=algorithm,
            seed=seed,
            course=effort.course,
            tell=_part(tell_fold, 0.0, 1.0 - _NAMING),
        )
        says &= ~own | np.isin(truth, training.classes)
        rows = np.flatnonzero(own).tolist()
        columns = np.searchsorted(classes, training.classes)
        model = _model(voters, training.classes, algorithm=algorithm)
        for number, row in enumerate(rows):
            tell_fold(1.0 - _NAMING * (1.0 - number / len(rows)))
            # An empty clip is classified as silence: a recording has at least one sample.
            samples = np.pad(clips[row].samples, (0, clips[row].samples.size == 0))
            raw[row, columns] = inference.classify_clip(model, samples)
    named = ClipScores(truth, folds.astype(str), raw, tuple(classes))
    temperature = calibration.fit_temperature([named.where(says)])
    # The probability of a class that is missing from a fold's training is exactly 0.
    scores = np.where(raw > 0, named.at(temperature).scores, 0.0)
    scores /= scores.sum(axis=1, keepdims=True)
    for row in np.flatnonzero(truth != BACKGROUND).tolist():
        scores[row] = cross_validation.given_sound(scores[row], classes=classes)
    return scores.astype(np.float32), temperature


def fit(
    given: TrainingMixtures, *, algorithm: str, seed: int, course: Course, tell: Tell
) -> list[Estimator]:
    """Train the network and its partners; the columns are the classes of the material."""
    found = network.train(
        given.spectra,
        classes=given.classes,
        course=course,
        seed=seed,
        on_epoch=lambda epoch, _loss: tell((epoch + 1) / course.epochs),
    )
    labels = given.labels[given.scenes]
    groups = given.clips[given.scenes].astype(str)
    wanted = ALGORITHMS[algorithm].partners
    return [
        found,
        *partners.fit(wanted, given.views, labels, groups=groups, seed=seed),
    ]


def _taken(
    clips: Sequence[LabelledClip], rng: np.random.Generator, effort: Effort
) -> Iterator[tuple[int, LabelledClip]]:
    """Repeat every class's pieces until it has its share; also return the rows of their clips."""
    by_class: dict[str, list[tuple[int, LabelledClip]]] = defaultdict(list)
    for row, clip in enumerate(clips):
        by_class[clip.label] += [(row, piece) for piece in split(clip)]
    for label in sorted(by_class):
        pieces = by_class[label]
        share = effort.n_scenes / len(by_class) / max(1, len(pieces))
        yield from feature_augmentation.rounds(
            pieces, rng, how_often=min(share, effort.most_copies)
        )


def split(clip: LabelledClip) -> Iterator[LabelledClip]:
    """Return the clip, or pieces that cover all but a frame of it and may overlap."""
    n_pieces = max(1, -(-(clip.samples.size - STEP) // mixtures.N_SAMPLES))
    last = max(0, clip.samples.size - mixtures.N_SAMPLES)
    starts = np.linspace(0, last, n_pieces).astype(int).tolist()
    for piece in feature_augmentation.parts(clip, starts=starts, length=mixtures.N_SAMPLES):
        if piece.samples.any():
            yield piece


def _scenes(
    pieces: Sequence[LabelledClip], rng: np.random.Generator, *, n_beds: int
) -> Iterator[Scene]:
    for piece in pieces:
        yield mixtures.of_clip(piece, rng, is_plain=rng.random() < PLAIN_SHARE)
    for number in range(n_beds):
        yield mixtures.of_bed(f"bed-{number}", "", rng, label=BACKGROUND)


def _model(voters: Sequence[Estimator], classes: Sequence[str], *, algorithm: str) -> Classifier:
    header = {
        "name": "held out",
        "version": "0",
        "algorithm": algorithm,
        "feature_version": FEATURE_VERSION,
        "classes": list(classes),
    }
    return Classifier.make(header, members=voters)


def _part(tell: Callable[[float], None], start: float, stop: float) -> Tell:
    """Map progress from 0 to 1 onto ``[start, stop]`` of a larger task."""
    return lambda part: tell(start + part * (stop - start))
