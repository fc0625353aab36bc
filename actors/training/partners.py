"""Estimators that vote beside a convolutional network, over features or textures of segments.

The network and the two kinds of partners err on different clips, and their vote errs least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.ensemble import Estimator, Network
from actors.training import algorithms


class Partner(NamedTuple):
    """An estimator that votes with the networks on segments: an algorithm, and its input."""

    algorithm: str
    view: str = "features"


#: All partners, by their names in reports.
PARTNERS: Mapping[str, Partner] = {
    "lda": Partner("lda"),
    "svm": Partner("svm"),
    "textures": Partner("lda", view="textures"),
}


def fit(
    wanted: Iterable[Partner],
    views: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.str_],
    *,
    groups: NDArray[np.str_],
    seed: int,
) -> list[Estimator]:
    """Train partners, each on the view that it uses; see `algorithms.Fit`."""
    voters: list[Estimator] = []
    for algorithm, view in wanted:
        for member in algorithms.fit(algorithm, views[view], labels, groups=groups, seed=seed):
            assert isinstance(member, Network), "a forest takes features only"
            voters.append(replace(member, view=view))
    return voters
