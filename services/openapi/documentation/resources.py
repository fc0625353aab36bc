"""The resources of the documentation pages."""

from __future__ import annotations

import functools

import falcon

from services.http import errors
from services.http.deps import Deps
from services.http.operations import operation
from services.http.request_errors import UnknownRoute
from services.http.resource import Resource
from services.openapi.document import Document
from services.openapi.documentation import problem_pages, reference
from services.openapi.documentation.pages import answer


class DocumentationPage(Resource):
    """A page made from the OpenAPI document."""

    def __init__(self, deps: Deps, document: Document) -> None:
        super().__init__(deps)
        self._document = document


class Docs(DocumentationPage):
    """``GET /docs``."""

    @functools.cached_property
    def _page(self) -> bytes:
        return reference.render(self._document.content)

    @operation(scope=None, media=falcon.MEDIA_HTML, also={304: None})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return the documentation of the API as a page."""
        answer(req, resp, self._page)


class ProblemList(DocumentationPage):
    """``GET /problems``."""

    @functools.cached_property
    def _page(self) -> bytes:
        return problem_pages.render_list()

    @operation(scope=None, media=falcon.MEDIA_HTML, also={304: None})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List all kinds of problems as a page."""
        answer(req, resp, self._page)


class ProblemPage(DocumentationPage):
    """``GET /problems/{name}``."""

    @functools.cached_property
    def _pages(self) -> dict[str, bytes]:
        document = self._document.content
        return {kind.name: problem_pages.render(kind, document) for kind in errors.kinds()}

    @operation(scope=None, media=falcon.MEDIA_HTML, also={304: None}, problems=(UnknownRoute,))
    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Return the page of a problem: its meaning and remedy. The ``type`` of the problem is the
        address of this page.
        """
        page = self._pages.get(name)
        if page is None:
            raise UnknownRoute("there is no kind of problem of this name")
        answer(req, resp, page)
