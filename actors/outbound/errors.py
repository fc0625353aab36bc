"""Errors of requests to URLs from callers."""

from __future__ import annotations


class OutboundError(Exception):
    """A failed request. Messages name no host and no address.

    ::

        OutboundError
        |-- Final                 a retry would fail too
        |   |-- Refused           the URL, or an address behind it, is not allowed
        |   |-- Missing           nothing is there (404, 410)
        |   |-- Rejected          the server rejects this request (other 4xx), or its response
        |   |                     is unusable
        |   `-- TooLarge          the response exceeds the size limit
        `-- Passing               a retry may succeed
            |-- Unreachable       the name does not resolve, no connection, no valid certificate
            |   `-- ResolverUnavailable   no name resolves
            |-- BrokenOff         the connection broke off, or the response is not valid HTTP
            |-- TookTooLong       a silence, or the whole exchange, was too long
            `-- Unwell            the server is temporarily unable (5xx, 408, 425, 429)
    """


class Final(OutboundError):
    """A retry would fail too."""


class Refused(Final):
    """The URL, or an address behind it, is not allowed."""


class Missing(Final):
    """Nothing is at the URL."""


class Rejected(Final):
    """The server rejects this request, or its response is unusable."""


class TooLarge(Final):
    """The response exceeds the size limit."""


class Passing(OutboundError):
    """A retry may succeed."""


class Unreachable(Passing):
    """The server cannot be reached at the moment."""


class ResolverUnavailable(Unreachable):
    """The resolver of this installation finds no name at all."""


class BrokenOff(Passing):
    """The connection broke off, or the response is not valid HTTP."""


class TookTooLong(Passing):
    """The server was too slow."""

    def __init__(self, message: str, *, whole: bool) -> None:
        super().__init__(message)
        #: Whether the time for the whole exchange ran out, rather than that for one silence.
        self.whole = whole


class Unwell(Passing):
    """The server is temporarily unable to respond."""
