"""Which addresses given by callers may be contacted, case by case."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from actors.outbound import addresses
from actors.outbound.addresses import BadUrl

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "2001:200::1",
    "2003::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]
NOT_PUBLIC = [
    "0.0.0.1",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::8.8.8.8",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.1.2.3",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::8.8.8.8",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_asked(address: str) -> None:
    assert addresses.is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_other_may(address: str) -> None:
    assert not addresses.is_public(ip_address(address))
    assert not addresses.is_allowed(ip_address(address), [ip_network("203.0.112.0/24")])


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("10.1.2.3", True),
        ("10.2.0.0", False),
        ("::ffff:10.1.2.3", True),
        ("64:ff9b::10.1.2.3", True),
        ("::ffff:10.2.0.0", False),
        ("fd00::1", True),
        ("fd01::1", False),
        ("8.8.8.8", True),
    ],
)
def test_the_operator_may_name_networks(address: str, is_allowed: bool) -> None:
    named = [ip_network("10.1.0.0/16"), ip_network("fd00::/16")]
    assert addresses.is_allowed(ip_address(address), named) == is_allowed


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Example.ORG:443/a?b=c#d", "https://example.org/a?b=c"),
        ("http://example.org:8080/a b", None),
        ("http://example.org:8080/a%20b", "http://example.org:8080/a%20b"),
        ("http://example.org./x", "http://example.org/x"),
        ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/"),
        ("http://under_score.example/", "http://under_score.example/"),
        ("http://8.8.8.8/", "http://8.8.8.8/"),
        ("http://[2606:4700::1]:8443/", "http://[2606:4700::1]:8443/"),
        ("http://example.org/@me", "http://example.org/@me"),
        ("http://example.org/?a=b@c", "http://example.org/?a=b@c"),
        ("http://1.example.org/", "http://1.example.org/"),
    ],
)
def test_urls_are_brought_to_one_form(given: str, taken: str | None) -> None:
    if taken is None:
        with pytest.raises(BadUrl):
            addresses.parse(given)
    else:
        assert str(addresses.parse(given)) == taken


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "//example.org/",
        "/v1/sessions",
        "http:",
        "http:/example.org",
        "http:///path",
        "https://",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://x/",
        "data:audio/wav;base64,AAAA",
        "javascript:alert(1)",
        "unix:///run/docker.sock",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://@example.org/",
        "http://:@example.org/",
        "http://example.org@127.0.0.1/",
        "http://example.org%40@x/",
        "http://example.org\\@127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "http://example.org\t/",
        "http://exam\nple.org/",
        "http://example.org/\r\nX: y",
        "http://example.org/\x00",
        " http://example.org/",
        "http://example.org/ ",
        "http://example.org/\u2028",
        "http://example.org\u200b/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.1.1/",
        "http://127.0.0.256/",
        "http://1.2.3.4.5./",
        "http://①②⑦.0.0.1/",
        "http://127。0。0。1。1/",
        "http://%31%32%37.0.0.1/",
        "http://example%2eorg/",
        "http://[::1/",
        "http://[]/",
        "http://[127.0.0.1]/",
        "http://[fe80::1%25eth0]/",
        "http://[2606:4700::1%25eth0]/",
        "http://[v1.a]/",
        "http://.example.org/",
        "http://a..b/",
        "http://../",
        "http://.../",
        "http://a*b/",
        "http://" + "a" * 64 + ".org/",
        "http://" + "a." * 127 + "org/",
        "http://example.org:0/",
        "http://example.org:22/",
        "http://example.org:25/",
        "http://example.org:1023/",
        "http://example.org:65536/",
        "http://example.org:99999/",
        "http://example.org:-1/",
        "http://example.org:80a/",
        "http://example.org:8080:80/",
        "https://example.org/" + "a" * 2_048,
    ],
)
def test_what_is_no_url_to_be_asked_is_refused(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        addresses.parse(url)
    assert "secret" not in str(caught.value)
