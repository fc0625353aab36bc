"""May a model take the place of the one in use? A comparison of what is known of both."""

from __future__ import annotations

from typing import Any

import msgspec

from db.models import NoiseModel
from db.training_models import Validation

#: The figures by which models are compared, whether more is better, and how much worse one may
#: be before that counts: below it lies what a few clips more or less would change.
FIGURES = {
    "clip_accuracy": (True, 0.005),
    "segment_f1": (True, 0.005),
    "event_f1": (True, 0.005),
    "psds": (True, 0.005),
    "false_alarms_per_hour": (False, 0.5),
}


#: Where figures come from: both models heard one labelled set; both were cross-validated on the
#: same clips; or there is nothing by which they can be compared.
VALIDATION, CROSS_VALIDATION, NOTHING = "validation", "cross-validation", "nothing in common"


class Figure(msgspec.Struct, kw_only=True):
    """One figure of both models; ``is_worse`` is false where they cannot be compared."""

    name: str
    candidate: float
    in_use: float
    is_worse: bool


class Comparison(msgspec.Struct, kw_only=True):
    """What speaks for a model and what against it.

    ``basis`` is one of `VALIDATION`, `CROSS_VALIDATION` and `NOTHING`; with the last the figures
    are shown, and speak neither for nor against.
    """

    basis: str
    in_use: str | None = None
    set_sha256: str | None = None
    figures: list[Figure] = []

    @property
    def worse(self) -> list[Figure]:
        """The figures in which the candidate falls behind."""
        return [figure for figure in self.figures if figure.is_worse]

    def reason(self) -> str:
        """The regression in a sentence."""
        told = ", ".join(
            f"{each.name} {each.candidate:.3f} against {each.in_use:.3f}" for each in self.worse
        )
        return f'by {self.basis}: {told}; send {{"force": true}} to promote it all the same'


def compare(
    candidate: NoiseModel,
    in_use: NoiseModel | None,
    shared: tuple[Validation, Validation] | None,
) -> Comparison:
    """Compare a model with the one in use.

    On the newest set that both were validated on; else by the accuracy on clips held out in
    cross-validation, if that was on the same clips. How many of other clips are told rightly
    says more of the clips than of the model.
    """
    if in_use is None:
        return Comparison(basis=NOTHING)
    name = f"{in_use.name} {in_use.version}"
    if shared is not None:
        own, other = (_figures_of(each.report) for each in shared)
        return Comparison(
            basis=VALIDATION,
            in_use=name,
            set_sha256=shared[0].set_sha256,
            figures=_figures(own, other),
        )
    own, other = ({"clip_accuracy": each.clip_accuracy} for each in (candidate, in_use))
    figures = _figures(own, other)
    if figures and candidate.data_sha256 and candidate.data_sha256 == in_use.data_sha256:
        return Comparison(basis=CROSS_VALIDATION, in_use=name, figures=figures)
    for figure in figures:
        figure.is_worse = False
    return Comparison(basis=NOTHING, in_use=name, figures=figures)


def _figures_of(report: dict[str, Any] | None) -> dict[str, float | None]:
    return dict((report or {}).get("figures", {}))


def _figures(candidate: dict[str, float | None], in_use: dict[str, float | None]) -> list[Figure]:
    figures = []
    for name, (more_is_better, slack) in FIGURES.items():
        own, other = candidate.get(name), in_use.get(name)
        if own is not None and other is not None:
            fall = other - own if more_is_better else own - other
            figures.append(Figure(name=name, candidate=own, in_use=other, is_worse=fall > slack))
    return figures
