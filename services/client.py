"""The HTTP client that the command line uses."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import httpx
import msgspec

from services.api.analyses import schemas as analysis_schemas
from services.api.batches import schemas as batch_schemas
from services.api.exports import schemas as export_schemas
from services.api.models import schemas as model_schemas
from services.api.reports import schemas as report_schemas
from services.api.sessions import list_schemas, schemas
from services.http.errors import UserError

#: Seconds between two polls of a session: quick for short clips, cheap for long files.
POLL_FIRST_S = 0.1
POLL_MAX_S = 1.0
#: How long a server may be unreachable, such as during a restart, before a wait fails.
AWAY_S = 60.0
#: Pause before a request is repeated whose response was lost.
AGAIN_S = 1.0
#: Pause between an event stream that ended and the next one.
STREAM_AGAIN_S = 1.0
READ_BYTES = 256 * 1024
TOO_MANY_REQUESTS = 429


class Watched(Protocol):
    """A long-running task that can be polled by its ID."""

    id: uuid.UUID

    @property
    def finished(self) -> bool:
        """Whether the task has finished."""


#: Parameters of an upload; a repeatable parameter has a list.
Options = Mapping[str, str | Sequence[str]]
Item = TypeVar("Item")


class SomePage(Protocol[Item]):
    """A page of a list."""

    items: list[Item]
    next_cursor: str | None


SomeWatched = TypeVar("SomeWatched", bound=Watched)


class ApiError(UserError):
    """The API refused a request, or is unreachable; the message is for the user."""

    #: Whether a request was sent but no response arrived.
    is_lost = False
    #: Whether the same request may succeed a little later.
    may_pass = False
    #: The name of the problem in the response, such as ``not-finished``.
    problem = ""
    #: All members of that problem.
    facts: Mapping[str, Any] = {}


class Client:
    """A client of one API, safe to use from several threads."""

    def __init__(self, url: str, *, key: str = "") -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(30.0, write=300.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    def ready(self) -> bool:
        """Return True once the API accepts recordings; raise :class:`ApiError` until then."""
        return bool(self._call("GET", "/health/ready").is_success)

    def upload(
        self,
        path: Path,
        *,
        options: Options | None = None,
        on_bytes: Callable[[int], object] | None = None,
    ) -> schemas.Session:
        """Upload a recording in pieces; ``on_bytes`` is called with the size of each piece.

        ``options`` are parameters of the request, such as ``calibration_db``.
        """

        response = self._call(
            "POST",
            "/v1/sessions",
            content=_Pieces(path, on_bytes),
            params={"file_name": path.name, **(options or {})},
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(path.stat().st_size),
            },
        )
        return msgspec.json.decode(response.content, type=schemas.Session)

    def session(self, session_id: object) -> schemas.Session:
        """Return the current state of a session."""
        response = self._call("GET", f"/v1/sessions/{session_id}")
        return msgspec.json.decode(response.content, type=schemas.Session)

    def cancel(self, session_id: object) -> schemas.Session:
        """Cancel a session."""
        response = self._call("POST", f"/v1/sessions/{session_id}/cancel")
        return msgspec.json.decode(response.content, type=schemas.Session)

    def retry(self, session_id: object) -> schemas.Session:
        """Process a given-up session again."""
        response = self._call("POST", f"/v1/sessions/{session_id}/retry")
        return msgspec.json.decode(response.content, type=schemas.Session)

    def sessions(self, *, state: str) -> list[schemas.Session]:
        """Return all sessions in a state."""
        return self._walk("/v1/sessions", list_schemas.SessionPage, state=state)

    def wait(
        self,
        session: schemas.Session,
        *,
        on_change: Callable[[schemas.Session], object] | None = None,
    ) -> schemas.Session:
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
        except (httpx.TransportError, ApiError, msgspec.MsgspecError):
            return _wait(seen, self.session, on_change)
        return seen

    def _events(self, session_id: object) -> Iterator[schemas.Session]:
        """Yield a session at each change, until it has finished or the stream ends."""
        path = f"/v1/sessions/{session_id}/events"
        with self._http.stream("GET", path) as response:
            if not response.is_success:
                response.read()
                raise ApiError(_reason(response))
            for line in response.iter_lines():
                # The server writes an event's data as one line of JSON.
                field, _, value = line.partition(": ")
                if field == "data":
                    yield msgspec.json.decode(value, type=schemas.Session)

    def detections(self, session_id: object) -> list[schemas.Detection]:
        """Return all detections of a session."""
        return self._walk(f"/v1/sessions/{session_id}/detections", schemas.DetectionPage)

    def analysis(self, session_id: object) -> analysis_schemas.Analysis:
        """Return the analysis of a session; raise :class:`ApiError` if there is none."""
        response = self._call("GET", f"/v1/sessions/{session_id}/analysis")
        return msgspec.json.decode(response.content, type=analysis_schemas.Analysis)

    def analyze(
        self, session_id: object, *, limits_db: Mapping[str, Sequence[float]]
    ) -> analysis_schemas.Analysis:
        """Compute a session's analysis again, and wait for it."""
        response = self._call(
            "POST", f"/v1/sessions/{session_id}/analysis", json={"limits_db": limits_db}
        )
        asked = msgspec.json.decode(response.content, type=analysis_schemas.Analysis)
        return self.wait_for_analysis(asked)

    def wait_for_analysis(self, analysis: analysis_schemas.Analysis) -> analysis_schemas.Analysis:
        """Poll an analysis until it has finished."""
        return _wait(analysis, self.analysis, None)

    def send_batch(
        self,
        files: Sequence[Path],
        *,
        batch_id: uuid.UUID,
        options: Options,
        on_bytes: Callable[[int], object],
    ) -> batch_schemas.Batch:
        """Upload many recordings in one request. The caller's ID finds the batch if this fails."""
        response = self._call(
            "POST",
            "/v1/batches",
            params={"batch_id": str(batch_id), **options},
            files=[("file", (path.name, _LazyFile(path, on_bytes))) for path in files],
            # Files that arrived before an interruption are kept, and found by the ID.
            again=False,
        )
        return msgspec.json.decode(response.content, type=batch_schemas.Batch)

    def name_batch(self, prefix: str, *, options: Options) -> batch_schemas.Batch:
        """Process all recordings below a prefix of the inbox."""
        response = self._call("POST", "/v1/batches", params=dict(options), json={"prefix": prefix})
        return msgspec.json.decode(response.content, type=batch_schemas.Batch)

    def batch(self, batch_id: object) -> batch_schemas.Batch:
        """Return the current state of a batch."""
        response = self._call("GET", f"/v1/batches/{batch_id}")
        return msgspec.json.decode(response.content, type=batch_schemas.Batch)

    def wait_for_batch(
        self, batch: batch_schemas.Batch, *, on_change: Callable[[batch_schemas.Batch], object]
    ) -> batch_schemas.Batch:
        """Poll a batch until it has finished."""
        return _wait(batch, self.batch, on_change)

    def batch_items(self, batch_id: object) -> list[batch_schemas.BatchItem]:
        """Return the state of each recording of a batch."""
        return self._walk(f"/v1/batches/{batch_id}/items", batch_schemas.BatchItemPage)

    def export(self, asked: Mapping[str, Any]) -> export_schemas.ExportTask:
        """Request an export of detections, with the body of ``POST /v1/exports``."""
        response = self._call("POST", "/v1/exports", json=dict(asked))
        return msgspec.json.decode(response.content, type=export_schemas.ExportTask)

    def export_task(self, export_id: object) -> export_schemas.ExportTask:
        """Return the current state of an export."""
        response = self._call("GET", f"/v1/exports/{export_id}")
        return msgspec.json.decode(response.content, type=export_schemas.ExportTask)

    def wait_for_export(
        self,
        export: export_schemas.ExportTask,
        *,
        on_change: Callable[[export_schemas.ExportTask], object],
    ) -> export_schemas.ExportTask:
        """Poll an export until it has finished."""
        return _wait(export, self.export_task, on_change)

    def fetch_export(
        self, export_id: object, to: Path, *, on_bytes: Callable[[int], object]
    ) -> None:
        """Download an exported file; an existing file stays until the new one is complete."""
        part = to.with_name(f"{to.name}.part")
        try:
            with (
                self._http.stream("GET", f"/v1/exports/{export_id}/file") as response,
                part.open("wb") as file,
            ):
                if not response.is_success:
                    response.read()
                    raise ApiError(_reason(response))
                for piece in response.iter_bytes(READ_BYTES):
                    file.write(piece)
                    on_bytes(len(piece))
            part.replace(to)
        except httpx.TransportError as error:
            raise ApiError(f"the connection to {self.url} was lost ({error})") from error
        except OSError as error:
            raise ApiError(f"{to} cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def models(self) -> list[model_schemas.Model]:
        """Return the models, newest first, without their cards."""
        return self._walk("/v1/models", model_schemas.ModelPage)

    def model(self, model_id: object) -> model_schemas.Model:
        """Return a model with its card."""
        response = self._call("GET", f"/v1/models/{model_id}")
        return msgspec.json.decode(response.content, type=model_schemas.Model)

    def train(
        self,
        manifest: bytes,
        clips: Mapping[str, Path],
        *,
        options: Mapping[str, Any],
        on_bytes: Callable[[int], object] | None = None,
    ) -> model_schemas.Training:
        """Start a training on labelled recordings, keyed by their names in the manifest."""
        response = self._call(
            "POST",
            "/v1/models",
            data={"options": msgspec.json.encode(options).decode()},
            files=_parts(manifest, clips, on_bytes),
        )
        return msgspec.json.decode(response.content, type=model_schemas.Training)

    def training(self, job_id: object) -> model_schemas.Training:
        """Return the current state of a training."""
        response = self._call("GET", f"/v1/trainings/{job_id}")
        return msgspec.json.decode(response.content, type=model_schemas.Training)

    def wait_for_training(
        self,
        training: model_schemas.Training,
        *,
        on_change: Callable[[model_schemas.Training], object],
    ) -> model_schemas.Training:
        """Poll a training until it has finished."""
        return _wait(training, self.training, on_change)

    def validate(
        self,
        model: uuid.UUID | Path,
        manifest: bytes | None,
        clips: Mapping[str, Path],
        *,
        on_bytes: Callable[[int], object] | None = None,
    ) -> model_schemas.ValidationReport:
        """Start the validation of a registered model or a model file."""
        files = _parts(manifest, clips, on_bytes)
        if isinstance(model, Path):
            files.append(("model", (model.name, _LazyFile(model, on_bytes))))
        path = f"/v1/models/{model}/validate" if isinstance(model, uuid.UUID) else "/v1/validations"
        response = self._call("POST", path, files=files or None)
        return msgspec.json.decode(response.content, type=model_schemas.ValidationReport)

    def validation(self, validation_id: object) -> model_schemas.ValidationReport:
        """Return the current state of a validation."""
        response = self._call("GET", f"/v1/validations/{validation_id}")
        return msgspec.json.decode(response.content, type=model_schemas.ValidationReport)

    def wait_for_validation(
        self,
        validation: model_schemas.ValidationReport,
        *,
        on_change: Callable[[model_schemas.ValidationReport], object],
    ) -> model_schemas.ValidationReport:
        """Poll a validation until it has finished."""
        return _wait(validation, self.validation, on_change)

    def report(
        self, day: date, *, time_zone: str, all_users: bool = False
    ) -> report_schemas.ListedReport:
        """Request a daily report. Use :meth:`wait_for_report` to get its contents."""
        asked = {"day": day.isoformat(), "time_zone": time_zone, "all_users": all_users}
        response = self._call("POST", "/v1/reports", json=asked)
        return msgspec.json.decode(response.content, type=report_schemas.ListedReport)

    def wait_for_report(
        self,
        report: report_schemas.ListedReport,
        *,
        on_change: Callable[[report_schemas.Report], object],
    ) -> report_schemas.Report:
        """Poll a report, at least once, until it has finished."""

        def look(report_id: object) -> report_schemas.Report:
            response = self._call("GET", f"/v1/reports/{report_id}")
            return msgspec.json.decode(response.content, type=report_schemas.Report)

        return _wait(look(report.id), look, on_change)

    def report_page(self, report_id: object) -> bytes:
        """Return a report as an HTML page."""
        return self._call("GET", f"/v1/reports/{report_id}/html").content

    def promote(self, model_id: object, *, force: bool = False) -> model_schemas.PromotionRecord:
        """Promote a model; a regression is refused unless forced."""
        response = self._call("POST", f"/v1/models/{model_id}/promote", json={"force": force})
        return msgspec.json.decode(response.content, type=model_schemas.PromotionRecord)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _walk(self, path: str, kind: type[SomePage[Item]], **filters: str) -> list[Item]:
        """Return all items of a paged list."""
        items: list[Item] = []
        params = filters
        while True:
            page = msgspec.json.decode(self._call("GET", path, params=params).content, type=kind)
            items += page.items
            if page.next_cursor is None:
                return items
            params = filters | {"cursor": page.next_cursor}

    def _call(
        self, method: str, path: str, *, again: bool = True, **options: Any
    ) -> httpx.Response:
        """Send a request; repeat a POST whose response is lost, under the same Idempotency-Key."""
        if method != "POST":
            return self._ask(method, path, **options)
        options["headers"] = {**options.get("headers", {}), "Idempotency-Key": f'"{uuid.uuid4()}"'}
        lost_at: float | None = None
        while True:
            try:
                return self._ask(method, path, **options)
            except ApiError as error:
                now = time.monotonic()
                if lost_at is None:
                    if not (again and error.is_lost):
                        raise
                    lost_at = now
                if not error.may_pass or now - lost_at > AWAY_S:
                    raise
            time.sleep(AGAIN_S)

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
            # A body read from a file is not sent again.
            while not options.keys() & {"content", "files"} and (wait_s := _told_to_wait(response)):
                time.sleep(wait_s)
                response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            told = ApiError(f"{self.url} cannot be reached ({error})")
            # Without a connection, no request was sent that could be lost.
            told.is_lost = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            told.may_pass = True
            raise told from error
        if response.is_success:
            return response
        told = ApiError(_reason(response))
        told.may_pass = "Retry-After" in response.headers
        told.facts = _problem_of(response)
        told.problem = str(told.facts.get("type", "")).rpartition("/")[2]
        raise told


def _wait(
    watched: SomeWatched,
    look: Callable[[object], SomeWatched],
    on_change: Callable[[SomeWatched], object] | None,
) -> SomeWatched:
    """Poll a task until it has finished; tolerate an unreachable server for ``AWAY_S``."""
    pause_s, heard_at = POLL_FIRST_S, time.monotonic()
    while not watched.finished:
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, POLL_MAX_S)
        try:
            watched = look(watched.id)
            heard_at = time.monotonic()
        except ApiError:
            if time.monotonic() - heard_at > AWAY_S:
                raise
        if on_change is not None:
            on_change(watched)
    return watched


