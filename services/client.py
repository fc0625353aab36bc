"""A client of the API, as the command line uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from services import schemas
from services.errors import UserError

#: Between two looks at a session: soon enough for a short clip, seldom enough for a long file.
POLL_FIRST_S = 0.1
POLL_MAX_S = 1.0
#: A server that restarts may be away for this long before a running wait is given up.
AWAY_S = 60.0
READ_BYTES = 256 * 1024


class ApiError(UserError):
    """The API refused a request, or cannot be reached; the message is for the user."""


class Client:
    """Speaks to one API. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=httpx.Timeout(30.0, write=300.0))

    def ready(self) -> bool:
        """Whether the API can take a recording now; raises :class:`ApiError` until it answers."""
        return bool(self._call("GET", "/health/ready").is_success)

    def upload(
        self,
        path: Path,
        *,
        options: Mapping[str, str] | None = None,
        on_bytes: Callable[[int], object] | None = None,
    ) -> schemas.Session:
        """Post a recording, in pieces; ``on_bytes`` is told the size of each piece.

        ``options`` are parameters of the request, such as ``calibration_db``.
        """

        def pieces() -> Iterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(READ_BYTES):
                    yield piece
                    if on_bytes is not None:
                        on_bytes(len(piece))

        response = self._call(
            "POST",
            "/v1/sessions",
            content=pieces(),
            params={"file_name": path.name, **(options or {})},
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(path.stat().st_size),
            },
        )
        return msgspec.json.decode(response.content, type=schemas.Session)

    def session(self, session_id: object) -> schemas.Session:
        """A session as it stands."""
        response = self._call("GET", f"/v1/sessions/{session_id}")
        return msgspec.json.decode(response.content, type=schemas.Session)

    def cancel(self, session_id: object) -> schemas.Session:
        """End a session early."""
        response = self._call("POST", f"/v1/sessions/{session_id}/cancel")
        return msgspec.json.decode(response.content, type=schemas.Session)

    def wait(
        self,
        session: schemas.Session,
        *,
        on_change: Callable[[schemas.Session], object] | None = None,
    ) -> schemas.Session:
        """Look at a session until it has finished; a server that is away is asked again."""
        pause_s, heard_at = POLL_FIRST_S, time.monotonic()
        while not session.finished:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_MAX_S)
            try:
                session = self.session(session.id)
                heard_at = time.monotonic()
            except ApiError:
                if time.monotonic() - heard_at > AWAY_S:
                    raise
            if on_change is not None:
                on_change(session)
        return session

    def detections(self, session_id: object) -> list[schemas.Detection]:
        """All events of a session."""
        items: list[schemas.Detection] = []
        params: dict[str, str] = {}
        while True:
            response = self._call("GET", f"/v1/sessions/{session_id}/detections", params=params)
            page = msgspec.json.decode(response.content, type=schemas.DetectionPage)
            items += page.items
            if page.next_cursor is None:
                return items
            params = {"cursor": page.next_cursor}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise ApiError(f"{self.url} cannot be reached ({error})") from error
        if response.is_success:
            return response
        raise ApiError(_reason(response))


def _reason(response: httpx.Response) -> str:
    """What the API says of a refusal, in one line."""
    try:
        problem = response.json()
        return f"{problem['title']}: {problem.get('detail') or 'no further detail'}"
    except (ValueError, KeyError, TypeError):
        return f"the API answered {response.status_code}"
