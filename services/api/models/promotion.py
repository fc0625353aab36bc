"""Compares a model with the one in use, to decide whether it may be promoted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.facts import rounding
from actors.facts.noise_types import of_model, reported
from db.tables.models import NoiseModel
from db.tables.training import Validation

#: The metrics compared, whether higher is better, and the tolerance: smaller differences can come
#: from a few clips more or less.
FIGURES = {
    "clip_accuracy": (True, 0.005),
    "calibration_error": (False, 0.01),
    "segment_f1": (True, 0.005),
    "event_f1": (True, 0.005),
    "psds": (True, 0.005),
    "false_alarms_per_hour": (False, 0.5),
}


#: Basis of a comparison: validation of both models on one labelled set; cross-validation on the
#: same clips; or no common data.
VALIDATION, CROSS_VALIDATION, NOTHING = "validation", "cross-validation", "nothing in common"


class Figure(msgspec.Struct, kw_only=True):
    """One metric of both models, and whether the candidate is worse."""

    name: str
    candidate: float
    in_use: float
    is_worse: bool


class Comparison(msgspec.Struct, kw_only=True):
    """The comparison of a model with the one in use.

    ``basis`` is one of `VALIDATION`, `CROSS_VALIDATION` and `NOTHING`. With `NOTHING` the metrics
    come from different clips: a worse one proves nothing, but a person should look at it.
    """

    basis: str
    in_use: str | None = None
    set_sha256: str | None = None
    figures: list[Figure] = []
    #: The noise types that only the model in use can detect.
    lost_noise_types: list[str] = []

    @property
    def is_regression(self) -> bool:
        """Whether noise types are lost or metrics get worse."""
        return bool(self.lost_noise_types or self.worse)

    @property
    def worse(self) -> list[Figure]:
        """The metrics in which the candidate is worse."""
        return [figure for figure in self.figures if figure.is_worse]

    def reason(self) -> str:
        """Return the reason for a refusal in one sentence: lost noise types and worse metrics."""
        parts = []
        if self.lost_noise_types:
            count, names = len(self.lost_noise_types), ", ".join(self.lost_noise_types)
            parts.append(f"noise types that would no longer be detected ({count}): {names}")
        if self.worse:
            figures = ", ".join(
                f"{each.name} {each.candidate:.3f} instead of {each.in_use:.3f}"
                for each in self.worse
            )
            parts.append(f"worse {_BY[self.basis]}: {figures}")
        return f'{"; ".join(parts)}; send {{"force": true}} to promote it anyway'


#: How the basis of a worse metric is described.
_BY = {
    VALIDATION: "in validation on one labelled set",
    CROSS_VALIDATION: "in cross-validation on the same clips",
    NOTHING: "in cross-validation, though on different clips (validate both on one labelled set"
    " to be sure)",
}


def compare(
    candidate: NoiseModel,
    in_use: NoiseModel | None,
    shared: tuple[Validation, Validation] | None,
) -> Comparison:
    """Compare a model with the one in use.

    Metrics come from the latest set on which both were validated, otherwise from cross-validation.
    Accuracies on different clips depend more on the clips than on the models. A metric that only
    one of them has is left out.
    """
    if in_use is None:
        return Comparison(basis=NOTHING)
    comparison = Comparison(
        basis=NOTHING,
        in_use=f"{in_use.name} {in_use.version}",
        lost_noise_types=sorted(_noise_types_of(in_use) - _noise_types_of(candidate)),
    )
    if shared is not None:
        comparison.basis, comparison.set_sha256 = VALIDATION, shared[0].set_sha256
        own, other = (_validated(each.report) for each in shared)
    else:
        own, other = _cross_validated(candidate), _cross_validated(in_use)
        if candidate.data_sha256 and candidate.data_sha256 == in_use.data_sha256:
            comparison.basis = CROSS_VALIDATION
    comparison.figures = _figures(own, other)
    if not comparison.figures and shared is None:
        comparison.basis = NOTHING
    return comparison


def _noise_types_of(model: NoiseModel) -> set[str]:
    return reported(of_model(model.header))


def _validated(report: Mapping[str, Any] | None) -> dict[str, float | None]:
    report = report or {}
    found = dict(report.get("figures", {}))
    return found | {"calibration_error": _calibration_error(report.get("clips"))}


def _cross_validated(model: NoiseModel) -> dict[str, float | None]:
    return {
        "clip_accuracy": model.clip_accuracy,
        "calibration_error": _calibration_error(model.card),
    }


def _calibration_error(quality: Mapping[str, Any] | None) -> float | None:
    """Return the expected calibration error of a card or a report; None if it has none."""
    return ((quality or {}).get("calibration") or {}).get("expected_error")


def _figures(candidate: dict[str, float | None], in_use: dict[str, float | None]) -> list[Figure]:
    figures = []
    for name, (more_is_better, slack) in FIGURES.items():
        own, other = candidate.get(name), in_use.get(name)
        if own is not None and other is not None:
            fall = other - own if more_is_better else own - other
            figures.append(
                Figure(
                    name=name,
                    candidate=rounding.share(own),
                    in_use=rounding.share(other),
                    is_worse=fall > slack,
                )
            )
    return figures
