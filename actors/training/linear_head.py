"""Train types from a few examples, as new columns beside the base types or refined ones.

The backbone embeds each clip, and noisy and cut copies of it. A row of weights is fitted for each
type, given the logits of the base types, which do not change. The embeddings of `negatives` and
clips of background limit false positives of the new rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from actors.facts import noise_types
from actors.science.detection import second_opinion
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import Array, BackboneNetwork
from actors.science.detection.tagging.tagger import Head, Tagger
from actors.science.errors import ScienceError
from actors.science.types import BACKGROUND, UNCLASSIFIED
from actors.training import cross_validation, head_fitting, negatives, sounds
from actors.training.cross_validation import Scores, Tell
from actors.training.dataset import LabelledClip
from actors.training.head_fitting import ClipEmbeddings
from actors.training.negatives import Negatives
from actors.training.sounds import Sound

#: The algorithm's name, and a line of help.
ALGORITHM = "linear_head"
HELP = "types from 3 to 20 examples each, beside the base types; needs the backbone"

#: Minimum number of clips of a type; with fewer than `FEW` its figures are unreliable.
FEWEST_CLIPS, FEW = 3, 8

#: Fraction of the work that is embedding.
_EMBEDDED = 0.8

#: Copies of a piece, and the approximate maximum number of embeddings of all pieces.
COPIES, MOST_EMBEDDED = 5, 3_000


class NotAType(ScienceError):
    """A label is not a type, but the name of a group or `UNCLASSIFIED`."""

    code = "not-a-type"


@dataclass(frozen=True, eq=False)
class Taught:
    """A head with the new types, and the accuracy of such heads on held-out clips.

    Attributes
    ----------
    head
        Trained on all clips.
    columns
        Those of ``scores``: the trained types, and every type that a clip was classified as.
    scores : numpy.ndarray [shape=(n_clips, n_columns), dtype=float32]
        Probabilities of each clip by a head that was trained without its fold.
    base_types
        The effect of the new types on the base types: see `_harm`.
    warnings
        Limits of the figures, in sentences.
    """

    head: Head
    columns: list[str]
    scores: Scores
    base_types: dict[str, float]
    warnings: list[str]


def check_labels(labels: set[str]) -> None:
    """Reject labels that cannot be types.

    Raises
    ------
    NotAType
    """
    if wrong := sorted(labels & {*noise_types.groups(), UNCLASSIFIED}):
        raise NotAType(
            f"{', '.join(wrong)} cannot be trained: groups and {UNCLASSIFIED} are no types. "
            "Label the clips with a type of GET /v1/noise-types, or with a name of your own"
        )


def teach(
    clips: Sequence[LabelledClip],
    *,
    beside: Tagger,
    against: Negatives | None = None,
    seed: int = 0,
    tell: Tell = lambda _part: None,
) -> Taught:
    """Train a head on clips, and measure it in cross-validation over their groups.

    Parameters
    ----------
    clips
        At 32 kHz; at least `FEWEST_CLIPS` of each type that are not silent. Clips of background are
        negatives, and the beds of copies.
    beside
        The backbone and the base types.
    against
        The negative embeddings; by default those that ship.
    seed
        The same clips, seed and libraries give the same head.
    tell
        Receives the fraction that is done; an exception from it stops the work.
    """
    against = against or negatives.shipped()
    backbone, labels = beside.backbone, {clip.label for clip in clips}
    material = embed(clips, backbone, seed=seed, tell=lambda part: tell(_EMBEDDED * part))
    grouped, warnings = _grouped(clips)
    folds = cross_validation.deal(grouped, seed=seed)
    fold_of = np.array([folds[clip.group] for clip in grouped])
    found: dict[int, NDArray[np.float64]] = {}
    rights: list[NDArray[np.bool_]] = []
    numbers = sorted(set(folds.values()))
    for done, fold in enumerate(numbers):
        tell(_EMBEDDED + (1.0 - _EMBEDDED) * done / (len(numbers) + 1))
        held_out = np.arange(len(against.labels)) % len(numbers) == done
        training = material.where(fold_of[material.clips] != fold)
        head = head_fitting.fit(beside, training, against.where(~held_out), labels)
        rights.append(_rights(beside, head, against.where(held_out)))
        for row in np.flatnonzero(fold_of == fold).tolist():
            own = material.of_clip(row)
            found[row] = _clip_scores(Tagger(backbone, head), own, label=clips[row].label)
    head = head_fitting.fit(beside, material, against, labels)
    scores, names = np.stack([found[row] for row in range(len(clips))]), _columns(head)
    taken_for = {names[column] for column in scores.argmax(axis=1)}
    columns = [name for name in names if name in labels | taken_for]
    kept = scores[:, [names.index(name) for name in columns]].astype(np.float32)
    return Taught(head, columns, kept, _harm(np.concatenate(rights, axis=1)), warnings)


def embed(
    clips: Sequence[LabelledClip], backbone: BackboneNetwork, *, seed: int, tell: Tell
) -> ClipEmbeddings:
    """Embed each clip, piece by piece, and copies of its pieces."""
    rng = np.random.default_rng(seed)
    pieces = [(row, piece) for row, clip in enumerate(clips) for piece in _pieces(clip.samples)]
    # Labelled digital silence would train the type on the beds of its copies.
    pieces = [(row, piece) for row, piece in pieces if piece.any()]
    beds = [
        Sound(clip.name, (), clip.group, clip.samples)
        for clip in clips
        if clip.label == BACKGROUND and clip.samples.any()
    ]
    copies = max(1, min(COPIES, MOST_EMBEDDED // len(pieces)))
    embeddings: list[Array] = []
    of_clip: list[int] = []
    is_copy: list[bool] = []
    for done, (row, samples) in enumerate(pieces):
        tell(done / len(pieces))
        types = () if clips[row].label == BACKGROUND else (clips[row].label,)
        sound = Sound(clips[row].name, types, clips[row].group, samples)
        made = [sound, *(sounds.copy(sound, beds, rng) for _ in range(copies if types else 0))]
        embeddings += [backbone.embed(each.samples[: tagger.PIECE]) for each in made]
        of_clip += [row] * len(made)
        is_copy += [False] + [True] * (len(made) - 1)
    labels = np.array([clips[row].label for row in of_clip])
    return ClipEmbeddings(np.stack(embeddings), np.array(of_clip), np.array(is_copy), labels)


def _pieces(samples: Array) -> Iterator[Array]:
    """Cut a sound into the pieces that the base types use."""
    for start, stop in tagger.pieces_of(0, samples.size, n_samples=samples.size):
        yield samples[start:stop]


def _grouped(clips: Sequence[LabelledClip]) -> tuple[list[LabelledClip], list[str]]:
    """Return clips in groups that can be held out, and warnings about the resulting figures.

    If all clips of a type are in one group, each becomes a separate group.
    """
    groups: dict[str, set[str]] = {}
    counts = Counter(clip.label for clip in clips)
    for clip in clips:
        groups.setdefault(clip.label, set()).add(clip.group)
    sounds = sorted(groups.keys() - {BACKGROUND})
    alone = [label for label in sounds if len(groups[label]) == 1]
    few = [f"{label} ({counts[label]})" for label in sounds if counts[label] < FEW]
    warnings = []
    if alone:
        warnings.append(
            f"all clips of {', '.join(alone)} are of one group, so they were held out one by one: "
            "the figures are too good; add recordings of other sources"
        )
    if len({clip.group for clip in clips}) == len(clips):
        warnings.append(
            "each clip is a group by itself: if several are of one source, the figures are too "
            "good; name the source in the column group"
        )
    if few:
        warnings.append(f"too few clips for figures to rely on: {', '.join(few)}")
    return [
        replace(clip, group=clip.name) if clip.label in alone else clip for clip in clips
    ], warnings


def _columns(head: Head) -> tuple[str, ...]:
    return (*head.types, BACKGROUND)


def _clip_scores(by: Tagger, embeddings: Array, *, label: str) -> NDArray[np.float64]:
    """Return shares of a clip [shape=(n_types + 1,)]; background only if it is its label."""
    likely = by.probabilities(embeddings) if len(embeddings) else np.zeros(len(by.types))
    shared = second_opinion.exclusive(dict(zip(by.types, likely.tolist(), strict=True)))
    shares = np.array([shared[name] for name in _columns(by.head)])
    return (
        shares
        if label == BACKGROUND
        else cross_validation.given_sound(shares, classes=_columns(by.head))
    )


def _rights(beside: Tagger, head: Head, rows: Negatives) -> NDArray[np.bool_]:
    """Return which rows the base types and a head classify correctly [shape=(2, n)]."""
    rows = rows.where(rows.is_sound)
    embeddings = rows.embeddings.astype(np.float32)
    tags = beside.backbone.tags(embeddings)
    found = []
    for each in (beside.head, head):
        best = each.logits(embeddings, tags).argmax(axis=1)
        found.append(rows.right_among(each.types)[np.arange(len(best)), best])
    return np.stack(found)


def _harm(rights: NDArray[np.bool_]) -> dict[str, float]:
    """Return the accuracy on embeddings of base types without and with the new types.

    The heads were not trained against these embeddings; the base types were trained on them.
    """
    without, with_new = rights.mean(axis=1).round(4).tolist()
    return {"n_embeddings": rights.shape[1], "right_before": without, "right_after": with_new}
