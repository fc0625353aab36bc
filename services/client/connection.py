"""Requests to one API: repeated when their response is lost, and refused with a readable reason."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypedDict, TypeVar, Unpack

import httpx

from services.client import typed
from services.client.bodies import Part
from services.client.errors import ApiError
from services.client.polling import AWAY_S

#: Pause before a request is repeated whose response was lost.
AGAIN_S = 1.0
TOO_MANY_REQUESTS = 429

_NONE: Mapping[str, str] = {}

Answer = TypeVar("Answer")
Item = TypeVar("Item", covariant=True)


class PageOf(Protocol[Item]):
    """A page of a list."""

    @property
    def items(self) -> Sequence[Item]:
        """The items of the page."""

    @property
    def next_cursor(self) -> str | None:
        """The cursor of the next page; None on the last one."""


class RequestParts(TypedDict, total=False):
    """The query, headers and body of a request, as httpx takes them."""

    params: Mapping[str, str | Sequence[str]]
    headers: Mapping[str, str]
    json: object
    content: Iterable[bytes]
    data: Mapping[str, str]
    files: Sequence[Part] | None


class Connection:
    """Connections to one API with one key; safe to use from several threads."""

    def __init__(self, url: str, *, key: str, transport: httpx.BaseTransport | None) -> None:
        self.url = url
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(30.0, write=300.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(
        self, path: str, kind: type[Answer], *, params: Mapping[str, str | Sequence[str]] = _NONE
    ) -> Answer:
        """Return what a path answers, decoded as ``kind``."""
        return typed.decode(self.call("GET", path, params=params).content, kind)

    def post(
        self, path: str, kind: type[Answer], *, again: bool = True, **request: Unpack[RequestParts]
    ) -> Answer:
        """Send a request, and return its answer, decoded as ``kind``; see :meth:`call`."""
        response = self.call("POST", path, again=again, **request)
        return typed.decode(response.content, kind)

    def walk(
        self, path: str, kind: type[PageOf[Item]], **filters: str | Sequence[str]
    ) -> list[Item]:
        """Return all items of a paged list."""
        items: list[Item] = []
        params = filters
        while True:
            page = typed.decode(self.call("GET", path, params=params).content, kind)
            items += page.items
            if page.next_cursor is None:
                return items
            params = filters | {"cursor": page.next_cursor}

    def call(
        self, method: str, path: str, *, again: bool = True, **request: Unpack[RequestParts]
    ) -> httpx.Response:
        """Send a request, and return the response.

        A POST whose response is lost is repeated under the same Idempotency-Key, unless ``again``
        is false.

        Raises
        ------
        ApiError
            If the API refuses it or is unreachable.
        """
        if method != "POST":
            return self._ask(method, path, request)
        key = f'"{uuid.uuid4()}"'
        request["headers"] = {**request.get("headers", {}), "Idempotency-Key": key}
        lost_at: float | None = None
        while True:
            try:
                return self._ask(method, path, request)
            except ApiError as error:
                now = time.monotonic()
                if lost_at is None:
                    if not (again and error.is_lost):
                        raise
                    lost_at = now
                if not error.may_pass or now - lost_at > AWAY_S:
                    raise
            time.sleep(AGAIN_S)

    @contextmanager
    def stream(self, path: str) -> Iterator[httpx.Response]:
        """Yield the response of a GET, to read its body piece by piece.

        Raises
        ------
        ApiError
            If the API refuses it, is unreachable, or breaks off.
        """
        try:
            with self._http.stream("GET", path) as response:
                if not response.is_success:
                    response.read()
                    raise _refusal(response)
                yield response
        except httpx.TransportError as error:
            raise ApiError(f"the connection to {self.url} was lost ({error})") from error

    def _ask(self, method: str, path: str, request: RequestParts) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
            # A body read from a file is not sent again.
            while not request.keys() & {"content", "files"} and (wait_s := _wait_s(response)):
                time.sleep(wait_s)
                response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            unreachable = ApiError(f"{self.url} cannot be reached ({error})")
            # Without a connection, no request was sent that could be lost.
            unreachable.is_lost = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            unreachable.may_pass = True
            raise unreachable from error
        if not response.is_success:
            raise _refusal(response)
        return response


def _wait_s(response: httpx.Response) -> int:
    """Return the seconds to wait after a rate-limited response; 0 for any other response."""
    given = response.headers.get("Retry-After", "")
    return int(given) if response.status_code == TOO_MANY_REQUESTS and given.isdecimal() else 0


def _refusal(response: httpx.Response) -> ApiError:
    """Return the error for a refused request, with the problem that the response describes."""
    try:
        found = response.json()
    except ValueError:
        found = None
    facts: Mapping[str, object] = found if isinstance(found, dict) else {}
    if "title" in facts:
        error = ApiError(f"{facts['title']}: {facts.get('detail') or 'no further detail'}")
    else:
        error = ApiError(f"the API answered {response.status_code}")
    error.may_pass = "Retry-After" in response.headers
    error.facts = facts
    error.problem = str(facts.get("type", "")).rpartition("/")[2]
    return error
