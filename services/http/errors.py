"""What every error of the API is made of: a problem type with the texts that callers read.

A problem's ``type`` (``/problems/`` and its ``name``) is its stable identifier, ``title`` the same
for people, and the message of an error describes the single occurrence. The docstring of a class
and its ``advice`` make up its documentation page, so they are written for the caller.
:mod:`services.http.problems` turns errors into responses.

Each problem type is a class beside the code that raises it: in ``errors.py`` of a domain, or here
in :mod:`~services.http.request_errors`, :mod:`~services.http.caller_errors`,
:mod:`~services.http.server_errors` and :mod:`~services.http.not_found`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import msgspec

#: Default ``Retry-After`` of problems that may pass.
RETRY_AFTER_S = 5


class UserError(Exception):
    """An error that the user of the command line can fix; the message says how."""


class FieldError(msgspec.Struct):
    """One invalid field and the reason; an empty name means the input as a whole."""

    field: str
    detail: str


class ServiceError(Exception):
    """A request that cannot be served."""

    status: ClassVar[int]
    name: ClassVar[str]
    title: ClassVar[str]
    #: What the caller can do about the problem.
    advice: ClassVar[str] = ""
    #: Additional members of the problem.
    extension: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    #: Headers of the response.
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)
    #: Seconds until a retry may succeed; None if a retry does not help.
    retry_after_s: int | None = None


class InvalidFields(ServiceError):
    """Some fields are invalid; ``errors`` lists each of them."""

    @classmethod
    def of(cls, errors: Sequence[FieldError], *, detail: str | None = None) -> Self:
        """Build the error from invalid fields; ``detail`` defaults to all of them in one line."""
        told = "; ".join(
            f"'{each.field}': {each.detail}" if each.field else each.detail for each in errors
        )
        made = cls(told if detail is None else detail)
        made.extension = {"errors": list(errors)}
        return made


def kinds() -> list[type[ServiceError]]:
    """Return the problem types of all imported modules, sorted by name."""
    found: list[type[ServiceError]] = []
    below = [ServiceError]
    while below:
        kind = below.pop()
        below += kind.__subclasses__()
        if "name" in vars(kind):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.name)
