"""The client of one API: a method per request, and the waits for what takes longer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from services.client import polling, typed
from services.client.bodies import READ_BYTES, FilePieces, OnBytes, file_part, labelled_parts
from services.client.errors import ApiError
from services.client.wire.analyses import Analysis
from services.client.wire.batches import Batch, BatchItem, BatchItemPage
from services.client.wire.detections import (
    Detection,
    DetectionPage,
    DetectionSummary,
    FoundDetection,
    FoundDetectionPage,
)
from services.client.wire.exports import ExportTask
from services.client.wire.models import (
    Model,
    ModelPage,
    PromotionRecord,
    Training,
    ValidationReport,
)
from services.client.wire.reports import ListedReport, Report
from services.client.wire.sessions import Deletions, Retries, Session, SessionPage

if TYPE_CHECKING:
    import httpx

#: Pause between an event stream that ended and the next one.
STREAM_AGAIN_S = 1.0

#: Parameters of a request; a repeatable parameter has a list.
Options = Mapping[str, str | Sequence[str]]


class Client:
    """A client of one API, safe to use from several threads.

    Every request raises :class:`ApiError` if the API refuses it or is unreachable. ``transport``
    replaces the network, as in httpx.
    """

    def __init__(
        self, url: str, *, key: str = "", transport: httpx.BaseTransport | None = None
    ) -> None:
        # Imported only here, because httpx takes most of the time to import this package.
        from services.client.connection import Connection

        self.url = url.rstrip("/")
        self._connection = Connection(self.url, key=key, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def ready(self) -> bool:
        """Return True once the API accepts recordings; raise :class:`ApiError` until then."""
        return self._connection.call("GET", "/health/ready").is_success

    def upload(
        self, path: Path, *, options: Options | None = None, on_bytes: OnBytes | None = None
    ) -> Session:
        """Upload a recording in pieces; ``on_bytes`` is called with the size of each piece.

        ``options`` are parameters of the request, such as ``calibration_db``.
        """
        return self._connection.post(
            "/v1/sessions",
            Session,
            content=FilePieces(path, on_bytes),
            params={"file_name": path.name, **(options or {})},
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(path.stat().st_size),
            },
        )

    def session(self, session_id: object) -> Session:
        """Return the current state of a session."""
        return self._connection.get(f"/v1/sessions/{session_id}", Session)

    def cancel(self, session_id: object) -> Session:
        """Cancel a session."""
        return self._connection.post(f"/v1/sessions/{session_id}/cancel", Session)

    def retry(self, session_id: object) -> Session:
        """Process a given-up session again."""
        return self._connection.post(f"/v1/sessions/{session_id}/retry", Session)

    def retry_failed(self, **which: str | bool) -> Retries:
        """Process failed sessions again, at most 500; with ``dry_run``, count them."""
        return self._connection.post("/v1/sessions/retry", Retries, again=False, json=which)

    def delete(self, session_id: object) -> None:
        """Delete a session with its recording and its results."""
        self._connection.call("DELETE", f"/v1/sessions/{session_id}")

    def delete_audio(self, session_id: object) -> None:
        """Delete the recording of a finished session, and keep its results."""
        self._connection.call("DELETE", f"/v1/sessions/{session_id}/recording")

    def delete_matching(self, **which: object) -> Deletions:
        """Delete the sessions that match, at most 500; with ``dry_run``, count them."""
        path = "/v1/sessions/deletions"
        return self._connection.post(path, Deletions, again=False, json=which)

    def sessions(self, *, state: str) -> list[Session]:
        """Return all sessions in a state."""
        return self._connection.walk("/v1/sessions", SessionPage, state=state)

    def wait(
        self,
        session: Session,
        *,
        on_change: Callable[[Session], object] | None = None,
    ) -> Session:
        """Follow a session until it has finished, even if the server is unreachable for a while.

        Changes come from an event stream if the server has one to spare, else from polling.
        """
        seen = session
        try:
            while not seen.finished:
                for seen in self._events(session.id):
                    if on_change is not None:
                        on_change(seen)
                if not seen.finished:
                    # A stream ends after some minutes and has to be opened again.
                    time.sleep(STREAM_AGAIN_S)
        except (ApiError, msgspec.MsgspecError):
            return polling.wait(seen, self.session, on_change)
        return seen

    def _events(self, session_id: object) -> Iterator[Session]:
        """Yield a session at each change, until it has finished or the stream ends."""
        with self._connection.stream(f"/v1/sessions/{session_id}/events") as response:
            for line in response.iter_lines():
                # The server writes an event's data as one line of JSON.
                field, _, value = line.partition(": ")
                if field == "data":
                    yield typed.decode(value, Session)

    def detections(self, session_id: object, *, third_octaves: bool = False) -> list[Detection]:
        """Return all detections of a session, with third octaves if they are requested."""
        path = f"/v1/sessions/{session_id}/detections"
        asked = {"include": "third_octaves"} if third_octaves else {}
        return self._connection.walk(path, DetectionPage, **asked)

    def all_detections(self, filters: Options) -> list[FoundDetection]:
        """Return the detections of all sessions that match the filters of ``GET /v1/detections``,
        such as ``heard_from``; without a filter these may be millions.
        """
        return self._connection.walk("/v1/detections", FoundDetectionPage, **filters)

    def detection(self, detection_id: object) -> FoundDetection:
        """Return a detection."""
        return self._connection.get(f"/v1/detections/{detection_id}", FoundDetection)

    def sum_detections(self, asked: Options) -> DetectionSummary:
        """Sum up detections, with the parameters of ``GET /v1/detections/summary``."""
        path = "/v1/detections/summary"
        return self._connection.get(path, DetectionSummary, params=asked)

    def clip(self, detection_id: object) -> bytes:
        """Return the audio of a detection as a FLAC file, once it is cut."""
        while True:
            try:
                return self._connection.call(
                    "GET", f"/v1/detections/{detection_id}/clip.flac"
                ).content
            except ApiError as error:
                if error.problem != "clip-not-ready":
                    raise
            time.sleep(polling.POLL_MAX_S)

    def analysis(self, session_id: object) -> Analysis:
        """Return the analysis of a session; raise :class:`ApiError` if there is none."""
        return self._connection.get(f"/v1/sessions/{session_id}/analysis", Analysis)

    def analyze(self, session_id: object, *, limits_db: Mapping[str, Sequence[float]]) -> Analysis:
        """Compute a session's analysis again, and wait for it."""
        path = f"/v1/sessions/{session_id}/analysis"
        asked = self._connection.post(path, Analysis, json={"limits_db": limits_db})
        return self.wait_for_analysis(asked)

    def wait_for_analysis(self, analysis: Analysis) -> Analysis:
        """Poll an analysis until it has finished."""
        return polling.wait(analysis, self.analysis)

    def send_batch(
        self, files: Sequence[Path], *, batch_id: uuid.UUID, options: Options, on_bytes: OnBytes
    ) -> Batch:
        """Upload many recordings in one request. The caller's ID finds the batch if this fails."""
        return self._connection.post(
            "/v1/batches",
            Batch,
            params={"batch_id": str(batch_id), **options},
            files=[file_part("file", path, on_bytes) for path in files],
            # Files that arrived before an interruption are kept, and found by the ID.
            again=False,
        )

    def name_batch(self, prefix: str, *, options: Options) -> Batch:
        """Process all recordings below a prefix of the inbox."""
        return self._connection.post("/v1/batches", Batch, params=options, json={"prefix": prefix})

    def batch(self, batch_id: object) -> Batch:
        """Return the current state of a batch."""
        return self._connection.get(f"/v1/batches/{batch_id}", Batch)

    def wait_for_batch(self, batch: Batch, *, on_change: Callable[[Batch], object]) -> Batch:
        """Poll a batch until it has finished."""
        return polling.wait(batch, self.batch, on_change)

    def batch_items(self, batch_id: object) -> list[BatchItem]:
        """Return the state of each recording of a batch."""
        return self._connection.walk(f"/v1/batches/{batch_id}/items", BatchItemPage)

    def export(self, asked: Mapping[str, object]) -> ExportTask:
        """Request an export of detections, with the body of ``POST /v1/exports``."""
        return self._connection.post("/v1/exports", ExportTask, json=dict(asked))

    def export_task(self, export_id: object) -> ExportTask:
        """Return the current state of an export."""
        return self._connection.get(f"/v1/exports/{export_id}", ExportTask)

    def wait_for_export(
        self, export: ExportTask, *, on_change: Callable[[ExportTask], object]
    ) -> ExportTask:
        """Poll an export until it has finished."""
        return polling.wait(export, self.export_task, on_change)

    def fetch_export(self, export_id: object, to: Path, *, on_bytes: OnBytes) -> None:
        """Download an exported file; an existing file stays until the new one is complete."""
        part = to.with_name(f"{to.name}.part")
        try:
            with (
                self._connection.stream(f"/v1/exports/{export_id}/file") as response,
                part.open("wb") as file,
            ):
                for piece in response.iter_bytes(READ_BYTES):
                    file.write(piece)
                    on_bytes(len(piece))
            part.replace(to)
        except OSError as error:
            raise ApiError(f"{to} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def models(self) -> list[Model]:
        """Return the models, newest first, without their cards."""
        return self._connection.walk("/v1/models", ModelPage)

    def model(self, model_id: object) -> Model:
        """Return a model with its card."""
        return self._connection.get(f"/v1/models/{model_id}", Model)

    def train(
        self,
        manifest: bytes,
        clips: Mapping[str, Path],
        *,
        options: Mapping[str, object],
        on_bytes: OnBytes | None = None,
    ) -> Training:
        """Start a training on labelled recordings, keyed by their names in the manifest."""
        return self._connection.post(
            "/v1/models",
            Training,
            data={"options": msgspec.json.encode(options).decode()},
            files=labelled_parts(manifest, clips, on_bytes),
        )

    def training(self, job_id: object) -> Training:
        """Return the current state of a training."""
        return self._connection.get(f"/v1/trainings/{job_id}", Training)

    def wait_for_training(
        self, training: Training, *, on_change: Callable[[Training], object]
    ) -> Training:
        """Poll a training until it has finished."""
        return polling.wait(training, self.training, on_change)

    def validate(
        self,
        model: uuid.UUID | Path,
        manifest: bytes | None,
        clips: Mapping[str, Path],
        *,
        on_bytes: OnBytes | None = None,
    ) -> ValidationReport:
        """Start the validation of a registered model or a model file."""
        files = labelled_parts(manifest, clips, on_bytes)
        if isinstance(model, Path):
            files.append(file_part("model", model, on_bytes))
        path = f"/v1/models/{model}/validate" if isinstance(model, uuid.UUID) else "/v1/validations"
        return self._connection.post(path, ValidationReport, files=files or None)

    def validation(self, validation_id: object) -> ValidationReport:
        """Return the current state of a validation."""
        return self._connection.get(f"/v1/validations/{validation_id}", ValidationReport)

    def wait_for_validation(
        self,
        validation: ValidationReport,
        *,
        on_change: Callable[[ValidationReport], object],
    ) -> ValidationReport:
        """Poll a validation until it has finished."""
        return polling.wait(validation, self.validation, on_change)

    def promote(self, model_id: object, *, force: bool = False) -> PromotionRecord:
        """Promote a model; a regression is refused unless forced."""
        path = f"/v1/models/{model_id}/promote"
        return self._connection.post(path, PromotionRecord, json={"force": force})

    def report(self, day: date, *, time_zone: str, all_users: bool = False) -> ListedReport:
        """Request a daily report. Use :meth:`wait_for_report` to get its contents."""
        asked = {"day": day.isoformat(), "time_zone": time_zone, "all_users": all_users}
        return self._connection.post("/v1/reports", ListedReport, json=asked)

    def wait_for_report(
        self, report: ListedReport, *, on_change: Callable[[Report], object]
    ) -> Report:
        """Poll a report, at least once, until it has finished."""

        def look(report_id: object) -> Report:
            return self._connection.get(f"/v1/reports/{report_id}", Report)

        return polling.wait(look(report.id), look, on_change)

    def report_page(self, report_id: object) -> bytes:
        """Return a report as an HTML page."""
        return self._connection.call("GET", f"/v1/reports/{report_id}/html").content
