"""Decide which URLs and addresses may be requested on behalf of a caller.

Pure functions of text and addresses. :mod:`actors.outbound` makes the requests.
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

#: Longer URLs are rejected.
MOST_URL_CHARS: Final = 2_048
PORTS: Final = {"http": 80, "https": 443}
#: Ports below this one are rejected, except 80 and 443: mail, remote shells and the like.
LOWEST_PORT: Final = 1_024
HIGHEST_PORT: Final = 65_535

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
#: Resolvers read such names as an IPv4 address in an old notation: 2130706433, 0x7f.1.
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")

#: Networks that the IANA registries reserve for uses other than the public internet. Python's
#: ``is_global`` considers multicast global, and differs between releases.
_RESERVED_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # this machine
        "169.254.0.0/16",  # link-local; cloud metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT, multicast over unicast
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved and broadcast
    )
)
#: All global unicast addresses; excludes loopback, unique local, link-local and multicast.
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_RESERVED_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which embeds an IPv4 address
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
#: Addresses in these reach the IPv4 address in their last 32 bits: mapped addresses, and NAT64 of
#: IPv6-only networks.
_EMBEDDING: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


class BadUrl(ValueError):
    """The URL is not accepted. The message says why, and repeats no part of it."""


def parse(url: str) -> httpx.URL:
    """Parse a URL and normalise it to the form in which it is used.

    Raises
    ------
    BadUrl
    """
    if len(url) > MOST_URL_CHARS:
        raise BadUrl(f"a URL has at most {MOST_URL_CHARS} characters")
    # Programs interpret these differently: some take a backslash for a slash.
    if "\\" in url or any(unicodedata.category(character)[0] in "CZ" for character in url):
        raise BadUrl("it contains an invalid character")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise BadUrl("it is not a valid URL") from None
    if parsed.scheme not in PORTS:
        raise BadUrl("it must begin with https:// or http://")
    if "@" in re.split(r"[/?#]", url.partition("//")[2], maxsplit=1)[0]:
        raise BadUrl("it must not contain a user name or a password")
    port = port_of(parsed)
    if port not in PORTS.values() and not LOWEST_PORT <= port <= HIGHEST_PORT:
        raise BadUrl(f"its port must be 80, 443, or {LOWEST_PORT} to {HIGHEST_PORT}")
    return parsed.copy_with(host=_host(parsed), fragment=None)


def _host(url: httpx.URL) -> str:
    """Return the host without a trailing dot."""
    host = url.raw_host.decode("ascii").lower().removesuffix(".")
    if literal(host) is not None:
        return host
    if not _NAME.fullmatch(host):
        raise BadUrl("its host is neither a name nor an address")
    if _ENDS_IN_NUMBER.fullmatch(host):
        raise BadUrl("an IPv4 address must be written as four decimal numbers")
    return host


def literal(host: str) -> Address | None:
    """Return the address in a host; None if the host is a name."""
    try:
        # An address with an interface (fe80::1%eth0) has no meaning to an outside caller.
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def port_of(url: httpx.URL) -> int:
    """Return the port of a URL."""
    return PORTS[url.scheme] if url.port is None else url.port


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _RESERVED_V4)
    embedded = _embedded(address)
    if embedded is not None:
        return is_public(embedded)
    return address in _GLOBAL_V6 and not any(address in network for network in _RESERVED_V6)


def is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address is public, or in a network that the operator allows."""
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
