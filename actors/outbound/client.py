"""Requests to addresses that a caller gave: the one way to make them.

A URL of somebody else's may point at what only this machine can reach: a database, a neighbour's
port, the metadata of a cloud. So a name is resolved once for each connection, every address that
it has must be public, and the connection is made to that very address, while the server is held
to its name by its certificate. A name that has another address a moment later, or a redirect to
one, gains nothing. Proxies of the environment are not asked.

Everything has an end: a silence, the whole exchange (a server that drips is cut off, whether it
is in the middle of its head, its body or its handshake), the number of redirects, and the bytes
of an answer.

Light: the HTTP process imports this.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from ssl import SSLContext

import httpcore
import httpx

from actors.outbound import addresses
from actors.outbound.addresses import Address, BadUrl, Network
from actors.outbound.errors import Missing, Refused, Rejected, TooLarge, Unreachable, Unwell
from actors.outbound.pinning import Clock, Limits, Pinned, told

#: The addresses of a name, as text.
Resolve = Callable[[str, int], Sequence[str]]

#: Redirects that are followed. More than this is a circle, or somebody who plays.
MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
#: Answers beside 500 and above that may be others another time.
_MAY_PASS = (408, 425, 429)


class Answer:
    """What a server answered: the head, and the body as it comes when it is iterated over."""

    def __init__(self, response: httpcore.Response, clock: Clock) -> None:
        self.status: int = response.status
        #: Names are in lower case.
        self.headers: Mapping[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        self._response = response
        self._clock = clock

    def require_success(self) -> None:
        """Raise unless the status is 2xx: :class:`Final` or :class:`Passing`, as it says."""
        if 200 <= self.status < 300:
            return
        answered = f"the server answered {self.status}"
        if self.status in (404, 410):
            raise Missing(answered)
        if self.status >= 500 or self.status in _MAY_PASS:
            raise Unwell(answered)
        raise Rejected(answered)

    def __iter__(self) -> Iterator[bytes]:
        """The body, piece by piece; :class:`TooLarge` as soon as it is known to be."""
        if self.headers.get("content-encoding", "identity").strip().lower() != "identity":
            # It was not asked for, and a few bytes of it may stand for any number.
            raise Rejected("the server compresses its answer, which it was asked not to")
        most_bytes = self._clock.limits.most_bytes
        too_large = TooLarge(f"at most {most_bytes} bytes are taken")
        # Longer numbers are refused by the library below.
        if int(self.headers.get("content-length", "0")) > most_bytes:
            raise too_large
        n_bytes = 0
        with told(self._clock):
            for piece in self._response.iter_stream():
                n_bytes += len(piece)
                if n_bytes > most_bytes:
                    raise too_large
                yield piece

    def read(self) -> bytes:
        """The whole body; only where the limit is small."""
        return b"".join(self)


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Outbound:
    """Makes requests to addresses that a caller gave.

    ``private_networks`` are those that may be asked although they are not public. Threads may
    share one.
    """

    def __init__(
        self, private_networks: Sequence[Network] = (), *, resolve: Resolve = resolve
    ) -> None:
        self._networks = tuple(private_networks)
        self._resolve = resolve

    def check(self, url: str) -> httpx.URL:
        """Refuse a URL that can never be asked, by what it says: nothing is resolved.

        A name that leads to an address which may not be asked is refused when it is.

        Raises
        ------
        Refused
        """
        try:
            parsed = addresses.parse(url)
        except BadUrl as error:
            raise Refused(f"the URL cannot be used: {error}") from None
        address = addresses.literal(parsed.raw_host.decode("ascii"))
        if address is not None:
            self._check_address(address)
        return parsed

    @contextmanager
    def get(self, url: str, *, limits: Limits) -> Iterator[Answer]:
        """GET a URL, and whatever it redirects to; the answer has any status but a redirect's.

        Raises
        ------
        Final, Passing
            Also while the answer is iterated over.
        """
        clock = Clock(limits)
        place = self.check(url)
        for _ in range(MOST_REDIRECTS + 1):
            with self._exchange("GET", place, {}, b"", clock) as answer:
                if answer.status not in _REDIRECTS:
                    yield answer
                    return
                place = self._redirected(place, answer)
        raise Refused(f"the server redirected more than {MOST_REDIRECTS} times")

    @contextmanager
    def post(
        self, url: str, content: bytes, *, headers: Mapping[str, str], limits: Limits
    ) -> Iterator[Answer]:
        """POST to a URL. A redirect is an answer as any other: it is not followed.

        Raises
        ------
        Final, Passing
            Also while the answer is iterated over.
        """
        clock = Clock(limits)
        with self._exchange("POST", self.check(url), headers, content, clock) as answer:
            yield answer

    def _redirected(self, place: httpx.URL, answer: Answer) -> httpx.URL:
        try:
            # As it came, so that it is looked at before it is parsed.
            to = str(place.join(answer.headers.get("location", "")))
        except (httpx.InvalidURL, ValueError):
            raise Refused("the server redirected to what is no URL") from None
        found = self.check(to)
        if place.scheme == "https" and found.scheme != "https":
            raise Refused("the server redirected from https to http")
        return found

    @contextmanager
    def _exchange(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        content: bytes,
        clock: Clock,
    ) -> Iterator[Answer]:
        head: list[tuple[bytes | str, bytes | str]] = [
            ("Host", url.netloc),
            ("User-Agent", "clamor"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *headers.items(),
        ]
        where = httpcore.URL(
            scheme=url.raw_scheme,
            host=url.raw_host,
            port=addresses.port_of(url),
            target=url.raw_path,
        )
        connection = httpcore.HTTPConnection(
            where.origin,
            ssl_context=self._tls if url.scheme == "https" else None,
            network_backend=Pinned(self._addresses_of, clock),
        )
        with (
            told(clock),
            connection,
            connection.stream(method, where, headers=head, content=content or None) as response,
        ):
            yield Answer(response, clock)

    @cached_property
    def _tls(self) -> SSLContext:
        """Certificates of SSL_CERT_FILE, if that is set, else those that every browser knows."""
        return httpx.create_ssl_context()

    def _addresses_of(self, host: str, port: int) -> list[Address]:
        """The addresses of a host, of which all may be asked.

        Raises
        ------
        Refused, Unreachable
        """
        try:
            found = self._resolve(host, port)
        except OSError:
            raise Unreachable("its name cannot be resolved") from None
        looked_at = list(dict.fromkeys(ip_address(each) for each in found))
        for address in looked_at:
            self._check_address(address)
        if not looked_at:
            raise Unreachable("its name has no address")
        return looked_at

    def _check_address(self, address: Address) -> None:
        if not addresses.is_allowed(address, self._networks):
            raise Refused("the URL leads to an address that is not public")
