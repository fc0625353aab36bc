"""Train a model on a user's labelled clips, and measure its accuracy on held-out clips."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as version_of

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import chunks, classifier, second_opinion
from actors.science.detection.classifier import Classifier
from actors.science.detection.ensemble import Estimator
from actors.science.detection.features import FEATURE_VERSION
from actors.science.detection.tagging import backbone
from actors.science.detection.tagging.tagger import Head, Tagger
from actors.science.types import BACKGROUND, JsonDict
from actors.training import (
    algorithms,
    calibration,
    clip_checks,
    cross_validation,
    feature_augmentation,
    linear_head,
    waveform_trainer,
)
from actors.training.cross_validation import Scores
from actors.training.dataset import LabelledClip

#: The available algorithms, each with a line of help.
ALGORITHMS: Mapping[str, str] = {
    **{name: each.help for name, each in algorithms.ALGORITHMS.items()},
    **{name: each.help for name, each in waveform_trainer.ALGORITHMS.items()},
    linear_head.ALGORITHM: linear_head.HELP,
}

#: The best of the fast algorithms in cross-validation; see docs/model.md.
DEFAULT_ALGORITHM = "mlp"

#: Receives the fraction that is done, and the stage.
_Tell = Callable[[float, str], None]

_LIBRARIES = ("numpy", "scikit-learn", "scipy", "torch", "torchaudio")

#: Fractions of the work that are done after making the examples, and after cross-validation: of
#: algorithms that use features, and of those that use samples.
_MADE, _VALIDATED = 0.3, 0.85
_NETWORKS_MADE, _NETWORKS_VALIDATED = 0.1, 0.8


@dataclass(frozen=True, eq=False)
class Learnt:
    """A model, and scores of held-out clips by models like it.

    Attributes
    ----------
    model
        Trained on all clips.
    names, truth
        Name and label of each clip, in the order of the input.
    columns
        Those of ``scores``: the classes of the model, or for a model with a head the trained types
        and every type that a clip was classified as.
    scores : numpy.ndarray [shape=(n_clips, n_columns), dtype=float32]
        Probabilities of each clip by a model that was trained without its fold. Background is 0 in
        all but clips of background. Rows sum to 1, or to less if the head has other types.
    """

    model: Classifier
    names: tuple[str, ...]
    truth: NDArray[np.str_]
    columns: tuple[str, ...]
    scores: Scores


def needs_backbone(algorithm: str) -> bool:
    """Return whether an algorithm uses embeddings."""
    return algorithm == linear_head.ALGORITHM


def rate_hz(algorithm: str) -> int:
    """Return the sample rate of an algorithm's training clips."""
    return backbone.RATE_HZ if needs_backbone(algorithm) else chunks.RATE_HZ


