"""Which URLs, and which addresses behind them, may be asked on somebody else's word.

Pure: text and addresses in, verdicts out. :mod:`actors.outbound` makes the requests.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

import httpx

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: A URL that is longer is nobody's.
MOST_URL_CHARS: Final = 2_048
PORTS: Final = {"http": 80, "https": 443}
#: Beside the two of the web no port is asked below this one: mail, remote shells and the like.
LOWEST_PORT: Final = 1_024
HIGHEST_PORT: Final = 65_535

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
#: Resolvers read such names as an IPv4 address, in one of its old spellings: 2130706433, 0x7f.1.
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")

#: What the registries of IANA keep for something else than the public internet. Python's own
#: ``is_global`` calls multicast global, and differs from release to release.
_RESERVED_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a provider's translation
        "127.0.0.0/8",  # this machine
        "169.254.0.0/16",  # link-local; the metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast by unicast
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
#: All that is routed lies in here; loopback, unique local, link-local and multicast do not.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_RESERVED_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols; Teredo, which embeds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
#: The IPv4 address in the last bits of these is what is reached: mapped ones, and what a
#: translator makes of a network that has IPv6 alone.
_EMBEDDING: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


class BadUrl(ValueError):
    """The URL is none that is taken; the message says why, and repeats nothing of it."""


def parse(url: str) -> httpx.URL:
    """The URL that a text is, in the one form in which it is then used.

    Raises
    ------
    BadUrl
    """
    if len(url) > MOST_URL_CHARS:
        raise BadUrl(f"a URL has at most {MOST_URL_CHARS} characters")
    # Programs differ in what they make of these: some take a backslash for a slash.
    if "\\" in url or any(unicodedata.category(character)[0] in "CZ" for character in url):
        raise BadUrl("it has a character that no URL has")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise BadUrl("it is no URL") from None
    if parsed.scheme not in PORTS:
        raise BadUrl("it must begin with https:// or http://")
    if "@" in re.split(r"[/?#]", url.partition("//")[2], maxsplit=1)[0]:
        raise BadUrl("it must have no user name and no password")
    port = port_of(parsed)
    if port not in PORTS.values() and not LOWEST_PORT <= port <= HIGHEST_PORT:
        raise BadUrl(f"its port must be 80, 443, or {LOWEST_PORT} to {HIGHEST_PORT}")
    return parsed.copy_with(host=_host(parsed), fragment=None)


def _host(url: httpx.URL) -> str:
    """The host, without the dot that may end a name."""
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    if literal(host) is not None:
        return host
    if not _NAME.fullmatch(host):
        raise BadUrl("its host is no name and no address")
    if _ENDS_IN_NUMBER.fullmatch(host):
        raise BadUrl("an IPv4 address must be written as four decimal numbers")
    return host


def literal(host: str) -> Address | None:
    """The address that a host is; None if it is a name."""
    try:
        # One of an interface (fe80::1%eth0) is nothing that a caller from outside can mean.
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def port_of(url: httpx.URL) -> int:
    """The port that a URL leads to."""
    return PORTS[url.scheme] if url.port is None else url.port


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _RESERVED_V4)
    embedded = _embedded(address)
    if embedded is not None:
        return is_public(embedded)
    return address in _GLOBAL_V6 and not any(address in network for network in _RESERVED_V6)


def is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address is public, or in a network that the operator named."""
    if is_public(address):
        return True
    candidates = [address]
    if isinstance(address, IPv6Address) and (embedded := _embedded(address)) is not None:
        candidates.append(embedded)
    return any(each in network for each in candidates for network in networks)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
