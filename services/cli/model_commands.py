"""``clamor train``, ``validate``, ``models`` and ``promote``."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.prompt import Confirm
from rich.table import Table

from services.api.models import manifests, schemas
from services.api.models.promotion import CROSS_VALIDATION, FIGURES, NOTHING, VALIDATION
from services.cli.bars import Bars
from services.cli.processing import UPLOAD_PERCENT
from services.client import ApiError, Client
from services.http.errors import UserError

#: Most refused clips to list by name, so that a wholly wrong set does not fill the screen.
MOST_NAMED = 20


@dataclass(frozen=True)
class Labelled:
    """A manifest, and those of its files that exist, by their names in it."""

    manifest: bytes
    clips: dict[str, Path]

    @classmethod
    def read(cls, manifest: Path, parse: Callable[[bytes], Any]) -> Labelled:
        """Read and parse a manifest, to report mistakes before anything is started or sent."""
        try:
            data = manifest.read_bytes()
        except OSError as error:
            raise UserError(f"{manifest}: {error.strerror or 'cannot be read'}") from None
        try:
            names = manifests.files(parse(data))
        except manifests.ManifestError as error:
            raise UserError(f"{manifest}: {error}") from None
        paths = {name: manifest.parent / name for name in names}
        # The API reports missing files and continues with the rest.
        return cls(data, {name: path for name, path in paths.items() if path.is_file()})


def train(
    client: Client,
    labelled: Labelled,
    *,
    options: Mapping[str, Any],
    promote: bool,
    force: bool,
    bars: Console,
) -> int:
    """Train a model, show its card, and return the exit code."""
    with _bar("training", labelled.clips.values(), bars) as (on_bytes, show):
        training = client.train(
            labelled.manifest, labelled.clips, options=options, on_bytes=on_bytes
        )
        training = client.wait_for_training(training, on_change=show)
    out = Console()
    _print_refused(
        [(clip.file, clip.reason) for clip in training.clips_refused], training.clips_total, bars
    )
    if training.model_id is None:
        problem = training.problem
        bars.print(f"clamor: {problem.detail if problem else training.state}", style="red",
                   markup=False)  # fmt: skip
        return 1
    model = client.model(training.model_id)
    _print_card(model, out)
    if promote:
        return put_to_use(client, model.id, force=force, out=out)
    out.print(f"To use it: clamor promote {model.id}")
    return 0


def validate(
    client: Client, model: uuid.UUID | Path, labelled: Labelled | None, *, bars: Console
) -> int:
    """Validate a model by its ID or file, show the report, and return the exit code."""
    data, clips = (labelled.manifest, labelled.clips) if labelled else (None, {})
    sent = [*clips.values(), *([model] if isinstance(model, Path) else [])]
    with _bar("validating", sent, bars) as (on_bytes, show):
        validation = client.validate(model, data, clips, on_bytes=on_bytes)
        validation = client.wait_for_validation(validation, on_change=show)
    if validation.report is None:
        problem = validation.problem
        bars.print(f"clamor: {problem.detail if problem else validation.state}", style="red",
                   markup=False)  # fmt: skip
        return 1
    _print_report(validation.report, bars)
    if isinstance(model, Path) and validation.model_id is not None:
        Console().print(f"It is registered here as {validation.model_id}.")
    return 0 if validation.report["passed"] else 1


def show_models(client: Client) -> int:
    """List the models, and return the exit code."""
    # No borders, and name and version in one column, so that the ID fits and can be copied.
    table = Table(box=None, padding=(0, 1))
    for heading, justify in (("", "left"), ("model", "left"), ("classes", "right"),
                             ("accuracy", "right"), ("id", "left")):  # fmt: skip
        table.add_column(
            heading, justify="right" if justify == "right" else "left", no_wrap=heading == "id"
        )
    models = client.models()
    for model in models:
        table.add_row(
            "*" if model.in_use else "",
            escape(f"{model.name} {model.version}"),
            str(len({*model.classes, *model.trained_types})),
            _share(model.clip_accuracy),
            str(model.id),
        )
    if models:
        Console().print(table)
        Console().print("* in use; accuracy: of clips held out in cross-validation")
    else:
        Console().print("No worker has registered a model yet.")
    return 0


#: The basis of a comparison's figures.
_BASES = {
    VALIDATION: "on the newest labelled set that both were validated on",
    CROSS_VALIDATION: "by cross-validation on the same clips",
    NOTHING: "on different clips, which may be easier or harder; to be sure, validate both on one "
    "labelled set",
}


def put_to_use(client: Client, model_id: object, *, force: bool, out: Console) -> int:
    """Promote a model, show the comparison, and return the exit code.

    If noise types are lost or figures get worse, ask at a terminal; elsewhere require ``force``.
    """
    try:
        record = client.promote(model_id, force=force)
    except ApiError as error:
        if error.problem != "regression":
            raise
        _print_comparison(error.facts.get("comparison", {}), out)
        if not _is_confirmed(out):
            out.print(f"Not promoted. To promote it anyway: clamor promote {model_id} --force")
            return 1
        record = client.promote(model_id, force=True)
    else:
        _print_comparison(record.comparison, out)
    forced = " although noise types are lost or figures get worse" if record.forced else ""
    out.print(f"Promoted{forced}: new sessions are analysed by {record.model_id}.")
    return 0


def _is_confirmed(out: Console) -> bool:
    """Ask at a terminal whether to promote the model anyway; return False elsewhere."""
    if not (sys.stdin.isatty() and out.is_terminal):
        return False
    try:
        return Confirm.ask("Promote it anyway?", console=out, default=False)
    except EOFError:
        return False


def _print_comparison(comparison: Mapping[str, Any], out: Console) -> None:
    if comparison.get("figures"):
        table = _table("figure", "this model", comparison["in_use"],
                       right=("this model", comparison["in_use"]))  # fmt: skip
        for figure in comparison["figures"]:
            worse = " (worse)" if figure["is_worse"] else ""
            own = f"{figure['candidate']:.3f}{worse}"
            table.add_row(figure["name"].replace("_", " "), own, f"{figure['in_use']:.3f}")
        out.print(table)
        out.print(_BASES[comparison["basis"]])
    # Promotions of earlier releases do not have this field.
    if lost := comparison.get("lost_noise_types"):
        out.print(f"Noise types that would no longer be detected ({len(lost)}): {', '.join(lost)}",
                  style="yellow", markup=False)  # fmt: skip


def which(model: str) -> uuid.UUID | Path:
    """Return the file or the model ID that a command-line argument names."""
    path = Path(model)
    if path.is_file():
        return path
    try:
        return uuid.UUID(model)
    except ValueError:
        raise UserError(
            f"{model} is neither a file nor a model ID; 'clamor models' lists the models"
        ) from None


Show = Callable[[Any], None]


@contextmanager
def _bar(what: str, files: Any, console: Console) -> Iterator[tuple[Callable[[int], None], Show]]:
    """Yield two callbacks that move one bar: for the bytes uploaded, and for the job's progress."""
    n_bytes = sum(path.stat().st_size for path in files)
    with Bars(console) as progress:
        bar = progress.add_task(what, total=100, stage="uploading")

        def on_bytes(sent: int) -> None:
            progress.advance(bar, UPLOAD_PERCENT * sent / max(n_bytes, 1))

        def show(job: schemas.Training | schemas.ValidationReport) -> None:
            percent = UPLOAD_PERCENT + job.percent * (100 - UPLOAD_PERCENT) / 100
            failed = job.finished and job.problem is not None
            progress.update(bar, completed=percent, stage="failed" if failed else job.stage)

        yield on_bytes, show


