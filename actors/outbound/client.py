"""The client for all requests to URLs from callers.

A caller's URL may point at something only this machine can reach: a database, a port in the local
network, a cloud metadata service. So a name is resolved once per connection, all of its addresses
must be public, and the connection is made to exactly that address; the certificate is still
checked against the name. DNS rebinding and redirects to private addresses have no effect. Proxies
of the environment are not used.

Everything is bounded: a silence, the whole exchange (a server that trickles is cut off during its
head, its body or its handshake), the number of redirects, and the bytes of a response.

Light: the HTTP process imports this.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from ssl import SSLContext

import httpcore
import httpx

from actors.outbound import addresses
from actors.outbound.addresses import Address, BadUrl, Network
from actors.outbound.errors import (
    Missing,
    Refused,
    Rejected,
    ResolverUnavailable,
    TooLarge,
    Unreachable,
    Unwell,
)
from actors.outbound.pinning import Clock, ExchangeLimits, Pinned, told

#: Returns the addresses of a name, as text.
Resolve = Callable[[str, int], Sequence[str]]

#: Redirects to follow. More than this is a loop, or abuse.
MOST_REDIRECTS = 5
#: A name that always resolves: the first root server, which is asked for when a name does not.
EVERLASTING_NAME = "a.root-servers.net"
#: After the resolver failed, names count as unresolvable for this long. A resolver that does not
#: answer takes a worker's time for each name.
RESOLVER_PAUSE_S = 30.0
_NO_NAME = "no name can be resolved at the moment"
_REDIRECTS = (301, 302, 303, 307, 308)
#: Statuses below 500 after which a retry may succeed.
_MAY_PASS = (408, 425, 429)


class Answer:
    """A response: the head, and the body, which is streamed by iteration."""

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
        """Raise :class:`Final` or :class:`Passing`, by the status, unless it is 2xx."""
        if 200 <= self.status < 300:
            return
        answered = f"the server answered {self.status}"
        if self.status in (404, 410):
            raise Missing(answered)
        if self.status >= 500 or self.status in _MAY_PASS:
            raise Unwell(answered)
        raise Rejected(answered)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body piece by piece; raise :class:`TooLarge` as early as possible."""
        if self.headers.get("content-encoding", "identity").strip().lower() != "identity":
            # The request does not accept it, and a few bytes may expand to any number.
            raise Rejected("the server compresses its response although asked not to")
        most_bytes = self._clock.limits.most_bytes
        too_large = TooLarge(f"at most {most_bytes} bytes are taken")
        # The library below rejects numbers that are too long to parse.
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
        """Return the whole body. Only for small limits."""
        return b"".join(self)


def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a name from the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Outbound:
    """Makes requests to URLs from callers. Thread-safe.

    ``private_networks``: networks that are allowed although they are not public.
    """

    def __init__(
        self, private_networks: Sequence[Network] = (), *, resolve: Resolve = resolve
    ) -> None:
        self._networks = tuple(private_networks)
        self._resolve = resolve
        #: Until when the resolver is not asked, by the monotonic clock.
        self._resolver_rests_until = 0.0

    def check(self, url: str) -> httpx.URL:
        """Reject a URL that can never be requested, without resolving its name.

        A name that resolves to a forbidden address is rejected at the request.

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
    def get(self, url: str, *, limits: ExchangeLimits) -> Iterator[Answer]:
        """GET a URL, following redirects. The response has any other status.

        Raises
        ------
        Final, Passing
            Also while the response is iterated over.
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
        self, url: str, content: bytes, *, headers: Mapping[str, str], limits: ExchangeLimits
    ) -> Iterator[Answer]:
        """POST to a URL. Redirects are not followed.

        Raises
        ------
        Final, Passing
            Also while the response is iterated over.
        """
        clock = Clock(limits)
        with self._exchange("POST", self.check(url), headers, content, clock) as answer:
            yield answer

    def _redirected(self, place: httpx.URL, answer: Answer) -> httpx.URL:
        try:
            # As text, so that `check` sees it before it is parsed.
            to = str(place.join(answer.headers.get("location", "")))
        except (httpx.InvalidURL, ValueError):
            raise Refused("the server redirected to an invalid URL") from None
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
        """Trusted certificates: those of SSL_CERT_FILE if it is set, else the browsers' set."""
        return httpx.create_ssl_context()

    def _addresses_of(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host, if all of them are allowed.

        Raises
        ------
        Refused, Unreachable
        """
        found = self._resolved(host, port)
        looked_at = list(dict.fromkeys(ip_address(each) for each in found))
        for address in looked_at:
            self._check_address(address)
        if not looked_at:
            raise Unreachable("its name has no address")
        return looked_at

    def _resolved(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name.

        Raises
        ------
        Unreachable
            If it has none. It is :class:`ResolverUnavailable` if no other name has one, either.
        """
        if time.monotonic() < self._resolver_rests_until:
            raise ResolverUnavailable(_NO_NAME)
        try:
            return self._resolve(host, port)
        except OSError as error:
            if getattr(error, "errno", None) == socket.EAI_AGAIN and not self._resolver_works():
                self._resolver_rests_until = time.monotonic() + RESOLVER_PAUSE_S
                raise ResolverUnavailable(_NO_NAME) from None
            raise Unreachable("its name cannot be resolved") from None

    def _resolver_works(self) -> bool:
        # A name may fail alone, since its own servers do not answer.
        try:
            return bool(self._resolve(EVERLASTING_NAME, addresses.PORTS["https"]))
        except OSError:
            return False

    def _check_address(self, address: Address) -> None:
        if not addresses.is_allowed(address, self._networks):
            raise Refused("the URL leads to an address that is not public")
