"""Checks of labelled clips before and while a model is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from actors.science.errors import ScienceError
from actors.science.types import BACKGROUND
from actors.training.dataset import LabelledClip

#: Minimum clips and groups of a class: one group to train on, one to test on.
FEWEST_CLIPS, FEWEST_GROUPS = 4, 2


class TooFewExamples(ScienceError):
    """A class has too few clips, or clips of too few groups, to train and to test on."""

    code = "too-few-examples"


class OneClassOnly(ScienceError):
    """All clips are of one class, so there is nothing to distinguish."""

    code = "one-class-only"


def check(
    clips: Sequence[LabelledClip], *, n_clips: int = FEWEST_CLIPS, n_groups: int = FEWEST_GROUPS
) -> None:
    """Reject clips that are too few for training. Silent ones do not count.

    A class needs ``n_clips`` clips from ``n_groups`` groups. If one group is enough, a single class
    is, too: it is distinguished from existing classes.
    """
    counts: Counter[str] = Counter()
    groups: dict[str, set[str]] = {clip.label: set() for clip in clips}
    for clip in clips:
        if clip.samples.any():
            counts[clip.label] += 1
            groups[clip.label].add(clip.group)
    if len(groups) < 2 and (n_groups > 1 or BACKGROUND in groups):
        raise OneClassOnly
    lacking = [
        f"{label} ({counts[label]} clips of {len(groups[label])} groups)"
        for label in sorted(groups)
        if label != BACKGROUND and (counts[label] < n_clips or len(groups[label]) < n_groups)
    ]
    if lacking:
        of_groups = f", of {n_groups} groups" if n_groups > 1 else ""
        raise TooFewExamples(
            f"a class needs {n_clips} clips with sound{of_groups}; "
            f"too few are there of {', '.join(lacking)}"
        )


def check_heard(clips: Sequence[LabelledClip], heard: Sequence[str]) -> None:
    """Reject clips of a class that yield no examples."""
    if unheard := {clip.label for clip in clips} - set(heard):
        raise TooFewExamples(
            f"no sound was found in the clips of {', '.join(sorted(unheard))}: replace them with "
            "clips with audible sound"
        )
