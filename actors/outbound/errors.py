"""How a request to an address that a caller gave can come to nothing."""

from __future__ import annotations


class OutboundError(Exception):
    """A request that came to nothing. Messages name no host and no address.

    ::

        OutboundError
        |-- Final                 another try comes to the same
        |   |-- Refused           the URL, or what is behind it, may not be asked
        |   |-- Missing           the server has nothing there (404, 410)
        |   |-- Rejected          the server does not want this request (other 4xx), or answers
        |   |                     with what cannot be used
        |   `-- TooLarge          the answer has more bytes than are taken
        `-- Passing               another try may help
            |-- Unreachable       no such name just now, no connection, no valid certificate
            |-- BrokenOff         the connection ended in the middle, or what came is no HTTP
            |-- TookTooLong       a silence, or the whole, was too long
            `-- Unwell            the server says that it cannot now (5xx, 408, 425, 429)
    """


class Final(OutboundError):
    """Another try comes to the same."""


class Refused(Final):
    """The URL, or what is behind it, may not be asked."""


class Missing(Final):
    """The server has nothing there."""


class Rejected(Final):
    """The server does not want this request, or answers with what cannot be used."""


class TooLarge(Final):
    """The answer has more bytes than are taken."""


class Passing(OutboundError):
    """Another try may help."""


class Unreachable(Passing):
    """There is no way to the server just now."""


class BrokenOff(Passing):
    """The connection ended in the middle, or what came is no HTTP."""


class TookTooLong(Passing):
    """The server was too slow."""

    def __init__(self, message: str, *, whole: bool) -> None:
        super().__init__(message)
        #: Whether the time for the whole was over, and not only a silence too long.
        self.whole = whole


class Unwell(Passing):
    """The server says that it cannot answer now."""