def learn(
    clips: Sequence[LabelledClip],
    *,
    algorithm: str,
    name: str,
    version: str,
    seed: int = 0,
    beside: Tagger | None = None,
    on_progress: Callable[[float, str], None] | None = None,
) -> Learnt:
    """Train a model on labelled clips.

    Parameters
    ----------
    clips
        At the algorithm's `rate_hz`. At least `clip_checks.FEWEST_CLIPS` of each class, from
        `clip_checks.FEWEST_GROUPS` groups; for `linear_head.ALGORITHM`, `linear_head.FEWEST_CLIPS`
        of each type. The class ``background`` always exists, and may have clips as well.
    algorithm
        One of `ALGORITHMS`.
    name, version
        Name and version of the model.
    seed
        The same clips, seed, machine and library versions give the same model.
    beside
        The backbone with the base types, for an algorithm that `needs_backbone`.
    on_progress
        Receives the fraction that is done and the stage; an exception from it stops the work.

    Raises
    ------
    TooFewExamples
    OneClassOnly
    NotAType
        If a label is the name of a group, and the algorithm trains types.
    ValueError
        If there is no such algorithm, or a backbone is missing or superfluous.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"there is no algorithm {algorithm}")
    if needs_backbone(algorithm) != (beside is not None):
        raise ValueError(f"{algorithm} is given a backbone if it needs one, and only then")
    tell = on_progress or (lambda _part, _stage: None)
    if beside is not None:
        taught = _by_embeddings(clips, beside=beside, seed=seed, tell=tell)
    else:
        clip_checks.check(clips)
        teach = _by_samples if algorithm in waveform_trainer.ALGORITHMS else _by_features
        taught = teach(clips, algorithm=algorithm, seed=seed, tell=tell)
    truth = np.array([clip.label for clip in clips])
    columns = taught.classes if taught.columns is None else taught.columns
    training = _training(clips, scores=taught.scores, classes=columns, seed=seed)
    header = {
        "name": name,
        "version": version,
        "algorithm": algorithm,
        "feature_version": FEATURE_VERSION,
        "classes": taught.classes,
        "training": training | taught.training,
        "libraries": {library: version_of(library) for library in _LIBRARIES},
        "vote_temperature": taught.vote_temperature,
        **taught.fields,
    }
    model = Classifier.make(header, members=taught.voters, head=taught.head)
    tell(1.0, "done")
    names = tuple(clip.name for clip in clips)
    return Learnt(model, names, truth, tuple(columns), taught.scores)


@dataclass(frozen=True, eq=False)
class _Taught:
    """Estimators that were trained on all clips, and held-out scores by others like them.

    ``columns`` are those of the scores, if they are not the classes. ``training`` and ``fields``
    are added to the model's header.
    """

    classes: list[str]
    voters: Sequence[Estimator]
    scores: Scores
    vote_temperature: float = 1.0
    columns: list[str] | None = None
    head: Head | None = None
    training: JsonDict = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)


def _by_embeddings(
    clips: Sequence[LabelledClip], *, beside: Tagger, seed: int, tell: _Tell
) -> _Taught:
    """Train types beside the base types; the estimators are those of the shipped model."""
    linear_head.check_labels({clip.label for clip in clips})
    clip_checks.check(clips, n_clips=linear_head.FEWEST_CLIPS, n_groups=1)
    taught = linear_head.teach(
        clips, beside=beside, seed=seed, tell=lambda part: tell(part, "embedding")
    )
    shipped = classifier.shipped()
    trained = sorted({clip.label for clip in clips} - {BACKGROUND})
    # The base types already have thresholds.
    new = [name for name in trained if name not in beside.types]
    return _Taught(
        list(shipped.classes),
        shipped.members,
        taught.scores,
        shipped.vote_temperature,
        columns=taught.columns,
        head=taught.head,
        training={"base_types": taught.base_types},
        fields={
            "trained_types": trained,
            "warnings": taught.warnings,
            "thresholds": shipped.thresholds | dict.fromkeys(new, second_opinion.LEAST_OF_TYPE),
            "credits": shipped.header["credits"],
        },
    )


def _by_features(
    clips: Sequence[LabelledClip], *, algorithm: str, seed: int, tell: _Tell
) -> _Taught:
    examples = feature_augmentation.make(
        clips, seed=seed, tell=lambda part: tell(_MADE * part, "listening")
    )
    classes = np.unique(examples.labels).tolist()
    clip_checks.check_heard(clips, classes)
    scores, factor = cross_validation.validate(
        clips,
        examples,
        algorithm=algorithm,
        seed=seed,
        tell=lambda part: tell(_MADE + (_VALIDATED - _MADE) * part, "validating"),
    )
    tell(_VALIDATED, "training")
    voters = algorithms.fit(
        algorithm, examples.features, examples.labels, groups=examples.groups, seed=seed
    )
    return _Taught(classes, calibration.warmer(voters, factor), scores)


def _by_samples(
    clips: Sequence[LabelledClip], *, algorithm: str, seed: int, tell: _Tell
) -> _Taught:
    made, validated, effort = _NETWORKS_MADE, _NETWORKS_VALIDATED, waveform_trainer.EFFORT
    material = waveform_trainer.make(
        clips,
        algorithm=algorithm,
        seed=seed,
        effort=effort,
        tell=lambda part: tell(made * part, "listening"),
    )
    clip_checks.check_heard(clips, material.classes)
    scores, temperature = waveform_trainer.validate(
        clips,
        material,
        algorithm=algorithm,
        seed=seed,
        effort=effort,
        tell=lambda part: tell(made + (validated - made) * part, "validating"),
    )
    voters = waveform_trainer.fit(
        material,
        algorithm=algorithm,
        seed=seed,
        course=effort.course,
        tell=lambda part: tell(validated + (1.0 - validated) * part, "training"),
    )
    return _Taught(material.classes, voters, scores, temperature)


def _training(
    clips: Sequence[LabelledClip], *, scores: Scores, classes: Sequence[str], seed: int
) -> JsonDict:
    """Return the training data, seed and accuracy for the model's header."""
    labels = [clip.label for clip in clips]
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(json.dumps([clip.name, clip.label, clip.group]).encode())
        digest.update(clip.samples.astype("<f4").tobytes())
    hits = np.array(classes)[scores.argmax(axis=1)] == np.array(labels)
    return {
        "data_sha256": digest.hexdigest(),
        "n_clips": len(clips),
        "clips_by_class": dict(sorted(Counter(labels).items())),
        "seed": seed,
        "clip_accuracy": round(float(hits.mean()), 4),
    }
