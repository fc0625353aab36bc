"""Requests to addresses given by callers, against a hostile server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.outbound import pinning
from actors.outbound.client import Outbound
from actors.outbound.errors import (
    BrokenOff,
    Missing,
    OutboundError,
    Refused,
    Rejected,
    TookTooLong,
    TooLarge,
    Unreachable,
    Unwell,
)
from actors.outbound.pinning import ExchangeLimits
from tests.support import web
from tests.support.web import LOOPBACK, Names, Request, Web

#: For servers that answer at once; the machine may be busy.
LIMITS = ExchangeLimits(total_s=60, silence_s=60, most_bytes=100_000)
PUBLIC = "93.184.216.34"


@pytest.fixture
def site() -> Iterator[Web]:
    with web.serving() as served:
        yield served


def get(
    url: str, *, limits: ExchangeLimits = LIMITS, outbound: Outbound | None = None
) -> tuple[int, bytes]:
    with (outbound or Outbound(LOOPBACK)).get(url, limits=limits) as answer:
        answer.require_success()
        return answer.status, answer.read()


# --- destination of a URL ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC, "fe80::1%eth0"],
        ["64:ff9b::7f00:1"],
    ],
)
def test_a_name_with_an_address_that_is_not_public_is_refused(
    site: Web, answers: list[str]
) -> None:
    outbound = Outbound(resolve=Names(example_org=[answers]))
    with pytest.raises(Refused, match="not public"):
        get(site.url("/", host="example.org"), outbound=outbound)
    assert not site.asked


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_this_machine_is_refused(site: Web, host: str) -> None:
    with pytest.raises(Refused, match="not public"):
        get(site.url("/", host=host), outbound=Outbound())
    assert not site.asked


def test_a_name_is_resolved_once_and_that_address_connected_to(site: Web) -> None:
    """A name that changes its address after the check gains nothing: a second lookup would return a
    refused address here.
    """
    site.pages["/"] = lambda request: request.answer(b"hello")
    names = Names(recorder_example=[["127.0.0.1"], ["10.0.0.1"]])
    outbound = Outbound(LOOPBACK, resolve=names)
    assert get(site.url("/", host="recorder.example"), outbound=outbound) == (200, b"hello")
    assert names.asked == ["recorder.example"]
    assert site.asked == [f"GET recorder.example:{site.port}/"]
    with pytest.raises(Refused):
        get(site.url("/", host="recorder.example"), outbound=outbound)


def test_the_next_address_is_tried(site: Web) -> None:
    site.pages["/"] = lambda request: request.answer(b"hello")
    names = Names(recorder_example=[["127.77.0.1", "127.0.0.1"]])
    outbound = Outbound(LOOPBACK, resolve=names)
    assert get(site.url("/", host="recorder.example"), outbound=outbound) == (200, b"hello")


def test_a_check_asks_nobody() -> None:
    names = Names()
    outbound = Outbound(resolve=names)
    for url in (
        "http://10.0.0.1/",
        "http://user:a@example.org/",
        "ftp://example.org",
        "http://[::]",
    ):
        with pytest.raises(Refused):
            outbound.check(url)
    assert str(outbound.check("https://Example.org/a")) == "https://example.org/a"
    assert not names.asked


def test_a_name_that_is_not_there_may_come() -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(Unreachable, match="resolved"):
        get("http://example.org/", outbound=Outbound(resolve=resolve))
    with pytest.raises(Unreachable, match="no address"):
        get("http://example.org/", outbound=Outbound(resolve=Names(example_org=[[]])))


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    go_on = threading.Event()

    def resolve(host: str, _port: int) -> list[str]:
        go_on.wait(60)
        return [host]

    with pytest.raises(TookTooLong):
        get(
            "http://example.org/",
            outbound=Outbound(resolve=resolve),
            limits=ExchangeLimits(total_s=0.1, most_bytes=1),
        )
    go_on.set()


def test_proxies_of_the_environment_are_not_asked(
    site: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.pages["/"] = lambda request: request.answer(b"hello")
    assert get(site.url("/")) == (200, b"hello")
    assert "Authorization" not in site.heads[0]


# --- redirects ---------------------------------------------------------------------------------


def moves_to(to: str, status: int = 302) -> Callable[[Request], object]:
    return lambda request: request.answer(status=status, Location=to)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(site: Web, status: int) -> None:
    site.pages["/a"] = moves_to("/b?c=d", status)
    site.pages["/b"] = lambda request: request.answer(b"hello")
    assert get(site.url("/a")) == (200, b"hello")
    assert site.asked[-1].endswith("/b?c=d")


@pytest.mark.parametrize(
    "to",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "//10.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://inside.example/",
        "http://2130706433/",
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "ftp://a.example/",
        "http://user:secret@recorder.example/",
        "http://recorder.example\\@10.0.0.1/",
        "http://[",
    ],
)
def test_a_redirect_is_looked_at_as_the_first_url(site: Web, to: str) -> None:
    names = Names(recorder_example=[["127.0.0.1"]], inside_example=[["10.0.0.1"]])
    site.pages["/"] = moves_to(to)
    with pytest.raises(Refused):
        get(site.url("/", host="recorder.example"), outbound=Outbound(LOOPBACK, resolve=names))
    assert len(site.asked) == 1


def test_a_name_is_resolved_again_for_a_redirect(site: Web) -> None:
    names = Names(recorder_example=[["127.0.0.1"], ["10.0.0.1"]])
    site.pages["/"] = moves_to("/b")
    with pytest.raises(Refused, match="not public"):
        get(site.url("/", host="recorder.example"), outbound=Outbound(LOOPBACK, resolve=names))
    assert len(site.asked) == 1


@pytest.mark.parametrize("to", ["/", ""])
def test_a_circle_ends(site: Web, to: str) -> None:
    site.pages["/"] = moves_to(to)
    with pytest.raises(Refused, match="redirected more than"):
        get(site.url("/"))
    assert len(site.asked) == 6


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, Missing),
        (410, Missing),
        (400, Rejected),
        (401, Rejected),
        (403, Rejected),
        (300, Rejected),
        (304, Rejected),
        (408, Unwell),
        (429, Unwell),
        (500, Unwell),
        (502, Unwell),
        (503, Unwell),
    ],
)
def test_a_status_tells_whether_another_try_helps(
    site: Web, status: int, error: type[OutboundError]
) -> None:
    site.pages["/"] = lambda request: request.answer(status=status)
    with pytest.raises(error, match=str(status)):
        get(site.url("/"))


def test_an_answer_that_is_too_large_is_cut_off(site: Web) -> None:
    limit = LIMITS.most_bytes
    site.pages["/fits"] = lambda request: request.answer(bytes(limit))
    site.pages["/told"] = lambda request: request.answer(bytes(limit + 1))
    endless = [b"HTTP/1.1 200 OK\r\n\r\n", *([bytes(10_000)] * 100_000)]
    site.pages["/endless"] = lambda request: request.raw(*endless)
    chunked = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *([b"1000\r\n" + bytes(4096) + b"\r\n"] * 100_000),
    ]
    site.pages["/chunked"] = lambda request: request.raw(*chunked)
    assert get(site.url("/fits")) == (200, bytes(limit))
    for path in ("/told", "/endless", "/chunked"):
        with pytest.raises(TooLarge, match="at most 100000"):
            get(site.url(path))


def test_compression_is_not_asked_for_and_not_taken(site: Web) -> None:
    site.pages["/"] = lambda request: request.answer(b"x", Content_Encoding="gzip")
    with pytest.raises(Rejected, match="compresses"):
        get(site.url("/"))
    assert site.heads[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_breaks_off_or_is_no_http_is_told_so(site: Web, answer: bytes) -> None:
    site.pages["/"] = lambda request: request.raw(answer)
    with pytest.raises(BrokenOff):
        get(site.url("/"))


def test_nobody_there() -> None:
    with web.serving() as gone:
        pass
    with pytest.raises(Unreachable, match="connected"):
        get(gone.url("/"))


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
)
def test_a_server_that_drips_is_cut_off(site: Web, head: bytes) -> None:
    """Each byte comes well within the silence limit; the total time is limited."""

    def drip(request: Request) -> None:
        request.raw(head)
        while not site.ends.wait(0.02):
            request.raw(head if b"100" in head else b"H")

    site.pages["/"] = drip
    with pytest.raises(TookTooLong) as caught:
        get(site.url("/"), limits=ExchangeLimits(total_s=0.15, silence_s=60, most_bytes=100_000))
    assert caught.value.whole


def test_a_server_that_is_too_slow_is_left_before_its_time(
    site: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(request: Request) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\n\r\n")
        while not site.ends.wait(0.02):
            request.raw(b"x")

    monkeypatch.setattr(pinning, "PATIENT_S", 0.1)
    site.pages["/"] = drip
    site.pages["/fast"] = lambda request: request.answer(bytes(50_000))
    limits = ExchangeLimits(total_s=600, silence_s=60, most_bytes=100_000, least_bytes_s=1_000_000)
    with pytest.raises(TookTooLong, match="less than 1000000 bytes a second") as caught:
        get(site.url("/"), limits=limits)
    assert caught.value.whole
    # A server that is slow at first gets its time.
    monkeypatch.setattr(pinning, "PATIENT_S", 60)
    assert get(site.url("/fast"), limits=limits) == (200, bytes(50_000))


def test_a_server_that_falls_silent_is_left(site: Web) -> None:
    def wait(request: Request) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\n\r\nabc")
        site.ends.wait(60)

    site.pages["/"] = wait
    with pytest.raises(TookTooLong) as caught:
        get(site.url("/"), limits=ExchangeLimits(total_s=600, silence_s=0.1, most_bytes=100_000))
    assert not caught.value.whole


def test_an_error_of_the_reader_is_the_readers(site: Web) -> None:
    site.pages["/"] = lambda request: request.answer(b"hello")

    def read() -> None:
        with Outbound(LOOPBACK).get(site.url("/"), limits=LIMITS) as answer:
            assert answer.headers["content-length"] == "5"
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        read()


# --- posting -----------------------------------------------------------------------------------


def test_a_post_bears_its_headers_and_is_not_redirected(site: Web) -> None:
    site.pages["/"] = moves_to("/other", 307)
    with Outbound(LOOPBACK).post(
        site.url("/"), b'{"a": 1}', headers={"Content-Type": "application/json"}, limits=LIMITS
    ) as answer:
        assert answer.status == 307
    assert site.asked == [f"POST 127.0.0.1:{site.port}/"]
    assert site.heads[0]["Content-Type"] == "application/json"
    assert site.bodies == [b'{"a": 1}']
    with (
        pytest.raises(Refused),
        Outbound().post(site.url("/"), b"", headers={}, limits=LIMITS),
    ):
        pass
    assert len(site.asked) == 1


# --- TLS ---------------------------------------------------------------------------------------


def test_the_certificate_is_held_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(recorder_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    both = web.certificate(tmp_path, "recorder.example")
    with web.serving(both) as site:
        site.pages["/"] = lambda request: request.answer(b"hello")
        site.pages["/down"] = moves_to(site.url("/", host="recorder.example"))
        url = site.url("/", host="recorder.example", scheme="https")
        with pytest.raises(Unreachable, match="certificate"):
            get(url, outbound=Outbound(LOOPBACK, resolve=names))
        monkeypatch.setenv("SSL_CERT_FILE", str(both))
        outbound = Outbound(LOOPBACK, resolve=names)
        assert get(url, outbound=outbound) == (200, b"hello")
        for host in ("other.example", "127.0.0.1"):
            with pytest.raises(Unreachable, match="certificate"):
                get(site.url("/", host=host, scheme="https"), outbound=outbound)
        with pytest.raises(Refused, match="from https to http"):
            get(site.url("/down", host="recorder.example", scheme="https"), outbound=outbound)