def _parts(
    manifest: bytes | None,
    clips: Mapping[str, Path],
    on_bytes: Callable[[int], object] | None,
) -> list[tuple[str, tuple[str, Any]]]:
    """Return the file parts of a form."""
    parts: list[tuple[str, tuple[str, Any]]] = []
    if manifest is not None:
        parts.append(("manifest", ("manifest.csv", manifest)))
    parts += [("clip", (name, _LazyFile(path, on_bytes))) for name, path in clips.items()]
    return parts


class _Pieces:
    """A file in pieces, from its beginning at each iteration; ``on_bytes`` gets the bytes sent, and
    a negative number when they are sent again.
    """

    def __init__(self, path: Path, on_bytes: Callable[[int], object] | None) -> None:
        self._path = path
        self._on_bytes = on_bytes or (lambda _n_bytes: None)
        self._n_sent = 0

    def __iter__(self) -> Iterator[bytes]:
        self._on_bytes(-self._n_sent)
        self._n_sent = 0
        with self._path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                yield piece
                self._n_sent += len(piece)
                self._on_bytes(len(piece))


class _LazyFile:
    """A file opened only while it is sent: a form may have more files than may be open at once."""

    def __init__(self, path: Path, on_bytes: Callable[[int], object] | None) -> None:
        self._path = path
        self._on_bytes = on_bytes
        self._file: IO[bytes] | None = None
        self._at = 0
        self._n_sent = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (self._path.stat().st_size if whence == os.SEEK_END else 0)
        if self._file is not None:
            self._file.seek(self._at)
        if self._at == 0 and self._n_sent and self._on_bytes is not None:
            # The file is sent again.
            self._on_bytes(-self._n_sent)
            self._n_sent = 0
        return self._at

    def read(self, n_bytes: int = -1) -> bytes:
        if self._file is None:
            self._file = self._path.open("rb")
            self._file.seek(self._at)
        piece = self._file.read(n_bytes)
        if piece and self._on_bytes is not None:
            self._on_bytes(len(piece))
            self._n_sent += len(piece)
        if not piece:
            self._file.close()
            self._file = None
        return piece


def _told_to_wait(response: httpx.Response) -> int:
    """Return the seconds to wait after a rate-limited response; 0 for any other response."""
    told = response.headers.get("Retry-After", "")
    return int(told) if response.status_code == TOO_MANY_REQUESTS and told.isdecimal() else 0


def _problem_of(response: httpx.Response) -> Mapping[str, Any]:
    """Return the problem in a response; empty if there is none."""
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(response: httpx.Response) -> str:
    """Return the reason of a refusal in one line."""
    try:
        problem = response.json()
        return f"{problem['title']}: {problem.get('detail') or 'no further detail'}"
    except (ValueError, KeyError, TypeError):
        return f"the API answered {response.status_code}"
