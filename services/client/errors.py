"""The error of the client."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """The API refused a request, or is unreachable; the message is for the user."""

    #: Whether a request was sent but no response arrived.
    is_lost = False
    #: Whether the same request may succeed a little later.
    may_pass = False
    #: The name of the problem in the response, such as ``not-finished``.
    problem = ""
    #: All members of that problem.
    facts: Mapping[str, object] = {}
