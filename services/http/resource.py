"""The base of all resources: it holds the dependencies, and answers HEAD wherever GET is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import falcon

from services.http.deps import Deps


class Resource:
    """One route of the API; its responders are decorated with `services.http.operations`."""

    def __init__(self, deps: Deps) -> None:
        self.deps = deps

    def __init_subclass__(cls, **options: Any) -> None:
        """Derive ``on_head`` from ``on_get``."""
        super().__init_subclass__(**options)
        if "on_get" in vars(cls):
            cls.on_head = _without_body(cls.on_get)  # type: ignore[attr-defined]


def _without_body(on_get: Callable[..., None]) -> Callable[..., None]:
    """Return the responder of HEAD: the operation of GET, whose body the framework leaves out."""

    @functools.wraps(on_get)
    def on_head(
        self: Resource, req: falcon.Request, resp: falcon.Response, **params: object
    ) -> None:
        on_get(self, req, resp, **params)
        # Nothing reads the stream, so nothing else closes an open file.
        if resp.stream is not None and hasattr(resp.stream, "close"):
            resp.stream.close()

    return on_head