def _print_refused(refused: Sequence[tuple[str, str]], total: int, console: Console) -> None:
    if not refused:
        return
    console.print(f"{len(refused)} of {total} could not be used:", style="yellow")
    for file, reason in refused[:MOST_NAMED]:
        console.print(f"  {file}: {reason}", markup=False)
    if len(refused) > MOST_NAMED:
        console.print(f"  and {len(refused) - MOST_NAMED} more")


def _print_card(model: schemas.Model, out: Console) -> None:
    card = model.card or {}
    title = f"{model.name} {model.version} ({model.algorithm})"
    out.print(_class_table(card["classes"], title=title))
    out.print(
        f"accuracy {_share(model.clip_accuracy)} on {card['n_clips']} clips from "
        f"{card['n_sources']} sources, by models that were trained without the clip's source"
    )
    if card["calibration"] is not None:
        out.print(f"calibration error {card['calibration']['expected_error']:.3f}")
    # Cards of earlier releases have no warnings.
    for warning in card.get("warnings", ()):
        out.print(f"warning: {warning}", style="yellow", markup=False)
    out.print(f"model {model.id}")


def _print_report(report: Mapping[str, Any], bars: Console) -> None:
    out = Console()
    table = _table("check", "", "")
    for check in report["checks"]:
        verdict = {True: "ok", False: "[red]failed[/red]", None: "-"}[check["passed"]]
        table.add_row(check["name"].replace("_", " "), verdict, escape(check["detail"]))
    out.print(table)
    if "figures" not in report:
        return
    refused = [(each["file"], each["reason"]) for each in report["refused"]]
    _print_refused(refused, report["n_recordings"] + len(refused), bars)
    if report["kind"] == "clips":
        out.print(_class_table(report["clips"]["classes"], title="clips"))
    else:
        per_class = report["events"]["per_class"]
        rows = [
            {"name": name, "n_clips": score["n_reference"], **score}
            for name, score in sorted(per_class.items())
        ]
        out.print(_class_table(rows, title="events", counted="events"))
    figures = _table("figure", "", right=("",))
    for name in FIGURES:
        if name in report["figures"]:
            figures.add_row(name.replace("_", " "), f"{report['figures'][name]:.3f}")
    out.print(figures)
    if report["unknown_labels"]:
        out.print(f"not among the model's classes: {', '.join(report['unknown_labels'])}",
                  style="yellow", markup=False)  # fmt: skip


def _class_table(rows: Sequence[Mapping[str, Any]], *, title: str, counted: str = "clips") -> Table:
    numbers = (counted, "precision", "recall", "F1")
    table = _table("class", *numbers, right=numbers, title=title)
    for row in rows:
        table.add_row(
            escape(row["name"]), str(row["n_clips"]),
            *(_share(row[name]) for name in ("precision", "recall", "f1")),
        )  # fmt: skip
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
