"""What ``clamor train``, ``validate``, ``models`` and ``promote`` do."""

from __future__ import annotations

import io
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.prompt import Confirm

from db import typed
from services.api.models import manifests
from services.cli.actions.bars import Bars
from services.cli.actions.model_tables import (
    ModelReport,
    print_card,
    print_comparison,
    print_models,
    print_refused,
    print_report,
)
from services.cli.actions.processing import UPLOAD_PERCENT
from services.client import ApiError, Client
from services.client.wire.models import Training, ValidationReport
from services.http.errors import UserError

#: The lines of a manifest of clips, or of one of events.
Rows = Sequence[manifests.ClipRow] | Sequence[manifests.Recording]


@dataclass(frozen=True)
class Labelled:
    """A manifest, and those of its files that exist, by their names in it."""

    manifest: bytes
    clips: dict[str, Path]

    @classmethod
    def read(cls, manifest: Path, parse: Callable[[IO[bytes]], Rows]) -> Labelled:
        """Read and parse a manifest, to report mistakes before anything is started or sent."""
        try:
            data = manifest.read_bytes()
        except OSError as error:
            raise UserError(f"{manifest}: {error.strerror or 'cannot be read'}") from None
        try:
            names = manifests.files(parse(io.BytesIO(data)))
        except manifests.ManifestError as error:
            raise UserError(f"{manifest}: {error}") from None
        paths = {name: manifest.parent / name for name in names}
        # The API reports missing files and continues with the rest.
        return cls(data, {name: path for name, path in paths.items() if path.is_file()})


def train(
    client: Client,
    labelled: Labelled,
    *,
    options: Mapping[str, object],
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
    refused = [(clip.file, clip.reason) for clip in training.clips_refused]
    print_refused(refused, training.clips_total, bars)
    if training.model_id is None:
        return _failed(training, bars)
    model = client.model(training.model_id)
    print_card(model, out)
    if promote:
        return put_to_use(client, model.id, force=force, out=Console())
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
        return _failed(validation, bars)
    report = typed.convert(validation.report, ModelReport)
    print_report(report, bars)
    if isinstance(model, Path) and validation.model_id is not None:
        Console().print(f"It is registered here as {validation.model_id}.")
    return 0 if report.passed else 1


def show_models(client: Client) -> int:
    """List the models, and return the exit code."""
    if models := client.models():
        print_models(models, Console())
    else:
        Console().print("No worker has registered a model yet.")
    return 0


def put_to_use(client: Client, model_id: object, *, force: bool, out: Console) -> int:
    """Promote a model, show the comparison, and return the exit code.

    If noise types are lost or figures get worse, ask at a terminal; elsewhere require ``force``.
    """
    try:
        record = client.promote(model_id, force=force)
    except ApiError as error:
        if error.problem != "regression":
            raise
        print_comparison(error.facts.get("comparison"), out)
        if not _is_confirmed(out):
            out.print(f"Not promoted. To promote it anyway: clamor promote {model_id} --force")
            return 1
        record = client.promote(model_id, force=True)
    else:
        print_comparison(record.comparison, out)
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


Show = Callable[[Training | ValidationReport], None]


@contextmanager
def _bar(
    what: str, files: Iterable[Path], console: Console
) -> Iterator[tuple[Callable[[int], None], Show]]:
    """Yield two callbacks that move one bar: for the bytes uploaded, and for the job's progress."""
    n_bytes = sum(path.stat().st_size for path in files)
    with Bars(console) as progress:
        bar = progress.add_task(what, total=100, stage="uploading")

        def on_bytes(sent: int) -> None:
            progress.advance(bar, UPLOAD_PERCENT * sent / max(n_bytes, 1))

        def show(job: Training | ValidationReport) -> None:
            percent = UPLOAD_PERCENT + job.percent * (100 - UPLOAD_PERCENT) / 100
            failed = job.finished and job.problem is not None
            progress.update(bar, completed=percent, stage="failed" if failed else job.stage)

        yield on_bytes, show


def _failed(job: Training | ValidationReport, console: Console) -> int:
    """Show why a job failed, and return the exit code."""
    reason = job.problem.detail if job.problem else job.state
    console.print(f"clamor: {reason}", style="red", markup=False)
    return 1
