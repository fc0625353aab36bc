"""The tables of ``clamor train``, ``validate`` and ``promote``, and what they show of a model.

The API answers cards, reports and comparisons as plain JSON. The structs have only what is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db import typed
from services.api.models.promotion import (
    CROSS_VALIDATION,
    FIGURES,
    NOTHING,
    VALIDATION,
    Comparison,
)
from services.client.wire.models import Model

#: Most refused clips to list by name, so that a wholly wrong set does not fill the screen.
MOST_NAMED = 20

#: The basis of a comparison's figures.
_BASES = {
    VALIDATION: "on the newest labelled set that both were validated on",
    CROSS_VALIDATION: "by cross-validation on the same clips",
    NOTHING: "on different clips, which may be easier or harder; to be sure, validate both on one "
    "labelled set",
}


class _Score(msgspec.Struct):
    precision: float | None
    recall: float | None
    f1: float | None


class _ClassScore(_Score, kw_only=True):
    name: str
    n_clips: int


class _EventScore(_Score, kw_only=True):
    n_reference: int


class _Calibration(msgspec.Struct):
    expected_error: float


class _Card(msgspec.Struct, kw_only=True):
    classes: list[_ClassScore]
    n_clips: int
    n_sources: int
    calibration: _Calibration | None
    warnings: list[str]


class _Check(msgspec.Struct):
    name: str
    passed: bool | None
    detail: str


class _Refused(msgspec.Struct):
    file: str
    reason: str


class _Clips(msgspec.Struct):
    classes: list[_ClassScore]


class _Events(msgspec.Struct):
    per_class: dict[str, _EventScore]


class ModelReport(msgspec.Struct, kw_only=True):
    """The report of a validation; without a labelled set it has only ``passed`` and ``checks``."""

    passed: bool
    checks: list[_Check]
    figures: dict[str, float] | None = None
    clips: _Clips | None = None
    events: _Events | None = None
    refused: list[_Refused] = []
    n_recordings: int = 0
    unknown_labels: list[str] = []


def print_refused(refused: Iterable[tuple[str, str]], total: int, console: Console) -> None:
    """List the clips that could not be used, as pairs of a file and a reason."""
    named = list(refused)
    if not named:
        return
    console.print(f"{len(named)} of {total} could not be used:", style="yellow")
    for file, reason in named[:MOST_NAMED]:
        console.print(f"  {file}: {reason}", markup=False)
    if len(named) > MOST_NAMED:
        console.print(f"  and {len(named) - MOST_NAMED} more")


def print_models(models: Sequence[Model], out: Console) -> None:
    """List models, and mark the one in use."""
    # No borders, and name and version in one column, so that the ID fits and can be copied.
    table = Table("", "model", box=None, padding=(0, 1))
    table.add_column("classes", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("id", no_wrap=True)
    for model in models:
        table.add_row(
            "*" if model.in_use else "",
            escape(f"{model.name} {model.version}"),
            str(len({*model.classes, *model.trained_types})),
            _share(model.clip_accuracy),
            str(model.id),
        )
    out.print(table)
    out.print("* in use; accuracy: of clips held out in cross-validation")


def print_card(model: Model, out: Console) -> None:
    """Show the accuracy of a model that was trained."""
    card = typed.convert(model.card, _Card)
    title = f"{model.name} {model.version} ({model.algorithm})"
    out.print(_class_table(card.classes, title=title))
    out.print(
        f"accuracy {_share(model.clip_accuracy)} on {card.n_clips} clips from "
        f"{card.n_sources} sources, by models that were trained without the clip's source"
    )
    if card.calibration is not None:
        out.print(f"calibration error {card.calibration.expected_error:.3f}")
    for warning in card.warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False)
    out.print(f"model {model.id}")


def print_report(report: ModelReport, bars: Console) -> None:
    """Show the checks of a model, and its figures on the labelled set if there is one."""
    out = Console()
    table = _table("check", "", "")
    for check in report.checks:
        verdict = {True: "ok", False: "[red]failed[/red]", None: "-"}[check.passed]
        table.add_row(check.name.replace("_", " "), verdict, escape(check.detail))
    out.print(table)
    if report.figures is None:
        return
    refused = [(each.file, each.reason) for each in report.refused]
    print_refused(refused, report.n_recordings + len(refused), bars)
    if report.clips is not None:
        out.print(_class_table(report.clips.classes, title="clips"))
    if report.events is not None:
        rows = [
            _ClassScore(
                score.precision, score.recall, score.f1, name=name, n_clips=score.n_reference
            )
            for name, score in sorted(report.events.per_class.items())
        ]
        out.print(_class_table(rows, title="events", counted="events"))
    figures = _table("figure", "", right=("",))
    for name in FIGURES:
        if name in report.figures:
            figures.add_row(name.replace("_", " "), f"{report.figures[name]:.3f}")
    out.print(figures)
    if report.unknown_labels:
        labels = ", ".join(report.unknown_labels)
        out.print(f"not among the model's classes: {labels}", style="yellow", markup=False)


def print_comparison(comparison: object, out: Console) -> None:
    """Show the figures of a model beside those of the one in use, and what would be lost."""
    if not comparison:
        return
    shown = typed.convert(comparison, Comparison)
    if shown.figures:
        in_use = shown.in_use or ""
        table = _table("figure", "this model", in_use, right=("this model", in_use))
        for figure in shown.figures:
            worse = " (worse)" if figure.is_worse else ""
            table.add_row(
                figure.name.replace("_", " "),
                f"{figure.candidate:.3f}{worse}",
                f"{figure.in_use:.3f}",
            )
        out.print(table)
        out.print(_BASES[shown.basis])
    if lost := shown.lost_noise_types:
        told = f"Noise types that would no longer be detected ({len(lost)}): {', '.join(lost)}"
        out.print(told, style="yellow", markup=False)


def _class_table(rows: Sequence[_ClassScore], *, title: str, counted: str = "clips") -> Table:
    numbers = (counted, "precision", "recall", "F1")
    table = _table("class", *numbers, right=numbers, title=title)
    for row in rows:
        shares = map(_share, (row.precision, row.recall, row.f1))
        table.add_row(escape(row.name), str(row.n_clips), *shares)
    return table


def _table(*headings: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    table = Table(title=escape(title) if title else None, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(
            escape(heading), justify="right" if heading in right else "left", overflow="fold"
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
